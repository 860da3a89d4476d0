//! What `flotilla produce` can be told.

use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};

use crate::{
    cli::{
        exit::Failure,
        format::{ReadFormat, ReadOptions, ReadRecord},
        global::Global,
        units,
    },
    client::{Acks, Partitioner, ProducerOptions},
    record::Codec,
};

/// What starting, the driver's tick and saying how it ended may take of --timeout.
const END_SLACK: Duration = Duration::from_millis(250);

#[derive(Args, Debug)]
pub struct ProduceArgs {
    /// The topic.
    pub topic: String,
    /// How to read standard input: 'json', or text with fields [default: '%v\n'].
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// What to print for each acknowledged batch.
    #[arg(long, value_enum, default_value_t)]
    pub receipts: Receipts,
    /// 0: no answer, no promise, no receipt. all: answered when on disk on a majority. 1: the same, for an earlier
    /// answer could acknowledge what is then lost.
    #[arg(long, value_enum, default_value_t)]
    acks: AcksArg,
    /// Which partition a record goes to, unless -p or the record says so.
    #[arg(long, value_enum, default_value_t)]
    pub partitioner: PartitionerArg,
    /// For 'random' (and where a sticky batch goes next): the same seed on a quiet cluster gives the same partitions
    /// [default: one that is printed].
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Compare-and-append: fail unless the first record gets this offset and each other the next.
    #[arg(long, value_name = "OFFSET", value_parser = units::offset, allow_negative_numbers = true)]
    pub expect_offset: Option<i64>,
    /// The partition, for all records.
    #[arg(short, long, value_parser = units::partition, allow_negative_numbers = true)]
    pub partition: Option<i32>,
    /// The key, for all records without one.
    #[arg(short, long)]
    key: Option<String>,
    /// A header for every record; may be given again.
    #[arg(short = 'H', long, value_name = "KEY=VALUE", value_parser = units::key_value)]
    header: Vec<(String, String)>,
    /// Lines are KEY, this, VALUE: short for -f '%kDELIMITER%v\n'.
    #[arg(short = 'K', long, value_name = "DELIMITER", conflicts_with = "format")]
    key_delimiter: Option<String>,
    /// In text formats, a key or value of exactly this text is null (a null value is a tombstone); alone: an empty one.
    #[arg(short = 'Z', long, value_name = "TEXT", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    null: Option<String>,
    /// Keep the carriage return of lines that end in CR LF; otherwise it is part of the line end.
    #[arg(long)]
    keep_cr: bool,
    /// How batches are compressed.
    #[arg(short = 'z', long, value_enum, default_value_t)]
    compression: CompressionArg,
    /// How long a record waits for others to share a batch with.
    #[arg(long, default_value = "5ms", value_name = "TIME", value_parser = units::duration, allow_hyphen_values = true)]
    linger: Duration,
    /// Size of a full batch before compression.
    #[arg(long, default_value = "64KiB", value_name = "SIZE", value_parser = units::room, allow_hyphen_values = true)]
    batch_bytes: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Receipts {
    #[default]
    None,
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AcksArg {
    #[value(name = "0")]
    Zero,
    #[value(name = "1")]
    One,
    #[default]
    All,
}

impl From<AcksArg> for Acks {
    fn from(acks: AcksArg) -> Acks {
        match acks {
            AcksArg::Zero => Acks::None,
            AcksArg::One => Acks::Leader,
            AcksArg::All => Acks::All,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PartitionerArg {
    /// By murmur2 of the key as Java's client; without a key, sticky.
    #[default]
    Key,
    /// One partition until its batch goes, then another.
    Sticky,
    RoundRobin,
    Random,
}

impl From<PartitionerArg> for Partitioner {
    fn from(partitioner: PartitionerArg) -> Partitioner {
        match partitioner {
            PartitionerArg::Key => Partitioner::Key,
            PartitionerArg::Sticky => Partitioner::Sticky,
            PartitionerArg::RoundRobin => Partitioner::RoundRobin,
            PartitionerArg::Random => Partitioner::Random,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CompressionArg {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<CompressionArg> for Codec {
    fn from(compression: CompressionArg) -> Codec {
        match compression {
            CompressionArg::None => Codec::None,
            CompressionArg::Gzip => Codec::Gzip,
            CompressionArg::Snappy => Codec::Snappy,
            CompressionArg::Lz4 => Codec::Lz4,
            CompressionArg::Zstd => Codec::Zstd,
        }
    }
}

impl ProduceArgs {
    pub fn format(&self) -> Result<ReadFormat, Failure> {
        let text = match (&self.key_delimiter, &self.format) {
            (Some(delimiter), _) => {
                // It is literal text: what a format would read as a field or an escape is quoted.
                let literal = delimiter.replace('\\', "\\\\").replace('%', "%%");
                let literal = if delimiter.starts_with('\\') { delimiter.clone() } else { literal };
                format!("%k{literal}%v\\n")
            }
            (None, Some(format)) => format.clone(),
            (None, None) => "%v\\n".to_string(),
        };
        let options = ReadOptions { keep_cr: self.keep_cr, null: self.null.clone() };
        ReadFormat::parse(&text, options).map_err(|error| Failure::usage(format!("--format: {error}")))
    }

    pub fn options(&self, global: &Global) -> ProducerOptions {
        ProducerOptions {
            acks: self.acks.into(),
            linger: self.linger,
            batch_bytes: self.batch_bytes,
            compression: self.compression.into(),
            partitioner: self.partitioner.into(),
            // The command, not only the record, ends within --timeout.
            delivery_timeout: global.timeout.saturating_sub(END_SLACK.min(global.timeout / 10)),
            ..Default::default()
        }
    }

    /// What the flags say about every record. Returns its partition, if anything names one.
    pub fn fill_in(&self, read: &mut ReadRecord) -> Option<i32> {
        // A record of another topic is copied: where it stood there says nothing about this one.
        let is_copied = read.topic.as_ref().is_some_and(|topic| *topic != self.topic);
        if read.record.key.is_none()
            && let Some(key) = &self.key
        {
            read.record.key = Some(Bytes::copy_from_slice(key.as_bytes()));
        }
        for (key, value) in &self.header {
            read.record.headers.push((key.clone(), Some(Bytes::copy_from_slice(value.as_bytes()))));
        }
        self.partition.or(read.partition.filter(|_| !is_copied))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ProduceArgs,
    }

    fn args(line: &str) -> ProduceArgs {
        Line::try_parse_from(["produce"].into_iter().chain(line.split(' '))).expect("a command line").args
    }

    #[test]
    fn a_record_of_another_topic_leaves_its_partition_there() {
        let read = |topic: &str| ReadRecord { topic: Some(topic.into()), partition: Some(7), ..ReadRecord::default() };
        assert_eq!(args("b").fill_in(&mut read("a")), None, "copied from a");
        assert_eq!(args("b").fill_in(&mut read("b")), Some(7));
        assert_eq!(args("b -p 1").fill_in(&mut read("b")), Some(1), "what is typed counts");
    }

    #[test]
    fn null_is_asked_for_with_or_without_a_text() {
        for (line, null) in [("t", None), ("t -Z", Some("")), ("-Z t", Some("")), ("t --null=NULL", Some("NULL"))] {
            let args = args(line);
            assert_eq!((args.topic.as_str(), args.null.as_deref()), ("t", null), "{line}");
        }
    }
}
