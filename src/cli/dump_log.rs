//! `flotilla dump-log`: what one stopped replica has committed, entry by entry, to hold replicas
//! against each other. Its lines name nothing of the node they come from.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use serde::Serialize;

use super::{
    exit::Failure,
    output::{FormatArg, OutputFormat, print_json, print_line},
};
use crate::{
    metadata::Metadata,
    partition::CommandView,
    replicated::Replicated,
    storage::{EntryKind, LogEntry, ReadOnlyKv, ReplicaLog, Store, StoreError, StoreOptions, WriterProbe},
    types::{LogIndex, METADATA_GROUP, RaftGroupId, ReplicaId, TopicPartition},
};

/// How many bytes of entries one read takes; this bounds the memory of a dump.
const READ_BYTES: usize = 4 << 20;

#[derive(Args)]
pub struct DumpLogArgs {
    /// Data directory of a broker that is stopped. Nothing in it is changed.
    #[arg(long)]
    dir: PathBuf,
    /// Only this partition, as topic-number, for example orders-0.
    #[arg(long, value_name = "TOPIC-N")]
    only: Option<String>,
    #[command(flatten)]
    format: FormatArg,
}

/// What is printed of one committed entry.
#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    partition: i32,
    group: u64,
    index: u64,
    term: u64,
    kind: &'static str,
    /// The offset that the entry's leader gave its first record. A dead entry's offset is not the partition's next one
    /// when it is applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    base_offset: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u32>,
    /// The CRC32C of the whole payload.
    crc: String,
}

pub fn run(args: DumpLogArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Failure::failed(format!("cannot start: {e}")))?.block_on(dump(args))
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::failed(error.to_string())
}

fn refused(error: StoreError) -> Failure {
    match &error {
        StoreError::NoDataDirectory { .. } => Failure::not_found(error.to_string()),
        StoreError::InUse { .. } => failed(format!("{error}: stop the broker first")),
        StoreError::Damaged { .. }
        | StoreError::NotEmpty { .. }
        | StoreError::NotADirectory { .. }
        | StoreError::Io { .. }
        | StoreError::Failed(_) => failed(error),
    }
}

async fn dump(args: DumpLogArgs) -> Result<(), Failure> {
    if !args.dir.is_dir() {
        return Err(Failure::not_found(format!("{} is not a directory", args.dir.display())));
    }
    let kv = ReadOnlyKv::open(args.dir.clone()).await.map_err(refused)?;
    let options = StoreOptions::default();
    let on_failure = Arc::new(|_: &_| {}); // Every read hears of a failure itself.
    let store = Store::open(Arc::new(kv), options, WriterProbe::default(), on_failure).await.map_err(failed)?;
    let groups = store.groups().await.map_err(failed)?;
    let metadata = load_metadata(&store, &groups).await?;
    let mut found = false;
    for (group, replica) in groups {
        let Some(partition) = metadata.partition_of(group) else { continue };
        if args.only.as_ref().is_some_and(|only| *only != partition.to_string()) {
            continue;
        }
        found = true;
        let log = store.open_log(group, replica).await.map_err(failed)?;
        dump_group(&log, &partition, args.format.format).await?;
    }
    match args.only {
        Some(only) if !found => Err(Failure::not_found(format!("no replica of {only} lies in {}", args.dir.display()))),
        Some(_) | None => Ok(()),
    }
}

async fn load_metadata(store: &Store, groups: &[(RaftGroupId, ReplicaId)]) -> Result<Metadata, Failure> {
    let Some((group, replica)) = groups.iter().find(|(group, _)| *group == METADATA_GROUP) else {
        return Err(failed("the directory holds no metadata, so its partitions have no names"));
    };
    let log = store.open_log(*group, *replica).await.map_err(failed)?;
    let mut metadata = match log.load_applied().await.map_err(failed)? {
        Some(saved) => (Metadata::decode_after(&saved.state, saved.position).map_err(failed)?, saved.position),
        None => (Metadata::new(), None),
    };
    // The saved state may lag by a second: what was committed since names partitions too.
    let from = metadata.1.map_or(LogIndex(0), |at| LogIndex(at.index.0 + 1));
    let to = log.committed().map_or(from, |at| LogIndex(at.index.0 + 1));
    for entry in log.read_all(from, to).await.map_err(failed)? {
        if entry.kind == EntryKind::Normal {
            metadata.0.apply(entry.position, &entry.payload).map_err(failed)?;
        }
    }
    Ok(metadata.0)
}

async fn dump_group(log: &ReplicaLog, partition: &TopicPartition, format: OutputFormat) -> Result<(), Failure> {
    let Some(committed) = log.committed() else { return Ok(()) };
    let mut from = log.purged().map_or(LogIndex(0), |at| LogIndex(at.index.0 + 1));
    while from <= committed.index {
        let entries = log.read(from, LogIndex(committed.index.0 + 1), READ_BYTES).await.map_err(failed)?;
        let Some(last) = entries.last() else { break };
        from = LogIndex(last.position.index.0 + 1);
        for entry in &entries {
            print_entry(log.group(), partition, entry, format)?;
        }
    }
    Ok(())
}

fn print_entry(group: RaftGroupId, at: &TopicPartition, entry: &LogEntry, format: OutputFormat) -> Result<(), Failure> {
    let (kind, base_offset, count) = match entry.kind {
        EntryKind::Blank => ("blank", None, None),
        EntryKind::Membership => ("membership", None, None),
        EntryKind::Normal => match CommandView::parse(&entry.payload).map_err(failed)? {
            CommandView::Append(append) => ("append", Some(append.base_offset.0), Some(append.record_count)),
            CommandView::Trim(trim) => ("trim", Some(trim.before.0), None),
            CommandView::Resize(_) => ("resize", None, None),
        },
    };
    let line = Line {
        topic: &at.topic,
        partition: at.partition.0,
        group: group.0,
        index: entry.position.index.0,
        term: entry.position.term.0,
        kind,
        base_offset,
        count,
        crc: format!("{:08x}", crc32c::crc32c(&entry.payload)),
    };
    match format {
        OutputFormat::Json => print_json(&line),
        OutputFormat::Text => {
            let offset = base_offset.map_or("-".into(), |offset| offset.to_string());
            let count = count.map_or("-".into(), |count| count.to_string());
            print_line(&format!(
                "{at} index {} term {} {kind} offset {offset} count {count} crc {}",
                line.index, line.term, line.crc
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{RocksKv, RocksOptions};

    fn arguments(dir: &std::path::Path) -> DumpLogArgs {
        DumpLogArgs { dir: dir.into(), only: None, format: FormatArg { format: OutputFormat::Text } }
    }

    /// Seen once: an empty or wrong directory became a database.
    #[tokio::test]
    async fn what_is_no_data_directory_is_refused_and_stays_as_it_is() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let failure = dump(arguments(dir.path())).await.expect_err("it is empty");
        assert_eq!(failure.code, 4);
        assert!(failure.message.contains("is no data directory"), "{}", failure.message);
        assert_eq!(std::fs::read_dir(dir.path()).expect("it is there").count(), 0);
        let failure = dump(arguments(&dir.path().join("nothing"))).await.expect_err("it is not there");
        assert_eq!(failure.code, 4);
    }

    #[tokio::test]
    async fn a_directory_in_use_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let _open = RocksKv::open(dir.path(), RocksOptions::default()).await.expect("a new directory");
        let failure = dump(arguments(dir.path())).await.expect_err("it is open");
        assert!(failure.message.contains("in use by another process: stop the broker"), "{}", failure.message);
    }
}
