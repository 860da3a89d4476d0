//! `group seek` and `group reset`: where a group without members goes on.
//!
//! Promises: nothing is changed while the group has members; every partition's new place lies within what it
//! retains; a dry run shows exactly what would be done.

use std::collections::BTreeSet;

use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use super::absent::no_group;
use crate::{
    cli::{
        exit::Failure,
        offsets::{self, From as Place},
        output::{FormatArg, OutputFormat, print_json, print_table, said},
        terminal::say,
    },
    client::{Admin, ClientError, OffsetAt, Start, World, v1},
};

pub const SEEK_EXAMPLES: &str = "\
Examples:
  flotilla group seek billing --to earliest --dry-run     show what would be done
  flotilla group seek billing --to latest                 skip what was not read
  flotilla group seek billing --to @2026-11-24T12:00:00Z  the first records of that time or later
  flotilla group seek billing --to @-1h --topic orders
  flotilla group seek billing --to -100 --topic orders:0  100 records before the end of one partition
  flotilla group seek billing --to 4711 --topic orders:2

The group must have no members: stop them first. Without --topic it is about all partitions of the topics that the
group has committed. A place outside of what a partition retains becomes the nearest one inside.";

pub const RESET_EXAMPLES: &str = "\
Examples:
  flotilla group reset billing                            forget all: the consumers' --offset-reset decides
  flotilla group reset billing --topic orders:0 --dry-run
  flotilla group reset billing --to earliest              the same as `group seek --to earliest`

The group must have no members: stop them first.";

/// Partitions whose leaders are asked at a time.
const ASKED_AT_ONCE: usize = 16;
/// Offsets of one commit: far below the 4 MiB that a call may have.
const COMMIT_MAX: usize = 1_000;

#[derive(Args)]
pub struct SeekArgs {
    /// The group.
    name: String,
    /// earliest, latest, an OFFSET, -N (N before the end), or @TIME.
    #[arg(long, value_name = "PLACE", value_parser = place, allow_hyphen_values = true)]
    to: Place,
    #[command(flatten)]
    rest: Rest,
}

#[derive(Args)]
pub struct ResetArgs {
    /// The group.
    name: String,
    /// earliest, latest, an OFFSET, -N (N before the end), or @TIME [default: forget what was committed].
    #[arg(long, value_name = "PLACE", value_parser = place, allow_hyphen_values = true)]
    to: Option<Place>,
    #[command(flatten)]
    rest: Rest,
}

#[derive(Args)]
struct Rest {
    /// Only this topic, or this partition of it; may be given again.
    #[arg(long, value_name = "TOPIC[:PARTITION]", value_parser = topic_spec)]
    topic: Vec<(String, Option<i32>)>,
    /// Only show what would be done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: FormatArg,
}

fn place(text: &str) -> Result<Place, String> {
    let wrong = || format!("{text:?} is no place: write earliest, latest, OFFSET, -N (N before the end) or @TIME");
    let is_range = text.contains(':') && !text.starts_with('@');
    match offsets::parse(text) {
        Ok(span) if !is_range => Ok(span.start),
        Err(error) if text.starts_with('@') => Err(error),
        Ok(_) | Err(_) => Err(wrong()),
    }
}

/// `T` or `T:P`; a topic's name has no colon.
fn topic_spec(text: &str) -> Result<(String, Option<i32>), String> {
    let wrong = || format!("{text:?}: write TOPIC or TOPIC:PARTITION");
    let (topic, partition) = match text.split_once(':') {
        None => (text, None),
        Some((topic, number)) => (topic, Some(number.parse::<i32>().ok().filter(|p| *p >= 0).ok_or_else(wrong)?)),
    };
    if topic.is_empty() { Err(wrong()) } else { Ok((topic.into(), partition)) }
}

/// One partition, and where the group stands and will stand. None: it has committed nothing there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Move {
    topic: String,
    partition: i32,
    from: Option<i64>,
    to: Option<i64>,
}

pub async fn seek(args: SeekArgs, admin: &Admin) -> Result<(), Failure> {
    let SeekArgs { name, to, rest } = args;
    move_to(&name, to, rest, admin).await
}

pub async fn reset(args: ResetArgs, admin: &Admin) -> Result<(), Failure> {
    let ResetArgs { name, to, rest } = args;
    match to {
        Some(to) => move_to(&name, to, rest, admin).await,
        None => forget(&name, rest, admin).await,
    }
}

async fn move_to(name: &str, to: Place, rest: Rest, admin: &Admin) -> Result<(), Failure> {
    let committed = committed(name, !rest.topic.is_empty(), admin).await?;
    let partitions = partitions(&rest.topic, &committed, admin).await?;
    if partitions.is_empty() {
        return Err(Failure::failed(format!(
            "group {name} has committed nothing: say with --topic what to begin with"
        )));
    }
    let to = to.at(World::system().clock.wall().0);
    let moves = stream::iter(partitions).map(|(topic, partition)| async move {
        let place = find(admin, &topic, partition, to).await?;
        Ok::<_, ClientError>((topic, partition, place))
    });
    let found: Vec<(String, i32, i64)> = moves.buffered(ASKED_AT_ONCE).try_collect().await.map_err(Failure::of_read)?;
    for (topic, partition, place) in &found {
        if let Some(note) = moved_inside(topic, *partition, to, *place) {
            say(&format!("flotilla: {note}"));
        }
    }
    let moves: Vec<Move> = found
        .into_iter()
        .map(|(topic, partition, to)| Move {
            from: stands_at(&committed, &topic, partition),
            topic,
            partition,
            to: Some(to),
        })
        .collect();
    if !rest.dry_run {
        for moves in moves.chunks(COMMIT_MAX) {
            let answer = admin.commit_offsets(commit_request(name, moves)).await?;
            refused(&answer.refused)?;
        }
    }
    show(name, &moves, &rest)
}

async fn forget(name: &str, rest: Rest, admin: &Admin) -> Result<(), Failure> {
    let committed = committed(name, false, admin).await?;
    let is_meant = |offset: &&v1::CommittedOffset| {
        let names = |(topic, partition): &(String, Option<i32>)| {
            *topic == offset.topic && partition.is_none_or(|partition| partition == offset.partition)
        };
        rest.topic.is_empty() || rest.topic.iter().any(names)
    };
    let moves: Vec<Move> = committed
        .iter()
        .filter(is_meant)
        .map(|c| Move { topic: c.topic.clone(), partition: c.partition, from: Some(c.offset), to: None })
        .collect();
    if !rest.dry_run {
        for moves in moves.chunks(COMMIT_MAX) {
            let one = |m: &Move| v1::PartitionSet { topic: m.topic.clone(), partitions: vec![m.partition] };
            let request = v1::DeleteOffsetsRequest { group: name.into(), partitions: moves.iter().map(one).collect() };
            let answer = admin.delete_offsets(request).await?;
            refused(&answer.refused)?;
        }
    }
    show(name, &moves, &rest)
}

/// What an empty group has committed. `may_be_new`: a group that does not exist has committed nothing.
async fn committed(name: &str, may_be_new: bool, admin: &Admin) -> Result<Vec<v1::CommittedOffset>, Failure> {
    let summary = match admin.describe_group(v1::DescribeGroupRequest { group: name.into() }).await {
        Ok(answer) => answer.summary.unwrap_or_default(),
        Err(error) if may_be_new && error.code() == Some(v1::ErrorCode::UnknownGroup) => return Ok(Vec::new()),
        Err(error) => return Err(no_group(Failure::of_read, error)),
    };
    if summary.members > 0 {
        return Err(not_empty(name, summary.members));
    }
    let request = v1::FetchOffsetsRequest { group: name.into(), partitions: Vec::new() };
    Ok(admin.fetch_offsets(request).await.map_err(Failure::of_read)?.offsets)
}

fn not_empty(name: &str, members: i32) -> Failure {
    let members = if members == 1 { "a member".into() } else { format!("{members} members") };
    Failure::failed(format!(
        "group {name} has {members}, and only an empty group can be moved: stop them first \
         (`flotilla group describe {name} --members` shows them)"
    ))
}

/// The partitions that are meant: those named, or all of the topics with something committed.
async fn partitions(
    named: &[(String, Option<i32>)],
    committed: &[v1::CommittedOffset],
    admin: &Admin,
) -> Result<Vec<(String, i32)>, Failure> {
    let topics: BTreeSet<&String> = committed.iter().map(|offset| &offset.topic).collect();
    let all: Vec<(String, Option<i32>)> = topics.into_iter().map(|topic| (topic.clone(), None)).collect();
    let meant = if named.is_empty() { all.as_slice() } else { named };
    let mut found = BTreeSet::new();
    for (topic, partition) in meant {
        let count = admin.partition_count(topic).await.map_err(Failure::of_read)? as i32;
        match *partition {
            None => found.extend((0..count).map(|partition| (topic.clone(), partition))),
            Some(partition) if partition < count => drop(found.insert((topic.clone(), partition))),
            Some(partition) => {
                return Err(ClientError::NoPartition { topic: topic.clone(), partition, count }.into());
            }
        }
    }
    Ok(found.into_iter().collect())
}

fn stands_at(committed: &[v1::CommittedOffset], topic: &str, partition: i32) -> Option<i64> {
    committed.iter().find(|offset| offset.topic == topic && offset.partition == partition).map(|offset| offset.offset)
}

/// The place as an offset that the partition has.
async fn find(admin: &Admin, topic: &str, partition: i32, to: Start) -> Result<i64, ClientError> {
    let at = |at| admin.list_offset(topic, partition, at);
    Ok(match to {
        Start::Earliest => at(OffsetAt::Earliest).await?,
        Start::Latest => at(OffsetAt::Latest).await?,
        Start::Timestamp(ms) => at(OffsetAt::Timestamp(ms)).await?,
        Start::Offset(_) | Start::BeforeEnd(_) => {
            inside(to, at(OffsetAt::Earliest).await?, at(OffsetAt::Latest).await?)
        }
    })
}

/// An offset, or so many records before the end, within what is retained.
fn inside(to: Start, first: i64, end: i64) -> i64 {
    let wanted = match to {
        Start::Offset(offset) => offset,
        Start::BeforeEnd(n) => end.saturating_sub(n),
        Start::Earliest => first,
        Start::Latest | Start::Timestamp(_) => end,
    };
    wanted.clamp(first, end.max(first))
}

/// What to say if the offset asked for is none that the partition has.
fn moved_inside(topic: &str, partition: i32, to: Start, place: i64) -> Option<String> {
    let Start::Offset(asked) = to else { return None };
    let why = match asked.cmp(&place) {
        std::cmp::Ordering::Equal => return None,
        std::cmp::Ordering::Greater => "is beyond the end",
        std::cmp::Ordering::Less => "is not kept any more",
    };
    Some(format!("{topic}-{partition}: offset {asked} {why}; the nearest is {place}"))
}

fn commit_request(name: &str, moves: &[Move]) -> v1::CommitOffsetsRequest {
    let offsets = moves.iter().filter_map(|m| {
        let (topic, partition, offset) = (m.topic.clone(), m.partition, m.to?);
        Some(v1::OffsetToCommit { topic, partition, offset, ..Default::default() })
    });
    v1::CommitOffsetsRequest { group: name.into(), offsets: offsets.collect(), ..Default::default() }
}

fn refused(refused: &[v1::RefusedCommit]) -> Result<(), Failure> {
    let Some(first) = refused.first() else { return Ok(()) };
    let why = first.error.clone().map_or("no reason given".into(), |error| ClientError::from_wire(error).to_string());
    let others = refused.len() - 1;
    let and = if others == 0 { String::new() } else { format!(" (and {others} other partitions)") };
    Err(Failure::failed(format!("{}-{} was refused{and}: {why}; all others are done", first.topic, first.partition)))
}

fn show(name: &str, moves: &[Move], rest: &Rest) -> Result<(), Failure> {
    match rest.format.format {
        OutputFormat::Json => print_json(&moves_json(name, moves, rest.dry_run)),
        OutputFormat::Text => {
            said(rest.dry_run, &format!("group {name} moved, in partitions: {}", moves.len()));
            let or_nothing = |offset: Option<i64>| offset.map_or("-".into(), |offset| offset.to_string());
            let row = |m: &Move| vec![m.topic.clone(), m.partition.to_string(), or_nothing(m.from), or_nothing(m.to)];
            print_table(&["TOPIC", "PARTITION", "FROM", "TO"], moves.iter().map(row).collect())
        }
    }
}

/// The JSON of seek and reset, an interface. Null: nothing committed.
fn moves_json(name: &str, moves: &[Move], dry_run: bool) -> Value {
    let one = |m: &Move| json!({"topic": m.topic, "partition": m.partition, "from": m.from, "to": m.to});
    json!({"group": name, "dry_run": dry_run, "partitions": moves.iter().map(one).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_topics_as_they_are_written() {
        assert_eq!(place("earliest"), Ok(Place::Start(Start::Earliest)));
        assert_eq!(place("latest"), Ok(Place::Start(Start::Latest)));
        assert_eq!(place("17"), Ok(Place::Start(Start::Offset(17))));
        assert_eq!(place("-3"), Ok(Place::Start(Start::BeforeEnd(3))));
        assert_eq!(place("@1970-01-01T00:00:02Z"), Ok(Place::Start(Start::Timestamp(2000))));
        for bad in ["", "3:9", ":9", "soon", "@soon", "--3"] {
            assert!(place(bad).is_err(), "{bad}");
        }
        assert_eq!(topic_spec("a.b"), Ok(("a.b".into(), None)));
        assert_eq!(topic_spec("a:7"), Ok(("a".into(), Some(7))));
        for bad in ["", ":1", "a:", "a:-1", "a:b", "a:1:2"] {
            assert!(topic_spec(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_place_lies_within_what_is_retained() {
        for (to, offset) in [
            (Start::Offset(7), 7),
            (Start::Offset(1), 5),
            (Start::Offset(99), 10),
            (Start::BeforeEnd(3), 7),
            (Start::BeforeEnd(99), 5),
            (Start::BeforeEnd(i64::MAX), 5),
            (Start::Earliest, 5),
            (Start::Latest, 10),
        ] {
            assert_eq!(inside(to, 5, 10), offset, "{to:?}");
        }
    }

    #[test]
    fn a_place_that_a_partition_has_not_is_named() {
        let said = |asked, place| moved_inside("t", 0, Start::Offset(asked), place);
        let beyond = "t-0: offset 1000000000000 is beyond the end; the nearest is 10";
        assert_eq!(said(1_000_000_000_000, 10).as_deref(), Some(beyond));
        assert_eq!(said(3, 5).as_deref(), Some("t-0: offset 3 is not kept any more; the nearest is 5"));
        assert_eq!(said(7, 7), None);
        assert_eq!(moved_inside("t", 0, Start::Latest, 7), None);
    }

    #[test]
    fn the_json_of_moves_is_frozen() {
        let moves = [
            Move { topic: "t".into(), partition: 0, from: Some(3), to: Some(9) },
            Move { topic: "t".into(), partition: 1, from: None, to: None },
        ];
        let want = json!({"group":"g","dry_run":true,"partitions":[{"topic":"t","partition":0,"from":3,"to":9},
            {"topic":"t","partition":1,"from":null,"to":null}]});
        assert_eq!(moves_json("g", &moves, true), want);
        assert_eq!(commit_request("g", &moves).offsets.len(), 1);
    }

    #[test]
    fn a_group_with_members_is_named_with_what_to_do() {
        let failure = not_empty("billing", 3);
        assert_eq!(failure.code, 1);
        assert!(failure.message.contains("3 members") && failure.message.contains("stop them first"));
    }

    #[test]
    fn a_refusal_names_the_partition_and_the_reason() {
        let error = v1::Error { message: "why".into(), ..Default::default() };
        let refusal = v1::RefusedCommit { topic: "t".into(), partition: 4, error: Some(error) };
        let failure = refused(&[refusal.clone(), refusal]).expect_err("refused");
        assert!(
            failure.message.contains("t-4") && failure.message.contains("why") && failure.message.contains("1 other")
        );
        assert_eq!(refused(&[]), Ok(()));
    }
}
