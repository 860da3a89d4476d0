//! A producer with several sends in flight.

use std::{collections::VecDeque, io};

use super::World;
use crate::event::{Body, Outcome, Send, Sent, Sequence};

/// Sends in flight at most.
const WINDOW: usize = 5;

pub struct Producer {
    worker: usize,
    keys: u32,
    id: i64,
    epoch: i16,
    sequence: i32,
    batch: u32,
    flying: VecDeque<Flying>,
}

/// What will become of a send.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Acked,
    /// Not told, and appended or not.
    Unknown {
        appended: bool,
    },
    Failed,
}

struct Flying {
    op: u64,
    key: u32,
    value: u64,
    fate: Fate,
    offset: Option<i64>,
    answer: Sent,
}

impl Producer {
    pub fn new(worker: usize, keys: u32) -> Producer {
        Producer { worker, keys, id: 1_000 + worker as i64, epoch: 0, sequence: 0, batch: 0, flying: VecDeque::new() }
    }

    pub fn is_busy(&self) -> bool {
        !self.flying.is_empty()
    }

    pub fn turn(&mut self, world: &mut World) -> io::Result<()> {
        match world.random.u64(..3) {
            0 if world.left > 0 && self.flying.len() < WINDOW => self.begin(world),
            1 => {
                self.append(world);
                Ok(())
            }
            _ => self.answer(world),
        }
    }

    fn begin(&mut self, world: &mut World) -> io::Result<()> {
        world.left -= 1;
        let (op, value) = (world.op(), world.value());
        let key = world.random.u64(..u64::from(self.keys)) as u32;
        let fate = if world.once_in(world.unknown_in) {
            Fate::Unknown { appended: world.random.bool() }
        } else if world.once_in(world.failed_in) {
            Fate::Failed
        } else {
            Fate::Acked
        };
        let producer = Some(Sequence { producer_id: self.id, producer_epoch: self.epoch, sequence: self.sequence });
        let batch = (world.random.u64(..3) == 0).then_some(self.batch);
        self.sequence += 1;
        if batch.is_none() {
            self.batch += 1;
        }
        if fate != Fate::Acked {
            // Its sequence has a hole from now on, so it goes on with another epoch.
            (self.epoch, self.sequence) = (self.epoch.wrapping_add(1).max(0), 0);
        }
        self.flying.push_back(Flying { op, key, value, fate, offset: None, answer: Sent::default() });
        let send = Send { key, value, acks: -1, producer, batch };
        world.put(self.worker, self.worker as u32, op, Body::Send(send))
    }

    /// The broker appends in the order in which sends came.
    fn append(&mut self, world: &mut World) {
        let Some(flying) = self.flying.iter_mut().find(|flying| flying.offset.is_none()) else { return };
        if world.random.u64(..500) == 0 {
            world.log.elect(flying.key);
        }
        let appended = matches!(flying.fate, Fate::Acked | Fate::Unknown { appended: true });
        let offset = if appended { world.log.append(flying.key, flying.value) } else { -1 };
        flying.offset = Some(offset);
        let (leader_epoch, node) = (Some(world.log.epoch(flying.key)), world.log.leader(flying.key));
        flying.answer = match flying.fate {
            Fate::Acked => {
                Sent { outcome: Outcome::Ok, offset: Some(offset), leader_epoch, error: 0, attempts: 1, node }
            }
            Fate::Unknown { .. } => Sent { error: 7, attempts: 3, ..Sent::default() },
            Fate::Failed => Sent { outcome: Outcome::Fail, error: 6, attempts: 1, node, ..Sent::default() },
        };
    }

    fn answer(&mut self, world: &mut World) -> io::Result<()> {
        let Some(flying) = self.flying.pop_front_if(|flying| flying.offset.is_some()) else { return Ok(()) };
        if matches!(flying.fate, Fate::Unknown { .. }) && world.random.bool() {
            return Ok(()); // It never ends.
        }
        world.put(self.worker, self.worker as u32, flying.op, Body::Sent(flying.answer))
    }
}
