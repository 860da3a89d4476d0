//! Pages that people read: what they name is there, and the map stays a map.

use std::{collections::BTreeSet, fs};

use super::{contracts::quoted, root};

/// A map that takes longer to read than the code that it leads to is none.
const MAP_LINES_MAX: usize = 250;
/// The part of the map that leads a newcomer through the house, and where it goes.
const WALKS: &str = "## A walk for a newcomer";
const WALKS_TO: [&str; 5] = ["Produce", "Fetch", "Commit", "Election", "Trim"];
/// Rooms that a newcomer remembers.
const ROOMS_MAX: usize = 12;

/// Files that `text` names from the root, in backticks. A pattern names none.
pub fn named_files(text: &str) -> BTreeSet<&str> {
    let tops = ["src/", "jepsen-style-tests/", "scripts/", "proto/", "benches/"];
    let is_path = |name: &&str| !name.contains(['*', '{', ' ', '<']) && tops.iter().any(|top| name.starts_with(top));
    text.lines().flat_map(quoted).filter(is_path).collect()
}

/// What is wrong with the map.
fn check_map(map: &str) -> Vec<String> {
    let mut wrong = vec![];
    let lines = map.lines().count();
    if lines > MAP_LINES_MAX {
        wrong.push(format!("{lines} lines, over {MAP_LINES_MAX}: say it where it is kept"));
    }
    let walks = map.split_once(WALKS).map_or("", |(_, rest)| rest);
    let walks: Vec<&str> = walks.split("\n## ").next().unwrap_or_default().split("\n### ").skip(1).collect();
    for to in WALKS_TO {
        let Some(walk) = walks.iter().find(|walk| walk.starts_with(to)) else {
            wrong.push(format!("no walk: {to}"));
            continue;
        };
        let rooms: Vec<&str> = walk.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).collect();
        if rooms.is_empty() || rooms.len() > ROOMS_MAX {
            wrong.push(format!("{to}: {} rooms, of 1 to {ROOMS_MAX}", rooms.len()));
        }
        let unnamed = rooms.iter().filter(|room| named_files(room).is_empty() && !room.contains("back in "));
        wrong.extend(unnamed.map(|room| format!("{to}: no file is named in: {room}")));
    }
    wrong
}

#[test]
fn the_map_is_short_and_leads_through_the_house() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("read ARCHITECTURE.md");
    let wrong = check_map(&map);
    assert!(wrong.is_empty(), "ARCHITECTURE.md:\n{}", wrong.join("\n"));
}

#[cfg(test)]
mod planted {
    use super::*;

    fn map(walk: &str) -> String {
        let walk_to = |to: &&str| format!("### {to}: a way\n\n1. `src/a.rs`: here.\n2. back in 1: there.\n");
        let walks: Vec<String> = WALKS_TO[1..].iter().map(walk_to).collect();
        format!("# Map\n\n{WALKS}\n\n{walk}\n{}\n## Next\n\n1. Something else.\n", walks.join("\n"))
    }

    #[test]
    fn files_are_named_from_the_root() {
        let text =
            "`src/a.rs` and `src/{b,c}.rs`, `a.rs`,\n`scripts/test` or `docs/x`; src/d.rs `jepsen-style-tests/suite`";
        let named: Vec<&str> = named_files(text).into_iter().collect();
        assert_eq!(named, ["jepsen-style-tests/suite", "scripts/test", "src/a.rs"]);
    }

    #[test]
    fn a_map_that_is_none() {
        assert_eq!(check_map(&map("### Produce: in\n\n1. `src/a.rs`: here.\n")), [] as [String; 0]);
        let rejects = |map: &str, says: &str| {
            let found = check_map(map);
            assert!(found.len() == 1 && found[0].contains(says), "{says}: {found:?}");
        };
        rejects(&map(""), "no walk: Produce");
        rejects(&map("### Produce: in\n"), "Produce: 0 rooms");
        rejects(&map(&format!("### Produce: in\n{}", "1. `src/a.rs`\n".repeat(ROOMS_MAX + 1))), "Produce: 13 rooms");
        rejects(&map("### Produce: in\n1. `a.rs`: somewhere.\n"), "no file is named in: 1. `a.rs`: somewhere.");
        rejects(&format!("{}{}", map("### Produce: in\n1. `src/a.rs`"), "\n".repeat(MAP_LINES_MAX)), "lines, over 250");
    }
}
