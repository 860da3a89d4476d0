//! A ratchet: no module has fewer asserts in the code that ships than it had. Crash rather than diverge is
//! promised by every struct that has invariants, and only its asserts hold it to that.

use std::collections::BTreeMap;

use super::{
    rules::module_of,
    source::{blank_prose, is_word, split_tests},
};

/// How many asserts a module has at least. Who adds some raises its number; who takes one away says why.
pub const ASSERTS_MIN: &[(&str, usize)] =
    &[("broker", 17), ("group", 8), ("metadata", 6), ("partition", 16), ("raft", 9), ("record", 1), ("storage", 17)];

/// Asserts in code that ships, by module. `files`: path from the root, and text.
pub fn asserts(files: &[(String, String)]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (path, text) in files {
        let Some(module) = module_of(path) else { continue };
        let (ships, _) = split_tests(path, &blank_prose(text));
        *counts.entry(module.to_string()).or_default() += count(&ships);
    }
    counts
}

/// `assert!`, `assert_eq!` and `assert_ne!`; `debug_assert!` holds nobody to anything where it matters.
fn count(code: &str) -> usize {
    let mut words = code.split('!').map(|before| before.rsplit(|c: char| !is_word(c)).next().unwrap_or_default());
    let last = code.matches('!').count();
    words.by_ref().take(last).filter(|word| ["assert", "assert_eq", "assert_ne"].contains(word)).count()
}

/// The modules that have fewer than they should.
pub fn too_few(files: &[(String, String)], at_least: &[(&str, usize)]) -> Vec<String> {
    let counts = asserts(files);
    let found = |module: &str| counts.get(module).copied().unwrap_or_default();
    let fewer = at_least.iter().filter(|(module, min)| found(module) < *min);
    fewer.map(|(module, min)| format!("{module} has {} asserts, it had {min}", found(module))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn few(text: &str, min: usize) -> Vec<String> {
        too_few(&[("src/raft/appends.rs".to_string(), text.to_string())], &[("raft", min)])
    }

    #[test]
    fn an_assert_that_was_taken_away_is_missed() {
        let two = "fn f() {\n    assert!(a < b, \"{a}\");\n    assert_eq!(a, b);\n}\n";
        assert!(few(two, 2).is_empty());
        assert_eq!(few(&two.replace("assert!(", "debug_assert!("), 2), ["raft has 1 asserts, it had 2"]);
        assert_eq!(few(&two.replace("    assert_eq!", "    // assert_eq!"), 2), ["raft has 1 asserts, it had 2"]);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{two}}}\n");
        assert_eq!(few(&tests, 1), ["raft has 0 asserts, it had 1"]);
        assert_eq!(few("const S: &str = \"assert!(x)\"; fn f() { if !assert { g!() } }", 1).len(), 1);
        assert_eq!(too_few(&[], &[("raft", 1)]).len(), 1, "a module that is gone");
    }
}
