//! What `verify --watch` found, for Prometheus: a listener that answers nothing but its figures.

use std::{cell::RefCell, fmt::Write as _, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::client::{Verdict, VerifiedGroup};

/// One scrape at a time, and no longer than this.
const SCRAPE_WITHIN: Duration = Duration::from_secs(2);
/// A request line and some headers.
const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// What was found since the start. Times are seconds since 1970.
#[derive(Debug, Default)]
pub struct Figures {
    pub rounds: u64,
    pub rounds_failed: u64,
    pub valid: usize,
    pub unknown: usize,
    pub differs: usize,
    /// Partitions found to differ, in all rounds together.
    pub mismatches: u64,
    pub last_round: i64,
    pub last_valid: i64,
    pub acknowledged: u64,
    pub unacknowledged: u64,
    pub read: u64,
    pub unread: u64,
    pub lost: u64,
    pub round_trip: f64,
}

impl Figures {
    pub fn saw(&mut self, groups: &[VerifiedGroup], now: i64) {
        let count = |verdict| groups.iter().filter(|group| group.verdict() == verdict).count();
        self.rounds += 1;
        (self.valid, self.unknown, self.differs) =
            (count(Verdict::Valid), count(Verdict::Unknown), count(Verdict::Differs));
        self.mismatches += self.differs as u64;
        self.last_round = now;
        if self.unknown + self.differs == 0 {
            self.last_valid = now;
        }
    }

    /// The text format of Prometheus.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut metric = |name: &str, kind: &str, help: &str, values: &[(&str, String)]| {
            let _ = write!(text, "# HELP flotilla_{name} {help}\n# TYPE flotilla_{name} {kind}\n");
            for (labels, value) in values {
                let _ = writeln!(text, "flotilla_{name}{labels} {value}");
            }
        };
        let one = |value: u64| [("", value.to_string())];
        metric("verify_rounds_total", "counter", "Comparisons of all replicas.", &one(self.rounds));
        let failed = one(self.rounds_failed);
        metric("verify_rounds_failed_total", "counter", "Comparisons for which no broker answered.", &failed);
        let partitions = [
            ("{verdict=\"valid\"}", self.valid.to_string()),
            ("{verdict=\"unknown\"}", self.unknown.to_string()),
            ("{verdict=\"differs\"}", self.differs.to_string()),
        ];
        metric("verify_partitions", "gauge", "Partitions by what the last comparison said of them.", &partitions);
        let mismatches = one(self.mismatches);
        metric("verify_mismatches_total", "counter", "Partitions found to differ, in all comparisons.", &mismatches);
        let at = |seconds: i64| [("", seconds.to_string())];
        let last = at(self.last_round);
        metric("verify_last_round_timestamp_seconds", "gauge", "When replicas were compared last.", &last);
        let valid = at(self.last_valid);
        metric("verify_last_valid_timestamp_seconds", "gauge", "When all was valid last; 0: never.", &valid);
        let outcomes = [
            ("{outcome=\"acknowledged\"}", self.acknowledged.to_string()),
            ("{outcome=\"failed\"}", self.unacknowledged.to_string()),
        ];
        metric("canary_records_total", "counter", "Records sent through the canary topic.", &outcomes);
        let reads = [
            ("{outcome=\"same\"}", self.read.to_string()),
            ("{outcome=\"failed\"}", self.unread.to_string()),
            ("{outcome=\"lost\"}", self.lost.to_string()),
        ];
        metric("canary_reads_total", "counter", "Acknowledged records of it that were read back.", &reads);
        let trip = [("", format!("{:.6}", self.round_trip))];
        metric("canary_round_trip_seconds", "gauge", "From sending the last record to having read it.", &trip);
        text
    }
}

/// Answers scrapes, one after the other, for ever.
pub async fn serve(listener: TcpListener, figures: &RefCell<Figures>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(timeout(SCRAPE_WITHIN, answer(stream, figures)).await),
            // Out of descriptors, for one: others may be closed soon.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer(mut stream: TcpStream, figures: &RefCell<Figures>) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() >= REQUEST_BYTES_MAX || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let (status, body) = match request.starts_with(b"GET /metrics ") {
        true => ("200 OK", figures.borrow().text()),
        false => ("404 Not Found", "metrics are at /metrics\n".to_string()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn prometheus_reads_what_was_found() {
        let figures = RefCell::new(Figures { acknowledged: 3, ..Figures::default() });
        let unknown = VerifiedGroup { unknown: vec!["broker 2 does not answer".into()], ..VerifiedGroup::default() };
        figures.borrow_mut().saw(&[VerifiedGroup::default(), unknown], 100);
        figures.borrow_mut().saw(&[VerifiedGroup::default()], 160);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let scrape = |path: &'static str| async move {
            let mut stream = TcpStream::connect(address).await.expect("it listens");
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.expect("it reads");
            let mut text = String::new();
            stream.read_to_string(&mut text).await.expect("it answers");
            text
        };
        let both = async { (scrape("/metrics").await, scrape("/").await) };
        let (found, other) = tokio::select! {
            () = serve(listener, &figures) => unreachable!("it goes on"),
            both = both => both,
        };
        assert!(other.starts_with("HTTP/1.1 404"), "{other}");
        for line in [
            "flotilla_verify_rounds_total 2",
            "flotilla_verify_partitions{verdict=\"valid\"} 1",
            "flotilla_verify_partitions{verdict=\"unknown\"} 0",
            "flotilla_verify_last_valid_timestamp_seconds 160",
            "flotilla_canary_records_total{outcome=\"acknowledged\"} 3",
        ] {
            assert!(found.lines().any(|found| found == line), "{line}: {found}");
        }
    }
}
