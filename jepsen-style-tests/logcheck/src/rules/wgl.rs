//! Whether a history of any object is linearizable: Wing and Gong's search, with Lowe's list and memory of what was
//! tried ("Testing for linearizability", 2017). It may take exponential time, so it has a budget.

use std::{collections::HashSet, hash::Hash};

/// An operation: from when to when, and what it was. `returned` of one that never ended is `u64::MAX`: it may take
/// effect at any time after it began, or never.
#[derive(Clone, Copy, Debug)]
pub struct Timed<O> {
    pub invoked: u64,
    pub returned: u64,
    pub op: O,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Linearizable,
    /// No order explains the answers: of the longest that was found, so many operations could be explained.
    Not {
        explained: usize,
    },
    /// The budget ran out.
    Unknown,
}

/// `apply` gives the state after an operation, if its answer fits the state before. `budget`: how many operations may be
/// tried.
pub fn linearizable<S: Clone + Eq + Hash, O>(
    ops: &[Timed<O>],
    initial: S,
    apply: impl Fn(&S, &O) -> Option<S>,
    mut budget: u64,
) -> Answer {
    let mut list = List::of(ops);
    let must = ops.iter().filter(|op| op.returned != u64::MAX).count();
    let (mut state, mut done) = (initial, Bits::new(ops.len()));
    let mut tried: HashSet<(Bits, S)> = HashSet::new();
    let mut path: Vec<(usize, S)> = vec![];
    let (mut left, mut explained) = (must, 0);
    let mut at = list.first();
    while left > 0 {
        if budget == 0 {
            return Answer::Unknown;
        }
        match list.nodes[at].begins {
            // Everything that is open here was tried, and nothing may come before the end of one of them.
            Begins::No => {
                let Some((op, before)) = path.pop() else { return Answer::Not { explained } };
                left += usize::from(ops[op].returned != u64::MAX);
                (state, at) = (before, list.put_back(op));
                done.clear(op);
                at = list.nodes[at].next;
            }
            Begins::Yes(op) => {
                budget -= 1;
                let after = apply(&state, &ops[op].op);
                done.set(op);
                if let Some(after) = after
                    && tried.insert((done.clone(), after.clone()))
                {
                    path.push((op, std::mem::replace(&mut state, after)));
                    left -= usize::from(ops[op].returned != u64::MAX);
                    explained = explained.max(must - left);
                    list.take_out(op);
                    at = list.first();
                } else {
                    done.clear(op);
                    at = list.nodes[at].next;
                }
            }
        }
    }
    Answer::Linearizable
}

#[derive(Clone, Copy)]
enum Begins {
    Yes(usize),
    /// It is an end.
    No,
}

struct Node {
    begins: Begins,
    before: usize,
    next: usize,
}

/// Beginnings and ends in order of time, as a doubly linked list. Node 0 stands before all; an end that nothing follows,
/// behind all.
struct List {
    nodes: Vec<Node>,
    /// The nodes of each operation's beginning and end; the last node for an end that never came.
    of: Vec<(usize, usize)>,
}

impl List {
    fn of<O>(ops: &[Timed<O>]) -> List {
        // At one time beginnings come first: what ends when another begins does not precede it.
        let begins = ops.iter().enumerate().map(|(op, timed)| (timed.invoked, 0, op));
        let ended = ops.iter().enumerate().filter(|(_, timed)| timed.returned != u64::MAX);
        let mut events: Vec<(u64, u8, usize)> =
            begins.chain(ended.map(|(op, timed)| (timed.returned, 1, op))).collect();
        events.sort_unstable();
        let last = events.len() + 1;
        let mut nodes = vec![Node { begins: Begins::No, before: 0, next: 1 }];
        let mut of = vec![(0, last); ops.len()];
        for (at, (_, end, op)) in events.iter().enumerate() {
            let node = at + 1;
            let begins = if *end == 0 { Begins::Yes(*op) } else { Begins::No };
            if *end == 0 {
                of[*op].0 = node
            } else {
                of[*op].1 = node
            }
            nodes.push(Node { begins, before: at, next: node + 1 });
        }
        nodes.push(Node { begins: Begins::No, before: last - 1, next: last });
        List { nodes, of }
    }

    fn first(&self) -> usize {
        self.nodes[0].next
    }

    fn ends_of(&self, op: usize) -> impl Iterator<Item = usize> + use<> {
        let ((begin, end), last) = (self.of[op], self.nodes.len() - 1);
        std::iter::once(begin).chain((end != last).then_some(end))
    }

    fn take_out(&mut self, op: usize) {
        for node in self.ends_of(op) {
            let (before, next) = (self.nodes[node].before, self.nodes[node].next);
            self.nodes[before].next = next;
            self.nodes[next].before = before;
        }
    }

    /// Undoes the last `take_out` that is not undone. Gives back the operation's beginning.
    fn put_back(&mut self, op: usize) -> usize {
        let mut nodes: Vec<usize> = self.ends_of(op).collect();
        nodes.reverse();
        for node in nodes {
            let (before, next) = (self.nodes[node].before, self.nodes[node].next);
            self.nodes[before].next = node;
            self.nodes[next].before = node;
        }
        self.of[op].0
    }
}

/// Which operations have taken effect.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(count: usize) -> Bits {
        Bits(vec![0; count.div_ceil(64)])
    }

    fn set(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    fn clear(&mut self, at: usize) {
        self.0[at / 64] &= !(1 << (at % 64));
    }
}
