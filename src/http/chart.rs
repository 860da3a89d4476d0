//! Line charts of a node's last minutes as SVG, drawn here so that they need no script. Pure.
//!
//! A drawing is about as wide as a phone, and the page sets as many side by side as fit: so the text in
//! it is readable everywhere. Axes carry their units; what a point says is in the data of its line,
//! where the script that follows the pointer finds it.

use super::units;
use crate::metrics::{SAMPLE_EVERY, SAMPLES_MAX, Sample};

/// The drawing, in its own units: about CSS pixels.
pub const WIDTH: f64 = 400.0;
pub const HEIGHT: f64 = 190.0;
/// The plot inside it.
pub const LEFT: f64 = 46.0;
pub const RIGHT: f64 = 390.0;
pub const TOP: f64 = 24.0;
pub const BOTTOM: f64 = 162.0;

/// Steps of the vertical axis, at most.
const STEPS_MAX: f64 = 4.0;

/// What a chart's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    BytesPerSecond,
    RecordsPerSecond,
    Seconds,
}

impl Quantity {
    /// The unit in which an axis up to `max` is labelled, and how many base units it is.
    fn axis_unit(self, max: f64) -> (&'static str, f64) {
        let units: &[(&str, f64)] = match self {
            Quantity::BytesPerSecond => {
                &[("B/s", 1.0), ("KiB/s", 1_024.0), ("MiB/s", 1_048_576.0), ("GiB/s", 1_073_741_824.0)]
            }
            Quantity::RecordsPerSecond => {
                &[("records/s", 1.0), ("thousand records/s", 1e3), ("million records/s", 1e6)]
            }
            Quantity::Seconds => &[("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)],
        };
        let fitting = units.iter().rev().find(|(_, size)| max >= *size);
        *fitting.unwrap_or(&units[0])
    }

    /// An axis ends here if there is nothing to show.
    fn least(self) -> f64 {
        match self {
            Quantity::BytesPerSecond => 1_024.0,
            Quantity::RecordsPerSecond => 1.0,
            Quantity::Seconds => 1e-3,
        }
    }

    /// One value with its unit.
    pub fn text(self, value: f64) -> String {
        match self {
            Quantity::BytesPerSecond => format!("{}/s", units::bytes(value as u64)),
            Quantity::RecordsPerSecond if value > 0.0 && value < 10.0 => format!("{value:.1} records/s"),
            Quantity::RecordsPerSecond => format!("{} records/s", units::count(value as i64)),
            Quantity::Seconds => {
                let (unit, size) = self.axis_unit(value);
                format!("{:.*} {unit}", if value / size < 10.0 { 2 } else { 1 }, value / size)
            }
        }
    }
}

/// One line, before it is drawn.
pub struct Series {
    pub name: &'static str,
    pub value: fn(&Sample) -> Option<f64>,
}

/// A chart, ready for its template.
pub struct Chart {
    pub title: &'static str,
    /// What it is, for those who do not see it.
    pub summary: String,
    pub axis_unit: &'static str,
    pub y_ticks: Vec<Tick>,
    pub x_ticks: Vec<Tick>,
    pub lines: Vec<Line>,
    /// Time of day of every sample, UTC, joined by `|`.
    pub times: String,
}

pub struct Tick {
    pub at: String,
    pub label: String,
}

pub struct Line {
    pub name: &'static str,
    /// An SVG path. Moments without a value are gaps.
    pub path: String,
    /// The newest value with its unit.
    pub now: String,
    /// Each value with its unit, joined by `|`; empty where there is none.
    pub values: String,
}

impl Chart {
    pub fn new(title: &'static str, quantity: Quantity, series: &[Series], samples: &[Sample]) -> Chart {
        let values: Vec<Vec<Option<f64>>> = series
            .iter()
            .map(|series| samples.iter().map(|sample| (series.value)(sample).filter(|v| v.is_finite())).collect())
            .collect();
        let max = values.iter().flatten().flatten().fold(quantity.least(), |max, value| max.max(*value));
        let (axis_unit, unit_size) = quantity.axis_unit(max);
        let step = nice_step(max / unit_size / STEPS_MAX);
        let steps = (max / unit_size / step).ceil().max(1.0);
        let top = steps * step;
        let y = |value: f64| BOTTOM - (value / unit_size / top) * (BOTTOM - TOP);
        let y_ticks = (0..=steps as usize).map(|i| {
            let value = i as f64 * step;
            Tick { at: format!("{:.1}", y(value * unit_size)), label: tick_label(value) }
        });
        let lines: Vec<Line> =
            series.iter().zip(&values).map(|(series, values)| line(series, values, quantity, y)).collect();
        let now: Vec<String> = lines.iter().map(|line| format!("{} {}", line.name, line.now)).collect();
        Chart {
            title,
            summary: format!("{title} over the last 15 minutes; now: {}", now.join(", ")),
            axis_unit,
            y_ticks: y_ticks.collect(),
            x_ticks: x_ticks(),
            lines,
            times: samples.iter().map(|sample| units::time_of_day(sample.at)).collect::<Vec<_>>().join("|"),
        }
    }
}

fn line(series: &Series, values: &[Option<f64>], quantity: Quantity, y: impl Fn(f64) -> f64) -> Line {
    let text = |value: &Option<f64>| value.map_or(String::new(), |value| quantity.text(value));
    let mut path = String::new();
    let mut is_down = false;
    for (i, value) in values.iter().enumerate() {
        let Some(value) = value else {
            is_down = false;
            continue;
        };
        let (x, y) = (x(values.len() - 1 - i), y(*value));
        // A line of no length is a dot with round ends: a lone value shows.
        path.push_str(&if is_down { format!("L{x:.1} {y:.1}") } else { format!("M{x:.1} {y:.1}h0") });
        is_down = true;
    }
    Line {
        name: series.name,
        path,
        now: values.last().and_then(|value| *value).map_or("none".into(), |value| quantity.text(value)),
        values: values.iter().map(text).collect::<Vec<_>>().join("|"),
    }
}

/// Where the sample lies that is so many before the newest. By number, not by clock: clocks jump.
fn x(age: usize) -> f64 {
    RIGHT - age as f64 / SAMPLES_MAX as f64 * (RIGHT - LEFT)
}

fn x_ticks() -> Vec<Tick> {
    let per_minute = 60 / SAMPLE_EVERY.as_secs() as usize;
    let tick = |minutes: usize| Tick {
        at: format!("{:.1}", x(minutes * per_minute)),
        label: if minutes == 0 { "now".into() } else { format!("−{minutes} min") },
    };
    [15, 10, 5, 0].map(tick).into()
}

/// The next 1, 2 or 5 times a power of ten.
fn nice_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * power >= least * 0.999_999);
    step.unwrap_or(10.0) * power
}

fn tick_label(value: f64) -> String {
    // Steps are round in one digit; this takes away what floating point adds.
    let rounded = format!("{value:.6}");
    let text = rounded.trim_end_matches('0').trim_end_matches('.');
    if text.is_empty() { "0".into() } else { text.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::WallMs;

    fn sample(at: i64, bytes: f64, p99: Option<f64>) -> Sample {
        Sample {
            at: WallMs(at),
            produced_bytes_per_s: bytes,
            produced_records_per_s: 0.0,
            consumed_bytes_per_s: 0.0,
            consumed_records_per_s: 0.0,
            produce_p99_s: p99,
            write_p50_s: None,
            write_p99_s: None,
        }
    }

    fn bytes(samples: &[Sample]) -> Chart {
        let series = [Series { name: "produced", value: |sample| Some(sample.produced_bytes_per_s) }];
        Chart::new("Throughput", Quantity::BytesPerSecond, &series, samples)
    }

    fn labels(chart: &Chart) -> Vec<&str> {
        chart.y_ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn the_axis_has_round_steps_in_a_unit_that_fits() {
        let cases = [
            (0.0, "KiB/s", vec!["0", "0.5", "1"]),
            (900.0, "KiB/s", vec!["0", "0.5", "1"]),
            (3.0 * 1_048_576.0, "MiB/s", vec!["0", "1", "2", "3"]),
            (21.5 * 1_048_576.0, "MiB/s", vec!["0", "10", "20", "30"]),
            (150.0 * 1_024.0, "KiB/s", vec!["0", "50", "100", "150"]),
        ];
        for (max, unit, ticks) in cases {
            let chart = bytes(&[sample(0, max, None)]);
            assert_eq!((chart.axis_unit, labels(&chart)), (unit, ticks), "{max}");
        }
    }

    #[test]
    fn a_line_lies_in_the_plot_and_gaps_are_gaps() {
        let samples = [sample(0, 0.0, Some(0.002)), sample(5_000, 0.0, None), sample(10_000, 0.0, Some(0.004))];
        let series = [Series { name: "p99", value: |sample| sample.produce_p99_s }];
        let chart = Chart::new("Latency", Quantity::Seconds, &series, &samples);
        assert_eq!(chart.lines[0].path, "M386.2 93.0h0M390.0 24.0h0");
        assert_eq!((chart.lines[0].values.as_str(), chart.lines[0].now.as_str()), ("2.00 ms||4.00 ms", "4.00 ms"));
        assert_eq!((chart.axis_unit, labels(&chart)), ("ms", vec!["0", "1", "2", "3", "4"]));
        assert_eq!(chart.times, "00:00:00|00:00:05|00:00:10");
    }

    #[test]
    fn a_full_ring_spans_the_plot_and_hostile_values_do_not_break_it() {
        let full: Vec<Sample> = (0..SAMPLES_MAX as i64).map(|i| sample(i * 5_000, i as f64, None)).collect();
        assert!(bytes(&full).lines[0].path.starts_with("M47.9 "), "{}", bytes(&full).lines[0].path);
        for value in [f64::NAN, f64::INFINITY, -1.0, f64::MAX, 0.0] {
            let chart = bytes(&[sample(i64::MAX, value, None)]);
            assert!((2..=6).contains(&chart.y_ticks.len()), "{value}: {:?}", labels(&chart));
        }
        let none = bytes(&[]);
        assert_eq!((none.lines[0].path.as_str(), none.lines[0].now.as_str()), ("", "none"));
    }

    #[test]
    fn values_carry_units() {
        let cases = [
            (Quantity::BytesPerSecond, 1_536.0, "1.5 KiB/s"),
            (Quantity::RecordsPerSecond, 0.0, "0 records/s"),
            (Quantity::RecordsPerSecond, 0.2, "0.2 records/s"),
            (Quantity::RecordsPerSecond, 12_345.6, "12,345 records/s"),
            (Quantity::Seconds, 0.000_25, "250.0 µs"),
            (Quantity::Seconds, 0.012_34, "12.3 ms"),
            (Quantity::Seconds, 1.5, "1.50 s"),
        ];
        for (quantity, value, text) in cases {
            assert_eq!(quantity.text(value), text);
        }
    }
}
