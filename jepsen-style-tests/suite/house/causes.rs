//! No error of ours becomes text before the face that answers it: `detail: error.to_string()` loses what the next
//! face needs to tell apart. A lower layer's enum is wrapped; where it must end as text, the place is listed here.

use super::source::is_word;

/// The modules between the state machines and the clients' wires.
const EDGE: &[&str] = &["broker", "kafka", "grpc", "http"];

/// What a value is called that holds an error.
const ERRORS: &[&str] = &["error", "err", "e", "refusal", "refused", "failed", "failure", "cause", "shortage"];

/// Fields that are for people, and would take an error's text.
const WORDS: &[&str] = &["detail", "reason", "cause", "why", "proof"];

/// Where an error becomes text all the same: the file, the code, and the reason.
pub const ENDS_AS_TEXT: &[(&str, &str, &str)] = &[
    ("src/broker/errors.rs", "format!(\"", "the sentences of causes that are kept whole"),
    ("src/broker/requests/groups.rs", "format!(\"", "the sentences of causes that are kept whole"),
    ("src/grpc/error.rs", "format!(\"{what}: {error}\")", "the sentence of a cause that is kept whole"),
    ("src/grpc/error.rs", "message: clip(error.to_string())", "the face's one table: what clients read"),
    ("src/kafka/codes.rs", "let mut words = error.to_string()", "the face's one table: what clients read"),
    ("src/http/problem.rs", "Problem::new(status, error.to_string())", "the face's one table: what people read"),
    ("src/http/pages/mod.rs", "StatusCode::INTERNAL_SERVER_ERROR, error.to_string()", "the template engine's, foreign"),
    ("src/grpc/produce.rs", "let detail = error.message().to_string()", "tonic's own words: it has no enum"),
    ("src/broker/node.rs", "BrokerFailed::Storage { detail: error.to_string() }", "the last line of a process"),
    ("src/broker/cluster/forming.rs", "BrokerFailed::Raft { detail: error.to_string() }", "the last line of a process"),
    (
        "src/broker/cluster/reconcile.rs",
        "BrokerFailed::Raft { detail: error.to_string() }",
        "the last line of a process",
    ),
    ("src/broker/cluster/setback.rs", "proof: proof.to_string()", "the last line of a process"),
    ("src/broker/cluster/setback.rs", "let mut text = failed.to_string()", "an alarm that peers keep for people"),
    ("src/broker/serving.rs", "Readiness::NotReady(failed.to_string())", "why a process stops, for /readyz"),
    ("src/broker/replica/walk.rs", "WalkError::Failed(", "a read of the disk, whose errors are the storage's"),
    (
        "src/broker/replica/read.rs",
        "WalkError::Failed(e.to_string())",
        "a read of the disk, whose errors are the storage's",
    ),
    (
        "src/broker/replica/latest.rs",
        "WalkError::Failed(e.to_string())",
        "a read of the disk, whose errors are the storage's",
    ),
    ("src/broker/fetch.rs", "let reason = format!(", "a read of the disk that failed: nobody can do but ask again"),
    (
        "src/broker/find_offsets.rs",
        "unavailable(format!(",
        "a read of the disk that failed: nobody can do but ask again",
    ),
];

/// `ships`: the code without tests and prose; `text`: as it is written. Both have the same characters in each line.
pub fn lost_causes(path: &str, module: &str, ships: &str, text: &str) -> Vec<(usize, String)> {
    if !EDGE.contains(&module) {
        return Vec::new();
    }
    let written: Vec<&str> = text.lines().collect();
    let is_listed = |line: &str| ENDS_AS_TEXT.iter().any(|(file, code, _)| *file == path && line.contains(code));
    let mut found = Vec::new();
    for (index, code) in ships.lines().enumerate() {
        // A call that rustfmt broke goes on in the next line.
        let whole = [index, index + 1].map(|line| written.get(line).copied().unwrap_or_default());
        if (makes_text(code) || formats_error(code, &whole)) && !is_listed(whole[0]) {
            found.push((index + 1, "an error becomes text here: wrap it, and let the face make the text".into()));
        }
    }
    found
}

/// `error.to_string()`, or `detail: anything.to_string()` of what is no literal.
fn makes_text(code: &str) -> bool {
    for (at, _) in code.match_indices(".to_string()") {
        let before = &code[..at];
        let receiver = before.trim_end_matches(is_word).len();
        let name = &before[receiver..];
        let is_field = before[..receiver].ends_with('.');
        let is_value = !before.trim_end().is_empty() && before.ends_with(|c: char| is_word(c) || ")]".contains(c));
        if (ERRORS.contains(&name) && !is_field) || (is_value && WORDS.iter().any(|word| is_set(before, word))) {
            return true;
        }
    }
    false
}

/// Whether the last thing that is set before the end of `code` is `word`: as a field, or by `let`.
fn is_set(code: &str, word: &str) -> bool {
    let Some(sign) = code.rfind([':', '=']) else { return false };
    let is_path = code[..sign].ends_with(':') || code[sign + 1..].starts_with(':');
    let name = code[..sign].trim_end();
    !is_path && name.strip_suffix(word).is_some_and(|rest| !rest.ends_with(|c| is_word(c) || c == '.'))
}

/// `format!(".. {error}")`.
fn formats_error(code: &str, written: &[&str; 2]) -> bool {
    let Some(at) = code.find("format!(") else { return false };
    // In characters: prose that is blanked keeps their number, not that of their bytes.
    let from = code[..at].chars().count();
    let rest: String = written[0].chars().skip(from).collect();
    let text = if rest.trim_end().ends_with('(') { written[1] } else { &rest };
    ERRORS.iter().any(|name| [":", "}"].iter().any(|end| text.contains(&format!("{{{name}{end}"))))
}
