//! The durable floor (SAFETY B9): outside RocksDB, the number of the last synced commit. RocksDB's
//! recovery drops fsynced records silently when its log is damaged, in every mode; a database whose
//! `commit_no` is below the floor has lost some.
//!
//! `FLOOR` has three slots, each in a block of its own, each with a checksum; the highest valid one
//! counts. [`Floor::raise`] writes the current slot, without a sync. Every 50 ms a thread moves to
//! the next slot and syncs the file, so that the slot that was synced last is not written again
//! before a newer one is synced: a power cut can tear one slot, never the last synced one.
//!
//! What it cannot see: a power cut *and* damaged media within the last 50 ms.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::JoinHandle,
    time::Duration,
};

use crate::durable;

const SLOTS: usize = 3;

/// The unit that a disk writes or tears.
const BLOCK: u64 = 4096;

const SLOT_LEN: usize = 20;

const MAGIC: &[u8; 4] = b"FLOR";

const VERSION: u8 = 1;

/// How far the synced floor may lag behind, in time.
const SYNC_EVERY: Duration = Duration::from_millis(50);

type Slot = [u8; SLOT_LEN];

/// Magic, version, three zeros, number, CRC32C of all that; big-endian. Frozen.
fn encode(number: u64) -> Slot {
    let mut slot = [0; SLOT_LEN];
    slot[..4].copy_from_slice(MAGIC);
    slot[4] = VERSION;
    slot[8..16].copy_from_slice(&number.to_be_bytes());
    let crc = crc32c::crc32c(&slot[..16]);
    slot[16..].copy_from_slice(&crc.to_be_bytes());
    slot
}

fn decode(slot: &Slot) -> Option<u64> {
    let number = u64::from_be_bytes(slot[8..16].try_into().expect("eight bytes"));
    (encode(number) == *slot).then_some(number)
}

struct State {
    /// The slot that `raise` writes to.
    slot: usize,
    /// Something was written since the last sync began.
    is_dirty: bool,
    is_closing: bool,
    failed: Option<String>,
}

struct Shared {
    file: File,
    state: Mutex<State>,
    /// The state became dirty, or closing.
    changed: Condvar,
}

pub(super) struct Floor {
    shared: Arc<Shared>,
    syncer: Option<JoinHandle<()>>,
}

impl Floor {
    /// Writes a new file whose floor is 0; durable when this returns.
    pub fn create(path: &Path) -> io::Result<()> {
        // Written, not only sized, so that the blocks are there when the disk is full.
        let mut slots = vec![0; SLOTS * BLOCK as usize];
        slots[..SLOT_LEN].copy_from_slice(&encode(0));
        durable::write_whole(path, &slots)
    }

    /// The floor of a file that nobody has open: None if no slot is valid.
    pub fn read(path: &Path) -> io::Result<Option<u64>> {
        Ok(highest(&File::open(path)?)?.map(|(_, number)| number))
    }

    /// Goes on with a file that was read and found right.
    pub fn open(path: &Path) -> io::Result<Floor> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        // Whatever slot is valid now is durable before another is written.
        file.sync_all()?;
        let slot = highest(&file)?.map_or(0, |(slot, _)| (slot + 1) % SLOTS);
        let state = State { slot, is_dirty: false, is_closing: false, failed: None };
        let shared = Arc::new(Shared { file, state: Mutex::new(state), changed: Condvar::new() });
        let syncer = std::thread::Builder::new().name("flotilla-floor".into());
        let syncer = syncer.spawn({
            let shared = shared.clone();
            move || sync_loop(&shared)
        })?;
        Ok(Floor { shared, syncer: Some(syncer) })
    }

    /// Writes the number of a commit that is durable; to be called before anyone is told so.
    pub fn raise(&self, number: u64) -> io::Result<()> {
        let mut state = self.shared.lock();
        if let Some(failed) = &state.failed {
            return Err(io::Error::other(format!("syncing FLOOR failed: {failed}")));
        }
        self.shared.file.write_all_at(&encode(number), state.slot as u64 * BLOCK)?;
        if !state.is_dirty {
            state.is_dirty = true;
            self.shared.changed.notify_one();
        }
        Ok(())
    }
}

impl Drop for Floor {
    /// Syncs the floor a last time and ends its thread.
    fn drop(&mut self) {
        self.shared.lock().is_closing = true;
        self.shared.changed.notify_one();
        if let Some(syncer) = self.syncer.take() {
            // It does not panic; if it did, the file is as after a crash.
            let _ = syncer.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

/// The highest valid number and its slot.
fn highest(file: &File) -> io::Result<Option<(usize, u64)>> {
    let mut highest = None;
    for slot in 0..SLOTS {
        let mut bytes = [0; SLOT_LEN];
        match file.read_exact_at(&mut bytes, slot as u64 * BLOCK) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
            Err(error) => return Err(error),
        }
        if let Some(number) = decode(&bytes)
            && highest.is_none_or(|(_, other)| number > other)
        {
            highest = Some((slot, number));
        }
    }
    Ok(highest)
}

fn sync_loop(shared: &Shared) {
    let mut state = shared.lock();
    loop {
        // No commits, no syncs: an idle node is idle.
        while !state.is_dirty && !state.is_closing {
            state = shared.changed.wait(state).expect("nothing panics while it holds this lock");
        }
        let waited = shared.changed.wait_timeout_while(state, SYNC_EVERY, |state| !state.is_closing);
        state = waited.expect("nothing panics while it holds this lock").0;
        if state.is_dirty {
            state.slot = (state.slot + 1) % SLOTS;
            state.is_dirty = false;
            drop(state);
            let result = shared.file.sync_data();
            state = shared.lock();
            if let Err(error) = result {
                // The next `raise` fails, and with it the store.
                state.failed = Some(error.to_string());
                return;
            }
        } else if state.is_closing {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::frozen;

    /// The on-disk format is a promise.
    #[test]
    fn slot_bytes_are_frozen() {
        let slot = encode(0x0102);
        assert_eq!(&slot[..16], b"FLOR\x01\0\0\0\0\0\0\0\0\0\x01\x02");
        assert_eq!(slot[16..], crc32c::crc32c(&slot[..16]).to_be_bytes());
        assert_eq!(decode(&slot), Some(0x0102));
        let reads = |_: &str, slot: &[u8]| {
            let slot = slot.try_into().map_err(|_| "a slot of another length".to_string())?;
            decode(slot).map(drop).ok_or_else(|| "it is no slot".to_string())
        };
        frozen::check(include_str!("floor.frozen"), [("slot", slot)], reads);
    }

    #[test]
    fn a_slot_with_any_bit_flipped_is_invalid() {
        for bit in 0..SLOT_LEN * 8 {
            let mut slot = encode(77);
            slot[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&slot), None, "bit {bit}");
        }
    }

    /// SAFETY B9: a torn slot leaves the file with the floor that was synced before.
    #[test]
    fn the_floor_survives_the_loss_of_the_slot_being_written() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("FLOOR");
        Floor::create(&path).expect("create");
        assert_eq!(Floor::read(&path).expect("read"), Some(0));
        for round in 1..=7u64 {
            let floor = Floor::open(&path).expect("open");
            floor.raise(round * 10).expect("raise");
            drop(floor);
            let floor = Floor::open(&path).expect("open");
            floor.raise(round * 10 + 1).expect("raise");
            // The slot of the last raise is torn.
            let slot = floor.shared.lock().slot;
            drop(floor);
            let file = OpenOptions::new().write(true).open(&path).expect("open");
            assert_eq!(Floor::read(&path).expect("read"), Some(round * 10 + 1));
            file.write_all_at(b"torn", slot as u64 * BLOCK).expect("write");
            assert_eq!(Floor::read(&path).expect("read"), Some(round * 10), "round {round}");
        }
    }

    #[test]
    fn the_highest_valid_slot_counts_and_none_is_none() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("FLOOR");
        let file = File::create(&path).expect("create");
        assert_eq!(Floor::read(&path).expect("read"), None);
        file.write_all_at(&encode(5), BLOCK).expect("write");
        file.write_all_at(&encode(9), 2 * BLOCK).expect("write");
        assert_eq!(Floor::read(&path).expect("read"), Some(9));
    }
}
