//! What was frozen stays frozen (`src/formats.rs`): the literals of every format lie in files `*.frozen`, which the
//! decode tests read line by line. A line that is gone, or says something else, is data that nobody promises to
//! read any more.
//!
//! Two things hold them. The seals below: how many literals each file has and a hash of them, in order; whoever adds
//! one seals it, and a count that falls is seen in review. And git, where there is a history: no literal of any
//! commit may be missing now, whatever the seals say.

use std::{collections::BTreeSet, process::Command};

use super::root;

/// Path below `src`, number of literals, and their hash.
const SEALS: &[(&str, usize, u64)] = &[
    ("broker/peers/calls.frozen", 52, 0xed97_34b4_e61b_fd3d),
    ("metadata/tests/commands.frozen", 27, 0x29dd_7cdd_927f_5d30),
    ("metadata/tests/responses.frozen", 33, 0xf0a0_8a5d_c679_590e),
    ("metadata/tests/states.frozen", 6, 0xf242_3fcc_e19b_ad3f),
    ("partition/responses.frozen", 5, 0x186a_ab5d_2aca_6a58),
    ("partition/tests/commands.frozen", 3, 0xc6e7_e3f9_d7b7_0449),
    ("partition/tests/states.frozen", 1, 0x10e0_a31b_ff52_f873),
    ("raft/control.frozen", 1, 0xf981_2409_b43f_e5a1),
    ("raft/stored.frozen", 3, 0x9fef_3412_137b_7db2),
    ("raft/wire/bodies.frozen", 7, 0x786c_64af_7263_a802),
    ("raft/wire/frames.frozen", 1, 0x0234_815b_4a6c_83fa),
    ("record/batches.frozen", 1, 0x5124_c3c2_a0fa_c260),
    ("rolling/stored.frozen", 1, 0x02d0_2c8a_7207_cd52),
    ("storage/floor.frozen", 1, 0xec5d_3dfb_a15b_3497),
    ("storage/keys.frozen", 14, 0x344b_2a58_a170_f082),
    ("storage/values.frozen", 15, 0xad84_fd84_668b_1664),
];

/// One file's literals: comments are for people.
fn literals(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// FNV-1a: the same for ever, which the standard library's hasher does not promise.
fn hash(literals: &[&str]) -> u64 {
    let bytes = literals.iter().flat_map(|line| line.bytes().chain([b'\n']));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What is wrong with a file: `seal` is its count and hash.
fn check(path: &str, text: &str, seal: Option<(usize, u64)>) -> Option<String> {
    let now = literals(text);
    let line = format!("    ({path:?}, {}, {:#018x}),", now.len(), hash(&now));
    let Some((count, sealed)) = seal else {
        return Some(format!("{path} is not sealed; add\n{line}"));
    };
    let kept = now.get(..count).map(hash);
    match kept {
        None => Some(format!("{path} had {count} literals and has {}: put back what is gone", now.len())),
        Some(kept) if kept != sealed => {
            Some(format!("{path}: one of its first {count} literals was changed, moved or removed: put it back"))
        }
        Some(_) if now.len() > count => Some(format!("{path} has new literals; seal them:\n{line}")),
        Some(_) => None,
    }
}

/// Literals that a patch took away. `log`: what `git log -p` prints.
fn taken_away(log: &str) -> BTreeSet<&str> {
    let removed = log.lines().filter(|line| !line.starts_with("---")).filter_map(|line| line.strip_prefix('-'));
    removed.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// Path below `src`, and text.
fn frozen_files() -> Vec<(String, String)> {
    let mut files = vec![];
    super::files_below(&root().join("src"), "frozen", &mut files);
    let named = files.into_iter().map(|file| {
        let path = file.strip_prefix(root().join("src")).expect("below src").to_string_lossy().replace('\\', "/");
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{path}: {error}"));
        (path, text)
    });
    named.collect()
}

#[test]
fn no_literal_that_was_sealed_is_gone() {
    let files = frozen_files();
    let sealed = |path: &str| SEALS.iter().find(|seal| seal.0 == path).map(|(_, count, hash)| (*count, *hash));
    let mut wrong: Vec<String> = files.iter().filter_map(|(path, text)| check(path, text, sealed(path))).collect();
    let gone = SEALS.iter().filter(|(sealed, ..)| !files.iter().any(|(path, _)| path == sealed));
    wrong.extend(gone.map(|(path, ..)| format!("{path} is gone")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A file that no test includes freezes nothing.
#[test]
fn every_frozen_file_is_read_by_a_test() {
    let sources = super::sources();
    let unread = frozen_files().into_iter().filter(|(path, _)| {
        let (folder, name) = path.rsplit_once('/').expect("in a module");
        let includes = format!("include_str!({name:?})");
        !sources.iter().any(|(source, text)| {
            source.strip_prefix("src/").and_then(|source| source.rsplit_once('/')).is_some_and(|(at, _)| at == folder)
                && text.contains(&includes)
        })
    });
    let unread: Vec<String> = unread.map(|(path, _)| path).collect();
    assert!(unread.is_empty(), "read by no test beside them: {unread:?}");
}

/// Not even with its seal.
#[test]
fn no_literal_of_the_history_is_gone() {
    let git = |args: &[&str]| Command::new("git").arg("-C").arg(root()).args(args).output();
    let args = ["log", "-p", "--no-color", "--no-ext-diff", "--no-renames", "--format=", "HEAD", "--", "src/*.frozen"];
    let log = match git(&args) {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        // A tarball: the seals hold by themselves.
        Ok(_) | Err(_) => return println!("no history here"),
    };
    let files = frozen_files();
    let now: BTreeSet<&str> = files.iter().flat_map(|(_, text)| literals(text)).collect();
    let gone: Vec<&str> = taken_away(&log).into_iter().filter(|line| !now.contains(line)).collect();
    assert!(gone.is_empty(), "an earlier commit had these, and none of the files has them now:\n{}", gone.join("\n"));
}

mod planted {
    use super::{check, hash, literals, taken_away};

    const TEXT: &str = "# a format\nfound 0102\nregister 0103\nraise 0104\n";

    fn seal(text: &str) -> (usize, u64) {
        let literals = literals(text);
        (literals.len(), hash(&literals))
    }

    #[test]
    fn a_literal_removed_from_the_decode_tests() {
        let sealed = seal(TEXT);
        assert_eq!(check("a.frozen", TEXT, Some(sealed)), None);
        let rejects = |text: &str, why: &str| {
            let wrong = check("a.frozen", text, Some(sealed)).unwrap_or_else(|| panic!("it passes {text:?}"));
            assert!(wrong.contains(why), "{wrong}");
        };
        rejects("found 0102\nregister 0103\n", "had 3 literals and has 2");
        rejects("found 0102\nraise 0104\n", "had 3 literals and has 2");
        rejects("found 0102\nregister 0103\nraise 0105\n", "changed, moved or removed");
        rejects("found 0102\nraise 0104\nmore 0105\n", "changed, moved or removed");
        rejects(&format!("{TEXT}more 0105\n"), "seal them");
        assert_eq!(check("a.frozen", &TEXT.replace("a format", "words"), Some(sealed)), None, "comments are free");
        assert!(check("a.frozen", TEXT, None).is_some_and(|wrong| wrong.contains("is not sealed")));
    }

    #[test]
    fn a_literal_removed_together_with_its_seal() {
        let log = "diff --git a/src/a.frozen b/src/a.frozen\n--- a/src/a.frozen\n+++ b/src/a.frozen\n@@ -1,3 +1,2 @@\n \
                   found 0102\n-register 0103\n-# words\n+raise 0104\n";
        assert_eq!(taken_away(log).into_iter().collect::<Vec<_>>(), ["register 0103"]);
    }
}
