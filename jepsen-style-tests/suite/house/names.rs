//! No two public types of one name where a reader, and a `use`, cannot tell which is meant: in files of which one imports
//! from the other, and in modules of which one imports the other, if that one hands its type out.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    circles::Arrows,
    source::{blank_prose, exports, is_word, split_tests},
};

/// Pairs that stay: the name, the two files without `src/` and `.rs`, and why.
pub const KNOWN_NAMESAKES: &[(&str, &str, &str, &str)] = &[
    (
        "Applied",
        "broker/groups/coordinator/proposer",
        "replicated",
        "what a proposal came to, and what an entry did; one imports the other for its trait only",
    ),
    (
        "Broker",
        "broker/mod",
        "metadata/state",
        "the door of the one, the record of the other: `metadata::Broker` is written out",
    ),
    (
        "Done",
        "broker/replica/appender/core",
        "storage/writer",
        "what an appender knows never writes: a core without I/O",
    ),
    (
        "Found",
        "broker/replicas",
        "metadata/command",
        "what a look-up came to; the command that founds a cluster is sent once",
    ),
    ("Groups", "broker/groups/part", "group/groups", "a part of the broker, and the state that all brokers agree on"),
    (
        "Producer",
        "client/producer/mod",
        "record/batch",
        "the client, and the head that it writes: `record::Producer` in full",
    ),
    (
        "Start",
        "client/consumer",
        "client/group/core",
        "where an application begins, and where a member was told to begin",
    ),
];

/// Two files that define a public type of one name where both are met.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namesakes {
    pub name: String,
    pub of: String,
    pub and: String,
}

/// `arrows`: who imports from whom, all over the library.
pub fn namesakes(files: &[(String, String)], arrows: &Arrows) -> BTreeSet<Namesakes> {
    let types: BTreeMap<&str, BTreeSet<String>> =
        files.iter().map(|(path, text)| (path.as_str(), public_types(path, text))).collect();
    let handed_out: BTreeSet<(&str, String)> = files.iter().flat_map(|(path, text)| handed_out(path, text)).collect();
    let modules: BTreeSet<(&str, &str)> = arrows
        .iter()
        .flat_map(|(from, targets)| targets.iter().map(|to| (module(from), module(to))))
        .filter(|(from, to)| from != to)
        .collect();
    let mut found = BTreeSet::new();
    for (from, own) in &types {
        for (to, others) in types.iter().filter(|(to, _)| *to != from) {
            for name in own.intersection(others) {
                let meet_as_modules =
                    modules.contains(&(module(from), module(to))) && handed_out.contains(&(module(to), name.clone()));
                if meet_as_modules || arrows[*from].contains(*to) {
                    let (of, and) = if from < to { (from, to) } else { (to, from) };
                    found.insert(Namesakes { name: name.clone(), of: of.to_string(), and: and.to_string() });
                }
            }
        }
    }
    found
}

/// The name of the module at the top to which a file belongs.
fn module(path: &str) -> &str {
    let name = path.split('/').nth(1).unwrap_or(path);
    name.trim_end_matches(".rs")
}

/// What the file of a module at the top gives to its neighbours.
fn handed_out<'a>(path: &'a str, text: &str) -> Vec<(&'a str, String)> {
    let inside = path.strip_prefix("src/").unwrap_or_default();
    if inside.contains('/') && (!inside.ends_with("/mod.rs") || inside.matches('/').count() > 1) {
        return vec![];
    }
    let (ships, _) = split_tests(path, &blank_prose(text));
    let again = exports(&ships).into_iter().filter_map(|path| path.rsplit("::").next().map(String::from));
    again.chain(public_types(path, text)).map(|name| (module(path), name)).collect()
}

/// Names of the structs, enums, traits and aliases that a file lets others see, whoever these are.
fn public_types(path: &str, text: &str) -> BTreeSet<String> {
    let (ships, _) = split_tests(path, &blank_prose(text));
    let named = ships.lines().filter(|line| line.starts_with("pub")).filter_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub") || word.ends_with(')'));
        match words.next()? {
            "struct" | "enum" | "trait" | "type" | "union" => {
                words.next()?.split(|c: char| !is_word(c)).next().map(String::from)
            }
            _ => None,
        }
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::{super::circles::imports, *};

    #[test]
    fn planted_namesakes_are_found() {
        let files = [
            ("src/a/mod.rs", "mod b;\nmod e;\npub use b::Found;"),
            (
                "src/a/b.rs",
                "use super::e::Step;\npub struct Found(u8);\npub(super) enum Answer { Yes }\npub struct Step;",
            ),
            ("src/a/e.rs", "pub struct Step;\npub struct Hidden;"),
            ("src/c/mod.rs", "use crate::a::Found as Other;\nstruct Answer;"),
            ("src/c/f.rs", "pub(crate) type Found<T> = Vec<T>;\npub struct Answer;\npub struct Hidden;"),
            // It imports nothing, so nobody reads both at once.
            ("src/d.rs", "pub struct Found;\n// pub struct Other;"),
        ];
        let files: Vec<_> = files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
        let found = namesakes(&files, &imports(&files));
        let pair = |name: &str, of: &str, and: &str| Namesakes { name: name.into(), of: of.into(), and: and.into() };
        let expected = [pair("Found", "src/a/b.rs", "src/c/f.rs"), pair("Step", "src/a/b.rs", "src/a/e.rs")];
        assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
    }
}
