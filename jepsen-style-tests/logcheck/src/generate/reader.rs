//! A reader of all keys, which either leaves its positions to its consumer or names them.

use std::io;

use super::World;
use crate::event::{Body, From, Outcome, Phase, Poll, Polled, Seek, Which};

pub struct Reader {
    worker: usize,
    /// The next offset of each key.
    positions: Vec<i64>,
    names_positions: bool,
    began: bool,
    /// The poll that is open: its operation, and the key it is of.
    open: Option<(u64, u32)>,
}

impl Reader {
    pub fn new(worker: usize, keys: u32, names_positions: bool) -> Reader {
        Reader { worker, positions: vec![0; keys as usize], names_positions, began: false, open: None }
    }

    pub fn is_done(&self, world: &World) -> bool {
        self.open.is_none() && (0u32..).zip(&self.positions).all(|(key, position)| *position == world.log.end(key))
    }

    pub fn turn(&mut self, world: &mut World) -> io::Result<()> {
        if !self.began {
            self.began = true;
            if !self.names_positions {
                let keys = (0..self.positions.len() as u32).collect();
                let op = world.op();
                return world.put(self.worker, self.process(), op, Body::Assign { keys, seek: Seek::Keep });
            }
        }
        match self.open.take() {
            Some((op, key)) => self.end(world, op, key),
            None => self.begin(world),
        }
    }

    fn process(&self) -> u32 {
        self.worker as u32
    }

    fn begin(&mut self, world: &mut World) -> io::Result<()> {
        let key = world.random.u64(..self.positions.len() as u64) as u32;
        let (position, end) = (self.positions[key as usize], world.log.end(key));
        let due =
            end - position >= (world.poll_records / 4).max(1) as i64 || world.phase == Phase::Final && end > position;
        if !due && world.random.u64(..50) != 0 {
            return Ok(());
        }
        if world.random.u64(..20) == 0 {
            return self.ask(world, key);
        }
        let from = if self.names_positions { From::Fetch { key, position } } else { From::Assigned };
        let op = world.op();
        self.open = Some((op, key));
        world.put(self.worker, self.process(), op, Body::Poll(Poll { from, node: world.log.leader(key) }))
    }

    fn end(&mut self, world: &mut World, op: u64, key: u32) -> io::Result<()> {
        let position = self.positions[key as usize];
        if world.random.u64(..100) == 0 {
            // It had no effect: the reader stands where it stood.
            let polled = Polled { outcome: Outcome::Fail, error: 6, runs: vec![] };
            return world.put(self.worker, self.process(), op, Body::Polled(polled));
        }
        let count = 1 + world.random.u64(..world.poll_records);
        let runs = world.log.read(key, position, count);
        self.positions[key as usize] += runs.iter().map(|run| run.records.len() as i64).sum::<i64>();
        world.put(self.worker, self.process(), op, Body::Polled(Polled { outcome: Outcome::Ok, error: 0, runs }))
    }

    /// Asks where the log begins or ends, or where an epoch does.
    fn ask(&mut self, world: &mut World, key: u32) -> io::Result<()> {
        let (op, process) = (world.op(), self.process());
        let epoch = world.log.epoch(key) - world.random.u64(..2) as i32;
        let (question, which) = match world.random.u64(..3) {
            0 => (Body::ListOffsets { key, which: Which::Latest }, Some(Which::Latest)),
            1 => (Body::ListOffsets { key, which: Which::Earliest }, Some(Which::Earliest)),
            _ => (Body::EpochEnd { key, epoch }, None),
        };
        world.put(self.worker, process, op, question)?;
        world.tick();
        let (outcome, error) = (Outcome::Ok, 0);
        let answer = match which {
            Some(Which::Latest) => Body::Listed { outcome, error, offset: world.log.end(key) },
            Some(Which::Earliest) => Body::Listed { outcome, error, offset: 0 },
            None => Body::EpochEnded { outcome, error, end: world.log.epoch_end(key, epoch) },
        };
        world.put(self.worker, process, op, answer)
    }

    /// Looks once more at each key, and finds nothing behind its end.
    pub fn finish(&mut self, world: &mut World) -> io::Result<()> {
        for key in 0..self.positions.len() as u32 {
            let (op, position) = (world.op(), self.positions[key as usize]);
            let from = if self.names_positions { From::Fetch { key, position } } else { From::Assigned };
            world.tick();
            world.put(self.worker, self.process(), op, Body::Poll(Poll { from, node: world.log.leader(key) }))?;
            world.tick();
            let runs = world.log.read(key, position, 1);
            let polled = Polled { outcome: Outcome::Ok, error: 0, runs };
            world.put(self.worker, self.process(), op, Body::Polled(polled))?;
        }
        Ok(())
    }
}
