//! A partition of a group belongs to one member at a time, and only its words count.
//!
//! - `zombie-commit`: an accepted commit (classic protocol: or heartbeat) of generation `g` began after some member had
//!   completed its join of a generation above `g`. In the consumer protocol, where members move one by one: after some
//!   member was given the committed partition at an epoch above `g`.
//! - `double-assign`: one generation gives a partition to two members. Or: a member was given a partition while another had
//!   it and lived on: had not let go of it, left or crashed, and had a heartbeat or commit accepted that began later.
//!   A member that was expired without knowing is no anomaly, since nothing of it is accepted any more.

use std::collections::{BTreeMap, HashMap};

use super::{
    Rule,
    sweep::{Known, Shown, floors},
};
use crate::{
    event::{Outcome, Protocol},
    facts::{Change, Changed, Facts, NEVER},
    meta::Meta,
    report::{Found, Severity, Sheet},
};

pub fn check(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    if !facts.changes.iter().any(|change| matches!(change.what, Changed::Rebalance { .. })) {
        for rule in [Rule::ZombieCommit, Rule::DoubleAssign] {
            sheet.not_applied(rule, "no group has had a rebalance");
        }
        return;
    }
    zombies(facts, meta, sheet);
    twice_in_a_generation(facts, meta, sheet);
    overlaps(facts, meta, sheet);
}

/// Numbers for groups, and for pairs of group and key.
#[derive(Default)]
struct Numbers {
    known: HashMap<(u32, Option<u32>), u32>,
}

impl Numbers {
    fn of(&mut self, group: u32, key: Option<u32>) -> u32 {
        let next = self.known.len() as u32;
        *self.known.entry((group, key)).or_insert(next)
    }
}

/// What somebody said as a member, and was accepted with: when it began, of which group and key, generation, member.
struct Accepted {
    at: u64,
    group: u32,
    key: Option<u32>,
    generation: i32,
    member: u32,
    op: (u32, u64),
}

fn accepted(facts: &Facts) -> Vec<Accepted> {
    let commits = facts.commits.iter().filter(|commit| commit.outcome == Outcome::Ok && commit.generation >= 0);
    let commits = commits.map(|c| Accepted {
        at: c.invoked,
        group: c.group,
        key: Some(c.key),
        generation: c.generation,
        member: c.member,
        op: (c.process, c.op),
    });
    let heartbeats = facts.heartbeats.iter().map(|h| Accepted {
        at: h.invoked,
        group: h.group,
        key: None,
        generation: h.generation,
        member: h.member,
        op: (h.process, h.op),
    });
    commits.chain(heartbeats).collect()
}

fn zombies(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    let mut numbers = Numbers::default();
    let mut known = vec![];
    let mut classic: HashMap<u32, bool> = HashMap::new();
    for (who, change) in (0u32..).zip(&facts.changes) {
        let Changed::Rebalance { group, protocol, generation, assigned, .. } = &change.what else { continue };
        let is_classic = *protocol == Protocol::Classic;
        classic.insert(*group, is_classic);
        let keys = if is_classic { vec![None] } else { assigned.iter().copied().map(Some).collect() };
        for key in keys {
            let (at, value) = (change.at, i64::from(*generation));
            known.push(Known { at, value, key: numbers.of(*group, key), who });
        }
    }
    let said = accepted(facts);
    let mut shown = vec![];
    for (who, said) in (0u32..).zip(&said) {
        let key = match classic.get(&said.group) {
            Some(true) => None,
            Some(false) if said.key.is_some() => said.key,
            Some(false) | None => continue,
        };
        let (at, value) = (said.at, i64::from(said.generation));
        shown.push(Shown { at, value, key: numbers.of(said.group, key), who });
    }
    sheet.checked(Rule::ZombieCommit, shown.len() as u64);
    floors(numbers.known.len(), known, shown, |shown, known| {
        if shown.value >= known.value {
            return;
        }
        sheet.add(Rule::ZombieCommit, Severity::Fatal, || {
            let said = &said[shown.who as usize];
            let what = said.key.map_or("heartbeat".into(), |key| format!("commit of {}", meta.key(key)));
            let by = facts.changes[known.who as usize].process;
            let says = format!(
                "group {}: member {}'s {what} was accepted at generation {}, though process {by} had joined {} before it began",
                said.group, said.member, said.generation, known.value
            );
            let found = Found::new(said.at, says).ops([said.op]);
            Found { key: said.key, ..found }
        });
    });
}

fn twice_in_a_generation(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    let mut owners: HashMap<(u32, i32, u32), u32> = HashMap::new();
    for change in &facts.changes {
        let Changed::Rebalance { group, generation, member, assigned, .. } = &change.what else { continue };
        for key in assigned {
            sheet.checked(Rule::DoubleAssign, 1);
            let owner = *owners.entry((*group, *generation, *key)).or_insert(*member);
            if owner != *member {
                let says = format!(
                    "group {group}: generation {generation} gives {} to members {owner} and {member}",
                    meta.key(*key)
                );
                sheet.add(Rule::DoubleAssign, Severity::Fatal, || Found::new(change.at, says).key(*key));
            }
        }
    }
}

/// That a member had a partition from one time to another, as it knew itself.
#[derive(Clone, Copy, Debug)]
struct Held {
    from: u64,
    to: u64,
    member: u32,
}

fn overlaps(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    let mut lives: HashMap<(u32, u32), Vec<u64>> = HashMap::new();
    accepted(facts).iter().for_each(|said| lives.entry((said.group, said.member)).or_default().push(said.at));
    lives.values_mut().for_each(|times| times.sort_unstable());
    for ((group, key), mut held) in held(&facts.changes) {
        held.sort_by_key(|held| held.from);
        for (at, second) in held.iter().enumerate() {
            // All that began before and had not ended: few, unless something is very wrong.
            for first in held[..at].iter().rev().take(OVERLAPS_MAX).filter(|first| first.to > second.from) {
                let times = lives.get(&(group, first.member)).map(Vec::as_slice).unwrap_or_default();
                let last = times[..times.partition_point(|time| *time < first.to)].last();
                let Some(last) = last.filter(|last| first.member != second.member && **last > second.from) else {
                    continue;
                };
                let says = format!(
                    "group {group} {}: member {} had it from {} ns and was alive at {last} ns; member {} got it at {} ns",
                    meta.key(key),
                    first.member,
                    first.from,
                    second.member,
                    second.from
                );
                sheet.add(Rule::DoubleAssign, Severity::Fatal, || Found::new(second.from, says).key(key));
            }
        }
    }
}

/// Of all holders before one, so many are looked at, the latest first.
const OVERLAPS_MAX: usize = 64;

/// What a process holds, as (group, key), with since when and as which member.
type Holding = HashMap<(u32, u32), (u64, u32)>;

fn held(changes: &[Change]) -> BTreeMap<(u32, u32), Vec<Held>> {
    let mut all: BTreeMap<(u32, u32), Vec<Held>> = BTreeMap::new();
    let mut holding: HashMap<u32, Holding> = HashMap::new();
    let mut close = |at: u64, place: (u32, u32), (from, member): (u64, u32)| {
        all.entry(place).or_default().push(Held { from, to: at, member });
    };
    for change in changes {
        let own = holding.entry(change.process).or_default();
        match &change.what {
            Changed::Rebalance { group, member, revoked, assigned, .. } => {
                for key in revoked.iter().chain(assigned) {
                    if let Some(since) = own.remove(&(*group, *key)) {
                        close(change.at, (*group, *key), since);
                    }
                }
                own.extend(assigned.iter().map(|key| ((*group, *key), (change.at, *member))));
            }
            Changed::Leave { .. } | Changed::Crash | Changed::Assign { .. } | Changed::Subscribe { .. } => {
                own.drain().for_each(|(place, since)| close(change.at, place, since));
            }
        }
    }
    for (place, since) in holding.into_values().flatten() {
        close(NEVER, place, since);
    }
    all
}
