//! A history as text: one JSON object an event, all workers in one order of time.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::{self, Write},
    path::Path,
};

use serde::Serialize;

use crate::{
    event::{Body, Event},
    files::{self, BadFile, Events},
};

/// Which events to show. What is not set leaves none out.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub key: Option<u32>,
    pub process: Option<u32>,
    pub value: Option<u64>,
    /// Nanoseconds of the run.
    pub from: Option<u64>,
    pub to: Option<u64>,
}

impl Filter {
    fn takes(&self, event: &Event) -> bool {
        self.process.is_none_or(|process| event.process == process)
            && self.from.is_none_or(|from| event.at >= from)
            && self.to.is_none_or(|to| event.at <= to)
            && self.key.is_none_or(|key| event.body.keys().contains(&key))
            && self.value.is_none_or(|value| mentions(&event.body, value))
    }
}

/// Whether an event names a value. The answer to a send does not: its operation leads there.
pub fn mentions(body: &Body, value: u64) -> bool {
    match body {
        Body::Send(send) => send.value == value,
        Body::Polled(polled) => polled.runs.iter().any(|run| run.records.iter().any(|record| record.value == value)),
        Body::Entry(entry) => entry.values.contains(&value),
        _ => false,
    }
}

#[derive(Serialize)]
struct Line<'a> {
    worker: &'a str,
    #[serde(flatten)]
    event: &'a Event,
}

/// Why a dump ended early.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    #[error(transparent)]
    File(#[from] BadFile),
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// Writes the events that `filter` takes.
pub fn dump(dir: &Path, filter: &Filter, out: &mut dyn Write) -> Result<(), DumpError> {
    merged(dir, |worker, event| {
        if filter.takes(event) {
            serde_json::to_writer(&mut *out, &Line { worker, event }).map_err(io::Error::other)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    })
}

/// Every event of a directory in order of time; those of one time by worker.
fn merged(dir: &Path, mut each: impl FnMut(&str, &Event) -> Result<(), DumpError>) -> Result<(), DumpError> {
    let files: Result<Vec<Events>, BadFile> = files::list(dir)?.iter().map(|path| Events::open(path)).collect();
    let mut files = files?;
    let names: Vec<String> = files.iter().map(Events::worker).collect();
    let mut waiting: Vec<Option<Event>> = vec![];
    let mut order = BinaryHeap::new();
    for (at, file) in files.iter_mut().enumerate() {
        let event = file.next_event()?;
        order.extend(event.as_ref().map(|event| Reverse((event.at, at))));
        waiting.push(event);
    }
    while let Some(Reverse((_, at))) = order.pop() {
        let next = files[at].next_event()?;
        order.extend(next.as_ref().map(|event| Reverse((event.at, at))));
        if let Some(event) = std::mem::replace(&mut waiting[at], next) {
            each(&names[at], &event)?;
        }
    }
    Ok(())
}
