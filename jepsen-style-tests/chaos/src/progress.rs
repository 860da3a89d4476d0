//! What a run says while it goes on: one line that is refreshed on a terminal, a line now and then elsewhere.

use std::{
    io::{self, IsTerminal, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::tally::Tally;

const ON_TERMINAL: Duration = Duration::from_millis(500);
const ELSEWHERE: Duration = Duration::from_secs(10);

/// Prints how far the run is, until it is dropped.
pub async fn show(tally: Arc<Tally>, current: Arc<Mutex<Vec<String>>>, span: Duration) {
    let is_terminal = io::stderr().is_terminal();
    let every = if is_terminal { ON_TERMINAL } else { ELSEWHERE };
    let began = Instant::now();
    let mut before = (began, tally.acked_total());
    loop {
        sleep(every).await;
        let now = (Instant::now(), tally.acked_total());
        let rate = (now.1 - before.1) as f64 / (now.0 - before.0).as_secs_f64();
        before = now;
        let faults = current.lock().expect("nobody panics with it").join(", ");
        let faults = if faults.is_empty() { "calm".to_string() } else { faults };
        let line = format!(
            "{} of {}  acknowledged {}  {}/s  {faults}",
            clock(began.elapsed()),
            clock(span),
            grouped(now.1),
            grouped(rate as u64),
        );
        let mut out = io::stderr().lock();
        // Whoever closed stderr does not want to know.
        let _ = match is_terminal {
            true => write!(out, "\r\x1b[K{line}").and_then(|()| out.flush()),
            false => writeln!(out, "{line}"),
        };
    }
}

/// Ends the line that is refreshed, so that something else can be printed.
pub fn end_line() {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

/// Minutes and seconds.
pub fn clock(long: Duration) -> String {
    format!("{}:{:02}", long.as_secs() / 60, long.as_secs() % 60)
}

/// A number with commas between thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[test]
fn numbers_are_grouped() {
    let shown = [0, 999, 1_000, 1_234_567].map(grouped);
    assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
    assert_eq!(clock(Duration::from_secs(65)), "1:05");
}
