//! Whether everything that clients do went on while a majority was left alone.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard},
};

use logcheck::{
    event::{AdminResult, Body, Outcome},
    report::{Guard, Report, Verdict},
};

use crate::{nemesis::Stretch, progress::grouped, run::Span, schedule::SETTLE_MS, workload::Workload};

/// Of what clients do something must end well at least so often, in milliseconds, while a majority is left alone. Nearly twice as
/// long as the longest silence of many runs on two busy cores: 11.7 s, of librdkafka's consumers, which wait for a paused
/// coordinator until their sockets time out, and then for the session of a member that is gone.
pub const SILENCE_MAX_MS: u64 = 20_000;
const NS_PER_MS: u64 = 1_000_000;
/// Of what ends well within so short a time, one is remembered.
const FINEST_NS: u64 = 50 * NS_PER_MS;

/// What may end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    Sends,
    /// Of records: an answer without any shows nothing.
    Reads,
    Commits,
    Offsets,
    Topics,
}

impl Deed {
    /// Of which kind it is, if it ended well. What a broker tells from memory shows nothing.
    fn of(body: &Body) -> Option<Deed> {
        match body {
            Body::Sent(sent) if sent.outcome == Outcome::Ok => Some(Deed::Sends),
            Body::Polled(polled) if polled.runs.iter().any(|run| !run.records.is_empty()) => Some(Deed::Reads),
            Body::Committed { outcome: Outcome::Ok, .. } => Some(Deed::Commits),
            Body::Listed { outcome: Outcome::Ok, .. } => Some(Deed::Offsets),
            Body::Administered {
                result: AdminResult::Done | AdminResult::AlreadyExists | AdminResult::NotFound,
                ..
            } => Some(Deed::Topics),
            _ => None,
        }
    }

    fn all_of(workload: Workload) -> &'static [Deed] {
        match workload {
            Workload::Records | Workload::KafkaRecords => &[Deed::Sends, Deed::Reads],
            Workload::Group | Workload::KafkaGroup => &[Deed::Reads, Deed::Commits],
            Workload::Offsets => &[Deed::Offsets],
            Workload::Topics => &[Deed::Topics],
            Workload::Retention => &[Deed::Sends, Deed::Reads, Deed::Offsets],
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Deed::Sends => "sends",
            Deed::Reads => "reads",
            Deed::Commits => "commits",
            Deed::Offsets => "offsets asked for",
            Deed::Topics => "changes of topics",
        })
    }
}

/// When something ended well, by the recorder's clock.
#[derive(Debug, Default)]
pub struct Progress(Mutex<BTreeMap<(Workload, Deed), Vec<u64>>>);

impl Progress {
    fn times(&self) -> MutexGuard<'_, BTreeMap<(Workload, Deed), Vec<u64>>> {
        self.0.lock().expect("nobody panics while counting")
    }

    /// Something ended, well or not.
    pub fn ended(&self, workload: Workload, body: &Body, at: u64) {
        let Some(deed) = Deed::of(body) else { return };
        let mut times = self.times();
        let times = times.entry((workload, deed)).or_default();
        if times.last().is_none_or(|last| at >= last + FINEST_NS) {
            times.push(at);
        }
    }

    /// How long nothing of a kind ended well within any one of these spans, at most.
    fn silence(&self, workload: Workload, deed: Deed, spans: &[Span]) -> u64 {
        let times = self.times();
        let times = times.get(&(workload, deed)).map_or(&[][..], Vec::as_slice);
        let within = |span: &Span| {
            let begins = times.partition_point(|at| *at < span.from);
            let ends = times.partition_point(|at| *at < span.to);
            let mut last = span.from;
            let silences =
                times[begins..ends].iter().copied().chain([span.to]).map(|at| at - std::mem::replace(&mut last, at));
            silences.max().unwrap_or(0)
        };
        spans.iter().map(within).max().unwrap_or(0)
    }

    /// What never ended well, in the whole run.
    pub fn never(&self, workloads: &[Workload]) -> Vec<String> {
        let times = self.times();
        let all =
            workloads.iter().flat_map(|workload| Deed::all_of(*workload).iter().map(move |deed| (*workload, *deed)));
        all.filter(|kind| !times.contains_key(kind)).map(|(workload, deed)| format!("{workload} {deed}")).collect()
    }

    /// The longest silence of each kind, in milliseconds, while a majority was left alone, and until the cluster had settled.
    pub fn silences(&self, workloads: &[Workload], stretches: &[Stretch]) -> BTreeMap<String, u64> {
        let spared = stretches.iter().filter(|stretch| stretch.spares_majority());
        let spans: Vec<Span> =
            spared.map(|stretch| Span { from: stretch.from, to: stretch.to + SETTLE_MS * NS_PER_MS }).collect();
        if spans.is_empty() {
            return BTreeMap::new();
        }
        let all =
            workloads.iter().flat_map(|workload| Deed::all_of(*workload).iter().map(move |deed| (*workload, *deed)));
        all.map(|(workload, deed)| (format!("{workload} {deed}"), self.silence(workload, deed, &spans) / NS_PER_MS))
            .collect()
    }
}

/// The checker's report, which also says whether everything went on.
pub fn with_progress(report: Report, silences: &BTreeMap<String, u64>, never: &[String]) -> Report {
    let Report { summary, mut guards, rules, .. } = report;
    let fails = never.iter().map(|what| format!("{what}: nothing ended well in the whole run")).collect();
    guards.push(Guard { name: "all workloads did something", fails, verdict: Verdict::Unknown });
    let long = silences.iter().filter(|(_, ms)| **ms > SILENCE_MAX_MS);
    let fails = long
        .map(|(what, ms)| {
            let (ms, most) = (grouped(*ms), grouped(SILENCE_MAX_MS));
            format!("{what}: nothing ended well for {ms} ms while a majority was left alone; {most} are allowed")
        })
        .collect();
    guards.push(Guard {
        name: "all workloads went on while a majority was left alone",
        fails,
        verdict: Verdict::Unknown,
    });
    Report::new(summary, guards, rules)
}

#[cfg(test)]
mod tests {
    use logcheck::{
        event::{Polled, Record, Run, Sent},
        nemesis::Done,
        report::{Sheet, Summary},
    };

    use super::*;
    use crate::{fault::Fault, nemesis::Window};

    const MS: u64 = NS_PER_MS;

    fn sent(outcome: Outcome) -> Body {
        Body::Sent(Sent { outcome, ..Sent::default() })
    }

    fn stretch(fault: Fault, from_ms: u64, to_ms: u64) -> Stretch {
        let (from, to) = (from_ms * MS, to_ms * MS);
        let window = Window { fault, from, to, partitions: vec![], has_led: true, outcome: Done::Installed };
        Stretch { from, to, windows: vec![window] }
    }

    fn silence_of_sends(progress: &Progress, stretches: &[Stretch]) -> u64 {
        progress.silences(&[Workload::Records], stretches)["w1 sends"]
    }

    #[test]
    fn silence_counts_while_a_majority_is_left_alone_and_until_it_has_settled() {
        let progress = Progress::default();
        let ok = |ms: u64| progress.ended(Workload::Records, &sent(Outcome::Ok), ms * MS);
        (0..2_000).step_by(100).for_each(ok);
        assert_eq!(silence_of_sends(&progress, &[stretch(Fault::Kill, 500, 1_000)]), 2_100);
        (6_000..9_000).step_by(100).for_each(ok);
        assert_eq!(silence_of_sends(&progress, &[stretch(Fault::Kill, 500, 6_000)]), 4_100);
        assert_eq!(silence_of_sends(&progress, &[stretch(Fault::Kill, 3_000, 6_000)]), 3_000, "not what was before");
        let all = [stretch(Fault::Kill, 500, 6_000), stretch(Fault::KillAll, 9_000, 99_000)];
        assert_eq!(silence_of_sends(&progress, &all), 4_100, "nobody could have gone on");
        assert!(progress.silences(&[Workload::Records], &all[1..]).is_empty());
    }

    #[test]
    fn what_ends_badly_or_shows_nothing_is_no_progress() {
        let progress = Progress::default();
        let kill = [stretch(Fault::Kill, 0, 10_000)];
        let empty = Body::Polled(Polled { runs: vec![Run::default()], ..Polled::default() });
        for body in [sent(Outcome::Fail), sent(Outcome::Info), empty] {
            progress.ended(Workload::Records, &body, 5_000 * MS);
        }
        assert_eq!(silence_of_sends(&progress, &kill), 13_000);
        let records = vec![Record { offset: 1, value: 2 }];
        let read = Body::Polled(Polled { runs: vec![Run { records, ..Run::default() }], ..Polled::default() });
        progress.ended(Workload::Records, &read, 5_000 * MS);
        assert_eq!(progress.silences(&[Workload::Records], &kill)["w1 reads"], 8_000);
        assert_eq!(silence_of_sends(&progress, &kill), 13_000, "reads are no sends");
    }

    #[test]
    fn a_workload_that_never_did_anything_leaves_the_verdict_open() {
        let progress = Progress::default();
        progress.ended(Workload::Records, &sent(Outcome::Ok), MS);
        assert_eq!(progress.never(&[Workload::Records, Workload::Offsets]), ["w1 reads", "w4 offsets asked for"]);
        let report = Report::new(Summary::default(), vec![], Sheet::default().results());
        let never = progress.never(&[Workload::Offsets]);
        assert_eq!(with_progress(report, &BTreeMap::new(), &never).verdict, Verdict::Unknown);
    }

    #[test]
    fn a_workload_that_stood_still_leaves_the_verdict_open() {
        let of = |ms| {
            let silences = BTreeMap::from([("w2 reads".to_string(), ms)]);
            with_progress(Report::new(Summary::default(), vec![], Sheet::default().results()), &silences, &[])
        };
        assert_eq!(of(SILENCE_MAX_MS).verdict, Verdict::Valid);
        let stood = of(SILENCE_MAX_MS + 1);
        assert_eq!(stood.verdict, Verdict::Unknown);
        assert!(stood.guards[1].fails[0].contains("w2 reads"), "{:?}", stood.guards[1].fails);
    }
}
