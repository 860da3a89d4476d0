//! A run over time as drawings: throughput, latency, and a lane for each fault. Pure.
//!
//! A drawing is stretched to whatever width there is, so it holds no text. Labels are placed beside it, in percent.

use super::{
    faults::{Faults, Kind, Window},
    timeline::{SECOND, Timeline},
    words,
};
use crate::run::Span;

/// The units of a drawing's own.
pub const WIDTH: f64 = 1_000.0;
pub const HEIGHT: f64 = 100.0;

/// Marks of the time axis, at most: as many as a phone has room for.
const TIME_TICKS_MAX: u64 = 6;
/// Steps of a throughput axis, at most.
const STEPS_MAX: f64 = 4.0;
/// A throughput axis ends at so many times the throughput without faults: what had to wait comes in a burst after an
/// outage, beside which everything else would be flat.
const BURST_MAX: f64 = 3.0;
/// Lanes and windows that are drawn; tables count all.
const LANES_MAX: usize = 60;
pub const WINDOWS_MAX: usize = 2_000;

/// The time that a chart spans.
#[derive(Clone, Copy, Debug)]
pub struct Axis(pub Span);

#[derive(Debug, PartialEq, Eq)]
pub struct Tick {
    /// In percent of the axis.
    pub at: String,
    pub label: String,
}

impl Axis {
    fn share(self, at: u64) -> f64 {
        let length = self.0.to.saturating_sub(self.0.from).max(1);
        at.clamp(self.0.from, self.0.to.max(self.0.from)).saturating_sub(self.0.from) as f64 / length as f64
    }

    fn x(self, at: u64) -> String {
        format!("{:.1}", self.share(at) * WIDTH)
    }

    /// Round moments from the beginning of the load.
    pub fn ticks(self) -> Vec<Tick> {
        let seconds = self.0.to.saturating_sub(self.0.from) / SECOND;
        let round = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400];
        let step = round.into_iter().find(|step| seconds / step < TIME_TICKS_MAX);
        let step = step.unwrap_or_else(|| (seconds / (TIME_TICKS_MAX - 1)).max(1));
        let moments = (0..=seconds / step).map(|n| n * step * SECOND);
        let tick = |since: u64| Tick {
            at: format!("{:.2}", self.share(self.0.from.saturating_add(since)) * 100.0),
            label: words::clock(since),
        };
        moments.map(tick).collect()
    }

    /// A moment as people read it off this axis.
    pub fn clock(self, at: u64) -> String {
        words::clock(at.saturating_sub(self.0.from))
    }
}

/// A value over time, ready for its template.
#[derive(Debug)]
pub struct Plot {
    pub title: &'static str,
    pub y_ticks: Vec<Tick>,
    pub lines: Vec<Line>,
    /// A level to hold the line against, in units of the drawing.
    pub level: Option<String>,
}

#[derive(Debug)]
pub struct Line {
    pub name: &'static str,
    /// Of a style sheet.
    pub class: &'static str,
    /// What stands behind a value.
    pub unit: &'static str,
    /// An SVG path. Bins without a value are gaps.
    pub path: String,
    /// The value of each bin, joined by `|`; empty where there is none.
    pub values: String,
}

/// How many records were acknowledged in each second; `calm`: and how many without any fault.
pub fn throughput(timeline: &Timeline, axis: Axis, calm: Option<f64>) -> Plot {
    let rates: Vec<Option<f64>> =
        whole_bins(timeline, axis).map(|(_, seconds, acknowledged)| Some(acknowledged as f64 / seconds)).collect();
    let max = rates.iter().flatten().chain(&calm).fold(1.0, |max: f64, rate| max.max(*rate));
    let max = calm.filter(|calm| *calm >= 1.0).map_or(max, |calm| max.min(calm * BURST_MAX));
    let step = nice_step(max / STEPS_MAX);
    let top = (max / step).ceil() * step;
    let y = |rate: f64| HEIGHT - (rate / top).min(1.0) * HEIGHT;
    let steps = (top / step).round() as u64;
    let y_ticks = (0..=steps).map(|n| Tick { at: format!("{:.1}", y(n as f64 * step)), label: short(n as f64 * step) });
    Plot {
        title: "Throughput, records/s",
        y_ticks: y_ticks.collect(),
        lines: vec![line(("acknowledged", "acknowledged", " records/s"), timeline, axis, &rates, y, words::rate)],
        level: calm.map(|calm| format!("{:.1}", y(calm))),
    }
}

/// How long acknowledgements took, on an axis of powers of ten.
pub fn latency(timeline: &Timeline, axis: Axis) -> Plot {
    let percentile = |percent| -> Vec<Option<f64>> {
        let bins = timeline.bins().iter().take(whole_bins(timeline, axis).count());
        bins.map(|bin| bin.latencies.percentile(percent).map(|micros| micros.max(1) as f64)).collect()
    };
    let (p50, p99) = (percentile(50), percentile(99));
    let all = || p50.iter().chain(&p99).flatten();
    let least = all().fold(f64::INFINITY, |least, value| least.min(*value)).min(1e9);
    let most = all().fold(0.0, |most: f64, value| most.max(*value));
    let first = if most > 0.0 { least.log10().floor() } else { 3.0 };
    let last = most.max(1.0).log10().ceil().max(first + 1.0);
    let y = |micros: f64| HEIGHT - (micros.log10() - first) / (last - first) * HEIGHT;
    let y_ticks = (first as i32..=last as i32).map(|power| {
        let value = 10f64.powi(power);
        Tick { at: format!("{:.1}", y(value)), label: words::micros(value as u64).replace(".00", "").replace(".0", "") }
    });
    let text = |micros: f64| words::micros(micros as u64);
    Plot {
        title: "Latency from send to acknowledgement",
        y_ticks: y_ticks.collect(),
        lines: vec![
            line(("p50", "p50", ""), timeline, axis, &p50, y, text),
            line(("p99", "p99", ""), timeline, axis, &p99, y, text),
        ],
        level: None,
    }
}

/// Beginning, length in seconds and acknowledgements of each bin. A last one that the load's end cuts short is told by
/// what is left of it, or left out if that is little.
fn whole_bins(timeline: &Timeline, axis: Axis) -> impl Iterator<Item = (u64, f64, u64)> {
    let width = timeline.width();
    let bins = timeline.bins().iter().enumerate().map(move |(n, bin)| {
        let begins = timeline.from().saturating_add((n as u64).saturating_mul(width));
        let length = axis.0.to.saturating_sub(begins).min(width);
        (begins, length, bin.acknowledged)
    });
    let told = bins.filter(move |(_, length, _)| *length > width / 2);
    told.map(|(begins, length, acknowledged)| (begins, length as f64 / SECOND as f64, acknowledged))
}

fn line(
    (name, class, unit): (&'static str, &'static str, &'static str),
    timeline: &Timeline,
    axis: Axis,
    values: &[Option<f64>],
    y: impl Fn(f64) -> f64,
    text: impl Fn(f64) -> String,
) -> Line {
    let mut path = String::new();
    let mut is_down = false;
    for ((begins, seconds, _), value) in whole_bins(timeline, axis).zip(values) {
        let Some(value) = value else {
            is_down = false;
            continue;
        };
        let middle = begins.saturating_add((seconds / 2.0 * SECOND as f64) as u64);
        let (x, y) = (axis.x(middle), y(*value));
        // A line of no length is a dot with round ends: a lone value shows.
        path.push_str(&if is_down { format!("L{x} {y:.1}") } else { format!("M{x} {y:.1}h0") });
        is_down = true;
    }
    let texts: Vec<String> = values.iter().map(|value| value.map_or(String::new(), &text)).collect();
    Line { name, class, unit, path, values: texts.join("|") }
}

/// The next 1, 2 or 5 times a power of ten.
fn nice_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * power >= least * 0.999_999);
    step.unwrap_or(10.0) * power
}

/// A round number, so short that it fits beside a chart.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        1e6.. => (value / 1e6, " M"),
        1e3.. => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let text = format!("{value:.2}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// All windows of one kind of fault.
#[derive(Debug)]
pub struct Lane {
    pub name: String,
    pub bands: Vec<Band>,
}

/// A window as it is drawn.
#[derive(Debug, PartialEq, Eq)]
pub struct Band {
    pub x: String,
    pub width: String,
    pub class: &'static str,
    /// Whether a leader of something was hit.
    pub hit: bool,
    /// What it was, to whom, and when.
    pub title: String,
    /// The first and the last bin that it touches.
    pub bins: (u64, u64),
}

/// A lane for each kind of fault that was installed, and how many windows were left out.
pub fn lanes(faults: &Faults, timeline: &Timeline, axis: Axis) -> (Vec<Lane>, usize) {
    let mut lanes: Vec<(Lane, usize)> = vec![];
    for (number, kind) in faults.kinds.iter().enumerate().filter(|(_, kind)| kind.installed + kind.indeterminate > 0) {
        lanes.push((Lane { name: words::clip(&kind.name, 60), bands: vec![] }, number));
    }
    lanes.truncate(LANES_MAX);
    let mut left_out = 0;
    for (n, window) in faults.windows.iter().enumerate() {
        let lane = lanes.iter_mut().find(|(_, number)| *number == window.kind);
        match lane {
            Some((lane, _)) if n < WINDOWS_MAX => {
                lane.bands.push(band(window, &faults.kinds[window.kind], timeline, axis));
            }
            _ => left_out += 1,
        }
    }
    (lanes.into_iter().map(|(lane, _)| lane).collect(), left_out)
}

fn band(window: &Window, kind: &Kind, timeline: &Timeline, axis: Axis) -> Band {
    let Span { from, to } = window.span;
    let list = |texts: &[String]| words::clip(&texts.join(", "), 120);
    let mut title = format!("{} {}", words::clip(&kind.name, 60), list(&window.targets));
    title.push_str(&match to > from {
        true => format!(", {} to {}", axis.clock(from), axis.clock(to)),
        false => format!(", at {}", axis.clock(from)),
    });
    if !window.led.is_empty() {
        title.push_str(&format!("; led {}", list(&window.led)));
    }
    if !window.certain {
        title.push_str("; not known whether it was done");
    }
    let bin = |at: u64| at.saturating_sub(timeline.from()) / timeline.width();
    Band {
        x: axis.x(from),
        // What was over at once shows all the same.
        width: format!("{:.1}", ((axis.share(to) - axis.share(from)) * WIDTH).max(0.5)),
        class: kind.family.class(),
        hit: !window.led.is_empty(),
        title,
        bins: (bin(from), bin(to)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logcheck::nemesis::{Done, Fault, Line as Nemesis, Nemesis as Told};

    fn axis(seconds: u64) -> Axis {
        Axis(Span { from: 0, to: seconds * SECOND })
    }

    /// A timeline of so many acknowledgements in each second, each of which took two milliseconds for each of them.
    fn timeline(counts: &[u64]) -> Timeline {
        let mut timeline = Timeline::new(Span { from: 0, to: u64::MAX });
        for (second, count) in counts.iter().enumerate() {
            let bin = timeline.at(second as u64 * SECOND).expect("inside");
            bin.acknowledged = *count;
            (0..*count).for_each(|_| bin.latencies.add(count * 2_000));
        }
        timeline
    }

    fn labels(ticks: &[Tick]) -> Vec<&str> {
        ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn time_has_round_marks_and_few() {
        assert_eq!(labels(&axis(300).ticks()), ["0:00", "1:00", "2:00", "3:00", "4:00", "5:00"]);
        assert_eq!(labels(&axis(7).ticks()), ["0:00", "0:02", "0:04", "0:06"]);
        assert_eq!(axis(300).ticks()[1].at, "20.00");
        for seconds in [0, 1, 59, 600, 3_601, 1_000_000, u64::MAX / SECOND] {
            assert!((1..=7).contains(&axis(seconds).ticks().len()), "{seconds}");
        }
    }

    #[test]
    fn a_line_lies_in_its_drawing() {
        let plot = throughput(&timeline(&[100, 50, 0, 100]), axis(4), Some(80.0));
        assert_eq!(labels(&plot.y_ticks), ["0", "50", "100"]);
        assert_eq!(plot.lines[0].path, "M125.0 0.0h0L375.0 50.0L625.0 100.0L875.0 0.0");
        assert_eq!((plot.lines[0].values.as_str(), plot.level.as_deref()), ("100|50|0.0|100", Some("20.0")));
    }

    #[test]
    fn a_burst_is_cut_off_and_still_told() {
        let plot = throughput(&timeline(&[10, 0, 900, 10]), axis(4), Some(10.0));
        assert_eq!(labels(&plot.y_ticks), ["0", "10", "20", "30"]);
        assert!(plot.lines[0].path.contains("L625.0 0.0"), "{}", plot.lines[0].path);
        assert_eq!(plot.lines[0].values, "10|0.0|900|10");
    }

    #[test]
    fn latency_goes_by_powers_of_ten_and_seconds_without_any_are_gaps() {
        let plot = latency(&timeline(&[1, 0, 10]), axis(3));
        assert_eq!(labels(&plot.y_ticks), ["1 ms", "10 ms", "100 ms"]);
        assert_eq!(plot.lines[0].path.matches('M').count(), 2, "{}", plot.lines[0].path);
        assert!(plot.lines[1].values.contains("||"), "{}", plot.lines[1].values);
        let none = latency(&timeline(&[]), axis(3));
        assert_eq!((labels(&none.y_ticks), none.lines[0].path.as_str()), (vec!["1 ms", "10 ms"], ""));
    }

    #[test]
    fn a_second_that_the_end_cuts_short_is_no_dip() {
        let cut = |end_ms: u64| {
            let axis = Axis(Span { from: 0, to: end_ms * 1_000_000 });
            throughput(&timeline(&[100, 60]), axis, None).lines.remove(0).values
        };
        assert_eq!([cut(2_000), cut(1_600), cut(1_400)], ["100|60", "100|100", "100"]);
    }

    #[test]
    fn a_lane_has_the_windows_of_its_kind_and_says_what_they_were() {
        let fault = |at: u64, fault: &str, led: &[&str]| Fault {
            at: at * SECOND,
            fault: fault.into(),
            targets: vec!["n1".into()],
            outcome: Done::Installed,
            led: led.iter().map(|led| led.to_string()).collect(),
        };
        let lines = vec![
            Nemesis::Start(fault(1, "kill", &["orders/0"])),
            Nemesis::Stop(fault(3, "kill", &[])),
            Nemesis::Start(fault(2, "restart", &[])),
        ];
        let faults = Faults::of(&Told { lines, torn: false }, &[], 4 * SECOND);
        let (lanes, left_out) = lanes(&faults, &timeline(&[1, 1, 1, 1]), axis(4));
        assert_eq!((lanes.len(), lanes[0].name.as_str(), left_out), (2, "kill", 0));
        let kill = &lanes[0].bands[0];
        assert_eq!((kill.x.as_str(), kill.width.as_str(), kill.bins, kill.hit), ("250.0", "500.0", (1, 3), true));
        assert_eq!(kill.title, "kill n1, 0:01 to 0:03; led orders/0");
        assert_eq!(lanes[1].bands[0].title, "restart n1, at 0:02");
    }

    #[test]
    fn more_than_can_be_looked_at_is_left_out_and_counted() {
        let start = |n: usize| {
            let fault = format!("kill-{:03}", n % 100);
            Nemesis::Start(Fault { at: n as u64, fault, targets: vec![], outcome: Done::Installed, led: vec![] })
        };
        let faults = Faults::of(&Told { lines: (0..5_000).map(start).collect(), torn: false }, &[], 9_000);
        let (lanes, left_out) = lanes(&faults, &timeline(&[1]), axis(1));
        assert_eq!((lanes.len(), lanes.iter().map(|lane| lane.bands.len()).sum::<usize>()), (60, 1_200));
        assert_eq!(left_out, 3_800);
    }
}
