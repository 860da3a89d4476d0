//! What a power cut does to bytes that were not synced.

use std::{fmt, str::FromStr};

use fastrand::Rng;

use crate::content::PAGE_BYTES;

/// What is found where bytes were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing of what was not synced.
    Clean,
    /// Parts of it: any of the overwritten units are new and the others old, and of what was appended there is a
    /// beginning, to the byte.
    Torn,
    /// As torn, but a unit may also read as zeros: its place on the disk was there before its bytes were.
    Zeroed,
    /// As zeroed, but instead of zeros what lay on the disk before: garbage.
    Garbage,
}

/// All kinds, in the order of how much they ask of whoever reads the files.
pub const TAILS: [Tail; 4] = [Tail::Clean, Tail::Torn, Tail::Zeroed, Tail::Garbage];

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tail::Clean => "clean",
            Tail::Torn => "torn",
            Tail::Zeroed => "zero",
            Tail::Garbage => "garbage",
        })
    }
}

impl FromStr for Tail {
    type Err = String;

    fn from_str(text: &str) -> Result<Tail, String> {
        let found = TAILS.into_iter().find(|tail| tail.to_string() == text);
        found.ok_or_else(|| format!("{text:?} is no tail: clean, torn, zero or garbage"))
    }
}

/// How much of a disk is written all or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Sector,
    Page,
}

impl Unit {
    pub fn bytes(self) -> u64 {
        match self {
            Unit::Sector => 512,
            Unit::Page => PAGE_BYTES,
        }
    }
}

/// One cut of the power. Equal cuts of equal disks leave equal disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub tail: Tail,
    pub seed: u64,
    /// None: drawn.
    pub unit: Option<Unit>,
}

impl Cut {
    pub fn new(tail: Tail, seed: u64) -> Cut {
        Cut { tail, seed, unit: None }
    }
}

/// What one unit that was not synced holds after the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Old,
    New,
    Zeros,
    Garbage,
}

/// The dice of one cut.
pub(crate) struct Dice {
    pub tail: Tail,
    pub unit: Unit,
    pub chance: Rng,
}

impl Dice {
    pub fn of(cut: Cut) -> Dice {
        let mut chance = Rng::with_seed(cut.seed);
        let drawn = if chance.bool() { Unit::Sector } else { Unit::Page };
        Dice { tail: cut.tail, unit: cut.unit.unwrap_or(drawn), chance }
    }

    /// How many of `pending` changes of names had reached the journal.
    pub fn names_kept(&mut self, pending: usize) -> usize {
        match self.tail {
            Tail::Clean => 0,
            Tail::Torn | Tail::Zeroed | Tail::Garbage => self.chance.usize(..=pending),
        }
    }

    /// A file's size. One that shrank has either; one that grew has any between, since an append is many changes of
    /// the size.
    pub fn size(&mut self, synced: u64, now: u64) -> u64 {
        match self.tail {
            Tail::Clean => synced,
            Tail::Torn | Tail::Zeroed | Tail::Garbage if now < synced => {
                if self.chance.bool() {
                    now
                } else {
                    synced
                }
            }
            Tail::Torn => synced + self.chance.u64(..=now - synced),
            // Mostly all of it, so that there is something to be zeroed.
            Tail::Zeroed | Tail::Garbage => match self.chance.bool() {
                true => now,
                false => synced + self.chance.u64(..=now - synced),
            },
        }
    }

    pub fn fate(&mut self) -> Fate {
        let [a, b] = [self.chance.bool(), self.chance.bool()];
        match (self.tail, a, b) {
            (Tail::Clean, _, _) => Fate::Old,
            (_, true, _) => Fate::New,
            (Tail::Torn, false, _) | (_, false, true) => Fate::Old,
            (Tail::Zeroed, false, false) => Fate::Zeros,
            (Tail::Garbage, false, false) => Fate::Garbage,
        }
    }
}

#[test]
fn tails_have_names() {
    for tail in TAILS {
        assert_eq!(tail.to_string().parse(), Ok(tail));
    }
    assert!("neat".parse::<Tail>().is_err_and(|error| error.contains("\"neat\"")));
}
