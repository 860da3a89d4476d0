//! Records a run: one file for each worker, which it alone writes.
//!
//! An event costs an encoding into a buffer; the buffer goes to the file when it is full and when the worker is dropped.
//! A harness that is killed loses what is in buffers. Its files then have no end, and the checker does not hold what
//! such a history lacks against the cluster.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use crate::{
    event::{Body, Event, Phase},
    files,
    meta::Meta,
    nemesis::Line,
    wire::{
        self,
        encode::{Previous, put_frame},
    },
};

/// What a worker gathers before it writes.
const BUFFER_BYTES: usize = 64 << 10;

/// A run that is being recorded. Clones are the same run.
#[derive(Clone, Debug)]
pub struct Recorder {
    dir: PathBuf,
    run: u32,
    began: Instant,
    values: Arc<AtomicU64>,
}

impl Recorder {
    /// `dir` must not hold a history yet. `run` is in every payload, so that records of another run are told.
    pub fn create(dir: &Path, run: u32) -> io::Result<Recorder> {
        let history = files::history_dir(dir);
        fs::create_dir_all(dir)?;
        fs::create_dir(&history)?;
        Ok(Recorder { dir: dir.into(), run, began: Instant::now(), values: Arc::default() })
    }

    /// A second history of the same run, in a directory of its own, by the same clock.
    pub fn beside(&self, dir: &Path) -> io::Result<Recorder> {
        fs::create_dir_all(dir)?;
        fs::create_dir(files::history_dir(dir))?;
        Ok(Recorder { dir: dir.into(), ..self.clone() })
    }

    /// Nanoseconds since the run began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A value that nobody else of this run has.
    pub fn value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed)
    }

    /// `name` is the file's, and how `meta.json` speaks of the worker.
    pub fn worker(&self, name: &str) -> io::Result<Worker> {
        let path = files::history_dir(&self.dir).join(format!("{name}.{}", files::EXTENSION));
        let mut file = File::create_new(path)?;
        file.write_all(&wire::MAGIC)?;
        file.write_all(&self.run.to_le_bytes())?;
        Ok(Worker {
            recorder: self.clone(),
            file,
            buffer: Vec::with_capacity(2 * BUFFER_BYTES),
            scratch: vec![],
            previous: Previous::default(),
            next_op: 0,
            phase: Phase::Warm,
        })
    }

    /// Adds a line to what was done to the cluster.
    pub fn nemesis(&self, line: &Line) -> io::Result<()> {
        let path = files::nemesis_path(&self.dir);
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path)?;
        let text = serde_json::to_string(line).map_err(io::Error::other)?;
        // One write, so that lines of several threads do not mix.
        file.write_all(format!("{text}\n").as_bytes())
    }

    /// Says what kind of run it was: the last thing that a harness writes.
    pub fn finish(&self, meta: &Meta) -> io::Result<()> {
        meta.write(&files::meta_path(&self.dir))
    }
}

/// One worker's file. Dropped without [`Worker::finish`], it leaves a file that says that its worker did not finish.
#[derive(Debug)]
pub struct Worker {
    recorder: Recorder,
    file: File,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    previous: Previous,
    next_op: u64,
    phase: Phase,
}

impl Worker {
    /// What is recorded from now on belongs to this phase.
    pub fn enter(&mut self, phase: Phase) {
        self.phase = phase;
    }

    /// Records an invocation, before it is made. Gives back the number to complete it with.
    pub fn begin(&mut self, process: u32, body: Body) -> io::Result<u64> {
        let op = self.next_op;
        self.next_op += 1;
        self.add(process, op, body)?;
        Ok(op)
    }

    /// Records how an operation ended, after it has.
    pub fn complete(&mut self, process: u32, op: u64, body: Body) -> io::Result<()> {
        self.add(process, op, body)
    }

    /// Records what is no operation: an assignment, a rebalance, a crash.
    pub fn note(&mut self, process: u32, body: Body) -> io::Result<()> {
        self.begin(process, body).map(drop)
    }

    fn add(&mut self, process: u32, op: u64, body: Body) -> io::Result<()> {
        let at = self.recorder.now();
        self.put(&Event { at, process, op, phase: self.phase, body })
    }

    /// Records an event whose time and number the caller has chosen.
    pub fn put(&mut self, event: &Event) -> io::Result<()> {
        put_frame(&mut self.buffer, &mut self.scratch, &mut self.previous, event);
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Ends the file: the worker has recorded everything that it did.
    pub fn finish(mut self) -> io::Result<()> {
        self.buffer.extend(wire::end());
        self.flush()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A worker that panics keeps what it knew; an error here leaves a file without an end, which tells.
        let _ = self.flush();
    }
}
