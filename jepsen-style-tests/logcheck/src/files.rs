//! Where a history's files are, and the events of one of them.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::{
    event::Event,
    wire::{
        FRAME_BYTES_MAX, HEADER_BYTES, MAGIC,
        decode::{self, BadEvent},
        encode::Previous,
        end,
        varint::{self, BadVarint},
    },
};

pub const EXTENSION: &str = "bin";

pub fn history_dir(dir: &Path) -> PathBuf {
    dir.join("hist")
}

pub fn meta_path(dir: &Path) -> PathBuf {
    dir.join("meta.json")
}

pub fn nemesis_path(dir: &Path) -> PathBuf {
    dir.join("nemesis.jsonl")
}

/// Why a history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BadFile {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{path}: it begins with {found:02x?}: this is no history file of version 1")]
    Magic { path: PathBuf, found: Vec<u8> },
    #[error("{path}: it is of run {found}, meta.json of run {wanted}")]
    Run { path: PathBuf, found: u32, wanted: u32 },
    #[error("{path}: byte {at}: a frame says that it has {length} bytes, more than {FRAME_BYTES_MAX}")]
    Length { path: PathBuf, at: u64, length: u64 },
    #[error(
        "{path}: byte {at}: the checksum is {found:08x}, the frame's bytes come to {wanted:08x}: the file is damaged"
    )]
    Checksum { path: PathBuf, at: u64, found: u32, wanted: u32 },
    #[error("{path}: byte {at}: no event: {bad}")]
    Event { path: PathBuf, at: u64, bad: BadEvent },
    #[error("{path}: byte {at}: {left} bytes follow the end of the file's history")]
    BehindEnd { path: PathBuf, at: u64, left: u64 },
    #[error("{path}: {reason}")]
    Text { path: PathBuf, reason: String },
    #[error("{path}: {at} ns, process {process}, operation {op}: {reason}")]
    Order { path: PathBuf, at: u64, process: u32, op: u64, reason: String },
    #[error("{0}: it holds no history (no file hist/*.{EXTENSION})")]
    Empty(PathBuf),
}

/// How a worker's file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Finished,
    /// Its worker did not say that it had finished; so many bytes of a last frame are there.
    Unfinished {
        torn_bytes: u64,
    },
}

/// The history files of a directory, by name.
pub fn list(dir: &Path) -> Result<Vec<PathBuf>, BadFile> {
    let history = history_dir(dir);
    let io = |error| BadFile::Io { path: history.clone(), error };
    let mut paths = vec![];
    for entry in std::fs::read_dir(&history).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() { Err(BadFile::Empty(dir.into())) } else { Ok(paths) }
}

/// Reads one file, event by event, with a buffer of bounded size.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    file: File,
    run: u32,
    /// Bytes of the file, from `at` on, of which `buffer[taken..]` is not used yet.
    buffer: Vec<u8>,
    taken: usize,
    at: u64,
    length: u64,
    previous: Previous,
    ended: Option<Ended>,
}

/// How much is read at once.
const CHUNK_BYTES: usize = 1 << 20;

impl Events {
    pub fn open(path: &Path) -> Result<Events, BadFile> {
        let io = |error| BadFile::Io { path: path.into(), error };
        let mut file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut head = vec![];
        file.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut head).map_err(io)?;
        let Some((magic, run)) = head.split_first_chunk::<8>() else {
            return Err(BadFile::Magic { path: path.into(), found: head });
        };
        let run = <[u8; 4]>::try_from(run).ok().filter(|_| *magic == MAGIC);
        let Some(run) = run else { return Err(BadFile::Magic { path: path.into(), found: head }) };
        Ok(Events {
            path: path.into(),
            file,
            run: u32::from_le_bytes(run),
            buffer: vec![],
            taken: 0,
            at: HEADER_BYTES as u64,
            length,
            previous: Previous::default(),
            ended: None,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The worker's name.
    pub fn worker(&self) -> String {
        self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub fn run(&self) -> u32 {
        self.run
    }

    /// How the file ended, once there are no more events.
    pub fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// The next event; none at the end.
    pub fn next_event(&mut self) -> Result<Option<Event>, BadFile> {
        if self.ended.is_some() {
            return Ok(None);
        }
        self.fill(10)?;
        let mut rest = &self.buffer[self.taken..];
        let before = rest.len();
        let length = match varint::take(&mut rest) {
            Ok(length) => length,
            Err(BadVarint::Short) => return self.end_unfinished(before),
            Err(BadVarint::Long) => {
                return Err(BadFile::Length { path: self.path.clone(), at: self.at, length: u64::MAX });
            }
        };
        let head = before - rest.len();
        if length == 0 {
            return self.end_finished();
        }
        if length > FRAME_BYTES_MAX as u64 {
            return Err(BadFile::Length { path: self.path.clone(), at: self.at, length });
        }
        let whole = head + length as usize + 4;
        // Never more room than the file has bytes.
        if self.at + whole as u64 > self.length {
            return self.end_unfinished((self.length - self.at) as usize);
        }
        self.fill(whole)?;
        let frame = &self.buffer[self.taken..];
        if frame.len() < whole {
            return self.end_unfinished(frame.len());
        }
        let (bytes, crc) = (&frame[head..whole - 4], &frame[whole - 4..whole]);
        let (wanted, found) = (crc32c::crc32c(bytes), u32::from_le_bytes([crc[0], crc[1], crc[2], crc[3]]));
        if wanted != found {
            return Err(BadFile::Checksum { path: self.path.clone(), at: self.at, found, wanted });
        }
        let event = decode::event(bytes, &mut self.previous);
        let event = event.map_err(|bad| BadFile::Event { path: self.path.clone(), at: self.at, bad })?;
        self.taken += whole;
        self.at += whole as u64;
        Ok(Some(event))
    }

    fn end_unfinished(&mut self, torn_bytes: usize) -> Result<Option<Event>, BadFile> {
        self.ended = Some(Ended::Unfinished { torn_bytes: torn_bytes as u64 });
        Ok(None)
    }

    fn end_finished(&mut self) -> Result<Option<Event>, BadFile> {
        let end = end();
        let rest = &self.buffer[self.taken..];
        let found = &rest[..rest.len().min(end.len())];
        if found.len() < end.len() {
            return self.end_unfinished(found.len());
        }
        if found != end {
            let crc = |bytes: &[u8]| u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
            let (found, wanted) = (crc(found), crc(&end));
            return Err(BadFile::Checksum { path: self.path.clone(), at: self.at, found, wanted });
        }
        let at = self.at + end.len() as u64;
        if at < self.length {
            return Err(BadFile::BehindEnd { path: self.path.clone(), at, left: self.length - at });
        }
        self.ended = Some(Ended::Finished);
        Ok(None)
    }

    /// Sees to it that so many bytes are in the buffer, or all that there are.
    fn fill(&mut self, wanted: usize) -> Result<(), BadFile> {
        let have = self.buffer.len() - self.taken;
        if have >= wanted {
            return Ok(());
        }
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let more = wanted.max(CHUNK_BYTES) - have;
        let read = self.file.by_ref().take(more as u64).read_to_end(&mut self.buffer);
        read.map(drop).map_err(|error| BadFile::Io { path: self.path.clone(), error })
    }
}
