//! Which of a stopped node's files is damaged, and how. Pure but for [`files`] and [`Strike::apply`]: equal seeds and equal
//! files, equal damage.

use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
};

use powerfs::wal::live_bytes;

/// What a bad sector takes.
const SECTOR_BYTES: usize = 512;
/// A live write-ahead log that holds less may hold nothing in its first half that was synced: a new one begins with a record
/// about the one before it.
const LIVE_BYTES_MIN: usize = 64 << 10;

/// Which of a node's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    LiveLog,
    OlderLog,
    Table,
    Blob,
    Manifest,
    Current,
    Floor,
    Options,
    Identity,
}

impl Kind {
    pub const ALL: [Kind; 9] = [
        Kind::LiveLog,
        Kind::OlderLog,
        Kind::Table,
        Kind::Blob,
        Kind::Manifest,
        Kind::Current,
        Kind::Floor,
        Kind::Options,
        Kind::Identity,
    ];

    /// Whether a node that opens with such a file damaged has forgotten something, so that it must say so before it
    /// serves (SAFETY B9). Others are read later, are there several times, or are not read at all.
    pub fn must_be_noticed(self) -> bool {
        matches!(self, Kind::LiveLog | Kind::Current)
    }

    /// Of which kind a file is, by its name, but for logs: the last of these is the live one.
    fn of(name: &str) -> Option<Kind> {
        let name = name.rsplit('/').next().unwrap_or(name);
        match name {
            "CURRENT" => Some(Kind::Current),
            "FLOOR" => Some(Kind::Floor),
            "IDENTITY" => Some(Kind::Identity),
            _ if name.ends_with(".log") => Some(Kind::OlderLog),
            _ if name.ends_with(".sst") => Some(Kind::Table),
            _ if name.ends_with(".blob") => Some(Kind::Blob),
            _ if name.starts_with("MANIFEST-") => Some(Kind::Manifest),
            _ if name.starts_with("OPTIONS-") => Some(Kind::Options),
            _ => None,
        }
    }
}

/// The names of a data directory's files that are not empty, in order.
pub fn files(data: &Path) -> io::Result<Vec<String>> {
    let mut names = vec![];
    for below in ["", "db/"] {
        for entry in fs::read_dir(data.join(below))? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() && metadata.len() > 0 {
                names.push(format!("{below}{}", entry.file_name().to_string_lossy()));
            }
        }
    }
    names.sort();
    Ok(names)
}

/// One file of each kind there is, in the order in which they are tried: a kind with many files is struck no more often than
/// others. Every other time those whose damage must be noticed come first, since of the others little can be asked.
pub fn order(files: &[String], random: &mut fastrand::Rng) -> Vec<(Kind, String)> {
    let live = files.iter().filter(|name| Kind::of(name) == Some(Kind::OlderLog)).max_by_key(|name| number(name));
    let kind = |name: &String| if Some(name) == live { Some(Kind::LiveLog) } else { Kind::of(name) };
    let mut kinds = Kind::ALL;
    random.shuffle(&mut kinds);
    if random.bool() {
        kinds.sort_by_key(|kind| !kind.must_be_noticed());
    }
    let mut order = vec![];
    for wanted in kinds {
        let of_it: Vec<&String> = files.iter().filter(|name| kind(name) == Some(wanted)).collect();
        if !of_it.is_empty() {
            order.push((wanted, of_it[random.usize(..of_it.len())].clone()));
        }
    }
    order
}

/// The number in a log's name.
fn number(name: &str) -> u32 {
    let name = name.rsplit('/').next().unwrap_or(name);
    name.split('.').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// What is done to a file's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strike {
    Flip { at: usize, bit: u8 },
    Cut { at: usize },
    Zero(Range<usize>),
}

impl Strike {
    /// Draws one within the first half of what counts in a file: to miss what was written last, and perhaps not synced, is
    /// no fault. None: nothing in it counts.
    pub fn draw(kind: Kind, name: &str, bytes: &[u8], random: &mut fastrand::Rng) -> Option<Strike> {
        let end = match kind {
            Kind::LiveLog => Some(live_bytes(bytes, number(name))).filter(|bytes| *bytes >= LIVE_BYTES_MIN)?,
            // Without the room behind it that was taken in advance.
            _ => bytes.iter().rposition(|byte| *byte != 0)? + 1,
        };
        let at = random.usize(..end.div_ceil(2));
        let flip = Strike::Flip { at, bit: random.u8(..8) };
        let sector = at - at % SECTOR_BYTES..end.min(at - at % SECTOR_BYTES + SECTOR_BYTES);
        Some(match random.u8(..3) {
            0 => Strike::Cut { at },
            1 if bytes[sector.clone()].iter().any(|byte| *byte != 0) => Strike::Zero(sector),
            _ => flip,
        })
    }

    /// Done, and durable: a later power cut must not undo it.
    pub fn apply(&self, path: &Path) -> io::Result<()> {
        let file = File::options().read(true).write(true).open(path)?;
        match self {
            Strike::Flip { at, bit } => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, *at as u64)?;
                file.write_all_at(&[byte[0] ^ 1 << bit], *at as u64)?;
            }
            Strike::Cut { at } => file.set_len(*at as u64)?,
            Strike::Zero(range) => file.write_all_at(&vec![0; range.len()], range.start as u64)?,
        }
        file.sync_all()
    }

    pub fn says(&self) -> String {
        match self {
            Strike::Flip { at, bit } => format!("bit {bit} of byte {at} turned over"),
            Strike::Cut { at } => format!("cut to {at} bytes"),
            Strike::Zero(range) => format!("{} to {} zeroed", range.start, range.end),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names() -> Vec<String> {
        let names = "FLOOR LOCK db/000009.log db/000012.log db/000010.sst db/000011.sst db/000013.blob db/CURRENT db/IDENTITY \
                     db/LOG db/MANIFEST-000005 db/OPTIONS-000007";
        names.split_whitespace().map(str::to_string).collect()
    }

    #[test]
    fn every_kind_is_struck_and_equal_seeds_strike_the_same() {
        let first = |seed| order(&names(), &mut fastrand::Rng::with_seed(seed)).swap_remove(0);
        let kinds: BTreeSet<Kind> = (0..200).map(|seed| first(seed).0).collect();
        assert_eq!(kinds, Kind::ALL.into_iter().collect());
        assert!((0..200).all(|seed| first(seed) == first(seed)));
        let all = order(&names(), &mut fastrand::Rng::with_seed(1));
        assert_eq!(all.len(), Kind::ALL.len(), "one of each: {all:?}");
        let named = |kind| all.iter().find(|(of, _)| *of == kind).map(|(_, name)| name.as_str());
        assert_eq!((named(Kind::LiveLog), named(Kind::OlderLog)), (Some("db/000012.log"), Some("db/000009.log")));
    }

    #[test]
    fn what_is_not_there_is_not_struck() {
        let of = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
            order(&names, &mut fastrand::Rng::with_seed(1))
        };
        assert_eq!(of(&["LOCK", "db/LOG"]), []);
        assert_eq!(of(&["db/000002.log"]), [(Kind::LiveLog, "db/000002.log".to_string())]);
    }

    #[test]
    fn all_damage_lies_in_the_first_half_and_changes_something() {
        let mut bytes: Vec<u8> = (0..10_000).map(|at| (at % 251) as u8 + 1).collect();
        bytes.resize(60_000, 0);
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        let mut seen = BTreeSet::new();
        for seed in 0..60 {
            let draw = || Strike::draw(Kind::Table, "1.sst", &bytes, &mut fastrand::Rng::with_seed(seed));
            let strike = draw().expect("there is something");
            assert_eq!(Some(&strike), draw().as_ref());
            let (at, shape) = match &strike {
                Strike::Flip { at, .. } => (*at, 0),
                Strike::Cut { at } => (*at, 1),
                Strike::Zero(range) => (range.start, 2),
            };
            assert!(at < 5_000, "{strike:?}");
            seen.insert(shape);
            fs::write(&path, &bytes).expect("written");
            strike.apply(&path).expect("struck");
            assert_ne!(fs::read(&path).expect("read"), bytes, "{strike:?}");
        }
        assert_eq!(seen.len(), 3, "each sort is drawn");
        assert_eq!(Strike::draw(Kind::Table, "1.sst", &[0; 100], &mut fastrand::Rng::with_seed(1)), None);
    }

    /// Damage to what was written under an older name is nothing that a node could notice.
    #[test]
    fn a_live_log_is_struck_where_its_own_records_are() {
        // Of 1 KiB each, so that 32 of them fill a block.
        let record = |number: u32| {
            let mut record = [&[1, 2, 3, 4][..], &1_013_u16.to_le_bytes(), &[5], &number.to_le_bytes()].concat();
            record.resize(1 << 10, 7);
            record
        };
        let log = |own: u32| (0..256).flat_map(|at| record(if at < own { 12 } else { 9 })).collect::<Vec<u8>>();
        let draw =
            |own, seed| Strike::draw(Kind::LiveLog, "db/000012.log", &log(own), &mut fastrand::Rng::with_seed(seed));
        for seed in 0..60 {
            let at = match draw(96, seed).expect("it holds enough") {
                Strike::Flip { at, .. } | Strike::Cut { at } | Strike::Zero(Range { start: at, .. }) => at,
            };
            assert!(at < 48 << 10, "byte {at} is not in the first half of what it holds");
        }
        assert_eq!(
            (draw(63, 1), draw(0, 1)),
            (None, None),
            "too little, or nothing, was written since it bears its name"
        );
    }
}
