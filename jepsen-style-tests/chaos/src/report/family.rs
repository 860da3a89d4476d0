//! What sort of thing a fault is, by its name. Pure.
//!
//! A report is made of a run's files alone, and those name faults in words: so it goes by the words. A name that it
//! does not know is of the family of others, and loses nothing but its colour.

/// What a fault is done to. In the order in which a report shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    Process,
    Network,
    Clock,
    Disk,
    Power,
    Damage,
    Other,
}

/// Words of names, in the order in which they are looked for: `power-loss` is no loss of packets, and `frames` that
/// are damaged are no files.
const WORDS: &[(Family, &[&str])] = &[
    (Family::Power, &["power"]),
    (Family::Clock, &["clock", "skew", "jump", "time", "strobe"]),
    (
        Family::Network,
        &[
            "partition",
            "partitioned",
            "isolate",
            "isolated",
            "bridge",
            "ring",
            "halves",
            "half",
            "cut",
            "delay",
            "loss",
            "lossy",
            "bandwidth",
            "reset",
            "resets",
            "frame",
            "frames",
            "link",
            "links",
            "network",
            "net",
            "way",
            "oneway",
            "drop",
            "packets",
            "flap",
            "stall",
            "corrupt",
        ],
    ),
    (Family::Disk, &["fsync", "disk", "full", "hung", "eio", "enospc", "write", "read", "io", "storage"]),
    (
        Family::Damage,
        &[
            "bit",
            "bits",
            "flip",
            "bitflip",
            "truncate",
            "truncated",
            "truncation",
            "wipe",
            "wiped",
            "corruption",
            "damage",
            "rot",
            "garbage",
        ],
    ),
    (
        Family::Process,
        &["kill", "pause", "stop", "restart", "rolling", "crash", "freeze", "graceful", "process", "transfer"],
    ),
];

impl Family {
    pub const ALL: &[Family] =
        &[Family::Process, Family::Network, Family::Clock, Family::Disk, Family::Power, Family::Damage, Family::Other];

    pub fn of(fault: &str) -> Family {
        let words: Vec<&str> = fault.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        let known = WORDS.iter().find(|(_, known)| words.iter().any(|word| known.contains(word)));
        known.map_or(Family::Other, |(family, _)| *family)
    }

    pub fn name(self) -> &'static str {
        match self {
            Family::Process => "process",
            Family::Network => "network",
            Family::Clock => "clock",
            Family::Disk => "disk",
            Family::Power => "power",
            Family::Damage => "damaged files",
            Family::Other => "other",
        }
    }

    /// Of a style sheet.
    pub fn class(self) -> &'static str {
        match self {
            Family::Process => "process",
            Family::Network => "network",
            Family::Clock => "clock",
            Family::Disk => "disk",
            Family::Power => "power",
            Family::Damage => "damage",
            Family::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    #[test]
    fn every_fault_that_a_run_can_do_has_a_family() {
        let of_others: Vec<&Fault> =
            Fault::ALL.iter().filter(|fault| Family::of(fault.name()) == Family::Other).collect();
        assert!(of_others.is_empty(), "{of_others:?}");
        assert_eq!([Fault::Corrupt, Fault::Stall].map(|fault| Family::of(fault.name())), [Family::Network; 2]);
    }

    #[test]
    fn a_name_says_what_a_fault_is_done_to() {
        let families = [
            (Family::Process, "kill pause graceful-restart rolling-restart transfer"),
            (Family::Network, "partition-one one-way-in delay loss bandwidth reset corrupt-frames bridge ring"),
            (Family::Clock, "clock-jump clock-skew"),
            (Family::Disk, "fsync-error slow-fsync hung-disk full-disk"),
            (Family::Power, "power-loss power-cut-torn"),
            (Family::Damage, "bit-flip truncate wipe"),
            (Family::Other, "killer <script> meteor"),
        ];
        for (family, names) in families {
            for name in names.split(' ') {
                assert_eq!(Family::of(name), family, "{name}");
            }
        }
    }
}
