//! What a history comes to in time: one pass over the files, with memory for bins and for operations that are open.

use std::{collections::HashMap, path::Path};

use logcheck::{
    event::{Body, Event, Outcome, Phase},
    files::{self, BadFile, Events},
};

use super::{
    latencies::Latencies,
    timeline::{SECOND, Timeline},
};
use crate::run::Span;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// When the cluster was under load.
    pub main: Span,
    pub calm: Vec<Span>,
    pub one_node: Vec<Span>,
}

/// Acknowledgements in some stretches of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Share {
    /// In order of time, and apart from each other.
    spans: Vec<Span>,
    pub acknowledged: u64,
}

impl Share {
    fn of(spans: &[Span]) -> Share {
        let mut spans: Vec<Span> = spans.iter().copied().filter(|span| span.from < span.to).collect();
        spans.sort_by_key(|span| span.from);
        Share { spans, acknowledged: 0 }
    }

    fn see(&mut self, at: u64) {
        let next = self.spans.partition_point(|span| span.from <= at);
        self.acknowledged += u64::from(next > 0 && at < self.spans[next - 1].to);
    }

    pub fn seconds(&self) -> f64 {
        self.spans.iter().map(|span| span.to - span.from).sum::<u64>() as f64 / SECOND as f64
    }

    /// None if there was no such stretch.
    pub fn per_second(&self) -> Option<f64> {
        let seconds = self.seconds();
        (seconds > 0.0).then(|| self.acknowledged as f64 / seconds)
    }
}

#[derive(Clone, Debug)]
pub struct Measured {
    pub timeline: Timeline,
    pub calm: Share,
    pub one_node: Share,
    /// Of all acknowledgements in the main phase.
    pub latencies: Latencies,
}

/// Reads every file of the history once.
pub fn measure(dir: &Path, plan: &Plan) -> Result<Measured, BadFile> {
    let mut measured = Measured {
        timeline: Timeline::new(plan.main),
        calm: Share::of(&plan.calm),
        one_node: Share::of(&plan.one_node),
        latencies: Latencies::default(),
    };
    for path in files::list(dir)? {
        let mut events = Events::open(&path)?;
        let mut sends = HashMap::new();
        while let Some(event) = events.next_event()? {
            measured.see(&event, &mut sends);
        }
    }
    Ok(measured)
}

impl Measured {
    /// `sends`: when each send of the file at hand began that has not ended.
    fn see(&mut self, event: &Event, sends: &mut HashMap<u64, u64>) {
        match &event.body {
            Body::Send(_) => drop(sends.insert(event.op, event.at)),
            Body::Sent(sent) => {
                let began = sends.remove(&event.op);
                if sent.outcome == Outcome::Ok {
                    self.acknowledged(event.at, began);
                }
            }
            // What is read after the load has ended is no throughput.
            Body::Polled(polled) if event.phase != Phase::Final => {
                if let Some(bin) = self.timeline.at(event.at) {
                    bin.read += polled.runs.iter().map(|run| run.records.len() as u64).sum::<u64>();
                }
            }
            _ => {}
        }
    }

    fn acknowledged(&mut self, at: u64, began: Option<u64>) {
        let Some(bin) = self.timeline.at(at) else { return };
        bin.acknowledged += 1;
        if let Some(took) = began.and_then(|began| at.checked_sub(began)) {
            bin.latencies.add(took / 1_000);
            self.latencies.add(took / 1_000);
        }
        self.calm.see(at);
        self.one_node.see(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logcheck::event::{Polled, Record, Run, Send, Sent};

    fn event(at_ms: u64, op: u64, phase: Phase, body: Body) -> Event {
        Event { at: at_ms * 1_000_000, process: 1, op, phase, body }
    }

    fn send() -> Body {
        Body::Send(Send { key: 0, value: 1, acks: -1, producer: None, batch: None })
    }

    fn sent(outcome: Outcome) -> Body {
        Body::Sent(Sent { outcome, ..Sent::default() })
    }

    fn polled(records: usize) -> Body {
        let records = (0..records).map(|n| Record { offset: n as i64, value: n as u64 }).collect();
        Body::Polled(Polled { runs: vec![Run { records, ..Run::default() }], ..Polled::default() })
    }

    fn seconds(from: u64, to: u64) -> Span {
        Span { from: from * SECOND, to: to * SECOND }
    }

    #[test]
    fn acknowledgements_are_counted_where_they_come_and_with_how_long_they_took() {
        let mut measured = Measured {
            timeline: Timeline::new(seconds(1, 10)),
            calm: Share::of(&[seconds(5, 6), seconds(1, 2), seconds(7, 7)]),
            one_node: Share::of(&[seconds(2, 5)]),
            latencies: Latencies::default(),
        };
        let mut sends = HashMap::new();
        for (at_ms, op, phase, body) in [
            (500, 1, Phase::Warm, send()),
            (900, 1, Phase::Warm, sent(Outcome::Ok)),
            (1_000, 2, Phase::Main, send()),
            (1_030, 2, Phase::Main, sent(Outcome::Ok)),
            (1_100, 3, Phase::Main, send()),
            (2_000, 3, Phase::Main, sent(Outcome::Ok)),
            (2_100, 4, Phase::Main, send()),
            (2_200, 4, Phase::Main, sent(Outcome::Info)),
            (2_300, 5, Phase::Main, send()),
            (2_400, 9, Phase::Main, polled(7)),
            (2_500, 9, Phase::Final, polled(1_000)),
        ] {
            measured.see(&event(at_ms, op, phase, body), &mut sends);
        }
        let bins = measured.timeline.bins();
        assert_eq!([bins[0].acknowledged, bins[1].acknowledged, bins[1].read], [1, 1, 7]);
        assert!(bins[0].latencies.percentile(50).is_some_and(|p50| p50.abs_diff(30_000) < 1_000));
        assert!(measured.latencies.percentile(99).is_some_and(|p99| p99.abs_diff(900_000) < 30_000));
        assert_eq!((measured.calm.acknowledged, measured.calm.seconds()), (1, 2.0));
        assert_eq!((measured.one_node.acknowledged, measured.one_node.per_second()), (1, Some(1.0 / 3.0)));
        assert_eq!(sends.len(), 1, "only what is open is kept");
        assert_eq!(Share::of(&[]).per_second(), None);
    }
}
