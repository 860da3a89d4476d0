//! Stories in `src/group/scripts`. Record with `UPDATE_GOLDENFILES=1`, then review.

use std::{collections::BTreeMap, error::Error, fmt::Write as _, str::FromStr};

use goldenscript::{ArgumentConsumer, Context};

use super::*;

struct Runner(World);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    #[expect(clippy::too_many_lines, reason = "an arm for each command")]
    fn run(&mut self, command: &goldenscript::Command, _: &Context) -> Result<String> {
        let mut args = command.consume_args();
        let output = match command.name.as_str() {
            "topic" => {
                let name = word(&mut args)?;
                self.0.set_topic(&name, number(&mut args)?);
                String::new()
            }
            "delete_topic" => {
                self.0.delete_topic(&word(&mut args)?);
                String::new()
            }
            "now" => {
                self.0.now = WallMs(number(&mut args)?);
                String::new()
            }
            "join" => self.join(&mut args)?,
            "beat" => self.beat(&mut args)?,
            // As a coordinator that looks at nothing would propose it.
            "release" => {
                let (group, member, epoch) = (named(&mut args)?, id(&mut args)?, number(&mut args)?);
                let released = set(&word(&mut args)?)?;
                self.answer(GroupCommand::Report(Report { group, member, epoch, released, ..Report::default() }))
            }
            "settle" => self.settle(&word(&mut args)?),
            "resolve" => {
                let (group, pattern) = (named(&mut args)?, word(&mut args)?);
                let topics = words(&mut args);
                self.answer(GroupCommand::ResolvePattern(ResolvePattern { group, pattern, topics }))
            }
            "leave" => {
                let group = named(&mut args)?;
                let instance = args.take_key("instance").map(str::to_string);
                let mut members = ids(&mut args);
                members.extend(instance.is_some().then(MemberId::default).filter(|_| members.is_empty()));
                let leavers = members.into_iter().map(|member| LeavingMember { member, instance: instance.clone() });
                self.answer(GroupCommand::Leave(Leave { group, leavers: leavers.collect() }))
            }
            "expire" => {
                let group = named(&mut args)?;
                let epoch = args.take_key("revocation").map(str::parse).transpose()?;
                let generation = args.take_key("sync").map(str::parse).transpose()?;
                let because = match (epoch, generation) {
                    (Some(epoch), _) => ExpireCause::Revocation { epoch },
                    (None, Some(generation)) => ExpireCause::Sync { generation },
                    (None, None) => ExpireCause::Session,
                };
                self.answer(GroupCommand::Expire(Expire { group, members: ids(&mut args), because }))
            }
            "join_classic" => self.join_classic(&mut args)?,
            "complete" => {
                let (group, generation) = (named(&mut args)?, number(&mut args)?);
                let timed_out = args.next_pos().is_some();
                self.answer(GroupCommand::CompleteClassic(CompleteClassic { group, generation, timed_out }))
            }
            "sync" => {
                let (group, member, generation) = (named(&mut args)?, id(&mut args)?, number(&mut args)?);
                let assignments = std::iter::from_fn(|| args.next_key());
                let assignments = assignments.map(|(k, v)| (k.into(), v.as_bytes().to_vec())).collect();
                self.answer(GroupCommand::SyncClassic(SyncClassic { group, generation, member, assignments }))
            }
            "commit" => self.commit(&mut args)?,
            "delete_group" => self.answer(GroupCommand::DeleteGroup { group: named(&mut args)? }),
            "delete_offsets" => {
                let (group, partitions) = (named(&mut args)?, set(&word(&mut args)?)?);
                self.answer(GroupCommand::DeleteOffsets { group, partitions })
            }
            "expire_offsets" => {
                let retention_ms = number(&mut args)?;
                let groups = self.0.groups.expirable(self.0.now, retention_ms);
                let listed = groups.iter().map(GroupName::to_string).collect::<Vec<_>>().join(" ");
                let mut asked: Vec<GroupName> = words(&mut args).into_iter().map(GroupName).collect();
                asked.extend(groups);
                format!(
                    "expirable: {listed}\n{}",
                    self.answer(GroupCommand::ExpireOffsets { groups: asked, retention_ms })
                )
            }
            "show" => self.show(&word(&mut args)?),
            name => return Err(format!("no command {name}").into()),
        };
        args.reject_next()?;
        Ok(if output.ends_with('\n') || output.is_empty() { output } else { output + "\n" })
    }
}

impl Runner {
    fn answer(&mut self, command: GroupCommand) -> String {
        match self.0.apply(command) {
            Ok(outcome) => format!("{outcome:?}"),
            Err(refusal) => format!("refused: {refusal}"),
        }
    }

    /// `join GROUP MEMBER TOPIC... [pattern= resolved=a/b instance= assignor=]`
    fn join(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<String> {
        let (group, member) = (word(args)?, word(args)?);
        let mut wish = joining(&group, &member, &[]);
        wish.instance = args.take_key("instance").map(str::to_string);
        wish.subscription.pattern = args.take_key("pattern").map(str::to_string);
        wish.resolved = list(args.take_key("resolved"));
        wish.subscription.assignor = match args.take_key("assignor") {
            None | Some("sticky") => Assignor::Sticky,
            Some("range") => Assignor::Range,
            Some("roundrobin") => Assignor::RoundRobin,
            Some(other) => return Err(format!("no assignor {other}").into()),
        };
        wish.subscription.topics = words(args);
        Ok(self.answer(GroupCommand::Join(wish)))
    }

    /// `beat GROUP MEMBER EPOCH [OWNS] [topics=a/b]`, OWNS as `a-0-1/b-2`.
    fn beat(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<String> {
        let (group, member, epoch) = (word(args)?, word(args)?, number(args)?);
        let owns = args.next_pos().map(|owns| set(owns)).transpose()?.unwrap_or_default();
        if let Some(topics) = args.take_key("topics") {
            let subscription = Subscription { topics: list(Some(topics)), ..Subscription::default() };
            let known = self.0.member(&group, &member);
            let released = known.map(|m| m.released_by(epoch, &owns)).unwrap_or_default();
            let (group, member) = (GroupName(group.clone()), MemberId(member.clone()));
            let subscription = Some(subscription);
            let report = Report { group, member, epoch, released, subscription, resolved: vec![] };
            if let Err(refusal) = self.0.apply(GroupCommand::Report(report)) {
                return Ok(format!("refused: {refusal}"));
            }
        } else if let Err(refusal) = self.0.beat(&group, &member, epoch, &owns) {
            return Ok(format!("refused: {refusal}"));
        }
        let Some(member) = self.0.member(&group, &member) else { return Ok("unknown".to_string()) };
        Ok(told(member))
    }

    /// Every member beats, owning what it was last told, until nothing changes.
    fn settle(&mut self, group: &str) -> String {
        for _ in 0..10 {
            let members = self.0.groups.get(&group.into()).and_then(Group::server).map(|s| s.members.clone());
            for (id, member) in members.unwrap_or_default() {
                self.0.beat(group, &id.0, member.epoch, &member.assigned_set()).expect("a member of the group");
            }
        }
        self.show(group)
    }

    /// `join_classic GROUP MEMBER [known] [instance= type=] PROTOCOL=SUBSCRIPTION...`
    fn join_classic(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<String> {
        let (group, member) = (word(args)?, word(args)?);
        let mut wish = joining_classic(&group, &member);
        wish.is_new = args.next_pos().is_none();
        wish.instance = args.take_key("instance").map(str::to_string);
        wish.protocol_type = args.take_key("type").unwrap_or("consumer").to_string();
        let protocols = std::iter::from_fn(|| args.next_key());
        wish.protocols = protocols.map(|(k, v)| (k.to_string(), v.as_bytes().to_vec())).collect();
        Ok(self.answer(GroupCommand::JoinClassic(wish)))
    }

    /// `commit GROUP MEMBER|nobody EPOCH TOPIC-PARTITION=OFFSET... [instance= metadata= sequence=]`
    fn commit(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<String> {
        let (group, member, epoch) = (word(args)?, word(args)?, number(args)?);
        let instance = args.take_key("instance").map(str::to_string);
        let metadata = args.take_key("metadata").unwrap_or_default().to_string();
        let mut commit = commit_of(&group, if member == "nobody" { "" } else { &member }, epoch, &[]);
        commit.instance = instance;
        commit.sequence = args.take_key("sequence").map(str::parse).transpose()?.unwrap_or(0);
        while let Some((at, offset)) = args.next_key() {
            let (topic, partition) = at.split_once('-').ok_or("TOPIC-PARTITION=OFFSET")?;
            commit.offsets.push(CommitOffset {
                topic: topic.to_string(),
                partition: PartitionId(partition.parse()?),
                offset: Offset(offset.parse()?),
                metadata: metadata.clone(),
                leader_epoch: None,
            });
        }
        let GroupOutcome::Committed { results } = self.0.apply(GroupCommand::Commit(vec![commit.clone()]))? else {
            return Err("a commit has its own outcome".into());
        };
        Ok(match &results[0] {
            Err(refusal) => format!("refused: {refusal}"),
            Ok(refused) if refused.is_empty() => "committed".to_string(),
            Ok(refused) => refused.iter().fold(String::new(), |text, (i, refusal)| {
                let wish = &commit.offsets[*i as usize];
                text + &format!("refused {}-{}: {refusal}\n", wish.topic, wish.partition)
            }),
        })
    }

    fn show(&self, name: &str) -> String {
        let Some(group) = self.0.groups.get(&name.into()) else { return "no such group".to_string() };
        let mut text = format!("{:?} epoch={} protocol={:?}", group.phase(), group.epoch(), group.protocol());
        if let Some(since) = group.empty_since() {
            write!(text, " empty since {since}").expect("a String takes it");
        }
        text += "\n";
        for (id, member) in group.server().into_iter().flat_map(|s| &s.members) {
            writeln!(text, "  {id}: {}", told(member)).expect("a String takes it");
        }
        if let Some(classic) = group.classic() {
            writeln!(text, "  {:?} leader={} protocol={}", classic.phase, classic.leader, classic.protocol)
                .expect("a String takes it");
            for (id, member) in &classic.members {
                let utf8 = String::from_utf8_lossy;
                let (subscription, assignment) = (utf8(classic.subscription_of(member)), utf8(&member.assignment));
                let joined = if member.joined { " joined" } else { "" };
                writeln!(text, "  {id}: subscription={subscription:?} assignment={assignment:?}{joined}")
                    .expect("a String takes it");
            }
        }
        for (at, committed) in group.offsets() {
            let metadata = if committed.metadata.is_empty() { "" } else { &*format!(" {:?}", committed.metadata) };
            writeln!(text, "  {at} -> {} at {}{metadata}", committed.offset, committed.committed_at)
                .expect("a String takes it");
        }
        text
    }
}

fn told(member: &ServerMember) -> String {
    let mut text = format!("epoch={} assigned={}", member.epoch, shown(&member.assigned_set()));
    for (what, set) in [("revoking", member.revoking_set()), ("awaiting", member.awaiting.clone())] {
        if !set.is_empty() {
            write!(text, " {what}={}", shown(&set)).expect("a String takes it");
        }
    }
    text
}

fn shown(set: &PartitionSet) -> String {
    let numbers = |p: &Vec<PartitionId>| p.iter().map(|p| p.to_string()).collect::<Vec<_>>().join("-");
    let topics: Vec<String> = set.iter().map(|(topic, p)| format!("{topic}-{}", numbers(p))).collect();
    if topics.is_empty() { "-".to_string() } else { topics.join("/") }
}

/// The inverse of `shown`.
fn set(text: &str) -> Result<PartitionSet> {
    let mut set = BTreeMap::new();
    for topic in text.split('/').filter(|t| *t != "-" && !t.is_empty()) {
        let (topic, partitions) = topic.split_once('-').ok_or("TOPIC-PARTITION-PARTITION")?;
        let partitions = partitions.split('-').map(|p| Ok(PartitionId(p.parse()?))).collect::<Result<_>>()?;
        set.insert(topic.to_string(), partitions);
    }
    Ok(set)
}

fn word(args: &mut ArgumentConsumer<'_>) -> Result<String> {
    Ok(args.next_pos().ok_or("an argument is missing")?.to_string())
}

fn named(args: &mut ArgumentConsumer<'_>) -> Result<GroupName> {
    word(args).map(GroupName)
}

fn id(args: &mut ArgumentConsumer<'_>) -> Result<MemberId> {
    word(args).map(MemberId)
}

fn ids(args: &mut ArgumentConsumer<'_>) -> Vec<MemberId> {
    words(args).into_iter().map(MemberId).collect()
}

fn words(args: &mut ArgumentConsumer<'_>) -> Vec<String> {
    std::iter::from_fn(|| args.next_pos()).map(str::to_string).collect()
}

fn number<T: FromStr<Err: Error + 'static>>(args: &mut ArgumentConsumer<'_>) -> Result<T> {
    Ok(word(args)?.parse()?)
}

fn list(text: Option<&str>) -> Vec<String> {
    text.into_iter().flat_map(|t| t.split('/')).filter(|t| !t.is_empty()).map(str::to_string).collect()
}

fn run(name: &str) {
    let path = format!("{}/src/group/scripts/{name}", env!("CARGO_MANIFEST_DIR"));
    goldenscript::run(&mut Runner(World::default()), path).expect("the script passes");
}

#[test]
fn partitions_change_hands() {
    run("partitions_change_hands");
}

#[test]
fn late_and_lost_heartbeats() {
    run("late_and_lost_heartbeats");
}

#[test]
fn subscriptions() {
    run("subscriptions");
}

#[test]
fn static_members() {
    run("static_members");
}

#[test]
fn topics_come_and_go() {
    run("topics_come_and_go");
}

#[test]
fn new_partitions() {
    run("new_partitions");
}

#[test]
fn commits() {
    run("commits");
}

#[test]
fn offsets_expire() {
    run("offsets_expire");
}

#[test]
fn classic_life() {
    run("classic_life");
}

#[test]
fn classic_static_members() {
    run("classic_static_members");
}

#[test]
fn classic_refusals() {
    run("classic_refusals");
}
