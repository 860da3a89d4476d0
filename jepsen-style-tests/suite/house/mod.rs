//! The architecture as a test (ARCHITECTURE.md, "Floors"): every rule is a pure function over a path
//! and a text, so that each can be shown a planted violation it must reject.
//!
//! It reads text, not types: what rustfmt leaves readable it sees, and a macro that builds a path
//! escapes it. Strings and comments are blanked first, so that prose may name anything.

mod asserts;
mod causes;
mod circles;
mod contracts;
mod door;
mod frozen;
mod fuzzed;
mod limits;
mod limits_table;
mod names;
mod rules;
mod source;

mod pages;
mod plants;

use std::{
    fs,
    path::{Path, PathBuf},
};

use asserts::{ASSERTS_MIN, too_few};
use causes::ENDS_AS_TEXT;
use circles::{KNOWN_CIRCLES, arrows, circles};
use rules::{Violation, check_file, check_top_level};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(below: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(below).unwrap_or_else(|error| panic!("{}: {error}", below.display()));
    for entry in entries {
        let path = entry.expect("directory entry").path();
        if path.is_dir() {
            files_below(&path, extension, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}

fn report(violations: Vec<Violation>) {
    let lines: Vec<String> = violations.iter().map(Violation::to_string).collect();
    assert!(lines.is_empty(), "{} violations of the house rules:\n{}", lines.len(), lines.join("\n"));
}

/// Every source file: its path from the root, and its text.
fn sources() -> Vec<(String, String)> {
    let mut files = vec![];
    for below in ["src", "jepsen-style-tests", "benches"] {
        let below = root().join(below);
        if below.is_dir() {
            files_below(&below, "rs", &mut files);
        }
    }
    assert!(files.len() > 10, "found only {} source files below {}", files.len(), root().display());
    let named = files.into_iter().map(|file| {
        let path = file.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{path}: {error}"));
        (path, text)
    });
    named.filter(|(path, _)| !path.contains("/target/")).collect()
}

#[test]
fn sources_keep_the_house_rules() {
    report(sources().iter().flat_map(|(path, text)| check_file(path, text)).collect());
}

/// Each circle is known, and why it may stay; one that is gone is struck off.
#[test]
fn files_of_a_module_form_no_circles_but_the_known_ones() {
    let found = circles(&arrows(&sources()));
    let listed: Vec<Vec<String>> = found
        .iter()
        .map(|circle| {
            circle.iter().map(|path| path.trim_start_matches("src/").trim_end_matches(".rs").to_string()).collect()
        })
        .collect();
    let known: Vec<Vec<&str>> = KNOWN_CIRCLES.iter().map(|(files, _)| files.split_whitespace().collect()).collect();
    let print = |circle: &Vec<String>| format!("{} files: {}", circle.len(), circle.join(" "));
    let new: Vec<String> =
        listed.iter().filter(|circle| !known.iter().any(|known| known == *circle)).map(print).collect();
    assert!(new.is_empty(), "circles of files that nobody has explained:\n{}", new.join("\n"));
    let gone: Vec<&Vec<&str>> = known.iter().filter(|known| !listed.iter().any(|circle| circle == *known)).collect();
    assert!(gone.is_empty(), "these are no circles any more, so strike them off: {gone:?}");
}

/// What people read besides Rust.
fn texts() -> Vec<(String, String)> {
    let names = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(String::from);
    let stories = ["partition", "group", "metadata"].map(|module| format!("src/{module}/scripts"));
    let stories = stories.iter().flat_map(|below| {
        let entries = fs::read_dir(root().join(below)).unwrap_or_else(|error| panic!("{below}: {error}"));
        entries.map(move |entry| format!("{below}/{}", entry.expect("directory entry").file_name().to_string_lossy()))
    });
    let names = names.into_iter().chain(stories);
    names.filter_map(|name| fs::read_to_string(root().join(&name)).ok().map(|text| (name, text))).collect()
}

#[test]
fn citations_lead_to_contracts_and_contracts_to_tests() {
    let house = |path: &str| path.starts_with("jepsen-style-tests/suite/house/");
    let sources: Vec<_> = sources().into_iter().filter(|(path, _)| !house(path)).collect();
    let wrong = contracts::check(&sources, &texts());
    assert!(wrong.is_empty(), "{} citations or contracts lead nowhere:\n{}", wrong.len(), wrong.join("\n"));
}

/// What the map and the pages of the code name is there.
#[test]
fn files_that_pages_name_exist() {
    let is_page =
        |path: &str| path.starts_with("src/") && (path.ends_with("/contracts.rs") || path.contains("/story/"));
    let pages = sources().into_iter().filter(|(path, _)| is_page(path)).chain(texts());
    let mut gone = vec![];
    for (page, text) in pages.filter(|(page, _)| page != "CHANGELOG.md") {
        let missing = pages::named_files(&text).into_iter().filter(|name| !root().join(name).exists());
        gone.extend(missing.map(|name| format!("{page} names {name}, which is not there")));
    }
    assert!(gone.is_empty(), "{}", gone.join("\n"));
}

/// A listed place that is gone is struck off.
#[test]
fn errors_end_as_text_only_where_they_are_known_to() {
    let sources = sources();
    let is_there = |file: &str, code: &str| sources.iter().any(|(path, text)| path == file && text.contains(code));
    let gone: Vec<_> = ENDS_AS_TEXT.iter().filter(|(file, code, _)| !is_there(file, code)).collect();
    assert!(gone.is_empty(), "no error becomes text here any more, so strike it off: {gone:?}");
}

#[test]
fn a_limit_of_the_broker_stands_in_no_face_again() {
    let twice = limits::twice(&sources());
    assert!(twice.is_empty(), "re-export what the broker bounds:\n{}", twice.join("\n"));
}

/// Each pair is known, and why it may stay; one that is gone is struck off.
#[test]
fn no_two_public_types_that_meet_have_one_name() {
    let files = sources();
    let found = names::namesakes(&files, &circles::imports(&files));
    let known: Vec<names::Namesakes> = names::KNOWN_NAMESAKES
        .iter()
        .map(|(name, of, and, _)| names::Namesakes {
            name: name.to_string(),
            of: format!("src/{of}.rs"),
            and: format!("src/{and}.rs"),
        })
        .collect();
    let new: Vec<_> = found.iter().filter(|pair| !known.contains(pair)).collect();
    assert!(new.is_empty(), "{} types of one name that meet: {new:#?}", new.len());
    let gone: Vec<_> = known.iter().filter(|pair| !found.contains(pair)).collect();
    assert!(gone.is_empty(), "these do not meet any more, so strike them off: {gone:?}");
}

#[test]
fn the_table_of_limits_says_what_the_constants_say() {
    let table = fs::read_to_string(root().join("src/limits.md")).expect("read src/limits.md");
    let wrong = limits_table::check(&table, &limits_table::constants(&sources()));
    assert!(wrong.is_empty(), "{} rows of src/limits.md:\n{}", wrong.len(), wrong.join("\n"));
    assert!(limits_table::named(&table) > 100, "the table's form is not what this test reads");
}

/// What nobody compiles with is not promised. Who has a newer compiler at home is not told off.
#[test]
fn the_rust_version_is_the_one_that_ci_compiles_with() {
    let minor = |text: &str| text.split('.').take(2).collect::<Vec<_>>().join(".");
    let members = ["", "jepsen-style-tests/", "jepsen-style-tests/logcheck/", "jepsen-style-tests/powerfs/"];
    let manifests = members.map(|member| format!("{member}Cargo.toml"));
    let promised = manifests.map(|manifest| {
        let text = fs::read_to_string(root().join(&manifest)).unwrap_or_else(|error| panic!("{manifest}: {error}"));
        let version = text.lines().find_map(|line| line.strip_prefix("rust-version = "));
        minor(version.unwrap_or_else(|| panic!("{manifest} has no rust-version")).trim_matches('"'))
    });
    assert!(promised.iter().all(|version| *version == promised[0]), "one compiler compiles all crates: {promised:?}");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = std::process::Command::new(rustc).arg("--version").current_dir(root()).output().expect("rustc runs");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let compiles = minor(said.split(' ').nth(1).unwrap_or_else(|| panic!("rustc says {said:?}")));
    if std::env::var_os("CI").is_some() {
        assert_eq!(promised[0], compiles, "CI compiles with {said}: rust-version says what was tried");
    }
}

#[test]
fn no_module_has_fewer_asserts_than_it_had() {
    let fewer = too_few(&sources(), ASSERTS_MIN);
    assert!(fewer.is_empty(), "what an assert held nobody holds any more:\n{}", fewer.join("\n"));
}

#[test]
fn decoders_of_what_others_wrote_have_fuzz_targets() {
    let without = fuzzed::unfuzzed(&sources(), fuzzed::WITHOUT_TARGET);
    assert!(without.is_empty(), "{} decoders:\n{}", without.len(), without.join("\n"));
}

#[test]
fn the_top_level_holds_only_what_design_lists() {
    let ignored = fs::read_to_string(root().join(".gitignore")).expect("read .gitignore");
    let ignored: Vec<&str> = ignored.lines().map(|line| line.trim_matches('/')).collect();
    let names = fs::read_dir(root()).expect("read the repository's root");
    let names = names.map(|entry| entry.expect("directory entry").file_name().to_string_lossy().into_owned());
    report(check_top_level(&names.filter(|name| !ignored.contains(&name.as_str())).collect::<Vec<_>>()));
}

/// A rule that never fired proves nothing: each has a text that it must reject, and a near miss.
mod planted {
    use super::rules::{FILE_LINES_MAX, FUNCTION_LINES_MAX, Rule, check_file, check_top_level};

    #[track_caller]
    fn rejects(rule: Rule, path: &str, text: &str) {
        let found: Vec<Rule> = check_file(path, text).into_iter().map(|violation| violation.rule).collect();
        assert!(!found.is_empty() && found.iter().all(|found| *found == rule), "{path}: {text}: {found:?}");
    }

    #[track_caller]
    fn accepts(path: &str, text: &str) {
        let found = check_file(path, text);
        assert!(found.is_empty(), "{path}: {text}: {found:?}");
    }

    #[test]
    fn an_upward_import() {
        rejects(Rule::Layers, "src/storage/log.rs", "use crate::raft::RaftNode;");
        rejects(Rule::Layers, "src/types/mod.rs", "fn f() { crate::record::crc(); }");
        rejects(Rule::Layers, "src/partition.rs", "use crate::{types::Offset, storage::{Store, ReplicaLog}};");
        accepts(
            "src/storage/log.rs",
            "use crate::{types::{Offset, raft}, partition::Partition};\nuse crate::storage::Kv;",
        );
        accepts("src/storage/log.rs", "// crate::raft adapts this\nconst S: &str = \"crate::raft\";");
        accepts("src/raft/mod.rs", "use crate::{replicated::Replicated, storage};");
    }

    #[test]
    fn an_upward_import_through_super() {
        rejects(Rule::Layers, "src/storage/mod.rs", "use super::raft::RaftNode;");
        rejects(Rule::Layers, "src/storage/log.rs", "use super::super::raft::RaftNode;");
        accepts("src/storage/log.rs", "use super::raft_keys::X;");
        accepts("src/storage/log/tail.rs", "use super::super::keys::Key;");
        accepts("src/storage/mod.rs", "#[cfg(test)]\nmod tests {\n    use super::Kv;\n}\n");
    }

    #[test]
    fn an_import_between_faces() {
        rejects(Rule::Layers, "src/grpc/produce.rs", "use crate::http::metrics;");
        rejects(Rule::Layers, "src/client/mod.rs", "use crate::grpc::convert;");
        accepts("src/grpc/produce.rs", "use crate::{broker::Broker, grpc::convert};");
    }

    #[test]
    fn an_unknown_module() {
        rejects(Rule::UnknownModule, "src/utils.rs", "");
        rejects(Rule::UnknownModule, "src/helpers/mod.rs", "");
        rejects(Rule::UnknownModule, "src/broker/mod.rs", "use crate::utils::x;");
        accepts("src/broker/mod.rs", "use crate::RecordBatch;");
    }

    #[test]
    fn a_heavy_name_outside_its_module() {
        rejects(Rule::HeavyName, "src/raft/store.rs", "use rocksdb::DB;");
        rejects(Rule::HeavyName, "src/broker/produce.rs", "use openraft::Raft;");
        rejects(Rule::HeavyName, "src/http/mod.rs", "fn f() -> tonic::Status { todo() }");
        rejects(Rule::HeavyName, "src/broker/mod.rs", "use ::rocksdb as db;");
        accepts("src/storage/rocks.rs", "use rocksdb::DB;");
        accepts("src/storage/rocks.rs", "mod my_rocksdb { pub fn f() {} }\nuse self::my_rocksdb as openraft_like;");
        accepts("src/raft/transport.rs", "use tonic::Status;\nuse openraft::Raft;");
        accepts("src/broker/mod.rs", "//! openraft::Raft never appears here.");
    }

    #[test]
    fn a_clock_thread_or_socket_outside_the_seams() {
        rejects(Rule::Seams, "src/broker/mod.rs", "use std::time::SystemTime;");
        rejects(Rule::Seams, "src/broker/mod.rs", "use std::time::{Duration, Instant};");
        rejects(Rule::Seams, "src/raft/mod.rs", "fn f() { std::thread::spawn(|| {}); }");
        rejects(Rule::Seams, "src/storage/writer.rs", "use std::{sync::Arc, thread};");
        rejects(Rule::Seams, "src/raft/mod.rs", "fn f() { tokio::task::spawn_blocking(g); }");
        rejects(Rule::Seams, "src/raft/mod.rs", "fn f() -> u64 { rand::random() }");
        rejects(Rule::Seams, "src/grpc/mod.rs", "use tokio::net::TcpListener;");
        rejects(Rule::Seams, "src/grpc/mod.rs", "use tokio::{net::TcpListener, sync::mpsc};");
        rejects(Rule::Seams, "src/http/mod.rs", "use std::net::TcpStream;");
        accepts("src/raft/mod.rs", "use std::{net::SocketAddr, time::Duration};\nuse tokio::time::Instant;");
        accepts("src/raft/mod.rs", "fn f() -> bool { std::thread::panicking() }");
        accepts("src/raft/mod.rs", "fn f() { operand::apply(); let strand = 1; }");
        accepts("src/seam/net.rs", "use tokio::net::TcpListener;\nuse std::time::SystemTime;");
        accepts("src/storage/rocks.rs", "use std::thread;");
        accepts("src/cli/local.rs", "use std::net::TcpListener;");
        accepts("src/broker/mod.rs", "#[cfg(test)]\nmod tests {\n    use std::time::SystemTime;\n}\n");
    }

    #[test]
    fn a_task_that_nobody_owns() {
        rejects(Rule::Spawn, "src/broker/start.rs", "fn f() { tokio::spawn(async {}); }");
        rejects(Rule::Spawn, "src/http/mod.rs", "use tokio::task::spawn;");
        rejects(Rule::Spawn, "src/client/net.rs", "use tokio::{spawn, sync::mpsc};");
        accepts("src/broker/start.rs", "fn f(tasks: &Tasks) { tasks.spawn(async {}); }");
        accepts("src/broker/metadata_group/rounds.rs", "fn f() { tokio::spawn(async {}); }");
        accepts("src/broker/mod.rs", "#[cfg(test)]\nmod tests {\n    fn f() { tokio::spawn(async {}); }\n}\n");
    }

    #[test]
    fn io_or_async_in_a_pure_module() {
        rejects(Rule::Pure, "src/partition/mod.rs", "async fn f() {}");
        rejects(Rule::Pure, "src/metadata/mod.rs", "fn f() { std::fs::read(\"x\"); }");
        rejects(Rule::Pure, "src/record/mod.rs", "use tokio::sync::mpsc;");
        accepts("src/record/mod.rs", "use std::io::Read;");
        accepts("src/broker/mod.rs", "async fn f() {}");
    }

    #[test]
    fn an_unwrap_outside_tests() {
        rejects(Rule::Unwrap, "src/broker/mod.rs", "fn f() { g().unwrap(); }");
        accepts("src/broker/mod.rs", "fn f() { g().unwrap_or_default(); }");
        accepts("src/broker/tests.rs", "fn f() { g().unwrap(); }");
        accepts("src/broker/tests/rig.rs", "fn f() { g().unwrap(); }");
        accepts("src/broker/core_tests/order.rs", "fn f() { g().unwrap(); }");
        accepts("src/broker/mod.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n    fn f() { g().unwrap(); }\n}\n");
        rejects(
            Rule::Unwrap,
            "src/broker/mod.rs",
            "#[cfg(test)]\nmod tests {\n    fn f() { \"}\"; }\n}\nfn f() { g().unwrap(); }\n",
        );
    }

    #[test]
    fn a_file_that_a_power_cut_takes_back() {
        rejects(Rule::NotDurable, "src/cli/context.rs", "fn f() { fs::rename(&new, path).map_err(error) }");
        rejects(Rule::NotDurable, "src/cli/local/state.rs", "fn f() { std::fs::write(path, bytes) }");
        rejects(Rule::NotDurable, "src/storage/floor.rs", "fn f() { File::create(&path)?; }");
        rejects(Rule::NotDurable, "src/storage/directory.rs", "fn f() { fs::create_dir_all(path)?; }");
        accepts("src/durable.rs", "fn f() { fs::rename(&new, path).map_err(error) }");
        accepts("src/cli/context.rs", "#[cfg(test)]\nmod tests {\n    fn f() { fs::write(a, b); }\n}\n");
    }

    #[test]
    fn a_file_or_function_that_grew() {
        let long = "// line\n".repeat(FILE_LINES_MAX + 1);
        rejects(Rule::FileLines, "src/broker/mod.rs", &long);
        accepts("src/broker/mod.rs", &"// line\n".repeat(FILE_LINES_MAX));
        let function =
            |lines: usize| format!("impl X {{\n    pub fn f() {{\n{}    }}\n}}\n", "        g();\n".repeat(lines - 2));
        rejects(Rule::FunctionLines, "src/broker/mod.rs", &function(FUNCTION_LINES_MAX + 1));
        accepts("src/broker/mod.rs", &function(FUNCTION_LINES_MAX));
    }

    #[test]
    fn a_todo_without_an_issue() {
        rejects(Rule::Todo, "src/broker/mod.rs", "// TODO: later\n");
        accepts("src/broker/mod.rs", "// TODO(#12): later\n");
    }

    #[test]
    fn an_error_that_becomes_text_too_early() {
        let rule = Rule::LostCause;
        rejects(rule, "src/broker/produce.rs", "fn f() { E::Invalid { detail: error.to_string() } }");
        rejects(rule, "src/broker/produce.rs", "fn f() { let detail = refusal.to_string(); }");
        rejects(rule, "src/grpc/answer.rs", "fn f() { g().map_err(|e| E::Bad(e.to_string())) }");
        rejects(rule, "src/http/records.rs", "fn f() { Row { bytes: batch.len(), why: of(x).to_string() } }");
        rejects(rule, "src/broker/topics.rs", "fn f() { let reason = format!(\"reading {x}: {error}\", x = 1); }");
        rejects(
            rule,
            "src/broker/topics.rs",
            "fn f() {\n    let reason = format!(\n        \"no: {refusal:?}\"\n    );\n}",
        );
        accepts(
            "src/broker/topics.rs",
            "fn f() { E::Invalid { detail: \"none\".to_string(), group: group.to_string() } }",
        );
        accepts("src/broker/topics.rs", "fn f() { let reason = format!(\"{partition} waits\"); }");
        accepts("src/broker/topics.rs", "fn f() { tracing::warn!(%error, \"failed: {error}\"); }");
        accepts("src/broker/topics.rs", "#[cfg(test)]\nmod tests {\n    fn f() { error.to_string(); }\n}\n");
        accepts("src/grpc/error.rs", "fn f() { E { message: clip(error.to_string()) } }");
        accepts("src/storage/log.rs", "fn f() { error.to_string() }");
    }

    #[test]
    fn a_wish_of_nobody() {
        let door = |method: &str| format!("use x;\nimpl Broker {{\n    {method} {{\n    }}\n}}\n");
        let path = "src/broker/mod.rs";
        rejects(Rule::Door, path, &door("pub async fn create_topic(&self, request: Request) -> Answer"));
        rejects(Rule::Door, path, &door("pub fn produce(\n        &self,\n    ) -> Result<Waiting, ProduceError>"));
        accepts(path, &door("pub async fn create_topic(&self, _: &Caller, request: Request) -> Answer"));
        accepts(path, &door("pub async fn shutdown(&self)"));
        accepts(path, &door("pub fn now(&self) -> WallMs"));
        accepts(path, &door("pub(super) async fn create(&self, request: Request) -> Answer"));
    }

    #[test]
    fn a_limit_that_stands_twice() {
        let twice = |own: &str, face: &str| {
            let of = |path: &str, text: &str| (path.to_string(), text.to_string());
            !super::limits::twice(&[of("src/broker/limits.rs", own), of("src/grpc/limits.rs", face)]).is_empty()
        };
        let own = "pub const FETCH_WAIT_MAX: Duration = Duration::from_secs(60);";
        assert!(twice(own, "pub const CONSUME_WAIT_MAX: Duration = Duration::from_millis(60_000);"));
        assert!(twice(own, "pub const WAIT_MS_MAX: u32 = 60 * 1_000;"));
        assert!(!twice(own, "pub const CONSUME_WAIT_MAX: Duration = Duration::from_secs(61);"));
        assert!(!twice(own, "pub use crate::broker::FETCH_WAIT_MAX as CONSUME_WAIT_MAX;"));
        assert!(!twice(own, "pub const WAITING_MAX: usize = 60_000;"), "no time");
        assert!(!twice(own, "pub const IDLE_MAX: Duration = Duration::from_secs(60);"), "another meaning");
        assert!(twice(
            "pub const FETCH_BYTES_MAX: usize = 8 << 20;",
            "pub const CONSUME_BYTES_MAX: usize = 8 * 1024 * 1024;"
        ));
    }

    #[test]
    fn a_stranger_at_the_top_level() {
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        assert_eq!(check_top_level(&names(&["src", "Cargo.toml", "target", ".git", "LICENSE"])).len(), 0);
        assert_eq!(check_top_level(&names(&["tests", "docs", "rust-toolchain.toml", "src"])).len(), 3);
    }
}
