//! Makes up a run's directory to look at its report: `made_up_run DIR [SENDS] [MUTATION]`.
//!
//! The history is `logcheck`'s, stretched over five minutes so that it slows down where a fault is; sixteen kinds of fault
//! are laid over it. With a mutation the report has anomalies to show. Nothing of it was measured.

use std::{env, error::Error, fs, path::Path};

use flotilla_chaos::{
    report,
    run::{Recovery, Run, Span, Unavailable},
};
use logcheck::{
    generate::Plan,
    mutate::{History, Mutation},
    nemesis::{Done, Fault, Line, Nemesis},
};

const SECOND: u64 = 1_000_000_000;
const LENGTH: u64 = 300;
/// Name, how many seconds it lasts, and what share of the throughput it leaves, in percent.
const FAULTS: &[(&str, u64, u64)] = &[
    ("kill", 4, 80),
    ("pause", 8, 70),
    ("graceful-restart", 3, 85),
    ("partition-one", 9, 75),
    ("partition-halves", 7, 60),
    ("partition-majorities-ring", 6, 90),
    ("one-way-in", 8, 80),
    ("delay", 10, 55),
    ("loss", 7, 70),
    ("corrupt-frames", 5, 90),
    ("clock-jump", 0, 95),
    ("slow-fsync", 9, 65),
    ("hung-disk", 6, 75),
    ("power-loss", 5, 10),
    ("bit-flip", 6, 85),
    ("wipe", 8, 85),
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let dir = args.next().ok_or("made_up_run DIR [SENDS] [MUTATION]")?;
    let sends = args.next().map_or(Ok(200_000), |sends| sends.parse())?;
    let (dir, scratch) = (Path::new(&dir), format!("{dir}.scratch"));
    Plan { sends, keys: 12, ..Plan::default() }.write(Path::new(&scratch))?;
    let mut history = History::read(Path::new(&scratch))?;
    fs::remove_dir_all(&scratch)?;
    let (nemesis, mut run) = faults();
    stretch(&mut history, &nemesis);
    if let Some(kind) = args.next() {
        let kind = Mutation::named(&kind).ok_or("no such mutation")?;
        println!("{}", kind.apply(&mut history, 7).ok_or("nothing to mutate")?);
    }
    history.nemesis = nemesis;
    history.write(dir)?;
    run.calm = calm(&history.nemesis);
    run.write(dir)?;
    let (verdict, path) = report::check_and_write(dir)?;
    println!("{:?}: {}", verdict.verdict, path.display());
    Ok(())
}

/// One fault after another, some at once, with pauses between.
fn faults() -> (Nemesis, Run) {
    let mut random = fastrand::Rng::with_seed(3);
    let (mut nemesis, mut at) = (vec![], 6 * SECOND);
    let mut run = Run {
        seed: 1,
        command: "flotilla chaos --minutes 5 --seed 1".into(),
        version: "0.1.0 (made up)".into(),
        began_ms: 1_796_097_600_000,
        main: Span { from: 2 * SECOND, to: (2 + LENGTH) * SECOND },
        nodes: ["n1", "n2", "n3"].map(String::from).into(),
        workloads: ["W1 produce and consume", "W2 groups", "W3 idempotent retries"].map(String::from).into(),
        unavailable: vec![Unavailable {
            fault: "netns".into(),
            why: "network namespaces need root; the proxies did what they can of it".into(),
        }],
        ..Run::default()
    };
    for turn in 0.. {
        let (name, seconds, _) = FAULTS[turn % FAULTS.len()];
        if at + seconds * SECOND > (LENGTH - 8) * SECOND {
            break;
        }
        let targets = match name {
            "power-loss" => vec!["n1".into(), "n2".into(), "n3".into()],
            _ => vec![format!("n{}", random.u8(1..=3))],
        };
        let led =
            if random.u8(..3) > 0 { vec![format!("orders/{}", random.u8(..12)), "metadata".into()] } else { vec![] };
        let outcome = if turn == 20 { Done::Skipped } else { Done::Installed };
        let fault = Fault { at, fault: name.into(), targets, outcome, led };
        nemesis.push(Line::Start(fault.clone()));
        if seconds > 0 {
            nemesis.push(Line::Stop(Fault { at: at + seconds * SECOND, ..fault.clone() }));
        }
        if !fault.led.is_empty() {
            let took_ms = random.u64(40..700) + if name == "power-loss" { 4_000 } else { 0 };
            run.recoveries.push(Recovery { fault: name.into(), at, took_ms });
        }
        if name == "hung-disk" {
            let what = "exit 74: its disk failed".into();
            nemesis.push(Line::NodeFailure { at: at + SECOND, node: "n2".into(), what, expected: true });
        }
        at += seconds * SECOND / 2 + random.u64(1..5) * SECOND;
    }
    (Nemesis { lines: nemesis, torn: false }, run)
}

/// Faults of a run from beginning to end.
fn windows(nemesis: &Nemesis) -> Vec<(Span, u64)> {
    let starts = nemesis.lines.iter().filter_map(|line| match line {
        Line::Start(fault) if fault.outcome == Done::Installed => Some(fault),
        Line::Start(_) | Line::Stop(_) | Line::NodeFailure { .. } => None,
    });
    let known = |fault: &Fault| FAULTS.iter().find(|(name, ..)| *name == fault.fault).expect("one of them");
    starts
        .map(|fault| (known(fault), fault.at))
        .map(|((_, s, left), at)| (Span { from: at, to: at + s * SECOND }, *left))
        .collect()
}

/// Lays a history's moments over five minutes, so that fewer fall where a fault is.
fn stretch(history: &mut History, nemesis: &Nemesis) {
    let mut random = fastrand::Rng::with_seed(5);
    let windows = windows(nemesis);
    let speed = |second: u64| {
        let at = second * SECOND;
        windows.iter().filter(|(span, _)| span.from <= at && at < span.to).map(|(_, left)| *left).min().unwrap_or(100)
    };
    // Work done by the beginning of each second.
    let mut done = vec![0.0];
    for second in 2..2 + LENGTH {
        let before = done[done.len() - 1];
        done.push(before + speed(second) as f64 * random.u64(90..110) as f64);
    }
    let last = history.workers.iter().flatten().filter(|event| event.phase != logcheck::event::Phase::Final);
    let last = last.map(|event| event.at).max().unwrap_or(1).max(1);
    let all = done[done.len() - 1];
    for event in history.workers.iter_mut().flatten() {
        let work = event.at.min(last) as f64 / last as f64 * all;
        let second = done.partition_point(|done| *done <= work).clamp(1, done.len() - 1);
        let within = (work - done[second - 1]) / (done[second] - done[second - 1]);
        let moment = ((2 + second - 1) as f64 + within) * SECOND as f64;
        event.at = moment as u64 + event.at.saturating_sub(last);
    }
}

fn calm(nemesis: &Nemesis) -> Vec<Span> {
    let windows = windows(nemesis);
    let is_calm =
        |second: &u64| windows.iter().all(|(span, _)| (second + 1) * SECOND <= span.from || span.to <= second * SECOND);
    let seconds = (2..2 + LENGTH).filter(is_calm);
    seconds.map(|second| Span { from: second * SECOND, to: (second + 1) * SECOND }).collect()
}
