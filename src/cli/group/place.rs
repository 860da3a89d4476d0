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
    client::{
        Admin, ClientError, CommittedOffset, ErrorCode, Offset, OffsetAt, OffsetToCommit, PartitionId, RefusedOffset,
        Start, TopicPartition, World,
    },
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

/// How many partitions have their leaders asked at a time.
const ASKED_AT_ONCE: usize = 16;
/// How many offsets one commit has: far below the 4 MiB that a call may have.
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

/// Reads `T` or `T:P`; a topic's name has no colon.
fn topic_spec(text: &str) -> Result<(String, Option<i32>), String> {
    let wrong = || format!("{text:?}: write TOPIC or TOPIC:PARTITION");
    let (topic, partition) = match text.split_once(':') {
        None => (text, None),
        Some((topic, number)) => (topic, Some(number.parse::<i32>().ok().filter(|p| *p >= 0).ok_or_else(wrong)?)),
    };
    if topic.is_empty() { Err(wrong()) } else { Ok((topic.into(), partition)) }
}

/// One partition, and where the group stands and will stand; `None` where it has committed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Move {
    at: TopicPartition,
    from: Option<Offset>,
    to: Option<Offset>,
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
    let to = to.at(World::system().clock.wall());
    let moves = stream::iter(partitions).map(|at| async move {
        let place = find(admin, &at, to).await?;
        Ok::<_, ClientError>((at, place))
    });
    let found: Vec<(TopicPartition, Offset)> =
        moves.buffered(ASKED_AT_ONCE).try_collect().await.map_err(Failure::of_read)?;
    for (at, place) in &found {
        if let Some(note) = moved_inside(at, to, *place) {
            say(&format!("flotilla: {note}"));
        }
    }
    let moves: Vec<Move> =
        found.into_iter().map(|(at, to)| Move { from: stands_at(&committed, &at), at, to: Some(to) }).collect();
    if !rest.dry_run {
        for moves in moves.chunks(COMMIT_MAX) {
            refused(&admin.commit_offsets(name, &to_commit(moves)).await?)?;
        }
    }
    show(name, &moves, &rest)
}

async fn forget(name: &str, rest: Rest, admin: &Admin) -> Result<(), Failure> {
    let committed = committed(name, false, admin).await?;
    let is_meant = |offset: &&CommittedOffset| {
        let names = |(topic, partition): &(String, Option<i32>)| {
            *topic == offset.at.topic && partition.is_none_or(|partition| partition == offset.at.partition.0)
        };
        rest.topic.is_empty() || rest.topic.iter().any(names)
    };
    let moves: Vec<Move> =
        committed.iter().filter(is_meant).map(|c| Move { at: c.at.clone(), from: Some(c.offset), to: None }).collect();
    if !rest.dry_run {
        for moves in moves.chunks(COMMIT_MAX) {
            let partitions: Vec<TopicPartition> = moves.iter().map(|m| m.at.clone()).collect();
            refused(&admin.delete_offsets(name, &partitions).await?)?;
        }
    }
    show(name, &moves, &rest)
}

/// What an empty group has committed. `may_be_new`: a group that does not exist has committed nothing.
async fn committed(name: &str, may_be_new: bool, admin: &Admin) -> Result<Vec<CommittedOffset>, Failure> {
    let summary = match admin.describe_group(name).await {
        Ok(group) => group.summary,
        Err(error) if may_be_new && error.code() == Some(ErrorCode::UnknownGroup) => return Ok(Vec::new()),
        Err(error) => return Err(no_group(Failure::of_read, error)),
    };
    if summary.members > 0 {
        return Err(not_empty(name, summary.members));
    }
    admin.committed_offsets(name).await.map_err(Failure::of_read)
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
    committed: &[CommittedOffset],
    admin: &Admin,
) -> Result<Vec<TopicPartition>, Failure> {
    let topics: BTreeSet<&String> = committed.iter().map(|offset| &offset.at.topic).collect();
    let all: Vec<(String, Option<i32>)> = topics.into_iter().map(|topic| (topic.clone(), None)).collect();
    let meant = if named.is_empty() { all.as_slice() } else { named };
    let mut found = BTreeSet::new();
    for (topic, partition) in meant {
        let count = admin.partition_count(topic).await.map_err(Failure::of_read)? as i32;
        match *partition {
            None => found.extend((0..count).map(|partition| TopicPartition::new(topic, PartitionId(partition)))),
            Some(partition) if partition < count => {
                found.insert(TopicPartition::new(topic, PartitionId(partition)));
            }
            Some(partition) => {
                let (topic, partition) = (topic.clone(), PartitionId(partition));
                return Err(ClientError::NoPartition { topic, partition, count }.into());
            }
        }
    }
    Ok(found.into_iter().collect())
}

fn stands_at(committed: &[CommittedOffset], at: &TopicPartition) -> Option<Offset> {
    committed.iter().find(|offset| offset.at == *at).map(|offset| offset.offset)
}

/// The place as an offset that the partition has.
async fn find(admin: &Admin, partition: &TopicPartition, to: Start) -> Result<Offset, ClientError> {
    let at = |at| admin.offset_at(partition, at);
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
fn inside(to: Start, first: Offset, end: Offset) -> Offset {
    let wanted = match to {
        Start::Offset(offset) => offset,
        Start::BeforeEnd(n) => Offset(end.0.saturating_sub(n)),
        Start::Earliest => first,
        Start::Latest | Start::Timestamp(_) => end,
    };
    wanted.clamp(first, end.max(first))
}

/// What to say if the offset asked for is none that the partition has.
fn moved_inside(at: &TopicPartition, to: Start, place: Offset) -> Option<String> {
    let Start::Offset(asked) = to else { return None };
    let why = match asked.cmp(&place) {
        std::cmp::Ordering::Equal => return None,
        std::cmp::Ordering::Greater => "is beyond the end",
        std::cmp::Ordering::Less => "is not kept any more",
    };
    Some(format!("{at}: offset {asked} {why}; the nearest is {place}"))
}

fn to_commit(moves: &[Move]) -> Vec<OffsetToCommit> {
    moves.iter().filter_map(|m| Some(OffsetToCommit::new(m.at.clone(), m.to?))).collect()
}

fn refused(refused: &[RefusedOffset]) -> Result<(), Failure> {
    let Some(RefusedOffset { at, error: why, .. }) = refused.first() else { return Ok(()) };
    let others = refused.len() - 1;
    let and = if others == 0 { String::new() } else { format!(" (and {others} other partitions)") };
    Err(Failure::failed(format!("{at} was refused{and}: {why}; all others are done")))
}

fn show(name: &str, moves: &[Move], rest: &Rest) -> Result<(), Failure> {
    match rest.format.format {
        OutputFormat::Json => print_json(&moves_json(name, moves, rest.dry_run)),
        OutputFormat::Text => {
            said(rest.dry_run, &format!("group {name} moved, in partitions: {}", moves.len()));
            let or_nothing = |offset: Option<Offset>| offset.map_or("-".into(), |offset| offset.to_string());
            let row =
                |m: &Move| vec![m.at.topic.clone(), m.at.partition.to_string(), or_nothing(m.from), or_nothing(m.to)];
            print_table(&["TOPIC", "PARTITION", "FROM", "TO"], moves.iter().map(row).collect())
        }
    }
}

/// Returns the JSON of seek and reset, which is an interface. Null says that nothing is committed.
fn moves_json(name: &str, moves: &[Move], dry_run: bool) -> Value {
    let one = |m: &Move| json!({"topic": m.at.topic, "partition": m.at.partition, "from": m.from, "to": m.to});
    json!({"group": name, "dry_run": dry_run, "partitions": moves.iter().map(one).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::WallMs;

    fn at(partition: i32) -> TopicPartition {
        TopicPartition::new("t", PartitionId(partition))
    }

    #[test]
    fn places_and_topics_as_they_are_written() {
        assert_eq!(place("earliest"), Ok(Place::Start(Start::Earliest)));
        assert_eq!(place("latest"), Ok(Place::Start(Start::Latest)));
        assert_eq!(place("17"), Ok(Place::Start(Start::Offset(Offset(17)))));
        assert_eq!(place("-3"), Ok(Place::Start(Start::BeforeEnd(3))));
        assert_eq!(place("@1970-01-01T00:00:02Z"), Ok(Place::Start(Start::Timestamp(WallMs(2000)))));
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
            (Start::Offset(Offset(7)), 7),
            (Start::Offset(Offset(1)), 5),
            (Start::Offset(Offset(99)), 10),
            (Start::BeforeEnd(3), 7),
            (Start::BeforeEnd(99), 5),
            (Start::BeforeEnd(i64::MAX), 5),
            (Start::Earliest, 5),
            (Start::Latest, 10),
        ] {
            assert_eq!(inside(to, Offset(5), Offset(10)), Offset(offset), "{to:?}");
        }
    }

    #[test]
    fn a_place_that_a_partition_has_not_is_named() {
        let said = |asked, place| moved_inside(&at(0), Start::Offset(Offset(asked)), Offset(place));
        let beyond = "t-0: offset 1000000000000 is beyond the end; the nearest is 10";
        assert_eq!(said(1_000_000_000_000, 10).as_deref(), Some(beyond));
        assert_eq!(said(3, 5).as_deref(), Some("t-0: offset 3 is not kept any more; the nearest is 5"));
        assert_eq!(said(7, 7), None);
        assert_eq!(moved_inside(&at(0), Start::Latest, Offset(7)), None);
    }

    #[test]
    fn the_json_of_moves_is_frozen() {
        let moves =
            [Move { at: at(0), from: Some(Offset(3)), to: Some(Offset(9)) }, Move { at: at(1), from: None, to: None }];
        let want = json!({"group":"g","dry_run":true,"partitions":[{"topic":"t","partition":0,"from":3,"to":9},
            {"topic":"t","partition":1,"from":null,"to":null}]});
        assert_eq!(moves_json("g", &moves, true), want);
        assert_eq!(to_commit(&moves).len(), 1);
    }

    #[test]
    fn a_group_with_members_is_named_with_what_to_do() {
        let failure = not_empty("billing", 3);
        assert_eq!(failure.code, 1);
        assert!(failure.message.contains("3 members") && failure.message.contains("stop them first"));
    }

    #[test]
    fn a_refusal_names_the_partition_and_the_reason() {
        let refusal = RefusedOffset { at: at(4), error: ClientError::Invalid { detail: "why".into() } };
        let failure = refused(&[refusal.clone(), refusal]).expect_err("refused");
        assert!(
            failure.message.contains("t-4") && failure.message.contains("why") && failure.message.contains("1 other")
        );
        assert_eq!(refused(&[]), Ok(()));
    }
}
