//! All fetch sessions of a node, within their limits.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::session::{FetchSession, PartitionSeen, PartitionWanted, TopicKey, next_epoch};

/// Epochs of requests that go on with no session (KIP-227).
const BEGINS: i32 = 0;
const ENDS: i32 = -1;
/// The id of none.
pub const NO_SESSION: i32 = 0;

/// How much there may be.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    pub sessions: usize,
    pub per_connection: usize,
    pub partitions: usize,
    pub per_session: usize,
    pub bytes: usize,
    /// What each partition counts, beside its topic's name: also what a request takes that is worked on.
    pub partition_bytes: usize,
    /// No topic has a longer name.
    pub name_bytes: usize,
    /// Those that were used since keep their room.
    pub evicted_after: Duration,
}

/// What a request says of sessions.
#[derive(Debug)]
pub struct SessionAsk {
    pub session: i32,
    pub epoch: i32,
    /// It names topics by their ids.
    pub by_id: bool,
    pub wanted: Vec<PartitionWanted>,
    pub forgotten: Vec<(TopicKey, i32)>,
}

/// What a request comes to.
#[derive(Debug)]
pub struct SessionPlan {
    /// None: it is of no session, and is answered in full.
    pub turn: Option<TurnKey>,
    /// What is to be read, in this order.
    pub wanted: Vec<PartitionWanted>,
}

/// A request of a session that is worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnKey {
    pub session: i32,
    /// It began the session, and is answered in full.
    pub begins: bool,
}

/// Why a request is not answered. In each case clients begin a new session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionRefusal {
    UnknownSession,
    WrongEpoch,
    /// The session names topics by their ids and the request by names, or the other way round.
    OtherNames,
}

/// What there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionTotals {
    pub sessions: usize,
    pub partitions: usize,
    pub bytes: usize,
    /// Sessions that ended for want of room, so far.
    pub evicted: u64,
    /// Clients that asked for a session and were given none, so far.
    pub refused: u64,
}

/// A connection, by a number that none had before.
pub type Owner = u64;

#[derive(Debug)]
struct Entry {
    owner: Owner,
    session: FetchSession,
    used: Duration,
    /// A request of it is worked on: it keeps its room until that is over.
    is_busy: bool,
    /// It has ended.
    is_over: bool,
}

/// See the module's head.
#[derive(Debug)]
pub struct SessionTable {
    limits: SessionLimits,
    entries: BTreeMap<i32, Entry>,
    by_owner: BTreeSet<(Owner, i32)>,
    /// Those that no request is worked on of, by when they were last used.
    idle: BTreeSet<(Duration, i32)>,
    last_id: i32,
    totals: SessionTotals,
}

impl SessionTable {
    pub fn new(limits: SessionLimits) -> SessionTable {
        let (entries, by_owner, idle) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        SessionTable { limits, entries, by_owner, idle, last_id: NO_SESSION, totals: SessionTotals::default() }
    }

    pub fn totals(&self) -> SessionTotals {
        self.totals
    }

    /// What is to be read for a request, in the order in which requests came.
    pub fn begin(&mut self, owner: Owner, asking: SessionAsk, now: Duration) -> Result<SessionPlan, SessionRefusal> {
        match asking.epoch {
            BEGINS | ENDS => {
                // Whatever session it names is not gone on with.
                self.end(owner, asking.session);
                Ok(match asking.epoch {
                    BEGINS => self.begin_session(owner, asking, now),
                    _ => SessionPlan { turn: None, wanted: asking.wanted },
                })
            }
            _ => self.go_on(owner, asking, now),
        }
    }

    fn begin_session(&mut self, owner: Owner, asking: SessionAsk, now: Duration) -> SessionPlan {
        let SessionAsk { by_id, wanted, .. } = asking;
        if wanted.is_empty() {
            return SessionPlan { turn: None, wanted };
        }
        let mut session = FetchSession::new(by_id);
        let fits = session.want(&wanted, self.limits.per_session, self.limits.name_bytes);
        if !fits || !self.make_room(owner, &session, now) {
            self.totals.refused += 1;
            return SessionPlan { turn: None, wanted };
        }
        let id = self.free_id();
        let wanted = session.wanted();
        self.put(id, Entry { owner, session, used: now, is_busy: true, is_over: false });
        SessionPlan { turn: Some(TurnKey { session: id, begins: true }), wanted }
    }

    fn go_on(&mut self, owner: Owner, asking: SessionAsk, now: Duration) -> Result<SessionPlan, SessionRefusal> {
        let SessionAsk { session: id, epoch, by_id, wanted, forgotten } = asking;
        let known = self.entries.get(&id).filter(|entry| entry.owner == owner && !entry.is_over);
        let known = known.ok_or(SessionRefusal::UnknownSession)?;
        if known.is_busy || known.session.epoch != epoch {
            return Err(SessionRefusal::WrongEpoch);
        }
        if known.session.by_id != by_id {
            return Err(SessionRefusal::OtherNames);
        }
        let mut entry = self.take(id).expect("it was just found");
        let fits = entry.session.want(&wanted, self.limits.per_session, self.limits.name_bytes);
        entry.session.forget(&forgotten);
        if fits && entry.session.partitions() == 0 {
            return Ok(SessionPlan { turn: None, wanted: Vec::new() });
        }
        if !fits || !self.make_room(owner, &entry.session, now) {
            self.totals.evicted += 1;
            return Err(SessionRefusal::UnknownSession);
        }
        entry.session.epoch = next_epoch(epoch);
        (entry.used, entry.is_busy) = (now, true);
        let wanted = entry.session.wanted();
        self.put(id, entry);
        Ok(SessionPlan { turn: Some(TurnKey { session: id, begins: false }), wanted })
    }

    /// What of an answer is told: one for each partition that was to be read. None: all of it, and there is no session.
    pub fn answer(&mut self, turn: TurnKey, seen: &[PartitionSeen]) -> Result<Option<Vec<bool>>, SessionRefusal> {
        let mut entry = self.take(turn.session).expect("a session stays while a request of it is worked on");
        if entry.is_over {
            return if turn.begins { Ok(None) } else { Err(SessionRefusal::UnknownSession) };
        }
        let news = entry.session.hear(seen);
        entry.is_busy = false;
        self.put(turn.session, entry);
        Ok(Some(if turn.begins { vec![true; seen.len()] } else { news }))
    }

    /// The request is worked on no more, and its client has no answer.
    pub fn give_up(&mut self, turn: TurnKey) {
        self.take(turn.session);
    }

    /// A connection has ended.
    pub fn end_all_of(&mut self, owner: Owner) {
        let ids: Vec<i32> = self.of(owner).collect();
        ids.into_iter().for_each(|id| self.end(owner, id));
    }

    fn end(&mut self, owner: Owner, id: i32) {
        match self.entries.get_mut(&id).filter(|entry| entry.owner == owner) {
            Some(entry) if entry.is_busy => entry.is_over = true,
            Some(_) => drop(self.take(id)),
            None => {}
        }
    }

    fn of(&self, owner: Owner) -> impl Iterator<Item = i32> {
        self.by_owner.range((owner, i32::MIN)..=(owner, i32::MAX)).map(|(_, id)| *id)
    }

    /// Ends sessions that nobody used for long until there is room for one more. False: there is none.
    fn make_room(&mut self, owner: Owner, session: &FetchSession, now: Duration) -> bool {
        let bytes = self.bytes_of(session);
        loop {
            let is_full_connection = self.of(owner).count() >= self.limits.per_connection;
            let is_full = self.totals.sessions >= self.limits.sessions
                || self.totals.partitions + session.partitions() > self.limits.partitions
                || self.totals.bytes + bytes > self.limits.bytes;
            let oldest = match (is_full_connection, is_full) {
                (true, _) => self.oldest_of(owner),
                (false, true) => self.idle.first().copied(),
                (false, false) => return true,
            };
            let Some((used, id)) = oldest else { return false };
            if now.saturating_sub(used) < self.limits.evicted_after {
                return false;
            }
            self.take(id);
            self.totals.evicted += 1;
        }
    }

    fn oldest_of(&self, owner: Owner) -> Option<(Duration, i32)> {
        let idle = self.of(owner).filter_map(|id| Some((self.entries.get(&id)?.used, id)));
        idle.filter(|place| self.idle.contains(place)).min()
    }

    fn bytes_of(&self, session: &FetchSession) -> usize {
        session.partitions() * self.limits.partition_bytes + session.name_bytes()
    }

    fn put(&mut self, id: i32, entry: Entry) {
        self.totals.sessions += 1;
        self.totals.partitions += entry.session.partitions();
        self.totals.bytes += self.bytes_of(&entry.session);
        self.by_owner.insert((entry.owner, id));
        if !entry.is_busy {
            self.idle.insert((entry.used, id));
        }
        let before = self.entries.insert(id, entry);
        assert!(before.is_none(), "session {id} is there twice");
    }

    fn take(&mut self, id: i32) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.totals.sessions -= 1;
        self.totals.partitions -= entry.session.partitions();
        self.totals.bytes -= self.bytes_of(&entry.session);
        self.by_owner.remove(&(entry.owner, id));
        self.idle.remove(&(entry.used, id));
        Some(entry)
    }

    /// Ids are used again only after all others: a client that is late finds no session of another in its place.
    fn free_id(&mut self) -> i32 {
        loop {
            self.last_id = next_epoch(self.last_id);
            if !self.entries.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    /// What the totals must come to.
    #[cfg(test)]
    pub fn counted(&self) -> SessionTotals {
        let all = self.entries.values().map(|entry| &entry.session);
        let idle = self.entries.values().filter(|entry| !entry.is_busy).count();
        assert_eq!((self.idle.len(), self.by_owner.len()), (idle, self.entries.len()));
        let totals = all.fold(SessionTotals::default(), |totals, session| SessionTotals {
            sessions: totals.sessions + 1,
            partitions: totals.partitions + session.wanted().len(),
            bytes: totals.bytes + self.bytes_of(session),
            ..totals
        });
        SessionTotals { evicted: self.totals.evicted, refused: self.totals.refused, ..totals }
    }
}
