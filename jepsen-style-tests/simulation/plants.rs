//! What finds each planted bug (`flotilla::seam::plant` says what they are), and within which budget: most are found by
//! seeds of the corpus, the others by a test that sets up what no seed draws. A budget is some four times what it took
//! when it was measured, since another schedule of the same faults is as good.

use std::{
    env,
    process::{Command, ExitCode},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use flotilla::seam::plant::Plant;

use crate::{ANOMALY, args_of, simulate};

/// At once: each is one process.
const JOBS: usize = 2;

#[derive(Clone, Copy)]
enum Finder {
    /// Seeds of the corpus from 1 on, and the first words of what it says is wrong.
    Seeds { within: u64, says: &'static str },
    /// A test of the library, and why no seed shows it.
    Test { name: &'static str, because: &'static str },
}

use Finder::{Seeds, Test};

fn finder(plant: Plant) -> Finder {
    match plant {
        Plant::AckBeforeFsync => Seeds { within: 4, says: "NotOnMajority" },
        Plant::CompletionBeforeFsync => Seeds { within: 4, says: "AckedTooEarly" },
        Plant::CommitLeavesOneOut => Seeds { within: 4, says: "NotOnMajority" },
        Plant::FailedCommitIgnored => Seeds { within: 60, says: "NotOnMajority" },
        Plant::StateBeforeLog => Test {
            name: "storage::tests::crash::every_prefix_of_the_log_of_writes_satisfies_the_chain",
            because: "a power cut must hit the moment between two commits of a disk that has entries to write",
        },
        Plant::VoteNotSynced => Seeds { within: 8, says: "VoteForgotten" },
        Plant::VoteBeforeSave => Test {
            name: "storage::tests::crash::what_was_completed_survives_a_crash_at_any_moment",
            because: "a power cut must hit the milliseconds in which a vote is written",
        },
        Plant::TruncationKeepsTail => Test {
            name: "storage::tests::crash::what_was_completed_survives_a_crash_at_any_moment",
            because: "what comes back is an uncommitted tail, which the next leader cuts off again",
        },
        Plant::CheckpointBeforeState => Test {
            name: "storage::tests::rules::a_checkpoint_carries_the_applied_state_with_it",
            because: "a power cut must hit the moment between two commits",
        },
        Plant::FloorNotChecked => Test {
            name: "storage::tests::damage::damage_to_fsynced_writes_in_the_live_log_is_always_found_at_open",
            because: "the simulated disk loses nothing that was fsynced",
        },
        Plant::SetBackUnnoticed => Test {
            name: "broker::tests::restored::p17_3_a_hot_copy_of_a_follower_is_refused_for_its_commits",
            because: "no seed puts an older copy of a disk back",
        },
        Plant::DifferingListsAccepted => Test {
            name: "broker::cluster::forming::tests::b6_another_list_founds_nothing",
            because: "all brokers of a seed are started with one list",
        },
        Plant::ReadyWhenElected => Seeds { within: 4, says: "ReadyTooEarly" },
        Plant::ReadByOldAnswer => Test {
            name: "raft::tests::reads::m17_answers_from_before_a_read_do_not_confirm_it",
            because: "an answer that is older than the read must come in the moment between a vote and its news",
        },
        Plant::LeaseNotChecked => Test {
            name: "broker::tests::cluster::m7_a_broker_without_a_majority_says_so_everywhere",
            because: "nobody is told anything wrong, only nothing for too long",
        },
        Plant::UncommittedReads => Seeds { within: 4, says: "WentBack" },
        Plant::DuplicateAckedAtZero => Seeds { within: 8, says: "Moved" },
        Plant::DeadEntryApplied => Test {
            name: "partition::tests::properties::no_refusal_or_leader_change_appends_a_batch_twice",
            because: "a proposal must be refused while those behind it are taken; ten seeds do not show it",
        },
        Plant::BlankTakesAnOffset => Seeds { within: 4, says: "partition" },
        Plant::ProducersNotSaved => Seeds { within: 4, says: "StatesDiffer" },
        Plant::SequenceNotChecked => Seeds { within: 8, says: "Twice" },
        Plant::LogStartNotSaved => Seeds { within: 4, says: "StatesDiffer" },
        Plant::PurgesWhatIsKept => Seeds { within: 4, says: "partition" },
        Plant::ClockOfTheReplica => Seeds { within: 4, says: "StatesDiffer" },
        Plant::CommitAckedEarly => Seeds { within: 16, says: "Lost" },
        Plant::CommitOfOldEpoch => Test {
            name: "group::tests::properties::partitions_have_one_reader",
            because: "a member of a seed commits at its present epoch, and its commits do not overtake each other",
        },
        Plant::OffsetsUnconfirmed => Seeds { within: 16, says: "Lost" },
        Plant::StaleCoordinator => Test {
            name: "broker::tests::groups::failover::m9_a_deposed_coordinator_hands_out_nothing_old",
            because: "nothing in a seed knows what a member should have been told",
        },
        Plant::ProducerIdsTwice => Test {
            name: "metadata::tests::properties::ids_are_never_reused_and_initial_never_changes",
            because: "producers of a seed have ids of their own",
        },
    }
}

/// Those that the first seed finds within seconds, of three kinds: the disk, what is saved of a partition, its readers.
const CHEAP: [Plant; 3] = [Plant::AckBeforeFsync, Plant::ProducersNotSaved, Plant::UncommittedReads];

/// What `--plants` prints.
pub fn print_table() -> ExitCode {
    for &plant in Plant::ALL {
        println!("{}: {} ({})", plant.name(), plant.wrong(), plant.rule());
        match finder(plant) {
            Seeds { within, says } => println!("    found by seeds 1 to {within} of the corpus: {says}"),
            Test { name, because } => println!("    found by the test {name}; not by seeds: {because}"),
        }
    }
    ExitCode::SUCCESS
}

pub fn three_are_found() {
    all_found(&CHEAP);
}

pub fn all_are_found() {
    all_found(Plant::ALL);
}

fn all_found(plants: &[Plant]) {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut rows = vec![];
        while let Some(&plant) = plants.get(next.fetch_add(1, Ordering::Relaxed)) {
            let began = Instant::now();
            let found = match finder(plant) {
                Seeds { within, says } => by_seeds(plant, within, says),
                Test { name, .. } => by_test(plant, name),
            };
            let took_s = began.elapsed().as_secs_f64();
            match &found {
                Ok(by) => println!("{}: found in {took_s:.1} s by {by}", plant.name()),
                Err(why) => println!("{}: NOT found in {took_s:.1} s: {why}", plant.name()),
            }
            rows.push((plant, found, took_s));
        }
        rows
    };
    let rows: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..JOBS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("it does not panic")).collect()
    });
    print_found(&rows);
    let missed = rows.iter().filter(|(_, found, _)| found.is_err()).map(|(plant, ..)| plant.name());
    let missed: Vec<&str> = missed.collect();
    assert!(missed.is_empty(), "not found within their budgets: {missed:?}");
}

/// As a table for README.md: what each took of what it may take.
fn print_found(rows: &[(Plant, Result<String, String>, f64)]) {
    println!("\n| Bug | Found by | Seconds | Budget |\n|---|---|---|---|");
    for (plant, found, took_s) in rows {
        let budget = match finder(*plant) {
            Seeds { within, .. } => format!("{within} seeds"),
            Test { .. } => "one test".to_string(),
        };
        // What the finding says is above; here only who found it.
        let by = match found {
            Ok(by) => by.split_once(": ").map_or(by.as_str(), |(by, _)| by),
            Err(_) => "nobody",
        };
        println!("| `{}` | {by} | {took_s:.1} | {budget} |", plant.name());
    }
}

/// Whatever the first seed says that finds something; other words than before are a hint and no failure.
fn by_seeds(plant: Plant, within: u64, says: &str) -> Result<String, String> {
    for seed in 1..=within {
        let output = simulate(&args_of(seed, &["--plant", plant.name()]));
        if output.status.code() != Some(i32::from(ANOMALY)) {
            continue;
        }
        let printed = String::from_utf8_lossy(&output.stdout);
        let wrong = printed.lines().find_map(|line| line.strip_prefix("wrong: ")).unwrap_or_default();
        let shown: String = wrong.chars().take(150).collect();
        let usual = if wrong.starts_with(says) { "" } else { " (most often it says otherwise)" };
        return Ok(format!("seed {seed}: {shown}{usual}"));
    }
    Err(format!("seeds 1 to {within} saw nothing wrong"))
}

/// Cargo has built that test already, with the same features.
fn by_test(plant: Plant, name: &str) -> Result<String, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let args =
        ["test", "--locked", "--package", "flotilla", "--lib", "--features", "seeded-bugs", "--", "--exact", name];
    let output = Command::new(cargo).args(args).env(flotilla::seam::plant::VARIABLE, plant.name()).output();
    let output = output.map_err(|error| format!("cargo does not run: {error}"))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    match printed.contains(&format!("test {name} ... FAILED")) {
        true => Ok(format!("the test {name}")),
        false => Err(format!("the test {name} did not fail: {printed}{}", String::from_utf8_lossy(&output.stderr))),
    }
}
