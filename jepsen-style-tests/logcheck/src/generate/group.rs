//! A group of the classic protocol: members poll what they own and commit, and now and then all rejoin.

use std::io;

use super::World;
use crate::event::{Body, Commit, From, Outcome, Phase, Poll, Polled, Protocol, Rebalance, Stored};

const GROUP: u32 = 0;

pub struct Group {
    members: Vec<Member>,
    keys: u32,
    generation: i32,
    /// What is committed of each key.
    committed: Vec<Option<Stored>>,
    next_commit: u64,
    /// Processes that were used up by crashes.
    crashes: u32,
    began: bool,
}

struct Member {
    worker: usize,
    process: u32,
    member: u32,
    /// Keys that it owns, with its next offset.
    owned: Vec<(u32, i64)>,
    poll: Option<(u64, usize)>,
    /// A commit in flight: its operation, and whether it has its effect.
    commit: Option<(u64, u32, Stored, bool)>,
}

impl Group {
    pub fn new(workers: Vec<usize>, keys: u32) -> Group {
        let member = |worker: usize| Member {
            worker,
            process: worker as u32,
            member: worker as u32,
            owned: vec![],
            poll: None,
            commit: None,
        };
        Group {
            members: workers.into_iter().map(member).collect(),
            keys,
            generation: 0,
            committed: vec![None; keys as usize],
            next_commit: 0,
            crashes: 0,
            began: false,
        }
    }

    pub fn is_done(&self, world: &World) -> bool {
        let owned: Vec<(u32, i64)> = self.members.iter().flat_map(|member| member.owned.iter().copied()).collect();
        self.members.iter().all(|member| member.poll.is_none())
            && owned.len() == self.keys as usize
            && owned.iter().all(|(key, position)| *position == world.log.end(*key))
    }

    pub fn turn(&mut self, world: &mut World) -> io::Result<()> {
        if !self.began {
            self.began = true;
            for at in 0..self.members.len() {
                self.subscribe(world, at)?;
            }
            return self.rebalance(world);
        }
        if world.once_in(world.rebalance_in) {
            return self.rebalance(world);
        }
        let at = world.random.usize(..self.members.len());
        match world.random.u64(..5) {
            0 | 1 => self.poll(world, at),
            2 => self.commit(world, at),
            3 => self.heartbeat(world, at),
            _ => self.look(world, at),
        }
    }

    fn subscribe(&mut self, world: &mut World, at: usize) -> io::Result<()> {
        let (op, keys) = (world.op(), (0..self.keys).collect());
        self.put(world, at, op, Body::Subscribe { group: GROUP, keys })
    }

    fn put(&self, world: &mut World, at: usize, op: u64, body: Body) -> io::Result<()> {
        let member = &self.members[at];
        world.put(member.worker, member.process, op, body)
    }

    fn poll(&mut self, world: &mut World, at: usize) -> io::Result<()> {
        if let Some((op, place)) = self.members[at].poll.take() {
            let (key, position) = self.members[at].owned[place];
            let runs = world.log.read(key, position, 1 + world.random.u64(..world.poll_records));
            self.members[at].owned[place].1 += runs.iter().map(|run| run.records.len() as i64).sum::<i64>();
            let polled = Polled { outcome: Outcome::Ok, error: 0, runs };
            return self.put(world, at, op, Body::Polled(polled));
        }
        let count = self.members[at].owned.len();
        if count == 0 {
            return Ok(());
        }
        let place = world.random.usize(..count);
        let (key, position) = self.members[at].owned[place];
        let backlog = world.log.end(key) - position;
        let due = backlog >= (world.poll_records / 4).max(1) as i64 || world.phase == Phase::Final && backlog > 0;
        if !due && world.random.u64(..20) != 0 {
            return Ok(());
        }
        let op = world.op();
        self.members[at].poll = Some((op, place));
        self.put(world, at, op, Body::Poll(Poll { from: From::Group, node: world.log.leader(key) }))
    }

    fn commit(&mut self, world: &mut World, at: usize) -> io::Result<()> {
        if let Some((op, key, stored, takes_effect)) = self.members[at].commit.take() {
            if takes_effect {
                self.committed[key as usize] = Some(stored);
            }
            let (outcome, error) =
                if takes_effect && world.random.u64(..30) != 0 { (Outcome::Ok, 0) } else { (Outcome::Info, 7) };
            return self.put(world, at, op, Body::Committed { outcome, error });
        }
        let count = self.members[at].owned.len();
        if count == 0 {
            return Ok(());
        }
        let (key, offset) = self.members[at].owned[world.random.usize(..count)];
        self.next_commit += 1;
        let (op, id, takes_effect) = (world.op(), self.next_commit, world.random.u64(..30) != 0);
        self.members[at].commit = Some((op, key, Stored { offset, id }, takes_effect));
        let (generation, member) = (self.generation, self.members[at].member);
        self.put(world, at, op, Body::Commit(Commit { group: GROUP, key, offset, generation, member, id }))
    }

    fn heartbeat(&mut self, world: &mut World, at: usize) -> io::Result<()> {
        let (op, generation, member) = (world.op(), self.generation, self.members[at].member);
        self.put(world, at, op, Body::Heartbeat { group: GROUP, generation, member })?;
        world.tick();
        self.put(world, at, op, Body::Beaten { outcome: Outcome::Ok, error: 0 })
    }

    fn look(&mut self, world: &mut World, at: usize) -> io::Result<()> {
        let (op, key) = (world.op(), world.random.u64(..u64::from(self.keys)) as u32);
        self.put(world, at, op, Body::FetchCommit { group: GROUP, key })?;
        world.tick();
        let stored = self.committed[key as usize];
        self.put(world, at, op, Body::FetchedCommit { outcome: Outcome::Ok, error: 0, stored })
    }

    /// Everybody lets go of everything, and is given something else. Sometimes somebody dies instead of letting go.
    fn rebalance(&mut self, world: &mut World) -> io::Result<()> {
        let dies = (world.random.u64(..3) == 0).then(|| world.random.usize(..self.members.len()));
        for at in 0..self.members.len() {
            world.tick();
            if dies == Some(at) && self.generation > 0 {
                self.die(world, at)?;
                continue;
            }
            while self.members[at].poll.is_some() {
                self.poll(world, at)?;
            }
            while self.members[at].commit.is_some() {
                self.commit(world, at)?;
            }
            let revoked: Vec<u32> = self.members[at].owned.drain(..).map(|(key, _)| key).collect();
            if !revoked.is_empty() {
                self.tell(world, at, revoked, vec![])?;
            }
        }
        self.generation += 1;
        let shift = world.random.u64(..self.members.len() as u64) as u32;
        for at in 0..self.members.len() {
            world.tick();
            let count = self.members.len() as u32;
            let own: Vec<u32> = (0..self.keys).filter(|key| (key + shift) % count == at as u32).collect();
            let from = |key: &u32| self.committed[*key as usize].map_or(0, |stored| stored.offset);
            self.members[at].owned = own.iter().map(|key| (*key, from(key))).collect();
            self.tell(world, at, vec![], own)?;
        }
        Ok(())
    }

    fn tell(&self, world: &mut World, at: usize, revoked: Vec<u32>, assigned: Vec<u32>) -> io::Result<()> {
        let (generation, member) = (self.generation, self.members[at].member);
        let protocol = Protocol::Classic;
        let rebalance = Rebalance { group: GROUP, protocol, generation, member, revoked, assigned };
        let op = world.op();
        self.put(world, at, op, Body::Rebalance(rebalance))
    }

    /// Its open operations never end; another process takes its place.
    fn die(&mut self, world: &mut World, at: usize) -> io::Result<()> {
        let op = world.op();
        self.put(world, at, op, Body::Crash)?;
        self.crashes += 1;
        let member = &mut self.members[at];
        member.process = 1_000_000 + self.crashes;
        member.member = member.process;
        member.owned.clear();
        (member.poll, member.commit) = (None, None);
        self.subscribe(world, at)
    }

    /// Commits everything, and reads it back.
    pub fn finish(&mut self, world: &mut World) -> io::Result<()> {
        for at in 0..self.members.len() {
            world.tick();
            while self.members[at].commit.is_some() {
                self.commit(world, at)?;
            }
            self.look(world, at)?;
        }
        Ok(())
    }
}
