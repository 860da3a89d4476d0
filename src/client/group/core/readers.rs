//! Readers: which to start and stop, and what they bring. What comes from one that was stopped is dropped.

use super::{Brought, Chunk, Core, Due, From, Held, Piece, Stage, Start};
use crate::{
    client::{error::ClientError, group::OffsetReset},
    types::{Offset, TopicPartition},
};

impl<P> Core<P> {
    pub fn take_starts(&mut self) -> Vec<Start> {
        std::mem::take(&mut self.starts)
    }

    pub fn take_stops(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.stops)
    }

    pub(super) fn start_reader(&mut self, at: &TopicPartition) {
        let reader = self.number();
        let offset_reset = self.rules.offset_reset;
        let Some(held) = self.held.get_mut(at) else { return };
        if held.paused || held.stage != (Stage::Reading { reader: None }) {
            return;
        }
        let from = match (held.position, offset_reset) {
            (Some(offset), _) => From::Offset(offset),
            (None, OffsetReset::Earliest | OffsetReset::Latest) => From::Reset,
            (None, OffsetReset::Fail) => return self.report(ClientError::NoOffset { partition: at.clone() }),
        };
        held.stage = Stage::Reading { reader: Some(reader) };
        let topic_id = held.topic_id.clone();
        self.starts.push(Start { reader, at: at.clone(), topic_id, from });
    }

    /// Ends the reader, and forgets what it brought that was not handed out: it will be read again.
    pub(super) fn stop_reader(&mut self, at: &TopicPartition) {
        let Some(held) = self.held.get_mut(at) else { return };
        self.chunks.retain(|chunk| chunk.at != *at);
        if let Stage::Reading { reader } = &mut held.stage
            && let Some(reader) = reader.take()
        {
            self.starts.retain(|start| start.reader != reader);
            self.stops.push(reader);
        }
    }

    fn read_by(&mut self, reader: u64, at: &TopicPartition) -> Option<&mut Held> {
        self.held.get_mut(at).filter(|held| held.stage == Stage::Reading { reader: Some(reader) })
    }

    /// A reader found out where it begins. `instead_of`: the place that it was to begin or go on at, which is not
    /// there (any more); the application is told, after what was brought before.
    pub fn on_positioned(&mut self, reader: u64, at: &TopicPartition, instead_of: Option<Offset>, offset: Offset) {
        let Some(held) = self.read_by(reader, at) else { return };
        match instead_of {
            // Also without a record, so that the place is the same after a restart.
            None => (held.position, held.processed) = (Some(offset), Some(offset)),
            Some(from) => {
                let what = Piece::Jump { from, to: offset };
                self.chunks.push_back(Chunk { at: at.clone(), what });
            }
        }
    }

    pub fn on_brought(&mut self, reader: u64, at: &TopicPartition, brought: Brought<P>) {
        if self.read_by(reader, at).is_none() || brought.records.is_empty() {
            return;
        }
        let Brought { records, high_watermark, leader_epoch, permits } = brought;
        let records = records.into_iter();
        let what = Piece::Records { records, high_watermark, leader_epoch, _permits: permits };
        self.chunks.push_back(Chunk { at: at.clone(), what });
    }

    /// A reader met an error. `is_end`: it has ended, and the partition waits for a seek; the application is told
    /// after it was given what was brought before.
    pub fn on_read_failed(&mut self, reader: u64, at: &TopicPartition, error: ClientError, is_end: bool) {
        let Some(held) = self.read_by(reader, at) else { return };
        if is_end {
            held.stage = Stage::Reading { reader: None };
            self.stops.push(reader);
            if self.chunks.iter().any(|chunk| chunk.at == *at) {
                return self.chunks.push_back(Chunk { at: at.clone(), what: Piece::Failed(error) });
            }
        }
        self.report(error);
    }

    /// A reader that was not told found out which topic has the name.
    pub fn on_identified(&mut self, reader: u64, at: &TopicPartition, topic_id: &str) {
        if let Some(held) = self.read_by(reader, at) {
            held.topic_id = topic_id.into();
        }
    }

    /// A reader was told that its topic is gone and another one has its name.
    pub fn on_topic_gone(&mut self, reader: u64, at: &TopicPartition) {
        if self.read_by(reader, at).is_some() {
            self.begin_anew(at);
        }
    }

    /// A commit was refused because it is of a topic that is gone.
    pub fn on_replaced(&mut self, dues: &[Due], at: &TopicPartition) {
        let hold = dues.iter().find(|due| due.offset.at == *at).map(|due| due.hold);
        if self.held.get(at).is_some_and(|held| Some(held.hold) == hold && held.is_active()) {
            self.begin_anew(at);
        }
    }

    /// The partition of the new topic is ours, as if it had just been assigned; nothing of the old one is left.
    fn begin_anew(&mut self, at: &TopicPartition) {
        self.stop_reader(at);
        if self.in_hand.as_ref().is_some_and(|hand| hand.at == *at) {
            self.in_hand = None;
        }
        let hold = self.number();
        let before = self.held.insert(at.clone(), Held::new(hold));
        if before.is_some_and(|held| held.told) {
            self.replaced.push(at.clone());
        }
    }
}
