//! What people type in their first hour, as transcripts: the command, its exit code (`? 2`; 0 is not written), and what
//! it says on both streams, one file a topic.
//!
//! To add a case, write its `$ command` into a file's `console` block, run this test with `TRYCMD=overwrite`, and read
//! what it wrote. `[..]` stands for anything within a line, `...` for any lines; an output that ends with a line feed
//! is followed by a blank line. Pipes need `$ sh -c "..."`. `trycmd=NAME` behind `--` runs the files of that name.
//!
//! `alone` has no cluster, and knows of none. The files of `cluster` run beside each other against one cluster of three
//! nodes, so that each has topics of its own. `readme` starts a cluster itself, kills a node and stops it.
//!
//! `trycmd` writes a backslash of an output as `/`, as it does with paths.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use jepsen_style_tests::cluster::{Cli, Cluster, TestDir, binary, root};

/// All of them together: a first hour, not a minute.
const CASES_MIN: usize = 80;

/// Longer than any of them takes on a loaded machine.
const COMMAND_MAX: Duration = Duration::from_secs(60);

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(name)
}

fn files(name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory(name)).expect("the directory of the transcripts");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a directory entry").path()).collect();
    files.sort();
    files
}

/// The commands of a transcript.
fn commands(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_string).collect()
}

/// Runs the transcripts of a directory, with everything that the commands keep below `cli`'s home.
fn run(name: &str, cli: &Cli, scratch: &Path) {
    assert!(std::env::var_os("FLOTILLA_BROKERS").is_none(), "the commands would talk to another cluster");
    let cases = trycmd::TestCases::new();
    let bin = binary().canonicalize().expect("the binary under test");
    let beside = bin.parent().expect("a file has a directory").display().to_string();
    cases.env("PATH", format!("{beside}:/usr/local/bin:/usr/bin:/bin"));
    cases.env("SCRATCH", scratch.display().to_string());
    for (key, value) in cli.environment() {
        cases.env(key, value.display().to_string());
    }
    cases.register_bin("flotilla", trycmd::schema::Bin::Path(bin));
    cases.register_bin("sh", trycmd::schema::Bin::Path("/bin/bash".into()));
    cases.insert_var("[SCRATCH]", scratch.display().to_string()).expect("a name of a variable");
    cases.timeout(COMMAND_MAX);
    cases.case(directory(name).join("*.trycmd"));
    cases.run();
}

#[test]
fn without_a_cluster() {
    let dir = TestDir::new("transcripts-alone");
    run("alone", &Cli::new(dir.path()), dir.path());
}

#[test]
fn with_a_cluster() {
    let cluster = Cluster::start("transcripts", 3);
    run("cluster", &cluster.cli, cluster.dir());
    cluster.finish();
}

#[test]
fn the_readme() {
    let dir = TestDir::new("transcripts-readme");
    run("readme", &Cli::new(dir.path()), dir.path());
}

/// A command whose program nobody knows is left out in silence.
#[test]
fn every_case_runs_a_program_that_is_there() {
    let all: Vec<String> =
        ["alone", "cluster", "readme"].iter().flat_map(|name| files(name)).flat_map(|file| commands(&file)).collect();
    for command in &all {
        let program = command.split(' ').find(|word| !word.contains('=')).unwrap_or_default();
        assert!(["flotilla", "sh"].contains(&program), "{command}");
    }
    assert!(all.len() >= CASES_MIN, "{} cases", all.len());
    println!("  {} cases", all.len());
}

/// What a reader of the README types is run, word by word.
#[test]
fn every_command_of_the_readme_is_in_a_transcript() {
    let transcripts: Vec<String> = ["cluster", "readme"]
        .iter()
        .flat_map(|name| files(name))
        .map(|file| fs::read_to_string(file).expect("a transcript"))
        .collect();
    let readme = fs::read_to_string(root().join("README.md")).expect("the README");
    let typed = readme.lines().filter_map(|line| line.strip_prefix("$ ")).filter(|line| line.contains("flotilla "));
    for line in typed.flat_map(|line| line.split(" && ")) {
        let command = line.split("  #").next().unwrap_or_default().trim();
        // `flotilla chaos` takes minutes and a program that is built apart; `alone/chaos` has how it is found.
        let is_other = ["cargo ", "export ", "flotilla chaos"].iter().any(|start| command.starts_with(start))
            || command.contains("--config n1.toml");
        let is_run = transcripts.iter().any(|transcript| transcript.contains(command));
        assert!(is_other || is_run, "the README's `{command}` is in no transcript");
    }
}
