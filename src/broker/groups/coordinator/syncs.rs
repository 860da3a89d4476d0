//! Who has sent its sync in the present generation of a classic group, so that a member that joins, beats and
//! never syncs does not keep partitions that nobody reads (Kafka's pending syncs). Pure.
//!
//! Promises: nobody is waited for who synced in a generation that began in this term. Leaves out: earlier
//! generations, whose syncs another coordinator has seen: there only the group leader is waited for, whose
//! sync the state itself lacks. Other static members are left to their sessions: they may be restarting.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    group::{ClassicPhase, Group},
    types::{GroupName, MemberId},
};

#[derive(Debug, Default)]
pub struct Syncs {
    /// The last generation in which members synced, by group. A group without one has no syncs yet.
    latest: BTreeMap<GroupName, Latest>,
}

#[derive(Debug)]
struct Latest {
    generation: i32,
    synced: Synced,
}

#[derive(Debug)]
enum Synced {
    /// All members have synced, as far as that is to be known.
    All,
    By(BTreeSet<MemberId>),
}

impl Syncs {
    /// The group as it was when this coordinator's term began.
    pub fn inherit(&mut self, name: &GroupName, group: &Group) {
        if group.classic().is_some() {
            self.latest.insert(name.clone(), Latest { generation: group.epoch(), synced: Synced::All });
        }
    }

    /// A member, of this generation, has sent its sync.
    pub fn note(&mut self, name: &GroupName, generation: i32, member: &MemberId) {
        let known = self.latest.entry(name.clone());
        let latest = known.or_insert_with(|| Latest { generation, synced: Synced::By(BTreeSet::new()) });
        if latest.generation < generation {
            *latest = Latest { generation, synced: Synced::By(BTreeSet::new()) };
        }
        match &mut latest.synced {
            Synced::By(members) if latest.generation == generation => {
                members.insert(member.clone());
            }
            Synced::By(_) | Synced::All => {}
        }
    }

    /// Who shall sync and has not.
    pub fn pending(&self, name: &GroupName, group: &Group) -> Vec<MemberId> {
        let Some(classic) = group.classic() else { return Vec::new() };
        let leader_is_late = match classic.phase {
            ClassicPhase::Joining => return Vec::new(),
            ClassicPhase::Syncing => true,
            ClassicPhase::Stable => false,
        };
        let latest = self.latest.get(name).filter(|latest| latest.generation == group.epoch());
        let has_synced = |member: &MemberId| match latest.map(|latest| &latest.synced) {
            None => false,
            Some(Synced::All) => true,
            Some(Synced::By(members)) => members.contains(member),
        };
        let is_late = |member: &MemberId, is_static: bool| match *member == classic.leader {
            true => leader_is_late,
            false => !is_static && !has_synced(member),
        };
        let late = classic.members.iter().filter(|(id, member)| is_late(id, member.instance.is_some()));
        late.map(|(id, _)| id.clone()).collect()
    }

    /// Forgets groups that are gone.
    pub fn retain(&mut self, is_there: impl Fn(&GroupName) -> bool) {
        self.latest.retain(|name, _| is_there(name));
    }

    /// Forgets what the group, as it is now, makes needless.
    pub fn tidy(&mut self, name: &GroupName, group: Option<&Group>) {
        let Some((group, classic)) = group.and_then(|group| Some((group, group.classic()?))) else {
            self.latest.remove(name);
            return;
        };
        let all_have = classic.phase == ClassicPhase::Stable && self.pending(name, group).is_empty();
        if all_have && let Some(latest) = self.latest.get_mut(name) {
            *latest = Latest { generation: group.epoch(), synced: Synced::All };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::groups::fixture::{complete_classic, join_classic, sync_classic},
        group::Groups,
    };

    /// a leads, b follows, c is static: generation 1, in which nobody has synced.
    fn three() -> Groups {
        let mut groups = Groups::default();
        join_classic(&mut groups, "a", None, true);
        join_classic(&mut groups, "b", None, true);
        join_classic(&mut groups, "c", Some("one"), true);
        complete_classic(&mut groups, 0);
        groups
    }

    fn pending(syncs: &Syncs, groups: &Groups) -> Vec<MemberId> {
        syncs.pending(&"g".into(), groups.get(&"g".into()).unwrap())
    }

    #[test]
    fn members_are_waited_for_until_they_sync_and_anew_in_the_next_generation() {
        let (mut syncs, mut groups) = (Syncs::default(), three());
        assert_eq!(pending(&syncs, &groups), ["a", "b"]);
        // Before the group leader's, and before anybody looked.
        syncs.note(&"g".into(), 1, &"b".into());
        assert_eq!(pending(&syncs, &groups), ["a"]);
        syncs.note(&"g".into(), 1, &"a".into());
        assert_eq!(pending(&syncs, &groups), ["a"], "the state is without assignments still");
        sync_classic(&mut groups, 1, "a");
        assert_eq!(pending(&syncs, &groups), [""; 0]);

        join_classic(&mut groups, "a", None, false);
        assert_eq!(pending(&syncs, &groups), [""; 0], "they join");
        join_classic(&mut groups, "b", None, false);
        join_classic(&mut groups, "c", Some("one"), false);
        complete_classic(&mut groups, 1);
        syncs.note(&"g".into(), 1, &"b".into());
        assert_eq!(pending(&syncs, &groups), ["a", "b"], "a late sync of the last generation");
        sync_classic(&mut groups, 2, "a");
        assert_eq!(pending(&syncs, &groups), ["b"]);
    }

    #[test]
    fn of_a_generation_that_began_before_only_the_leader_is_waited_for() {
        let (mut syncs, mut groups) = (Syncs::default(), three());
        syncs.inherit(&"g".into(), groups.get(&"g".into()).unwrap());
        assert_eq!(pending(&syncs, &groups), ["a"]);
        syncs.note(&"g".into(), 1, &"b".into());
        sync_classic(&mut groups, 1, "a");
        assert_eq!(pending(&syncs, &groups), [""; 0]);
        for (member, instance) in [("a", None), ("b", None), ("c", Some("one"))] {
            join_classic(&mut groups, member, instance, false);
        }
        complete_classic(&mut groups, 1);
        assert_eq!(pending(&syncs, &groups), ["a", "b"]);
    }

    #[test]
    fn names_are_kept_only_while_somebody_is_waited_for() {
        let (mut syncs, mut groups) = (Syncs::default(), three());
        syncs.note(&"g".into(), 1, &"b".into());
        sync_classic(&mut groups, 1, "a");
        let group = groups.get(&"g".into()).unwrap();
        syncs.tidy(&"g".into(), Some(group));
        assert!(matches!(syncs.latest["g"].synced, Synced::All) && syncs.pending(&"g".into(), group).is_empty());
        syncs.retain(|name| *name == "g");
        assert_eq!(syncs.latest.len(), 1);
        syncs.tidy(&"g".into(), None);
        assert!(syncs.latest.is_empty());
        syncs.note(&"gone".into(), 1, &"b".into());
        syncs.retain(|name| *name == "g");
        assert!(syncs.latest.is_empty());
    }
}
