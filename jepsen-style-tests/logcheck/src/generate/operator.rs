//! Somebody who creates, changes and deletes topics of no records, and asks for producer ids; two calls at once.

use std::io;

use super::World;
use crate::event::{AdminCall, AdminResult, Body, Outcome};

const TOPICS: usize = 3;
/// The operator's processes: far from everybody else's.
const PROCESS: u32 = 2_000_000;

pub struct Operator {
    worker: usize,
    topics: [Option<(u32, u64)>; TOPICS],
    /// Calls in flight, one for each of its processes.
    open: [Option<(u64, usize, AdminCall)>; 2],
    next_producer: i64,
}

impl Operator {
    pub fn new(worker: usize) -> Operator {
        Operator { worker, topics: [None; TOPICS], open: [None; 2], next_producer: 0 }
    }

    pub fn turn(&mut self, world: &mut World) -> io::Result<()> {
        let at = world.random.u64(..2) as usize;
        let process = PROCESS + at as u32;
        if let Some((op, topic, call)) = self.open[at].take() {
            let result = self.take_effect(topic, call);
            // Sometimes nobody is told.
            let result = if world.random.u64(..20) == 0 { AdminResult::Info } else { result };
            let error = if result == AdminResult::Info { 7 } else { 0 };
            return world.put(self.worker, process, op, Body::Administered { result, error });
        }
        if world.random.u64(..5) == 0 {
            return self.init_producer(world, process);
        }
        // Seldom, so that the search for an order stays short.
        if world.random.u64(..4) != 0 {
            return Ok(());
        }
        let (topic, call) = (world.random.usize(..TOPICS), draw(world));
        let op = world.op();
        self.open[at] = Some((op, topic, call));
        world.put(self.worker, process, op, Body::Admin { topic: topic as u32, call })
    }

    fn take_effect(&mut self, topic: usize, call: AdminCall) -> AdminResult {
        let topic = &mut self.topics[topic];
        match (call, *topic) {
            (AdminCall::Create { partitions, config }, None) => *topic = Some((partitions, config)),
            (AdminCall::Create { .. }, Some(_)) => return AdminResult::AlreadyExists,
            (AdminCall::Delete, Some(_)) => *topic = None,
            (AdminCall::AlterConfig { config }, Some((partitions, _))) => *topic = Some((partitions, config)),
            (AdminCall::AddPartitions { partitions }, Some((now, _))) if partitions <= now => {
                return AdminResult::Refused;
            }
            (AdminCall::AddPartitions { partitions }, Some((_, config))) => *topic = Some((partitions, config)),
            (AdminCall::Describe, Some((partitions, config))) => return AdminResult::Described { partitions, config },
            (
                AdminCall::Delete
                | AdminCall::AlterConfig { .. }
                | AdminCall::AddPartitions { .. }
                | AdminCall::Describe,
                None,
            ) => return AdminResult::NotFound,
        }
        AdminResult::Done
    }

    fn init_producer(&mut self, world: &mut World, process: u32) -> io::Result<()> {
        let op = world.op();
        world.put(self.worker, process, op, Body::InitProducer)?;
        world.tick();
        self.next_producer += 1;
        let (outcome, error, producer_id, producer_epoch) = (Outcome::Ok, 0, self.next_producer, 0);
        world.put(self.worker, process, op, Body::InitedProducer { outcome, error, producer_id, producer_epoch })
    }

    pub fn finish(&mut self, world: &mut World) -> io::Result<()> {
        for at in 0..self.open.len() {
            world.tick();
            if let Some((op, topic, call)) = self.open[at].take() {
                let result = self.take_effect(topic, call);
                world.put(self.worker, PROCESS + at as u32, op, Body::Administered { result, error: 0 })?;
            }
        }
        Ok(())
    }
}

fn draw(world: &mut World) -> AdminCall {
    let number = world.op();
    match world.random.u64(..6) {
        0 | 1 => AdminCall::Create { partitions: 1 + (number % 5) as u32, config: number },
        2 => AdminCall::Delete,
        3 => AdminCall::AlterConfig { config: number },
        4 => AdminCall::AddPartitions { partitions: 1 + (number % 9) as u32 },
        _ => AdminCall::Describe,
    }
}
