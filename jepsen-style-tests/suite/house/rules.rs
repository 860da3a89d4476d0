//! The rules themselves, over one file's path (from the root, with `/`) and text.

use std::fmt;

use super::{
    causes::lost_causes,
    door::without_caller,
    source::{blank_prose, is_test_file, is_word, paths, split_tests},
};

/// Lowest first. A module may use those of lower layers and its own, never those above.
const LAYERS: &[&[&str]] = &[
    &["types", "formats", "replicated", "rolling", "seam", "durable", "config", "metrics", "proto"],
    &["record"],
    &["partition", "group"],
    &["metadata"],
    &["storage"],
    &["raft"],
    &["broker"],
    FACES,
    &["server"],
    &["cli", "main"],
];

/// The modules that face clients decode, call `broker` and encode; sharing between them would hide
/// a decision in one of them.
const FACES: &[&str] = &["kafka", "grpc", "http", "client"];

/// State machines: the same calls must give the same state on every replica and in every test.
const PURE: &[&str] = &["types", "formats", "replicated", "rolling", "record", "partition", "group", "metadata"];

/// Each heavy dependency, and the modules that may say its name.
const HEAVY: &[(&str, &[&str])] = &[
    ("rocksdb", &["storage"]),
    ("openraft", &["raft"]),
    ("tonic", &["raft", "grpc", "client", "proto"]),
    ("axum", &["http"]),
];

/// Names of time, threads, chance and sockets. A simulation runs what does not use them.
const OUTSIDE: &[&str] = &[
    "std::time::SystemTime",
    "std::time::UNIX_EPOCH",
    "std::time::Instant",
    "std::thread",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "tokio::net",
    "tokio::task::spawn_blocking",
    "tokio::task::block_in_place",
    "rand",
    "socket2",
    "tokio_stream::wrappers::TcpListenerStream",
];

/// Below OUTSIDE by name only: asks about the current thread, starts none.
const HARMLESS: &[&str] = &["std::thread::panicking"];

/// Pure modules name none of these.
const IMPURE: &[&str] = &["tokio", "std::fs", "std::net", "std::process", "std::env"];

/// Where OUTSIDE is allowed: the seams themselves, the threads below `Kv` (RocksDB's and that of its
/// durable floor), the watchdog's, and the command line, which runs on the user's machine and never in a simulation.
const OUTSIDE_ALLOWED: &[&str] =
    &["src/seam/", "src/storage/rocks", "src/storage/floor.rs", "src/server/watchdog.rs", "src/cli", "src/main.rs"];

/// Starts a task that nobody owns, unless its file says who does.
const SPAWN: &[&str] = &["tokio::spawn", "tokio::task::spawn"];

/// Where SPAWN is allowed, and when such a task ends.
const SPAWN_ALLOWED: &[(&str, &str)] = &[
    ("src/broker/groups/coordinator/tenure.rs", "commits of a term: with the term's queue"),
    ("src/broker/metadata_group/rounds.rs", "with the last handle"),
    ("src/broker/replica/appender/mod.rs", "with the last handle, or its group"),
    ("src/client/fake.rs", "a test double: with the test"),
    ("src/client/group/mod.rs", "the driver: with the last handle"),
    ("src/client/producer/driver.rs", "connections and look-ups: with the driver, whose events they are"),
    ("src/client/producer/mod.rs", "the driver: with the last handle"),
    ("src/grpc/health.rs", "with the listener's token"),
    ("src/raft/links.rs", "links: aborted when the node stops"),
    ("src/raft/lanes.rs", "with the stream whose room it waits for"),
    ("src/raft/raft_member.rs", "with the node's token"),
    ("src/raft/node.rs", "of the node and of each group: aborted when they stop"),
    ("src/raft/server.rs", "with the node's token"),
    ("src/raft/session.rs", "with the session's token"),
    ("src/raft/transfer.rs", "with the node's token"),
    ("src/storage/writer.rs", "with the last handle"),
];

/// Files that are made by these are not there after a power cut; `durable` does what is missing.
const NOT_DURABLE: &[&str] = &["fs::rename(", "fs::write(", "File::create(", "File::create_new(", "fs::create_dir"];

/// What the house is laid out in, and what git and cargo themselves put there.
const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "src",
    "proto",
    "scripts",
    "jepsen-style-tests",
    "benches",
    "README.md",
    "Cargo.lock",
    "LICENSE",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "build.rs",
    "rustfmt.toml",
    "clippy.toml",
    ".cargo",
    ".gitignore",
    ".ci",
    ".git",
    "target",
];

/// A file that fits a reader's head.
pub const FILE_LINES_MAX: usize = 800;

/// From the line of `fn` to its closing brace.
pub const FUNCTION_LINES_MAX: usize = 70;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Layers,
    UnknownModule,
    HeavyName,
    Seams,
    Spawn,
    Pure,
    Unwrap,
    NotDurable,
    FileLines,
    FunctionLines,
    Todo,
    LostCause,
    Door,
    TopLevel,
}

#[derive(Debug)]
pub struct Violation {
    pub rule: Rule,
    path: String,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {:?}: {}", self.path, self.line, self.rule, self.what)
    }
}

pub fn check_top_level(names: &[String]) -> Vec<Violation> {
    let strangers = names.iter().filter(|name| !TOP_LEVEL.contains(&name.as_str()) && !name.ends_with(".tmp"));
    let violation = |name: &String| Violation {
        rule: Rule::TopLevel,
        path: name.clone(),
        line: 0,
        what: "not one of the entries that the top level is laid out in".into(),
    };
    strangers.map(violation).collect()
}

pub fn check_file(path: &str, text: &str) -> Vec<Violation> {
    let mut found = vec![];
    let code = blank_prose(text);
    let mut emit = |rule, line, what: String| found.push(Violation { rule, path: path.to_string(), line, what });
    check_size(text, &mut emit);
    check_todos(text, &mut emit);
    let (ships, tests) = split_tests(path, &code);
    check_functions(&ships, &mut emit);
    if let Some(module) = module_of(path) {
        check_module(path, module, &ships, &tests, &mut emit);
        lost_causes(path, module, &ships, text).into_iter().for_each(|(line, what)| emit(Rule::LostCause, line, what));
        without_caller(path, &ships).into_iter().for_each(|(line, what)| emit(Rule::Door, line, what));
    }
    found
}

type Emit<'a> = dyn FnMut(Rule, usize, String) + 'a;

/// The top-level module that a file of the library belongs to.
pub fn module_of(path: &str) -> Option<&str> {
    let module = path.strip_prefix("src/")?.split('/').next()?;
    Some(module.trim_end_matches(".rs")).filter(|module| *module != "lib")
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn check_module(path: &str, module: &str, ships: &str, tests: &str, emit: &mut Emit) {
    let Some(own) = layer(module) else {
        return emit(Rule::UnknownModule, 1, format!("module {module} has no layer; give it one in rules.rs"));
    };
    let depth = module_depth(path);
    // `mod tests { .. }` is one level further down.
    let tests_depth = if is_test_file(path) { depth } else { depth + 1 };
    for (code, depth) in [(ships, depth), (tests, tests_depth)] {
        for (line, name) in paths(code) {
            if let Some(import) = import(&name, depth) {
                check_import(own, module, import, line, emit);
            }
            check_heavy(module, &name, line, emit);
        }
    }
    for (line, name) in paths(ships) {
        let outside = starts_with_any(&name, OUTSIDE) && !starts_with_any(&name, HARMLESS);
        if outside && !OUTSIDE_ALLOWED.iter().any(|allowed| path.starts_with(allowed)) {
            emit(Rule::Seams, line, format!("{name}: use the seams (Clock, Rng, Net, Kv) or tokio's clock"));
        }
        if starts_with_any(&name, SPAWN) && !SPAWN_ALLOWED.iter().any(|(allowed, _)| path == *allowed) {
            emit(
                Rule::Spawn,
                line,
                format!("{name}: nobody ends it; use the broker's Tasks, a JoinSet or a list here"),
            );
        }
        if PURE.contains(&module) && starts_with_any(&name, IMPURE) {
            emit(Rule::Pure, line, format!("{name} in a pure module"));
        }
    }
    check_words(module, ships, emit);
}

/// How many names the module's own path has: `src/a/mod.rs` is 1, `src/a/b.rs` is 2.
fn module_depth(path: &str) -> usize {
    let parts = path.trim_start_matches("src/").split('/').count();
    if path.ends_with("/mod.rs") { parts - 1 } else { parts }
}

/// The module of ours that a path leads to, if it starts at the crate's root.
fn import(path: &str, depth: usize) -> Option<&str> {
    let mut rest = path.strip_prefix("::").unwrap_or(path);
    if let Some(rest) = rest.strip_prefix("crate::").or_else(|| rest.strip_prefix("flotilla::")) {
        return rest.split("::").next();
    }
    let mut ups = 0;
    while let Some(up) = rest.strip_prefix("super::") {
        rest = up;
        ups += 1;
    }
    (ups > 0 && ups >= depth).then(|| rest.split("::").next())?
}

fn check_import(own: usize, module: &str, import: &str, line: usize, emit: &mut Emit) {
    // A type or macro of the root, or a glob: not a module.
    if import == module || import.is_empty() || !import.starts_with(|c: char| c.is_ascii_lowercase()) {
        return;
    }
    let Some(other) = layer(import) else {
        return emit(Rule::UnknownModule, line, format!("imports {import}, which has no layer"));
    };
    if other > own {
        emit(Rule::Layers, line, format!("{module} (layer {own}) imports {import} (layer {other}) from above"));
    } else if FACES.contains(&module) && FACES.contains(&import) {
        emit(Rule::Layers, line, format!("{module} imports its neighbour {import}"));
    }
}

fn check_heavy(module: &str, name: &str, line: usize, emit: &mut Emit) {
    let first = name.trim_start_matches("::").split("::").next().unwrap_or_default();
    let heavy = HEAVY.iter().find(|(heavy, _)| *heavy == first);
    if let Some((heavy, allowed)) = heavy
        && !allowed.contains(&module)
    {
        emit(Rule::HeavyName, line, format!("{name}: only {} may name {heavy}", allowed.join(", ")));
    }
}

/// `path` is one of `names` or lies below one.
fn starts_with_any(path: &str, names: &[&str]) -> bool {
    let path = path.trim_start_matches("::");
    names.iter().any(|name| path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")))
}

fn check_words(module: &str, ships: &str, emit: &mut Emit) {
    for (index, line) in ships.lines().enumerate() {
        if line.contains(".unwrap()") {
            emit(Rule::Unwrap, index + 1, "unwrap() outside tests: say why it cannot be with expect()".into());
        }
        if module != "durable"
            && let Some(call) = NOT_DURABLE.iter().find(|call| line.contains(**call))
        {
            emit(
                Rule::NotDurable,
                index + 1,
                format!("{call}..): what it makes may be gone after a power cut: use durable"),
            );
        }
        let mut words = line.split(|c: char| !is_word(c));
        if PURE.contains(&module) && words.any(|word| word == "async" || word == "await") {
            emit(Rule::Pure, index + 1, "async in a pure module".into());
        }
    }
}

fn check_size(text: &str, emit: &mut Emit) {
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        emit(Rule::FileLines, lines, format!("{lines} lines, over {FILE_LINES_MAX}: split it"));
    }
}

fn check_todos(text: &str, emit: &mut Emit) {
    // Split in two here, so that this file may speak of it.
    let word = concat!("TO", "DO");
    for (index, line) in text.lines().enumerate() {
        let Some(comment) = line.trim_start().strip_prefix("//") else { continue };
        if comment.contains(word) && !comment.contains(&format!("{word}(#")) {
            emit(Rule::Todo, index + 1, format!("{word} without an issue: write {word}(#n)"));
        }
    }
}

/// rustfmt closes a function at the indent of its `fn`.
fn check_functions(ships: &str, emit: &mut Emit) {
    let lines: Vec<&str> = ships.lines().collect();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        if !line.split_whitespace().take_while(|word| !word.contains('(')).any(|word| word == "fn")
            && !line.trim_start().starts_with("fn ")
        {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        let body = lines[start..].iter().position(|line| line.trim_end() == close || one_line(line, indent));
        let length = body.map_or(1, |end| end + 1);
        if length > FUNCTION_LINES_MAX {
            emit(Rule::FunctionLines, start + 1, format!("a function of {length} lines, over {FUNCTION_LINES_MAX}"));
        }
    }
}

/// A declaration or a function that opens and closes on one line.
fn one_line(line: &str, indent: usize) -> bool {
    let own = line.len() - line.trim_start().len() == indent;
    own && (line.trim_end().ends_with(';') || line.trim_end().ends_with("}") && line.contains('{'))
}
