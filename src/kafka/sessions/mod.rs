//! Fetch sessions (KIP-227): what a client reads is remembered between its Fetch requests, so that each request names
//! only what changed, and each answer only what is new.
//!
//! A session is Kafka's, as its clients see it, with these choices where Kafka leaves room or is without a bound:
//!
//! - It belongs to the connection that began it, and ends with it. Through another one its id is not known, and clients
//!   begin anew then, as they do when a broker restarts. So ids need be no secret, and nobody changes what another reads.
//! - One request of a session is worked on at a time: the next one is told that its epoch is wrong. Kafka takes one
//!   request of a connection at a time, and clients send the next one when they have the answer.
//! - Node and connection have so many places, partitions and bytes (`limits`). A session that finds no room takes that of
//!   those unused for longest, if nobody used them for [`EVICTED_AFTER`](super::limits::FETCH_SESSION_EVICTED_AFTER); if
//!   that is not enough the client goes on without one, which is what Kafka answers when it has no room.
//! - One that grows beyond the room that there is ends: the client, told that it is not known, asks for a new one.
//!
//! `session` is what one remembers, `table` all sessions of a node within their limits; both are pure, and are told the
//! time. `shared` is what connections hold. Leaves out: followers, whose fetches are no Kafka requests here.

mod session;
mod shared;
mod table;
#[cfg(test)]
mod tests;

pub(super) use session::{PartitionSeen, PartitionWanted, TopicKey};
pub(super) use shared::{ConnectionSessions, NodeSessions, SessionTurn};
pub(super) use table::{NO_SESSION, SessionAsk, SessionRefusal};
