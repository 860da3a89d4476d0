//! The sessions of a node as its connections hold them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    super::limits,
    session::{PartitionSeen, PartitionWanted},
    table::{NO_SESSION, Owner, SessionAsk, SessionLimits, SessionRefusal, SessionTable, TurnKey},
};
use crate::{metrics::KafkaProbe, types::TOPIC_NAME_BYTES_MAX};

const LIMITS: SessionLimits = SessionLimits {
    sessions: limits::FETCH_SESSIONS_MAX,
    per_connection: limits::FETCH_SESSIONS_PER_CONNECTION_MAX,
    partitions: limits::FETCH_SESSION_PARTITIONS_MAX,
    per_session: limits::PARTITIONS_MAX,
    bytes: limits::FETCH_SESSION_BYTES_MAX,
    partition_bytes: limits::FETCH_SESSION_PARTITION_BYTES,
    name_bytes: TOPIC_NAME_BYTES_MAX,
    evicted_after: limits::FETCH_SESSION_EVICTED_AFTER,
};

/// What all connections of a node share.
pub struct NodeSessions {
    books: Mutex<Books>,
    began: Instant,
    probe: KafkaProbe,
}

struct Books {
    table: SessionTable,
    last_owner: Owner,
}

impl NodeSessions {
    pub fn new(probe: KafkaProbe) -> Arc<NodeSessions> {
        let books = Books { table: SessionTable::new(LIMITS), last_owner: 0 };
        Arc::new(NodeSessions { books: Mutex::new(books), began: Instant::now(), probe })
    }

    /// A new connection's part.
    pub fn connection(self: &Arc<Self>) -> ConnectionSessions {
        let mut books = self.books.lock().expect("no holder panics");
        books.last_owner += 1;
        ConnectionSessions { node: Arc::clone(self), owner: books.last_owner }
    }

    fn change<T>(&self, change: impl FnOnce(&mut SessionTable, Duration) -> T) -> T {
        let mut books = self.books.lock().expect("no holder panics");
        let before = books.table.totals();
        let changed = change(&mut books.table, self.began.elapsed());
        let now = books.table.totals();
        self.probe.fetch_sessions_are(now.sessions, now.partitions);
        self.probe.fetch_sessions_lacked_room(now.evicted - before.evicted, now.refused - before.refused);
        changed
    }
}

/// The sessions of one connection, which end with it.
pub struct ConnectionSessions {
    node: Arc<NodeSessions>,
    owner: Owner,
}

impl ConnectionSessions {
    /// A request, and what is to be read for it. Requests must be begun in the order in which they came.
    pub fn begin(&self, asking: SessionAsk) -> Result<(SessionTurn, Vec<PartitionWanted>), SessionRefusal> {
        let plan = self.node.change(|table, now| table.begin(self.owner, asking, now))?;
        Ok((SessionTurn { node: Arc::clone(&self.node), key: plan.turn }, plan.wanted))
    }
}

impl Drop for ConnectionSessions {
    fn drop(&mut self) {
        self.node.change(|table, _| table.end_all_of(self.owner));
    }
}

/// A request that is worked on: where it is dropped without an answer, its session ends.
pub struct SessionTurn {
    node: Arc<NodeSessions>,
    /// None: it is of no session.
    key: Option<TurnKey>,
}

impl SessionTurn {
    /// The session that the answer is of, and which of its partitions it tells, all those that were to be read being
    /// seen. None: all.
    pub fn answer(mut self, seen: &[PartitionSeen]) -> Result<(i32, Option<Vec<bool>>), SessionRefusal> {
        let Some(key) = self.key.take() else { return Ok((NO_SESSION, None)) };
        let told = self.node.change(|table, _| table.answer(key, seen))?;
        Ok(if told.is_some() { (key.session, told) } else { (NO_SESSION, None) })
    }
}

impl Drop for SessionTurn {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.node.change(|table, _| table.give_up(key));
        }
    }
}
