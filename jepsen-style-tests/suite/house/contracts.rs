//! The contracts of the code stand in the `contracts.rs` of their modules. Each citation leads to a heading,
//! each heading to tests that exist, and neither to a page that is not in this repository.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{blank_prose, is_word, split_tests};

/// What a citation begins with.
const CITES: &str = "SAFETY";
/// What the list of tests of a contract begins with. It ends with the paragraph.
const TESTS: &str = "**Fails without it:**";
/// Pages of the workshop. Whoever has this repository does not have them.
const ELSEWHERE: &[&str] = &["PERF", "HANDBOOK", "DESIGN", "CHAOS", "FAULTS", "KAFKA"];

/// A contract as its page tells it.
struct Contract {
    id: String,
    /// Of the heading, from the root.
    place: String,
    tests: Vec<String>,
}

/// Whether a word names a contract, by its form.
fn is_id(word: &str) -> bool {
    let number = word.strip_prefix(['B', 'M', 'N']).unwrap_or_default();
    !number.is_empty() && number.len() < 3 && number.bytes().all(|b| b.is_ascii_digit())
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !is_word(c)).filter(|word| !word.is_empty())
}

/// Everything in backticks on a line.
pub fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The contracts of the pages among `files`, which are paths from the root and texts.
fn contracts(files: &[(String, String)]) -> Vec<Contract> {
    let mut found: Vec<Contract> = vec![];
    for (path, text) in files.iter().filter(|(path, _)| path.starts_with("src/") && path.ends_with("/contracts.rs")) {
        let mut in_tests = false;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim_start_matches("//!").trim();
            if let Some(id) = line.strip_prefix("## ").and_then(|title| title.split_once(':')) {
                found.push(Contract { id: id.0.into(), place: format!("{path}:{number}"), tests: vec![] });
            }
            in_tests = !line.is_empty() && (in_tests || line.starts_with(TESTS));
            if let (true, Some(contract)) = (in_tests, found.last_mut()) {
                contract.tests.extend(quoted(line).map(String::from));
            }
        }
    }
    found
}

/// The tests of all files, and where each is.
fn tests(files: &[(String, String)]) -> BTreeMap<String, Vec<&str>> {
    let mut found: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (path, text) in files {
        let (_, code) = split_tests(path, &blank_prose(text));
        let mut is_test = false;
        for line in code.lines().map(str::trim) {
            is_test |= line.starts_with("#[") && line.contains("test") && !line.contains("cfg");
            if let (true, Some((_, name))) = (is_test, line.split_once("fn ")) {
                let name = name.split(|c: char| !is_word(c)).next().unwrap_or_default();
                found.entry(name.into()).or_default().push(path);
                is_test = false;
            }
        }
    }
    found
}

/// The contracts that a line cites. None: it cites without a name.
fn cited(line: &str) -> Option<Vec<&str>> {
    let mut ids = vec![];
    let mut words = words(line).peekable();
    while let Some(word) = words.next() {
        if word == CITES {
            words.peek().filter(|next| is_id(next))?;
        } else if is_id(word) {
            ids.push(word);
        }
    }
    Some(ids)
}

/// What is wrong with contracts and with what cites them. `sources`: all Rust files. `texts`: what else is read.
pub fn check(sources: &[(String, String)], texts: &[(String, String)]) -> Vec<String> {
    let contracts = contracts(sources);
    let tests = tests(sources);
    let ids: BTreeSet<&str> = contracts.iter().map(|contract| contract.id.as_str()).collect();
    let mut wrong: Vec<String> =
        contracts.iter().flat_map(|contract| check_contract(contract, sources, &tests)).collect();
    if ids.len() < contracts.len() {
        wrong.push(format!("{} headings for {} contracts: an id stands twice", contracts.len(), ids.len()));
    }
    for (path, text) in sources.iter().chain(texts) {
        for (number, line) in (1..).zip(text.lines()) {
            let is_prose = !path.ends_with(".rs") || line.trim_start().starts_with("//") || line.contains(CITES);
            let place = || format!("{path}:{number}");
            if let Some(page) = words(line).find(|word| is_prose && ELSEWHERE.contains(word)) {
                wrong.push(format!("{}: {page} is not in this repository: say what it says", place()));
            }
            match cited(line).filter(|_| is_prose) {
                None if is_prose => wrong.push(format!("{}: {CITES} without the name of a contract", place())),
                None => {}
                Some(cited) => {
                    let unknown = cited.iter().filter(|id| !ids.contains(*id));
                    wrong.extend(unknown.map(|id| format!("{}: no page has a heading for {id}", place())));
                }
            }
        }
    }
    wrong
}

fn check_contract(
    contract: &Contract,
    sources: &[(String, String)],
    tests: &BTreeMap<String, Vec<&str>>,
) -> Vec<String> {
    let Contract { id, place, tests: named } = contract;
    if !is_id(id) {
        return vec![format!("{place}: {id} is not the name of a contract")];
    }
    if named.is_empty() {
        return vec![format!("{place}: {id} names no test: begin a paragraph with {TESTS}")];
    }
    let missing = named.iter().filter(|name| !tests.contains_key(*name));
    let mut wrong: Vec<String> = missing.map(|name| format!("{place}: {id} names {name}, which is no test")).collect();
    // Who reads the test finds the contract.
    let prefix = format!("{}_", id.to_lowercase());
    let cites = |path: &&str| {
        let text = sources.iter().find(|(known, _)| known == path).map_or("", |(_, text)| text);
        text.lines().filter(|line| line.contains(CITES)).any(|line| words(line).any(|word| word == id))
    };
    let leads_back =
        |name: &&String| name.starts_with(&prefix) || tests.get(*name).is_some_and(|paths| paths.iter().any(cites));
    if wrong.is_empty() && !named.iter().any(|name| leads_back(&name)) {
        wrong.push(format!("{place}: no test of {id} is named for it or stands in a file that cites it"));
    }
    wrong
}

#[cfg(test)]
mod planted {
    use super::*;

    const PAGE: &str =
        "//! ## B1: a promise\n//!\n//! **Fails without it:** `it_holds`,\n//! `b1_too`.\n//!\n//! `else`";
    const TEST: &str =
        "//! SAFETY B1.\n#[test]\nfn it_holds() {}\n#[tokio::test]\nasync fn b1_too() {}\nfn helper() {}";

    fn wrong(page: &str, test: &str, code: &str) -> Vec<String> {
        let file = |path: &str, text: &str| (path.to_string(), text.to_string());
        let sources = [file("src/a/contracts.rs", page), file("src/a/tests/b.rs", test), file("src/a/c.rs", code)];
        check(&sources, &[file("README.md", "As B1 says.")])
    }

    #[track_caller]
    fn rejects(page: &str, test: &str, code: &str, says: &str) {
        let found = wrong(page, test, code);
        assert!(found.len() == 1 && found[0].contains(says), "{says}: {found:?}");
    }

    #[test]
    fn what_leads_somewhere_is_accepted() {
        for code in [
            "/// Kept (SAFETY B1).",
            "// SAFETY B1's rule, and B1 again.",
            "fn f() { assert!(x, \"(SAFETY B1)\"); }",
            "fn f() { let (PERF, M99) = g(); }",
            "/// As in B1.\nconst DESIGN: u8 = 1;",
        ] {
            assert_eq!(wrong(PAGE, TEST, code), [] as [String; 0], "{code}");
        }
    }

    #[test]
    fn a_citation_without_a_heading() {
        rejects(PAGE, TEST, "/// Kept (SAFETY B2).", "c.rs:1: no page has a heading for B2");
        rejects(PAGE, TEST, "/// Kept (SAFETY B1, M99).", "heading for M99");
        rejects(PAGE, TEST, "/// Kept (SAFETY B1 and M2).", "heading for M2");
        rejects(PAGE, TEST, "fn f() { assert!(x, \"(SAFETY N7)\"); }", "heading for N7");
        rejects(PAGE, TEST, "/// See SAFETY.", "without the name of a contract");
        rejects(PAGE, TEST, "// SAFETY: the pointer is valid", "without the name of a contract");
    }

    #[test]
    fn a_page_that_is_not_here() {
        for page in ELSEWHERE {
            rejects(PAGE, TEST, &format!("/// Measured ({page} part 6)."), page);
        }
    }

    #[test]
    fn a_heading_without_a_test_that_leads_back() {
        rejects("//! ## B1: a promise\n//!\n//! Kept by `it_holds`.", TEST, "", "B1 names no test");
        rejects(&PAGE.replace("it_holds", "it_held"), TEST, "", "it_held, which is no test");
        rejects(&PAGE.replace("it_holds", "helper"), TEST, "", "helper, which is no test");
        rejects(PAGE, &TEST.replace("#[test]\n", ""), "", "it_holds, which is no test");
        let strange = TEST.replace("SAFETY B1", "Of the promise");
        assert_eq!(wrong(PAGE, &strange, ""), [] as [String; 0], "one is named for it");
        rejects(&PAGE.replace("`b1_too`", ""), &strange, "", "named for it or stands in a file that cites it");
        rejects(&format!("{PAGE}\n//!\n{PAGE}"), TEST, "", "an id stands twice");
    }
}
