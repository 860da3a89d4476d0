//! Everyone keeps what it has; what nobody has goes to whoever has least; then, as long as some member
//! has at least two partitions more than another that could read one of them, one moves.
//!
//! With equal subscriptions that is the least number of moves to an even load: the one with most
//! always gives, the one with least always takes. With unequal ones it stops where no single move
//! helps; a chain of moves (A to B so that B gives to C) is not looked for.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::to_deal::{Deal, Readers, includes};

pub(super) fn owners(deal: &Deal) -> Vec<Vec<Option<usize>>> {
    let mut table = Table::new(deal);
    table.deal_orphans(deal);
    // A move lowers the sum of squared loads, so this ends; how soon, with subscriptions that overlap
    // in odd ways, is bounded rather than argued about: one apply must not take for ever.
    let mut moves_left = 2 * deal.topics.iter().map(|t| t.owners.len()).sum::<usize>() + deal.members;
    while table.even_out(&mut moves_left) {}
    table.owners
}

/// A partition, as topic and number.
type Slot = (usize, usize);

struct Table {
    /// Who has each partition, as far as they are dealt.
    owners: Vec<Vec<Option<usize>>>,
    /// Which subscription each member has.
    subscription: Vec<usize>,
    /// What each member has, by who else could read it. No list is empty.
    holdings: Vec<BTreeMap<Readers, Vec<Slot>>>,
    loads: Vec<usize>,
    /// Per subscription: its members by load.
    by_load: Vec<BTreeSet<(usize, usize)>>,
}

impl Table {
    fn new(deal: &Deal) -> Table {
        let subscription = deal.subscription_by_member();
        let mut owners: Vec<Vec<Option<usize>>> = Vec::with_capacity(deal.topics.len());
        let mut holdings = vec![BTreeMap::<Readers, Vec<Slot>>::new(); deal.members];
        let mut loads = vec![0; deal.members];
        for (t, topic) in deal.topics.iter().enumerate() {
            let keeps = |owner: &Option<usize>| owner.filter(|m| includes(topic.readers, subscription[*m]));
            let kept: Vec<Option<usize>> = topic.owners.iter().map(keeps).collect();
            for (p, owner) in kept.iter().enumerate() {
                let Some(owner) = *owner else { continue };
                holdings[owner].entry(topic.readers).or_default().push((t, p));
                loads[owner] += 1;
            }
            owners.push(kept);
        }
        let by_load = deal.subscriptions.iter().map(|members| members.iter().map(|m| (loads[*m], *m)).collect());
        Table { owners, subscription, holdings, by_load: by_load.collect(), loads }
    }

    /// Topics that few may read go first: what many may read can even out the rest.
    fn deal_orphans(&mut self, deal: &Deal) {
        let count = |readers: Readers| -> usize {
            let read = deal.subscriptions.iter().enumerate().filter(|(i, _)| includes(readers, *i));
            read.map(|(_, members)| members.len()).sum()
        };
        let mut order: Vec<(usize, usize)> =
            deal.topics.iter().enumerate().map(|(t, topic)| (count(topic.readers), t)).collect();
        order.sort_unstable();
        for (_, t) in order {
            let readers = deal.topics[t].readers;
            for p in 0..deal.topics[t].owners.len() {
                if self.owners[t][p].is_none()
                    && let Some((_, member)) = self.least(readers)
                {
                    self.give((t, p), readers, member);
                }
            }
        }
    }

    /// One round of moves, from whoever has most. Whether anything moved: a later move may have made
    /// room for a member that was already passed over.
    fn even_out(&mut self, moves_left: &mut usize) -> bool {
        let mut moved = false;
        let mut givers: BinaryHeap<(usize, usize)> = self.loads.iter().copied().zip(0..).collect();
        while let Some((load, giver)) = givers.pop() {
            if load != self.loads[giver] {
                // It has been given something since it was put here.
                givers.push((self.loads[giver], giver));
                continue;
            }
            if *moves_left == 0 {
                return false;
            }
            if let Some((readers, taker)) = self.move_of(giver) {
                let slots = self.holdings[giver].get_mut(&readers).expect("the giver has one of these");
                let slot = slots.pop().expect("no list is empty");
                if slots.is_empty() {
                    self.holdings[giver].remove(&readers);
                }
                self.set_load(giver, load - 1);
                self.give(slot, readers, taker);
                givers.push((load - 1, giver));
                *moves_left -= 1;
                moved = true;
            }
        }
        moved
    }

    /// Whom this member should give one of its partitions, and of which kind.
    fn move_of(&self, giver: usize) -> Option<(Readers, usize)> {
        let could_read = self.holdings[giver].keys().fold(0, |all, readers| all | readers);
        let (load, taker) = self.least(could_read)?;
        if load + 2 > self.loads[giver] {
            return None;
        }
        let fits = |readers: &&Readers| includes(**readers, self.subscription[taker]);
        let readers = self.holdings[giver].keys().rev().find(fits).expect("one of these includes the taker");
        Some((*readers, taker))
    }

    /// Load and number of the reader that has least.
    fn least(&self, readers: Readers) -> Option<(usize, usize)> {
        let read = self.by_load.iter().enumerate().filter(|(i, _)| includes(readers, *i));
        read.filter_map(|(_, members)| members.first().copied()).min()
    }

    fn give(&mut self, (t, p): Slot, readers: Readers, member: usize) {
        self.owners[t][p] = Some(member);
        self.holdings[member].entry(readers).or_default().push((t, p));
        self.set_load(member, self.loads[member] + 1);
    }

    fn set_load(&mut self, member: usize, load: usize) {
        let members = &mut self.by_load[self.subscription[member]];
        members.remove(&(self.loads[member], member));
        members.insert((load, member));
        self.loads[member] = load;
    }
}
