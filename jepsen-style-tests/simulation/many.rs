//! Many seeds, each in a process of its own, some at once; and what they came to together.

use std::{
    collections::BTreeMap,
    ops::Range,
    process::{ExitCode, Output},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use crate::{
    ANOMALY, DOUBTFUL,
    args::Many,
    corpus::{Reach, Report},
    report, simulate,
};

/// So many seeds come to everything that there is to come to.
const REACHES_ALL: u64 = 200;

/// Of all seeds, how many may prove little.
const VACUOUS_PERCENT_MAX: u64 = 10;

#[derive(Default)]
struct Sum {
    report: Report,
    reach: Reach,
    ran: u64,
    vacuous: BTreeMap<u64, String>,
    failed: BTreeMap<u64, String>,
}

/// Runs them all, or up to the first that fails.
pub fn run(many: &Many) -> ExitCode {
    let Many { seeds, jobs, until_found, more } = many;
    println!("\nrunning {} tests", seeds.end.saturating_sub(seeds.start));
    let (began, cpu_before) = (Instant::now(), children_cpu_s());
    let sum = run_all(seeds, *jobs, *until_found, more);
    let (took_s, cpu_s) = (began.elapsed().as_secs_f64(), children_cpu_s() - cpu_before);
    print_figures(&sum, took_s, cpu_s);
    if *until_found {
        return print_found(&sum, took_s);
    }
    let too_vacuous = sum.vacuous.len() as u64 * 100 > sum.ran * VACUOUS_PERCENT_MAX;
    let missed = if sum.ran >= REACHES_ALL { sum.reach.missed() } else { vec![] };
    let is_ok = sum.failed.is_empty() && !too_vacuous && missed.is_empty();
    for (seed, why) in &sum.vacuous {
        println!("seed {seed} proves little: {why}");
    }
    if too_vacuous {
        println!("more than {VACUOUS_PERCENT_MAX} % of the seeds prove little");
    }
    for name in &missed {
        println!("no seed reached: {name}");
    }
    let failed = (sum.failed.len() + missed.len()) as u64 + u64::from(too_vacuous);
    println!(
        "\ntest result: {}. {} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in {took_s:.2}s\n",
        if is_ok { "ok" } else { "FAILED" },
        sum.ran - sum.failed.len() as u64,
    );
    ExitCode::from(u8::from(!is_ok))
}

fn run_all(seeds: &Range<u64>, jobs: usize, until_found: bool, more: &[String]) -> Sum {
    let (next, is_over, sum) = (AtomicU64::new(seeds.start), AtomicBool::new(false), Mutex::new(Sum::default()));
    let work = || {
        while !is_over.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let args = [&["--seed".to_string(), seed.to_string()], more].concat();
            let output = simulate(&args);
            let mut sum = sum.lock().expect("no holder panics");
            sum.take(seed, &args, &output);
            if until_found && !sum.failed.is_empty() {
                is_over.store(true, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| (0..jobs.max(1)).for_each(|_| drop(scope.spawn(work))));
    sum.into_inner().expect("no holder panics")
}

impl Sum {
    fn take(&mut self, seed: u64, args: &[String], output: &Output) {
        self.ran += 1;
        let printed = String::from_utf8_lossy(&output.stdout);
        if let Some(report) = Report::read(&printed) {
            self.report.add(&report);
            self.reach.add(&report);
        }
        let first = |mark: &str| printed.lines().find_map(|line| line.strip_prefix(mark)).map(str::to_string);
        match output.status.code() {
            Some(0) => {}
            Some(code) if code == i32::from(DOUBTFUL) => {
                self.vacuous.insert(seed, first("proves little: ").unwrap_or_default());
            }
            _ => {
                println!("{}", report(args, output));
                println!("test seed_{seed} ... FAILED");
                let features = if cfg!(feature = "seeded-bugs") { "--features seeded-bugs " } else { "" };
                println!("repeat: cargo test --locked {features}--test simulation -- {} --trace", args.join(" "));
                self.failed.insert(seed, first("wrong: ").unwrap_or_else(|| output.status.to_string()));
            }
        }
    }
}

fn print_figures(sum: &Sum, took_s: f64, cpu_s: f64) {
    let (report, ran) = (&sum.report, sum.ran.max(1) as f64);
    let simulated_s = report.of("simulated ms") as f64 / 1_000.0;
    println!("faults: {}", report.faults());
    let names = [
        "acked",
        "acked as retries",
        "entries committed",
        "terms led",
        "crashes",
        "commits lost",
        "exits",
        "offset commits",
        "offset reads",
        "transfers",
        "trims",
        "topics created",
        "topics deleted",
        "faults skipped",
    ];
    let counts: Vec<String> = names.iter().map(|name| format!("{} {name}", report.of(name))).collect();
    println!("{}", counts.join(", "));
    println!("{}", sum.reach);
    println!(
        "{} seeds, {} failed, {} prove little; {simulated_s:.0} simulated s in {took_s:.0} s, {:.1} to one; {:.2} CPU s a seed",
        sum.ran,
        sum.failed.len(),
        sum.vacuous.len(),
        simulated_s / took_s.max(0.001),
        cpu_s / ran,
    );
}

fn print_found(sum: &Sum, took_s: f64) -> ExitCode {
    match sum.failed.first_key_value() {
        Some((seed, why)) => {
            println!("found by seed {seed}, after {} seeds and {took_s:.1} s: {why}", sum.ran);
            ExitCode::from(ANOMALY)
        }
        None => {
            println!("not found by {} seeds in {took_s:.1} s", sum.ran);
            ExitCode::SUCCESS
        }
    }
}

/// Of all processes that were waited for.
fn children_cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, which may hold anything: user and system time of children are the 14th and 15th of the rest.
    let rest: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| rest.get(i).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0);
    // A hundred a second, on every Linux.
    (ticks(13) + ticks(14)) / 100.0
}
