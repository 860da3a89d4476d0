//! Circles of files inside one module: files that can only be understood together. The layers keep modules
//! apart; nothing but this keeps the files of one apart.
//!
//! An arrow is an import, followed to the file that defines the name: what a `mod.rs` only hands on is no
//! arrow to it, nor from it. Methods that one file adds to the type of another leave no trace in imports.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{blank_prose, exports, paths, split_tests};

/// The circles that there are, without `src/` and `.rs`, and why they stay.
pub const KNOWN_CIRCLES: &[(&str, &str)] = &[
    (
        "storage/budget storage/log storage/open storage/saved storage/store",
        "one aggregate, the log of a group, told in several files; each is better alone",
    ),
    (
        "client/group/calls client/group/core client/group/driver client/group/mod client/group/reader",
        "a handle and its driver: what crosses the channel between them stands in the door",
    ),
    (
        "client/producer/accumulator client/producer/connection client/producer/driver client/producer/mod",
        "the same for the producer: its options stand in the door",
    ),
    ("storage/rocks storage/rocks_space storage/warm_up", "one database handle and its keeper"),
    ("client/batches client/consumer", "batches of a consumer carry its records"),
    ("metadata/placement metadata/state", "a cache derived from the state"),
];

/// From each file to those that it imports from, within their module.
pub type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Module path of every file, with what it says.
struct Module<'a> {
    path: &'a str,
    ships: String,
    /// Names that it hands on, and where it has them from.
    exports: BTreeMap<String, Vec<String>>,
}

/// `files`: path from the root, and text.
pub fn arrows(files: &[(String, String)]) -> Arrows {
    let room = |path: &str| path.split('/').nth(1).map(|name| name.trim_end_matches(".rs").to_string());
    let mut arrows = imports(files);
    for (from, targets) in &mut arrows {
        targets.retain(|to| room(to) == room(from));
    }
    arrows
}

/// The same from module to module as well.
pub fn imports(files: &[(String, String)]) -> Arrows {
    let modules: BTreeMap<Vec<String>, Module> = files
        .iter()
        .filter_map(|(path, text)| {
            let (ships, _) = split_tests(path, &blank_prose(text));
            let handed_on = exports(&ships).into_iter().filter_map(|path| {
                let segments = split(&path);
                Some((segments.last()?.clone(), segments))
            });
            let exports = handed_on.collect();
            Some((module_path(path)?, Module { path, ships, exports }))
        })
        .collect();
    let mut arrows = Arrows::new();
    for (at, module) in &modules {
        let handed_on: BTreeSet<String> = exports(&module.ships).into_iter().collect();
        let named = paths(&module.ships).into_iter().map(|(_, path)| path).filter(|path| !handed_on.contains(path));
        let targets = named.filter_map(|path| target(&modules, at, &split(&path), 0));
        let others = targets.filter(|to| to != at);
        let files = others.map(|to| modules[&to].path.to_string()).collect();
        arrows.insert(module.path.to_string(), files);
    }
    arrows
}

/// `src/a/b.rs` and `src/a/b/mod.rs` are `[a, b]`. None: outside the library.
fn module_path(path: &str) -> Option<Vec<String>> {
    let inner = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let inner = inner.strip_suffix("/mod").unwrap_or(inner);
    Some(inner.split('/').map(String::from).collect())
}

fn split(path: &str) -> Vec<String> {
    path.split("::").map(|segment| segment.trim().to_string()).filter(|segment| !segment.is_empty()).collect()
}

/// The module that defines what a path names, as seen from `at`.
fn target(modules: &BTreeMap<Vec<String>, Module>, at: &[String], path: &[String], hops: usize) -> Option<Vec<String>> {
    let mut here = at.to_vec();
    let mut rest = path;
    match rest.first()?.as_str() {
        "crate" => (here, rest) = (vec![], &rest[1..]),
        "self" => rest = &rest[1..],
        "super" => {
            while rest.first().is_some_and(|segment| segment == "super") {
                here.pop()?;
                rest = &rest[1..];
            }
        }
        child => {
            here.push(child.to_string());
            modules.get(&here)?;
            rest = &rest[1..];
        }
    }
    while let Some(segment) = rest.first() {
        here.push(segment.clone());
        if !modules.contains_key(&here) {
            here.pop();
            break;
        }
        rest = &rest[1..];
    }
    let module = modules.get(&here)?;
    match rest.first().and_then(|name| module.exports.get(name)) {
        // Nobody hands a name on so often.
        Some(from) if hops < 8 => target(modules, &here, from, hops + 1).or(Some(here)),
        _ => Some(here),
    }
}

/// Every set of files that reach one another, largest first.
pub fn circles(arrows: &Arrows) -> Vec<Vec<String>> {
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        arrows.keys().map(|from| (from.as_str(), reached(arrows, from))).collect();
    let mut seen = BTreeSet::new();
    let mut found = vec![];
    for (from, reached) in &reach {
        let circle = reached.iter().filter(|to| reach[**to].contains(from));
        let circle: Vec<String> = circle.map(|to| to.to_string()).collect();
        if reached.contains(from) && seen.insert(circle.clone()) {
            found.push(circle);
        }
    }
    found.sort_by_key(|circle| (usize::MAX - circle.len(), circle.clone()));
    found
}

fn reached<'a>(arrows: &'a Arrows, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = arrows[from].iter().map(String::as_str).collect();
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(arrows[next].iter().map(String::as_str));
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let files: Vec<_> = files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
        circles(&arrows(&files))
    }

    #[test]
    fn a_planted_circle_is_found() {
        let circle = found(&[
            ("src/a/mod.rs", "mod b;\nmod c;\nmod d;\npub use b::B;\npub use c::C;"),
            ("src/a/b.rs", "use super::c::C;\npub struct B;"),
            ("src/a/c.rs", "use super::d;\npub struct C;"),
            ("src/a/d.rs", "fn f() { crate::a::B::new() }"),
        ]);
        assert_eq!(circle, [["src/a/b.rs", "src/a/c.rs", "src/a/d.rs"]]);
        let through_the_door = found(&[
            ("src/a/mod.rs", "mod b;\nuse b::B;\npub struct Door(B);"),
            ("src/a/b.rs", "use super::Door;\npub struct B;"),
        ]);
        assert_eq!(through_the_door, [["src/a/b.rs", "src/a/mod.rs"]]);
    }

    #[test]
    fn what_is_only_handed_on_closes_no_circle() {
        let none = found(&[
            ("src/a/mod.rs", "mod b;\nmod c;\npub(crate) use self::{b::{B, X as Y}, c::C};"),
            ("src/a/b.rs", "use super::C;\npub struct B;"),
            ("src/a/c.rs", "#[cfg(test)]\nmod tests {\n    use super::super::B;\n}\n// use super::B\npub struct C;"),
            // Other modules are the layers' business.
            ("src/z.rs", "use crate::a::B;"),
            ("src/a/e.rs", "use crate::z::Z;"),
        ]);
        assert!(none.is_empty(), "{none:?}");
    }
}
