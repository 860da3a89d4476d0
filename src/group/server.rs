//! The protocol of members whose partitions the server assigns (`flotilla.v1.Groups` in the public
//! API): joining, reporting, changing a subscription. Leaving is in module `draft`.

use super::command::{Join, Report, ResolvePattern};
use super::draft::Draft;
use super::limits::{MEMBERS_PER_GROUP_MAX, SUBSCRIPTIONS_PER_GROUP_MAX};
use super::outcome::{GroupOutcome, GroupRefusal};
use super::state::{Members, ServerMember, ServerMembers};
use super::types::PartitionCounts;
use super::types::Subscription;
use super::validate;
use crate::types::MemberId;

impl Draft {
    pub fn join(&mut self, wish: Join, counts: PartitionCounts<'_>) -> Result<GroupOutcome, GroupRefusal> {
        let subscription = validate::join(&wish)?;
        let epoch = self.next_epoch();
        match &self.members {
            Members::Server(server) => {
                if let Some(member) = server.members.get(&wish.member) {
                    return Ok(GroupOutcome::Joined { epoch: member.epoch });
                }
            }
            Members::None => self.members = Members::Server(ServerMembers::default()),
            Members::Classic(_) => {}
        }
        if let fenced @ GroupRefusal::FencedInstance { .. } = self.members.unknown(&wish.member) {
            return Err(fenced);
        }
        self.check_epochs_left()?;
        let server = self.server()?;
        let mut member = ServerMember {
            instance: wish.instance,
            replaced: None,
            client_id: wish.client_id,
            client_host: wish.client_host,
            session_timeout_ms: wish.session_timeout_ms,
            rebalance_timeout_ms: wish.rebalance_timeout_ms,
            subscription: Subscription::default(),
            epoch,
            assigned: Default::default(),
            revoking: Default::default(),
            awaiting: Default::default(),
            committed: 0,
        };
        if let Some(instance) = &member.instance
            && let Some(old) = server.remove_instance(instance)
        {
            member.take_over(old, epoch);
        }
        server.members.insert(wish.member.clone(), member);
        server.subscribe(&wish.member, subscription, wish.resolved, counts);
        server.check_limits()?;
        server.deal(epoch, counts);
        self.epoch = epoch;
        Ok(GroupOutcome::Joined { epoch })
    }

    pub fn report(&mut self, wish: Report, counts: PartitionCounts<'_>) -> Result<GroupOutcome, GroupRefusal> {
        let epoch = self.next_epoch();
        if !self.members.contains(&wish.member) {
            return Err(self.members.unknown(&wish.member));
        }
        let server = self.server()?;
        let current = server.members[&wish.member].epoch;
        if !(0..=current).contains(&wish.epoch) {
            return Err(GroupRefusal::WrongEpoch { found: wish.epoch, current });
        }
        let mut changed = server.release(&wish.member, &wish.released, wish.epoch, epoch);
        if let Some(subscription) = &wish.subscription {
            let subscription = validate::subscription(subscription)?;
            server.subscribe(&wish.member, subscription, wish.resolved, counts);
            server.check_limits()?;
            changed |= server.deal(epoch, counts);
        }
        let now_at = server.members[&wish.member].epoch;
        if changed {
            self.epoch = epoch;
        }
        Ok(GroupOutcome::Reported { epoch: now_at })
    }

    pub fn resolve_pattern(
        &mut self,
        wish: ResolvePattern,
        counts: PartitionCounts<'_>,
    ) -> Result<GroupOutcome, GroupRefusal> {
        let epoch = self.next_epoch();
        let void = || GroupRefusal::Void { detail: "no member has this pattern any more".to_string() };
        let Members::Server(server) = &mut self.members else { return Err(void()) };
        let known = server.patterns.get_mut(&wish.pattern).ok_or_else(void)?;
        let topics = existing(wish.topics, counts);
        if *known != topics {
            *known = topics;
            if server.deal(epoch, counts) {
                self.epoch = epoch;
            }
        }
        Ok(GroupOutcome::PatternResolved)
    }

    /// A topic that the group knows has more partitions, or is new.
    pub fn topic_grew(&mut self, counts: PartitionCounts<'_>) {
        let epoch = self.next_epoch();
        if let Members::Server(server) = &mut self.members
            && server.deal(epoch, counts)
        {
            self.epoch = epoch;
        }
    }

    /// The topic is not in `counts` any more.
    pub fn topic_deleted(&mut self, topic: &str, counts: PartitionCounts<'_>) {
        let epoch = self.next_epoch();
        if let Members::Server(server) = &mut self.members {
            let lost = server.drop_topic(topic, epoch);
            if server.deal(epoch, counts) || lost {
                self.epoch = epoch;
            }
        }
    }

    fn server(&mut self) -> Result<&mut ServerMembers, GroupRefusal> {
        match &mut self.members {
            Members::Server(server) => Ok(server),
            Members::None => Err(GroupRefusal::UnknownMember),
            Members::Classic(classic) => {
                let detail = format!("its members speak Kafka's protocol {:?}", classic.protocol_type);
                Err(GroupRefusal::ProtocolMismatch { detail })
            }
        }
    }
}

impl ServerMembers {
    /// A member's new subscription, and what its pattern matches.
    fn subscribe(&mut self, member: &MemberId, to: Subscription, resolved: Vec<String>, counts: PartitionCounts<'_>) {
        if let Some(pattern) = &to.pattern {
            self.patterns.insert(pattern.clone(), existing(resolved, counts));
        }
        self.members.get_mut(member).expect("the caller has found it").subscription = to;
        self.forget_patterns();
    }

    /// Those that no member has.
    pub fn forget_patterns(&mut self) {
        let ServerMembers { members, patterns } = self;
        patterns.retain(|pattern, _| members.values().any(|m| m.subscription.pattern.as_ref() == Some(pattern)));
    }

    fn remove_instance(&mut self, instance: &str) -> Option<(MemberId, ServerMember)> {
        let is_it = |m: &ServerMember| m.instance.as_deref() == Some(instance);
        let id = self.members.iter().find(|(_, m)| is_it(m))?.0.clone();
        self.members.remove_entry(&id)
    }

    fn check_limits(&self) -> Result<(), GroupRefusal> {
        if self.members.len() > MEMBERS_PER_GROUP_MAX {
            let detail = format!("a group has at most {MEMBERS_PER_GROUP_MAX} members");
            return Err(GroupRefusal::LimitReached { detail });
        }
        if self.subscription_count() > SUBSCRIPTIONS_PER_GROUP_MAX {
            let detail =
                format!("members of a group have at most {SUBSCRIPTIONS_PER_GROUP_MAX} distinct subscriptions");
            return Err(GroupRefusal::LimitReached { detail });
        }
        Ok(())
    }
}

impl ServerMember {
    /// Has the partitions of the member whose instance id it has; that one's commits are fenced by its
    /// id. What the old one was to let go of is free: whoever starts anew reads nothing.
    fn take_over(&mut self, (id, old): (MemberId, ServerMember), epoch: i32) {
        self.replaced = Some(id);
        self.assigned = old.assigned;
        self.assigned.values_mut().flat_map(|p| p.values_mut()).for_each(|since| *since = epoch);
        self.awaiting = old.awaiting;
    }
}

/// Sorted, each once, and only topics that there are.
fn existing(mut topics: Vec<String>, counts: PartitionCounts<'_>) -> Vec<String> {
    topics.retain(|topic| counts(topic).is_some());
    topics.sort_unstable();
    topics.dedup();
    topics
}
