//! How bytes that outlive a version may change: the one place where the rule stands.
//!
//! Logs, checkpoints, snapshots and calls between brokers are read by other versions than the one that wrote them:
//! an older one during a rolling upgrade, a newer one after it. Most of them are postcard, which says nothing of
//! itself: a field that is added to a struct makes the bytes unreadable in both directions, and where two versions
//! apply one entry differently, replicas diverge. So:
//!
//! 1. **A struct that is encoded never changes.** What must change becomes a *new variant* at the end of the enum
//!    that holds it (a command, a call, an answer), or a new version of the state. Variants are never removed, moved
//!    or given another meaning: what an old log holds is applied for ever as it always was.
//! 2. **A new variant stands behind a feature level.** `FEATURE_LEVEL` is the highest level that this version can
//!    read and write; the *cluster's* level is part of the metadata, and only one command raises it, once every
//!    registered broker supports the new one (`flotilla cluster upgrade`). Each command says which level it needs
//!    (`Change::level`), and the only way to encode a command for the metadata group refuses those above the
//!    cluster's (`Metadata::write`). The metadata's own snapshots are written in the newest version that the
//!    cluster's level allows. Whoever writes into other logs asks the cluster's level first.
//! 3. **A broker that meets what it cannot read stops**, and says so: that an entry or a snapshot needs a higher
//!    level than it supports. It never skips one, and never refuses one that others apply.
//! 4. **Each literal that was ever frozen stays.** The bytes of every format lie in files `*.frozen` beside their
//!    tests, one line each; every line must be read by the present version, and the last one of each name must be
//!    what it writes. Lines are only ever added: the house rules reject a file that lost or changed one.
//!
//! # How a broker learns that it may write at a level
//!
//! A broker tells the level that it supports when it registers, and whenever another broker asks (`Call::Describe`).
//! It learns the cluster's level by applying the metadata, as it learns everything of the cluster: from the entry
//! that raises the level on, it may write at that level, since every broker of the cluster has said before that it
//! can read it. A broker of an older version that comes later is refused when it registers.
//!
//! The first raise, from level 1 to 2, is itself written at level 2: it carries what the brokers said when they were
//! asked, since registrations of level 1 have no room for it, and whoever proposes or applies it holds that against
//! the brokers that are registered. Later raises are read by all.
//!
//! # The levels
//!
//! | Level | Adds |
//! |---|---|
//! | 1 | everything up to version 0.1.0 |
//! | 2 | brokers register their level, a cluster is founded at a level, the level can be raised; version 3 of the metadata's state |
//! | 3 | brokers register where Kafka clients reach them, and do so by themselves when the level rises; version 4 of the metadata's state; offsets of a live classic group can be deleted where no member subscribes; topics may have `message.timestamp.before.max.ms`, and `min.insync.replicas` up to the number of replicas |
//! | 4 | a consumer group that holds nothing any more stays for ten minutes, as in Kafka, instead of going at once |
//!
//! A new cluster is founded at the level of the broker that founds it; so its first brokers are of one version.

/// The highest feature level that this version reads and writes.
#[cfg(feature = "server")]
pub const FEATURE_LEVEL: u32 = 4;

/// The level of clusters and brokers that never said one.
#[cfg(feature = "server")]
pub const FEATURE_LEVEL_MIN: u32 = 1;

#[cfg(test)]
pub(crate) mod fuzz;

#[cfg(test)]
pub(crate) mod frozen {
    //! The literals of a format: `name hex`, one a line; lines that begin with `#` are for people.

    use std::collections::BTreeMap;

    /// Holds a format against all that was ever frozen of it. `written`: what this version writes, by name. Each
    /// must be the last literal of its name. `read`: says why a literal cannot be read; all must be.
    ///
    /// # Panics
    /// If not so; says what to add to the file.
    #[track_caller]
    pub fn check<B: AsRef<[u8]>>(
        text: &str,
        written: impl IntoIterator<Item = (impl Into<String>, B)>,
        read: impl Fn(&str, &[u8]) -> Result<(), String>,
    ) {
        let literals = literals(text);
        let last: BTreeMap<&str, &[u8]> = literals.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        let mut missing = Vec::new();
        for (name, bytes) in written {
            let (name, bytes) = (name.into(), bytes.as_ref());
            if last.get(name.as_str()) != Some(&bytes) {
                missing.push(format!("{name} {}", hex(bytes)));
            }
        }
        assert!(missing.is_empty(), "not what was frozen (a new variant? Add it):\n{}", missing.join("\n"));
        for (name, bytes) in &literals {
            if let Err(why) = read(name, bytes) {
                panic!("{name} {} was written once and cannot be read: {why}", hex(bytes));
            }
        }
    }

    /// All lines, in order.
    pub fn literals(text: &str) -> Vec<(&str, Vec<u8>)> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let literals = lines.map(|line| {
            let (name, bytes) = line.split_once(' ').unwrap_or_else(|| panic!("{line:?} is not a name and its bytes"));
            (name, unhex(bytes))
        });
        literals.collect()
    }

    /// The last literal of a name.
    #[track_caller]
    pub fn literal(text: &str, name: &str) -> Vec<u8> {
        let found = literals(text).into_iter().rev().find(|(found, _)| *found == name);
        found.unwrap_or_else(|| panic!("nothing was frozen as {name:?}")).1
    }

    pub fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn unhex(text: &str) -> Vec<u8> {
        assert!(text.len().is_multiple_of(2) && text.is_ascii(), "{text:?} is not hex");
        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        (0..text.len()).step_by(2).map(byte).collect()
    }

    #[test]
    fn a_literal_is_the_last_of_its_name() {
        let text = "# a format\na 01\nb 0203\na 04\n";
        assert_eq!(literals(text), [("a", vec![1]), ("b", vec![2, 3]), ("a", vec![4])]);
        assert_eq!(literal(text, "a"), [4]);
        check(text, [("a", [4].as_slice()), ("b", &[2, 3])], |_, _| Ok(()));
    }

    #[test]
    #[should_panic(expected = "a 01")]
    fn what_is_written_now_must_be_the_last_literal() {
        check("a 01\na 04\n", [("a", [1])], |_, _| Ok(()));
    }

    #[test]
    #[should_panic(expected = "a 01 was written once and cannot be read: old")]
    fn what_was_written_once_must_be_read() {
        let read = |_: &str, bytes: &[u8]| if bytes == [1] { Err("old".to_string()) } else { Ok(()) };
        check("a 01\na 04\n", [("a", [4])], read);
    }
}
