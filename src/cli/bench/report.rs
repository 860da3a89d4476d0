//! What was measured, and the report that is made of it: one shape for all benches.

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

use crate::cli::{
    exit::Failure,
    local,
    output::{OutputFormat, print_json, print_table},
};

/// The longest latency that is told apart: latencies are kept from 1 us to 10 min, with three digits.
const LATENCY_MAX_US: u64 = 600_000_000;

/// The result's JSON, which is an interface.
#[derive(Debug, PartialEq, Serialize)]
pub struct Report {
    pub records_per_s: f64,
    pub mb_per_s: f64,
    pub latency_ms: Latency,
    pub errors: u64,
    pub broker_cpu_s_per_million: Option<f64>,
    pub client_cpu_s_per_million: Option<f64>,
    pub device_bytes_per_byte: Option<f64>,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// What CPU and devices had done up to one moment.
pub struct Usage {
    pub at: Instant,
    pub broker_cpu: Option<f64>,
    pub client_cpu: Option<f64>,
    pub written: Option<u64>,
}

impl Usage {
    pub fn now(pids: &[i32]) -> Usage {
        let some = !pids.is_empty();
        let cpu: Option<Vec<f64>> = pids.iter().map(|pid| local::cpu_seconds(*pid)).collect();
        let written: Option<Vec<u64>> = pids.iter().map(|pid| local::written_bytes(*pid)).collect();
        Usage {
            at: Instant::now(),
            broker_cpu: cpu.filter(|_| some).map(|c| c.iter().sum()),
            client_cpu: local::cpu_seconds(std::process::id() as i32),
            written: written.filter(|_| some).map(|w| w.iter().sum()),
        }
    }
}

/// What was measured between two moments.
pub struct Measured {
    pub records: u64,
    /// How many bytes the values have.
    pub bytes: f64,
    pub latency: Histogram<u64>,
    pub errors: u64,
    pub before: Usage,
    pub after: Usage,
    /// How often the brokers wrote each byte on purpose; 0: they wrote nothing for it.
    pub replicas: i32,
}

pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_MAX_US, 3).expect("three digits up to ten minutes are allowed")
}

pub fn report(measured: &Measured) -> Report {
    let Measured { records, bytes, latency, errors, before, after, replicas } = measured;
    let seconds = (after.at - before.at).as_secs_f64();
    let records = *records as f64;
    let ms = |us: u64| round(us as f64 / 1000.0, 3);
    let per_million = |from: Option<f64>, to: Option<f64>| {
        let used = to? - from?;
        (records > 0.0).then(|| round(used / records * 1e6, 3))
    };
    let written = before.written.zip(after.written).filter(|_| *bytes > 0.0 && *replicas > 0);
    Report {
        records_per_s: round(records / seconds, 1),
        mb_per_s: round(bytes / 1e6 / seconds, 3),
        latency_ms: Latency {
            p50: ms(latency.value_at_quantile(0.5)),
            p99: ms(latency.value_at_quantile(0.99)),
            p999: ms(latency.value_at_quantile(0.999)),
            max: ms(latency.max()),
        },
        errors: *errors,
        broker_cpu_s_per_million: per_million(before.broker_cpu, after.broker_cpu),
        client_cpu_s_per_million: per_million(before.client_cpu, after.client_cpu),
        device_bytes_per_byte: written
            .map(|(from, to)| round(to.saturating_sub(from) as f64 / bytes / f64::from(*replicas), 3)),
    }
}

fn round(x: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (x * scale).round() / scale
}

pub fn print(report: &Report, format: OutputFormat) -> Result<(), Failure> {
    if format == OutputFormat::Json {
        return print_json(report);
    }
    let Report { latency_ms: l, .. } = report;
    let or_unknown = |x: Option<f64>| x.map_or("unknown".to_string(), |x| x.to_string());
    let rows = [
        ("records/s", format!("{:.0}", report.records_per_s)),
        ("MB/s", format!("{:.2}", report.mb_per_s)),
        ("latency p50 ms", l.p50.to_string()),
        ("latency p99 ms", l.p99.to_string()),
        ("latency p99.9 ms", l.p999.to_string()),
        ("latency max ms", l.max.to_string()),
        ("errors", report.errors.to_string()),
        ("broker CPU s per million", or_unknown(report.broker_cpu_s_per_million)),
        ("client CPU s per million", or_unknown(report.client_cpu_s_per_million)),
        ("device bytes per byte and replica", or_unknown(report.device_bytes_per_byte)),
    ];
    print_table(&["FIGURE", "VALUE"], rows.into_iter().map(|(name, value)| vec![name.into(), value]).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_reports_json_is_frozen() {
        let report = Report {
            records_per_s: 1.0,
            mb_per_s: 2.0,
            latency_ms: Latency { p50: 0.1, p99: 0.2, p999: 0.3, max: 0.4 },
            errors: 0,
            broker_cpu_s_per_million: None,
            client_cpu_s_per_million: Some(1.5),
            device_bytes_per_byte: None,
        };
        let want = json!({"records_per_s":1.0,"mb_per_s":2.0,"latency_ms":{"p50":0.1,"p99":0.2,"p999":0.3,"max":0.4},
            "errors":0,"broker_cpu_s_per_million":null,"client_cpu_s_per_million":1.5,"device_bytes_per_byte":null});
        assert_eq!(serde_json::to_value(&report).expect("JSON"), want);
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_divides_by_the_time_measured() {
        let usage = |broker_cpu, written| Usage { at: Instant::now(), broker_cpu, client_cpu: Some(1.0), written };
        let before = usage(Some(2.0), Some(1_000));
        tokio::time::advance(Duration::from_secs(2)).await;
        let after = usage(Some(5.0), Some(7_000));
        let mut latency = histogram();
        latency.record(1_500).expect("in range");
        let measured = Measured { records: 1_000, bytes: 1e6, latency, errors: 3, before, after, replicas: 3 };
        let got = report(&measured);
        assert_eq!((got.records_per_s, got.mb_per_s, got.errors), (500.0, 0.5, 3));
        assert_eq!((got.broker_cpu_s_per_million, got.client_cpu_s_per_million), (Some(3_000.0), Some(0.0)));
        assert_eq!(got.device_bytes_per_byte, Some(0.002));
        assert!((1.4..1.6).contains(&got.latency_ms.p50), "{got:?}");
        assert_eq!(report(&Measured { replicas: 0, ..measured }).device_bytes_per_byte, None);
    }
}
