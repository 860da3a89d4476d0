//! Who has sent its sync in the present generation of a classic group, so that a member that joins, beats and
//! never syncs does not keep partitions that nobody reads (Kafka's pending syncs). Pure.
//!
//! Promises: nobody is waited for who synced in a generation that began in this term. Leaves out: earlier
//! generations, whose syncs another coordinator has seen: there only the group leader is waited for, whose
//! sync the state itself lacks. Static members are left to their sessions: they may be restarting.

use std::collections::{BTreeMap, BTreeSet};

use crate::group::{ClassicPhase, Group};

#[derive(Debug, Default)]
pub struct Syncs {
    /// By group. Without one nobody has synced yet.
    latest: BTreeMap<String, Latest>,
}

#[derive(Debug)]
struct Latest {
    generation: i32,
    synced: Synced,
}

#[derive(Debug)]
enum Synced {
    /// As far as is to be known.
    All,
    Some(BTreeSet<String>),
}

impl Syncs {
    /// The group as it was when this coordinator's term began.
    pub fn inherit(&mut self, name: &str, group: &Group) {
        if group.classic().is_some() {
            self.latest.insert(name.to_string(), Latest { generation: group.epoch(), synced: Synced::All });
        }
    }

    /// A member, of this generation, has sent its sync.
    pub fn note(&mut self, name: &str, generation: i32, member: &str) {
        let known = self.latest.entry(name.to_string());
        let latest = known.or_insert_with(|| Latest { generation, synced: Synced::Some(BTreeSet::new()) });
        if latest.generation < generation {
            *latest = Latest { generation, synced: Synced::Some(BTreeSet::new()) };
        }
        match &mut latest.synced {
            Synced::Some(members) if latest.generation == generation => {
                members.insert(member.to_string());
            }
            Synced::Some(_) | Synced::All => {}
        }
    }

    /// Who shall sync and has not.
    pub fn pending(&self, name: &str, group: &Group) -> Vec<String> {
        let Some(classic) = group.classic() else { return Vec::new() };
        let leads = |member: &String| *member == classic.leader;
        let leader_is_late = match classic.phase {
            ClassicPhase::Joining => return Vec::new(),
            ClassicPhase::Syncing => true,
            ClassicPhase::Stable => false,
        };
        let latest = self.latest.get(name).filter(|latest| latest.generation == group.epoch());
        let has_synced = |member: &String| match latest.map(|latest| &latest.synced) {
            None => false,
            Some(Synced::All) => true,
            Some(Synced::Some(members)) => members.contains(member),
        };
        let is_late = |member: &String, is_static: bool| match leads(member) {
            true => leader_is_late,
            false => !is_static && !has_synced(member),
        };
        let late = classic.members.iter().filter(|(id, member)| is_late(id, member.instance.is_some()));
        late.map(|(id, _)| id.clone()).collect()
    }

    /// Forgets groups that are gone.
    pub fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.latest.retain(|name, _| is_there(name));
    }

    /// Forgets what the group, as it is now, makes needless.
    pub fn tidy(&mut self, name: &str, group: Option<&Group>) {
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
        group::{CompleteClassic, GroupCommand, Groups, JoinClassic, SyncClassic},
        types::WallMs,
    };

    fn apply(groups: &mut Groups, command: GroupCommand) {
        let applied = groups.apply(WallMs(1), command.clone(), &|_| Some(6));
        assert!(applied.is_ok(), "{command:?}: {applied:?}");
    }

    fn join(groups: &mut Groups, member: &str, instance: Option<&str>, is_new: bool) {
        let join = JoinClassic {
            group: "g".into(),
            member: member.into(),
            is_new,
            instance: instance.map(str::to_string),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), vec![1])],
            ..JoinClassic::default()
        };
        apply(groups, GroupCommand::JoinClassic(join));
    }

    fn complete(groups: &mut Groups, generation: i32) {
        let complete = CompleteClassic { group: "g".into(), generation, timed_out: false };
        apply(groups, GroupCommand::CompleteClassic(complete));
    }

    fn assign(groups: &mut Groups, generation: i32) {
        let sync = SyncClassic { group: "g".into(), generation, member: "a".into(), assignments: vec![] };
        apply(groups, GroupCommand::SyncClassic(sync));
    }

    /// a leads, b follows, c is static: generation 1, in which nobody has synced.
    fn three() -> Groups {
        let mut groups = Groups::default();
        join(&mut groups, "a", None, true);
        join(&mut groups, "b", None, true);
        join(&mut groups, "c", Some("one"), true);
        complete(&mut groups, 0);
        groups
    }

    fn pending(syncs: &Syncs, groups: &Groups) -> Vec<String> {
        syncs.pending("g", groups.get("g").unwrap())
    }

    #[test]
    fn members_are_waited_for_until_they_sync_and_anew_in_the_next_generation() {
        let (mut syncs, mut groups) = (Syncs::default(), three());
        assert_eq!(pending(&syncs, &groups), ["a", "b"]);
        // Before the group leader's, and before anybody looked.
        syncs.note("g", 1, "b");
        assert_eq!(pending(&syncs, &groups), ["a"]);
        syncs.note("g", 1, "a");
        assert_eq!(pending(&syncs, &groups), ["a"], "the state is without assignments still");
        assign(&mut groups, 1);
        assert_eq!(pending(&syncs, &groups), [""; 0]);

        join(&mut groups, "a", None, false);
        assert_eq!(pending(&syncs, &groups), [""; 0], "they join");
        join(&mut groups, "b", None, false);
        join(&mut groups, "c", Some("one"), false);
        complete(&mut groups, 1);
        syncs.note("g", 1, "b");
        assert_eq!(pending(&syncs, &groups), ["a", "b"], "a late sync of the last generation");
        assign(&mut groups, 2);
        assert_eq!(pending(&syncs, &groups), ["b"]);
    }

    #[test]
    fn of_a_generation_that_began_before_only_the_leader_is_waited_for() {
        let (mut syncs, mut groups) = (Syncs::default(), three());
        syncs.inherit("g", groups.get("g").unwrap());
        assert_eq!(pending(&syncs, &groups), ["a"]);
        syncs.note("g", 1, "b");
        assign(&mut groups, 1);
        assert_eq!(pending(&syncs, &groups), [""; 0]);
        for (member, instance) in [("a", None), ("b", None), ("c", Some("one"))] {
            join(&mut groups, member, instance, false);
        }
        complete(&mut groups, 1);
        assert_eq!(pending(&syncs, &groups), ["a", "b"]);
    }

    #[test]
    fn names_are_kept_only_while_somebody_is_waited_for() {
        let (mut syncs, mut groups) = (Syncs::default(), three());
        syncs.note("g", 1, "b");
        assign(&mut groups, 1);
        let group = groups.get("g").unwrap();
        syncs.tidy("g", Some(group));
        assert!(matches!(syncs.latest["g"].synced, Synced::All) && syncs.pending("g", group).is_empty());
        syncs.retain(|name| name == "g");
        assert_eq!(syncs.latest.len(), 1);
        syncs.tidy("g", None);
        assert!(syncs.latest.is_empty());
        syncs.note("gone", 1, "b");
        syncs.retain(|name| name == "g");
        assert!(syncs.latest.is_empty());
    }
}
