//! Loading a group's log, and the check that no rule of SAFETY B1 is broken. Raft must not see a log
//! that fails it: it would purge entries, or never start.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Family, KeyRange, OpenLogError, ScanLimit, formats,
    formats::FormatError,
    keys,
    log::{State, after, at_most, index},
    store::Shared,
};
use crate::types::{EntryPosition, LogIndex, RaftGroupId, ReplicaId};

const ONE: ScanLimit = ScanLimit { pairs: 1, bytes: usize::MAX };

/// That another replica takes the place of a lost one by itself, or by a command, is for a later version.
pub(super) const REPLACE_REPLICA: &str = "this copy must not be used again: keep the directory for examination, and give \
     this machine a new broker id and an empty data directory; it joins as another broker, and the lost replicas stay \
     missing until another replica can take their place, which this version cannot do yet";

/// What is on disk for one group.
pub(super) struct Loader<'a> {
    pub store: &'a Arc<Shared>,
    pub group: RaftGroupId,
    pub replica: ReplicaId,
}

struct Found {
    first: Option<EntryPosition>,
    last: Option<EntryPosition>,
    purged: Option<EntryPosition>,
    checkpoint: Option<EntryPosition>,
    applied: Option<EntryPosition>,
    /// The term of the entry at `applied`, if it is in the log.
    applied_here: Option<EntryPosition>,
    committed: Option<EntryPosition>,
    vote: Option<Bytes>,
}

impl Loader<'_> {
    /// The replica of the group that lives here, if one does.
    pub async fn registered(&self) -> Result<Option<ReplicaId>, OpenLogError> {
        let value = self.store.get(Family::State, &keys::replica(self.group)).await?;
        value.map(|value| self.decode("its replica id", formats::read_replica(value))).transpose()
    }

    pub async fn load(&self, is_strict: bool) -> Result<State, OpenLogError> {
        let found = self.find().await?;
        if is_strict {
            self.check(&found)?;
        }
        let last = found.last.max(found.purged);
        Ok(State {
            purged: found.purged,
            first: found.first.map_or(after(found.purged), |first| first.index),
            last,
            vote: found.vote,
            committed: at_most(found.committed, last),
            applied: found.applied,
            checkpoint: found.checkpoint,
            ..State::default()
        })
    }

    async fn find(&self) -> Result<Found, OpenLogError> {
        let log = keys::entries(self.group, LogIndex(0), None);
        let first = self.entry(log.clone(), false).await?;
        let last = self.entry(log, true).await?;
        let checkpoints = keys::checkpoints(self.group, LogIndex(0), None);
        let newest = self.store.scan(Family::Applied, checkpoints, ONE, true).await?;
        let checkpoint = match newest.into_iter().next() {
            Some((_, value)) => self.decode("a checkpoint", formats::read_saved_state(value))?.position,
            None => None,
        };
        let applied = self.store.get(Family::Applied, &keys::applied(self.group)).await?;
        let applied = applied.map(|value| self.decode("its applied state", formats::read_saved_state(value)));
        let applied = applied.transpose()?.and_then(|saved| saved.position);
        let applied_here = match applied {
            Some(at) => {
                let one = keys::entries(self.group, at.index, Some(LogIndex(at.index.0.saturating_add(1))));
                self.entry(one, false).await?
            }
            None => None,
        };
        let vote = self.store.get(Family::State, &keys::vote(self.group)).await?;
        let vote = vote.map(|value| self.decode("its vote", formats::read_opaque(value))).transpose()?;
        Ok(Found {
            first,
            last,
            purged: self.position("its purge point", keys::purged(self.group)).await?,
            checkpoint,
            applied,
            applied_here,
            committed: self.position("its saved commit", keys::saved_commit(self.group)).await?,
            vote,
        })
    }

    /// The first or last entry in a range.
    async fn entry(&self, range: KeyRange, reverse: bool) -> Result<Option<EntryPosition>, OpenLogError> {
        let found = self.store.scan(Family::Log, range, ONE, reverse).await?;
        let Some((key, value)) = found.into_iter().next() else { return Ok(None) };
        let (_, index) = keys::read_entry(&key).ok_or_else(|| self.damaged("an entry's key is malformed".into()))?;
        Ok(Some(self.decode("an entry", formats::read_entry(index, value))?.position))
    }

    async fn position(&self, what: &str, key: Vec<u8>) -> Result<Option<EntryPosition>, OpenLogError> {
        let value = self.store.get(Family::State, &key).await?;
        value.map(|value| self.decode(what, formats::read_position(value))).transpose()
    }

    fn decode<T>(&self, what: &str, decoded: Result<T, FormatError>) -> Result<T, OpenLogError> {
        decoded.map_err(|error| self.damaged(format!("{what} cannot be read: {error}")))
    }

    /// SAFETY B1: `purged <= checkpoint <= applied <= last`, and a log without holes at its ends.
    fn check(&self, found: &Found) -> Result<(), OpenLogError> {
        let &Found { first, last, purged, checkpoint, applied, applied_here, .. } = found;
        let show = |position: Option<EntryPosition>| position.map_or("nothing".into(), |at| at.to_string());
        if let Some(first) = first
            && first.index != after(purged)
        {
            let what = format!("its log begins at {first}, but it is purged up to {}", show(purged));
            return Err(self.damaged(what));
        }
        let chain = [
            ("purge point", purged, "newest checkpoint", checkpoint),
            ("newest checkpoint", checkpoint, "applied state", applied),
            ("applied state", applied, "last entry", last.max(purged)),
        ];
        for (name, low, of, high) in chain {
            if index(low) > index(high) {
                return Err(self.damaged(format!("its {name} {} is beyond its {of} {}", show(low), show(high))));
            }
        }
        if applied_here.is_some() && applied_here != applied {
            let what = format!("it applied {} where its log has {}", show(applied), show(applied_here));
            return Err(self.damaged(what));
        }
        Ok(())
    }

    pub fn damaged(&self, what: String) -> OpenLogError {
        OpenLogError::Damaged { group: self.group, replica: self.replica, what, to_do: REPLACE_REPLICA.into() }
    }
}
