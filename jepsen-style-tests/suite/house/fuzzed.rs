//! Every decoder of foreign bytes has a fuzz target. A decoder is known by its name and by what it takes; a target, by
//! naming it in a `fuzz.rs` of its module, or in another file there whose tests begin with `fuzz_`.
//!
//! By names alone: one `decode` stands for all of its module. It finds the module, or the file format, that nobody
//! thought of, not each line that is never reached.

use super::{
    rules::module_of,
    source::{blank_prose, is_test_file, is_word, split_tests},
};

/// What names of decoders begin with.
const NAMES: &[&str] =
    &["decode", "parse", "read", "from_bytes", "from_str", "subscribed_topics", "assigned_partitions"];

/// What they take: bytes or text that somebody else wrote.
const TAKEN: &[&str] = &["&[u8]", ": Bytes", "&Bytes", "&str", "&Slot", "&mut &[u8]"];

/// Decoders that no target names: the file without `src/` and `.rs`, the function, and why.
pub const WITHOUT_TARGET: &[(&str, &str, &str)] = &[
    ("kafka/wire", "decode_header", "behind every request of the target that names `ROUTES`"),
    ("metadata/state", "from_bytes", "what `Metadata::decode` is, which has one"),
];

/// Decoders without a target that are not listed, and listed ones that have gone or have one.
pub fn unfuzzed(files: &[(String, String)], listed: &[(&str, &str, &str)]) -> Vec<String> {
    let targets: Vec<(&str, &String)> = files
        .iter()
        .filter(|(path, text)| path.ends_with("/fuzz.rs") || is_test_file(path) && text.contains("fn fuzz_"))
        .filter_map(|(path, text)| Some((module_of(path)?, text)))
        .collect();
    let has_target = |path: &str, name: &str| {
        let module = module_of(path);
        targets.iter().any(|(of, text)| Some(*of) == module && text.split(|c| !is_word(c)).any(|word| word == name))
    };
    let found: Vec<(&str, String)> = files
        .iter()
        .filter(|(path, _)| module_of(path).is_some() && !is_test_file(path))
        .flat_map(|(path, text)| decoders(path, text).into_iter().map(|name| (path.as_str(), name)))
        .collect();
    let is_listed =
        |path: &str, name: &str| listed.iter().any(|(file, of, _)| path == format!("src/{file}.rs") && *of == name);
    let without = found.iter().filter(|(path, name)| !has_target(path, name) && !is_listed(path, name));
    let without =
        without.map(|(path, name)| format!("{path}: `{name}` decodes what others wrote, and has no fuzz target"));
    let gone = listed.iter().filter(|(file, of, _)| {
        let path = format!("src/{file}.rs");
        has_target(&path, of) || !found.iter().any(|(found, name)| *found == path && name == of)
    });
    without
        .chain(gone.map(|(file, of, _)| format!("src/{file}.rs: strike off `{of}`: it has gone, or has a target")))
        .collect()
}

/// The functions of a file that look like decoders.
fn decoders(path: &str, text: &str) -> Vec<String> {
    let (ships, _) = split_tests(path, &blank_prose(text));
    let mut found = vec![];
    let mut rest = ships.as_str();
    while let Some(at) = rest.find("fn ") {
        // What is private is reached through what is not.
        let line = rest[..at].rsplit('\n').next().unwrap_or_default();
        let is_open = line.trim_start().starts_with("pub") && !line.ends_with(is_word);
        rest = &rest[at + 3..];
        let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
        let takes = rest.split(['{', ';']).next().and_then(|head| head.split("->").next()).unwrap_or_default();
        let is_named = NAMES
            .iter()
            .any(|known| name.strip_prefix(known).is_some_and(|more| more.is_empty() || more.starts_with('_')));
        if is_open && is_named && TAKEN.iter().any(|taken| takes.contains(taken)) {
            found.push(name);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(target: &str, listed: &[(&str, &str, &str)]) -> Vec<String> {
        let decoder = "pub fn decode_row(row: &[u8]) -> Row {}\nfn decode_it(a: &str) {}\npub fn read_all(&self) {}\n// fn parse(a: &str)\npub fn readable(a: &str) {}";
        let files =
            [("src/storage/rows.rs", decoder), ("src/storage/fuzz.rs", target), ("src/raft/fuzz.rs", "decode_row")];
        unfuzzed(&files.map(|(path, text)| (path.to_string(), text.to_string())), listed)
    }

    #[test]
    fn a_decoder_without_a_target_is_found_and_one_with_a_target_is_not() {
        assert_eq!(found("fn fuzz_x() { decode_rows() }", &[]).len(), 1);
        assert!(found("fn fuzz_x() { super::decode_row(bytes) }", &[]).is_empty());
        assert!(found("", &[("storage/rows", "decode_row", "why")]).is_empty());
        assert_eq!(found("decode_row", &[("storage/rows", "decode_row", "why")]).len(), 1, "it has one by now");
        assert_eq!(found("decode_row", &[("storage/rows", "gone", "why")]).len(), 1);
    }
}
