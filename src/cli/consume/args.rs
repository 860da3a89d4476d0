//! The flags of `flotilla consume`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use regex::Regex;

use crate::{
    cli::{
        offsets::{self, Span},
        units,
    },
    client::{Assignor, OffsetReset},
};

#[derive(Args, Debug)]
pub struct ConsumeArgs {
    /// One or more topics.
    #[arg(required_unless_present = "topics_regex")]
    pub topics: Vec<String>,
    /// All topics whose whole name matches (Rust's regex syntax), also those created later. Of these, and of topics
    /// that are named, partitions that appear meanwhile are read too, from their first record (see --offset).
    #[arg(long, value_name = "REGEX", value_parser = topics_regex)]
    pub topics_regex: Option<TopicsRegex>,
    /// How to print: 'json', 'value', or text with fields [default: value on a pipe, a readable line
    /// on a terminal].
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Where to begin in each partition: start, end, N, -N (N before the end), @TIME, or A:B (B excluded). What is
    /// deleted before it is read is skipped, and stderr says so; an N beyond the end is waited for (with -e: nothing).
    /// Partitions that appear later begin at their start, or at the N or @TIME.
    #[arg(short, long, default_value = "start", value_parser = offsets::parse, allow_hyphen_values = true)]
    pub offset: Span,
    /// Stop after so many records, of all partitions together.
    #[arg(short, long, value_name = "RECORDS", value_parser = units::count::<u64>, allow_negative_numbers = true)]
    pub num: Option<u64>,
    /// Stop at the end that each partition has now (in a group: when it is assigned).
    #[arg(short, long)]
    pub exit_at_end: bool,
    /// Only these partitions.
    #[arg(short, long, value_delimiter = ',', value_parser = units::partition, allow_negative_numbers = true)]
    pub partition: Vec<i32>,
    /// Print a null key or value as this text, in formats other than json; alone: NULL.
    #[arg(short = 'Z', long, value_name = "TEXT", num_args = 0..=1, require_equals = true,
        default_missing_value = "NULL")]
    pub null: Option<String>,
    #[command(flatten)]
    pub group: GroupArgs,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "In a consumer group")]
pub struct GroupArgs {
    /// Share the topics with the other members of this group, and commit how far it was read.
    #[arg(short, long, conflicts_with_all = ["offset", "partition"])]
    pub group: Option<String>,
    /// How often to commit what was printed. Also committed: at the end, and before a partition goes to another member.
    #[arg(long, requires = "group", default_value = "1s", value_name = "TIME", value_parser = units::wait,
        allow_hyphen_values = true)]
    pub commit_interval: Duration,
    /// Commit nothing.
    #[arg(long, requires = "group", conflicts_with = "commit_interval")]
    pub no_commit: bool,
    /// Where to begin in a partition of which the group has committed nothing, or what is not there any more. Partitions
    /// and topics that appear while the group runs begin at their first record, whatever this says.
    #[arg(long, requires = "group", value_enum, default_value_t)]
    pub offset_reset: ResetArg,
    /// Static membership: whoever comes back with this id within the session timeout gets its partitions back
    /// at once, and nobody else is disturbed. Two at a time must not have the same.
    #[arg(long, requires = "group", value_name = "ID")]
    pub instance_id: Option<String>,
    /// The others take over when this member was silent for so long.
    #[arg(long, requires = "group", default_value = "10s", value_name = "TIME", value_parser = units::wait,
        allow_hyphen_values = true)]
    pub session_timeout: Duration,
    /// How partitions are dealt out; the members' commonest choice counts.
    #[arg(long, requires = "group", value_enum, default_value_t)]
    pub assignor: AssignorArg,
    /// Say on stderr which partitions come and go.
    #[arg(short, long, requires = "group")]
    pub verbose: bool,
    /// The others take over when nobody took this member's output for so long (`| less`). It joins again when
    /// somebody does.
    #[arg(long, requires = "group", default_value = "5m", value_name = "TIME", value_parser = units::poll_interval,
        allow_hyphen_values = true)]
    pub max_poll_interval: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ResetArg {
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
pub enum AssignorArg {
    /// Move as little as possible, then even out.
    #[default]
    Sticky,
    /// Per topic, in ranges.
    Range,
    /// One by one over all topics.
    RoundRobin,
}

impl From<AssignorArg> for Assignor {
    fn from(assignor: AssignorArg) -> Assignor {
        match assignor {
            AssignorArg::Sticky => Assignor::Sticky,
            AssignorArg::Range => Assignor::Range,
            AssignorArg::RoundRobin => Assignor::RoundRobin,
        }
    }
}

/// A pattern for whole topic names, as it was written and compiled.
#[derive(Clone, Debug)]
pub struct TopicsRegex {
    pub text: String,
    whole: Regex,
}

impl TopicsRegex {
    pub fn is_match(&self, topic: &str) -> bool {
        self.whole.is_match(topic)
    }
}

fn topics_regex(text: &str) -> Result<TopicsRegex, String> {
    // Compiled by itself first: "a)(b" must not become valid by what is put around it.
    Regex::new(text).map_err(|error| error.to_string())?;
    let whole = Regex::new(&format!("^(?:{text})$")).map_err(|error| error.to_string())?;
    Ok(TopicsRegex { text: text.into(), whole })
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
