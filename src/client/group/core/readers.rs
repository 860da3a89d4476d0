//! Readers: which to start and stop, and what they bring. What comes from one that was stopped is dropped.

use super::{Brought, Chunk, Core, From, Held, Piece, Stage, Start};
use crate::{
    client::{error::ClientError, group::OffsetReset},
    types::TopicPartition,
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
            (None, OffsetReset::Fail) => return self.report(ClientError::NoOffset { partition: at.to_string() }),
        };
        held.stage = Stage::Reading { reader: Some(reader) };
        self.starts.push(Start { reader, at: at.clone(), from });
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
    pub fn on_positioned(&mut self, reader: u64, at: &TopicPartition, instead_of: Option<i64>, offset: i64) {
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

    /// A reader met an error. `is_end`: it has ended, and the partition waits for a seek.
    pub fn on_read_failed(&mut self, reader: u64, at: &TopicPartition, error: ClientError, is_end: bool) {
        let Some(held) = self.read_by(reader, at) else { return };
        if is_end {
            held.stage = Stage::Reading { reader: None };
            self.stops.push(reader);
        }
        self.report(error);
    }
}
