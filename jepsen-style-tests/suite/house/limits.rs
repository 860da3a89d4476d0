//! A limit stands once. What the broker bounds its faces re-export: two constants of one value, unit and meaning drift
//! apart, as a face's longest wait once did from the broker's.
//!
//! Two mean the same if they are equal in the same unit and their names share two words (`FETCH_BYTES_MAX`,
//! `CONSUME_BYTES_MAX`). Only literals are seen: what is computed from another constant cannot drift.

use super::source::{blank_prose, split_tests};

const FACES: &[&str] = &["src/kafka/", "src/grpc/", "src/http/", "src/client/"];

/// Equal by chance: the broker's, the face's, and what the face's is about.
pub const EQUAL_BY_CHANCE: &[(&str, &str, &str)] = &[
    ("BROWSE_BYTES_MAX", "REQUEST_BYTES_MAX", "a message of names and configs"),
    ("COMMIT_ENTRY_BYTES_MAX", "REQUEST_BYTES_MAX", "a message of names and configs"),
    ("PATTERN_COMPILED_BYTES_MAX", "REQUEST_BYTES_MAX", "a message of names and configs"),
    ("COMMIT_BYTES_MAX", "PRODUCE_MESSAGE_BYTES_MAX", "a message with records"),
    ("COMMIT_BYTES_MAX", "DECODED_BYTES_MAX", "a batch that the console decompresses"),
];

struct Limit {
    path: String,
    name: String,
    value: u64,
    is_time: bool,
}

/// Pairs of a broker's and a face's constants that are one limit, in words.
pub fn twice(sources: &[(String, String)]) -> Vec<String> {
    let of = |is_here: &dyn Fn(&str) -> bool| -> Vec<Limit> {
        sources.iter().filter(|(path, _)| is_here(path)).flat_map(|(path, text)| limits(path, text)).collect()
    };
    let own = of(&|path| path.starts_with("src/broker/"));
    let faces = of(&|path| FACES.iter().any(|face| path.starts_with(face)));
    let pairs = own.iter().flat_map(|own| faces.iter().map(move |other| (own, other)));
    let same = pairs.filter(|(own, other)| is_same(own, other));
    same.map(|(own, other)| format!("{}: {} is {} of {} again", other.path, other.name, own.name, own.path)).collect()
}

fn is_same(own: &Limit, other: &Limit) -> bool {
    let is_word_of = |word: &&str| other.name.split('_').any(|other| other == *word);
    let is_listed = EQUAL_BY_CHANCE.iter().any(|(a, b, _)| (*a, *b) == (own.name.as_str(), other.name.as_str()));
    let has_value = (own.value, own.is_time) == (other.value, other.is_time);
    has_value && own.name.split('_').filter(is_word_of).count() >= 2 && !is_listed
}

/// The public constants of a file whose value is written there.
fn limits(path: &str, text: &str) -> Vec<Limit> {
    let (ships, _) = split_tests(path, &blank_prose(text));
    let declared = ships.split("pub const ").skip(1).filter_map(|rest| rest.split_once(';'));
    let limit = |(code, _): (&str, &str)| {
        let (name, rest) = code.split_once(':')?;
        let (_, value) = rest.split_once('=')?;
        let (value, is_duration) = evaluated(&value.split_whitespace().collect::<String>())?;
        let is_time = is_duration || name.split('_').any(|word| word == "MS");
        Some(Limit { path: path.to_string(), name: name.to_string(), value, is_time })
    };
    declared.filter_map(limit).collect()
}

/// A number, in milliseconds if it is a duration. None: no literal.
fn evaluated(code: &str) -> Option<(u64, bool)> {
    let inner = |kind: &str| code.strip_prefix(kind)?.strip_suffix(')');
    if let Some(seconds) = inner("Duration::from_secs(") {
        return Some((product(seconds)? * 1_000, true));
    }
    if let Some(milliseconds) = inner("Duration::from_millis(") {
        return Some((product(milliseconds)?, true));
    }
    let (number, shift) = code.split_once("<<").unwrap_or((code, "0"));
    Some((product(number)? << product(shift)?, false))
}

fn product(code: &str) -> Option<u64> {
    code.split('*').map(|number| number.replace('_', "").parse::<u64>().ok()).product()
}
