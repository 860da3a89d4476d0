//! Stops writes before the disk is full: a failed write would stop the whole broker, and reads
//! should go on meanwhile.
//!
//! Three levels. Below the reserve a broker refuses what is new, in front and in its appenders, and
//! tells its peers; a leader also refuses what too few of its replicas' disks have room for. If that
//! lasts, it hands its leaderships to brokers with room. Below half of the reserve its replicas take no
//! more bulk from their leaders either (`raft::room`), and purge what the others have purged. The rest of the reserve is for what was on its
//! way, for the flushes of memtables, and for what a group needs to go on: elections, trims, metadata.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::time::Instant;

use super::limits;
use crate::{
    partition::Partition,
    raft::{RaftNode, Replica, Room, RoomLevel},
    seam::refreshed,
    types::BrokerId,
};

/// Free bytes of the data directory's disk; None if that cannot be told. Quick.
pub type FreeBytes = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// Tells what is free on the disk of a directory. Asking one that hangs takes as long as it hangs: a thread of its own
/// asks.
pub fn free_bytes_of(directory: std::path::PathBuf) -> FreeBytes {
    refreshed(limits::DISK_CHECK_EVERY, move || {
        let stat = rustix::fs::statvfs(&directory).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    })
}

/// Whose disk has too little room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    pub broker: BrokerId,
    pub free_bytes: u64,
    pub reserve_bytes: u64,
}

pub struct DiskGuard {
    broker: BrokerId,
    free_bytes: FreeBytes,
    reserve_bytes: u64,
    now: Mutex<State>,
    /// Some peer said that its disk is short.
    any_peer_short: AtomicBool,
}

#[derive(Clone, Copy, Default)]
struct State {
    free_bytes: Option<u64>,
    level: RoomLevel,
    short_since: Option<Instant>,
}

impl DiskGuard {
    pub fn new(broker: BrokerId, free_bytes: FreeBytes, reserve_bytes: u64) -> DiskGuard {
        let (now, any_peer_short) = (Mutex::default(), AtomicBool::new(false));
        let guard = DiskGuard { broker, free_bytes, reserve_bytes, now, any_peer_short };
        guard.check();
        guard
    }

    /// Reads the free space again.
    pub fn check(&self) {
        let free_bytes = (self.free_bytes)();
        let mut now = self.now.lock().expect("no holder panics");
        let was = now.level;
        now.free_bytes = free_bytes;
        now.level = free_bytes.map_or(RoomLevel::Enough, |free| level(was, free, self.reserve_bytes));
        now.short_since = now.short_since.or(Some(Instant::now())).filter(|_| now.level > RoomLevel::Enough);
        let (free_bytes, reserve_bytes) = (free_bytes.unwrap_or(0), self.reserve_bytes);
        match (was, now.level) {
            (RoomLevel::Enough, RoomLevel::Short | RoomLevel::Full) => {
                tracing::error!(free_bytes, reserve_bytes, "disk nearly full: writes are refused");
            }
            (RoomLevel::Short, RoomLevel::Full) => {
                tracing::error!(free_bytes, reserve_bytes, "disk all but full: replicas here stop following");
            }
            (RoomLevel::Short | RoomLevel::Full, RoomLevel::Enough) => {
                tracing::info!(free_bytes, "disk has room again: writes go on");
            }
            (RoomLevel::Full, RoomLevel::Short) => tracing::info!(free_bytes, "replicas here follow again"),
            (RoomLevel::Enough, RoomLevel::Enough)
            | (RoomLevel::Short, RoomLevel::Short)
            | (RoomLevel::Full, RoomLevel::Full) => {}
        }
    }

    /// Set while writes are refused because of this broker's disk.
    pub fn shortage(&self) -> Option<Shortage> {
        let room = self.room();
        (room.level > RoomLevel::Enough).then(|| self.shortage_of(self.broker, room))
    }

    /// Why a group led here must not take more: this broker's disk, or those of too many followers.
    pub fn shortage_for(&self, raft: &RaftNode, group: &Replica<Partition>) -> Option<Shortage> {
        if let Some(shortage) = self.shortage() {
            return Some(shortage);
        }
        if !self.any_peer_short.load(Relaxed) {
            return None;
        }
        let voters = group.voters().into_iter();
        let rooms: Vec<_> = voters.map(|(_, broker)| (broker, raft.room_of(broker))).collect();
        majority_shortage(&rooms).map(|(broker, room)| self.shortage_of(broker, room))
    }

    /// What peers are told of this broker's disk.
    pub fn room(&self) -> Room {
        let now = *self.now.lock().expect("no holder panics");
        Room { level: now.level, free_bytes: now.free_bytes.unwrap_or(0), reserve_bytes: self.reserve_bytes }
    }

    /// What the others said of their disks.
    pub fn hear_of_peers(&self, any_is_short: bool) {
        self.any_peer_short.store(any_is_short, Relaxed);
    }

    pub fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes
    }

    pub fn free_bytes(&self) -> Option<u64> {
        self.now.lock().expect("no holder panics").free_bytes
    }

    /// It has been short for so long that leaderships had better go.
    pub fn should_hand_over(&self) -> bool {
        let since = self.now.lock().expect("no holder panics").short_since;
        since.is_some_and(|since| since.elapsed() >= limits::HAND_OVER_AFTER)
    }

    fn shortage_of(&self, broker: BrokerId, room: Room) -> Shortage {
        Shortage { broker, free_bytes: room.free_bytes, reserve_bytes: room.reserve_bytes }
    }
}

/// An edge is left upwards only a little above it: no flapping.
fn level(was: RoomLevel, free_bytes: u64, reserve_bytes: u64) -> RoomLevel {
    let above = |bytes: u64| bytes.saturating_add((bytes / 10).min(limits::ROOM_AGAIN_BYTES));
    let edge = |bytes: u64, is_below: bool| if is_below { above(bytes) } else { bytes };
    if free_bytes < edge(reserve_bytes / 2, was == RoomLevel::Full) {
        RoomLevel::Full
    } else if free_bytes < edge(reserve_bytes, was > RoomLevel::Enough) {
        RoomLevel::Short
    } else {
        RoomLevel::Enough
    }
}

/// Which voter's disk keeps a group from having a majority with room, if one does. What does not answer
/// counts as having none, but alone is no reason to blame a disk.
fn majority_shortage(rooms: &[(BrokerId, Option<Room>)]) -> Option<(BrokerId, Room)> {
    let has_room = |room: &Option<Room>| room.is_some_and(|room| room.level == RoomLevel::Enough);
    let with_room = rooms.iter().filter(|(_, room)| has_room(room)).count();
    if with_room > rooms.len() / 2 {
        return None;
    }
    let short = rooms.iter().filter_map(|(broker, room)| room.map(|room| (*broker, room)));
    short.filter(|(_, room)| room.level > RoomLevel::Enough).min_by_key(|(_, room)| room.free_bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn writes_stop_below_the_reserve_and_go_on_clearly_above_it() {
        let free = Arc::new(AtomicU64::new(1_000));
        let read = Arc::clone(&free);
        let guard = DiskGuard::new(BrokerId(1), Arc::new(move || Some(read.load(Ordering::Relaxed))), 500);
        assert_eq!(guard.shortage(), None);
        for (free_bytes, level) in [
            (500, RoomLevel::Enough),
            (499, RoomLevel::Short),
            (549, RoomLevel::Short),
            (550, RoomLevel::Enough),
            (510, RoomLevel::Enough),
            (250, RoomLevel::Short),
            (249, RoomLevel::Full),
            (274, RoomLevel::Full),
            (275, RoomLevel::Short),
            (250, RoomLevel::Short),
            (0, RoomLevel::Full),
            (10_000, RoomLevel::Enough),
        ] {
            free.store(free_bytes, Ordering::Relaxed);
            guard.check();
            assert_eq!(guard.room(), Room { level, free_bytes, reserve_bytes: 500 });
            assert_eq!(guard.shortage().is_some(), level != RoomLevel::Enough, "{free_bytes}");
        }
    }

    #[test]
    fn a_large_reserve_is_not_missed_by_a_tenth() {
        const GIB: u64 = 1 << 30;
        assert_eq!(level(RoomLevel::Short, 100 * GIB + limits::ROOM_AGAIN_BYTES - 1, 100 * GIB), RoomLevel::Short);
        assert_eq!(level(RoomLevel::Short, 100 * GIB + limits::ROOM_AGAIN_BYTES, 100 * GIB), RoomLevel::Enough);
        assert_eq!(level(RoomLevel::Enough, u64::MAX, u64::MAX), RoomLevel::Enough);
    }

    #[test]
    fn a_disk_whose_size_is_not_known_refuses_nothing() {
        let guard = DiskGuard::new(BrokerId(1), Arc::new(|| None), u64::MAX);
        assert_eq!((guard.shortage(), guard.room().level), (None, RoomLevel::Enough));
    }

    #[test]
    fn a_group_is_short_if_no_majority_has_room() {
        let room = |level, free_bytes| Some(Room { level, free_bytes, reserve_bytes: 100 });
        let (enough, short, full) =
            (room(RoomLevel::Enough, 900), room(RoomLevel::Short, 60), room(RoomLevel::Full, 9));
        for (rooms, blamed) in [
            ([enough, enough, enough], None),
            ([enough, enough, full], None),
            ([enough, short, full], Some(3)),
            ([enough, short, short], Some(2)),
            ([enough, short, None], Some(2)),
            ([enough, enough, None], None),
            // Not the disks' fault.
            ([enough, None, None], None),
        ] {
            let rooms: Vec<_> = (1..).map(BrokerId).zip(rooms).collect();
            let shortage = majority_shortage(&rooms).map(|(broker, _)| broker.0);
            assert_eq!(shortage, blamed, "{rooms:?}");
        }
    }
}
