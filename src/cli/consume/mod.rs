//! `flotilla consume`: records to standard output, in order within each partition. Alone, or as a member of
//! a consumer group.

mod group;
mod plain;
mod readers;

use std::{io::IsTerminal, time::Duration};

use clap::{Args, ValueEnum};
use regex::Regex;

use super::{
    exit::Failure,
    format::{PrintFormat, PrintOptions},
    global::Global,
    offsets::{self, Span},
    output::{Reader, write_out},
    units,
};
use crate::client::{ConsumedRecord, OffsetReset, v1};

pub const EXAMPLES: &str = "\
Examples:
  flotilla consume orders                         everything, then wait for more
  flotilla consume orders payments -e -f '%t %k:%v\\n'   everything there is in both
  flotilla consume orders -p 0 -o 100:200 -f json
  flotilla consume orders -o -10                  the last ten of each partition, then wait
  flotilla consume orders -o @2026-11-24T12:00:00Z -n 5
  flotilla consume orders -o @-1h -e
  flotilla consume orders -e -f json | flotilla produce copy -f json
  flotilla consume --topics-regex 'audit\\..*'     also topics created later

As a member of a group: members share the partitions, and each goes on where the group has committed.
  flotilla consume orders -g billing              run it again elsewhere: the two share the work
  flotilla consume orders -g billing -n 100       the next hundred, whoever took the ones before
  flotilla consume orders -g billing --commit-interval 200ms --instance-id billing-1
  flotilla consume --topics-regex 'audit\\..*' -g audit --offset-reset latest
  flotilla group describe billing                 how far it is; `group seek` moves it

With --offset-reset latest a group skips what was there when it began, and nothing else: partitions that are added,
and topics that are created, while it runs are read from their first record, whether a name or a pattern led to them.
If the place to go on at is not there (retention took it, or it lies beyond the end), --offset-reset decides too, and
what is skipped is said on standard error.

Committed is only what was written to standard output and flushed: after a crash some records come twice,
none is left out. Ctrl-C and SIGTERM commit and leave, so that the others take over at once.

Fields: %t topic, %p partition, %o offset, %k key, %v value, %T timestamp (ms), %h headers, %% percent;
\\n \\t \\r \\0 \\\\ \\xHH.
json: one object a line with topic, partition, offset, timestamp, key, value, headers; bytes that are
no text come as key_base64 and value_base64, in a header as {\"key\",\"value_base64\"}. It tells null from empty,
as -Z does in the other formats. On a terminal, what would move its cursor is shown escaped.";

#[derive(Args, Debug)]
pub struct ConsumeArgs {
    /// One or more topics.
    #[arg(required_unless_present = "topics_regex")]
    topics: Vec<String>,
    /// All topics whose whole name matches (Rust's regex syntax), also those created later. Of these, and of topics
    /// that are named, partitions that appear meanwhile are read too, from their first record (see --offset).
    #[arg(long, value_name = "REGEX", value_parser = topics_regex)]
    topics_regex: Option<TopicsRegex>,
    /// How to print: 'json', 'value', or text with fields [default: value on a pipe, a readable line
    /// on a terminal].
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Where to begin in each partition: start, end, N, -N (N before the end), @TIME, or A:B (B excluded). What is
    /// deleted before it is read is skipped, and stderr says so; an N beyond the end is waited for (with -e: nothing).
    /// Partitions that appear later begin at their start, or at the N or @TIME.
    #[arg(short, long, default_value = "start", value_parser = offsets::parse, allow_hyphen_values = true)]
    offset: Span,
    /// Stop after so many records, of all partitions together.
    #[arg(short, long, value_name = "RECORDS", value_parser = units::count::<u64>, allow_negative_numbers = true)]
    num: Option<u64>,
    /// Stop at the end that each partition has now (in a group: when it is assigned).
    #[arg(short, long)]
    exit_at_end: bool,
    /// Only these partitions.
    #[arg(short, long, value_delimiter = ',', value_parser = units::partition, allow_negative_numbers = true)]
    partition: Vec<i32>,
    /// Print a null key or value as this text, in formats other than json; alone: NULL.
    #[arg(short = 'Z', long, value_name = "TEXT", num_args = 0..=1, require_equals = true,
        default_missing_value = "NULL")]
    null: Option<String>,
    #[command(flatten)]
    group: GroupArgs,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "In a consumer group")]
struct GroupArgs {
    /// Share the topics with the other members of this group, and commit how far it was read.
    #[arg(short, long, conflicts_with_all = ["offset", "partition"])]
    group: Option<String>,
    /// How often to commit what was printed. Also committed: at the end, and before a partition goes to another member.
    #[arg(long, requires = "group", default_value = "1s", value_name = "TIME", value_parser = units::wait,
        allow_hyphen_values = true)]
    commit_interval: Duration,
    /// Commit nothing.
    #[arg(long, requires = "group", conflicts_with = "commit_interval")]
    no_commit: bool,
    /// Where to begin in a partition of which the group has committed nothing, or what is not there any more. Partitions
    /// and topics that appear while the group runs begin at their first record, whatever this says.
    #[arg(long, requires = "group", value_enum, default_value_t)]
    offset_reset: ResetArg,
    /// Static membership: whoever comes back with this id within the session timeout gets its partitions back
    /// at once, and nobody else is disturbed. Two at a time must not have the same.
    #[arg(long, requires = "group", value_name = "ID")]
    instance_id: Option<String>,
    /// The others take over when this member was silent for so long.
    #[arg(long, requires = "group", default_value = "10s", value_name = "TIME", value_parser = units::wait,
        allow_hyphen_values = true)]
    session_timeout: Duration,
    /// How partitions are dealt out; the members' commonest choice counts.
    #[arg(long, requires = "group", value_enum, default_value_t)]
    assignor: AssignorArg,
    /// Say on stderr which partitions come and go.
    #[arg(short, long, requires = "group")]
    verbose: bool,
    /// The others take over when nobody took this member's output for so long (`| less`). It joins again when
    /// somebody does.
    #[arg(long, requires = "group", default_value = "5m", value_name = "TIME", value_parser = units::poll_interval,
        allow_hyphen_values = true)]
    max_poll_interval: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ResetArg {
    /// At the first record kept.
    #[default]
    Earliest,
    /// At the end: only what comes from now on.
    Latest,
    /// Not at all: exit with an error.
    Fail,
}

impl From<ResetArg> for OffsetReset {
    fn from(reset: ResetArg) -> OffsetReset {
        match reset {
            ResetArg::Earliest => OffsetReset::Earliest,
            ResetArg::Latest => OffsetReset::Latest,
            ResetArg::Fail => OffsetReset::Fail,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum AssignorArg {
    /// Move as little as possible, then even out.
    #[default]
    Sticky,
    /// Per topic, in ranges.
    Range,
    /// One by one over all topics.
    RoundRobin,
}

impl From<AssignorArg> for v1::Assignor {
    fn from(assignor: AssignorArg) -> v1::Assignor {
        match assignor {
            AssignorArg::Sticky => v1::Assignor::Sticky,
            AssignorArg::Range => v1::Assignor::Range,
            AssignorArg::RoundRobin => v1::Assignor::RoundRobin,
        }
    }
}

/// A pattern for whole topic names, as it was written and compiled.
#[derive(Clone, Debug)]
struct TopicsRegex {
    text: String,
    whole: Regex,
}

impl TopicsRegex {
    fn is_match(&self, topic: &str) -> bool {
        self.whole.is_match(topic)
    }
}

fn topics_regex(text: &str) -> Result<TopicsRegex, String> {
    // Compiled by itself first: "a)(b" must not become valid by what is put around it.
    Regex::new(text).map_err(|error| error.to_string())?;
    let whole = Regex::new(&format!("^(?:{text})$")).map_err(|error| error.to_string())?;
    Ok(TopicsRegex { text: text.into(), whole })
}

pub async fn run(args: ConsumeArgs, global: &Global) -> Result<(), Failure> {
    let options =
        PrintOptions { is_terminal: std::io::stdout().is_terminal(), null: args.null.clone().unwrap_or_default() };
    let format = PrintFormat::parse(args.format.as_deref(), options)
        .map_err(|error| Failure::usage(format!("--format: {error}")))?;
    let printer = Printer { format, left: args.num.unwrap_or(u64::MAX), out: Vec::new() };
    match args.group.group.clone() {
        Some(name) => group::run(&name, &args, printer, global).await,
        None => plain::run(&args, printer, global).await,
    }
}

/// Memory that is kept from one write to the next.
const OUT_BYTES_KEPT_MAX: usize = 4 * 1024 * 1024;

/// Prints records, as many as are wanted.
struct Printer {
    format: PrintFormat,
    left: u64,
    out: Vec<u8>,
}

/// What became of printed records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Printed {
    /// They are written and flushed.
    All,
    /// So many were asked for; those are written and flushed.
    Enough,
    /// Whoever read standard output has gone, perhaps without these.
    NoReader,
}

impl Printer {
    /// How many records may still be printed.
    fn left(&self) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX)
    }

    /// Writes the records and flushes. A slow reader holds up nothing else in this process meanwhile.
    async fn print(&mut self, topic: &str, partition: i32, records: &[ConsumedRecord]) -> Result<Printed, Failure> {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        for record in &records[..records.len().min(self.left())] {
            self.format.print(&mut out, topic, partition, record);
            self.left -= 1;
        }
        let write = tokio::task::spawn_blocking(move || write_out(&out).map(|reader| (out, reader)));
        let (out, reader) = write.await.map_err(|error| Failure::failed(format!("cannot print: {error}")))??;
        // What one huge record took is not kept for the small ones after it.
        self.out = if out.capacity() > OUT_BYTES_KEPT_MAX { Vec::new() } else { out };
        Ok(match (reader, self.left) {
            (Reader::Gone, _) => Printed::NoReader,
            (Reader::Listening, 0) => Printed::Enough,
            (Reader::Listening, _) => Printed::All,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_for_the_whole_name() {
        let regex = topics_regex("a|b.*").expect("valid");
        assert!(regex.is_match("a") && regex.is_match("bc") && !regex.is_match("xa") && !regex.is_match("ac"));
        for bad in ["(", "a)(b", "*"] {
            assert!(topics_regex(bad).is_err(), "{bad}");
        }
    }
}
