//! `flotilla verify --watch`: compares again and again, keeps the canary flying, and shows what it found.

use std::cell::RefCell;
use std::time::Duration;

use serde_json::json;
use tokio::{
    net::TcpListener,
    time::{MissedTickBehavior, interval},
};

use super::{
    asking::{VerifyArgs, not_verified, verify},
    canary::{Beat, Canary, TOPIC},
    figures::{Figures, serve},
    report::{exit, findings, groups_json, summary, worst},
};
use crate::{
    cli::{
        exit::Failure,
        global::Global,
        output::{OutputFormat, print_json, print_line},
        signals::Signals,
        terminal::say,
    },
    client::{Admin, Verdict},
    seam::{Clock, SystemClock},
};

const BEAT_EVERY: Duration = Duration::from_secs(1);

/// What is shared by what goes on at the same time, on one thread.
struct Watched {
    figures: RefCell<Figures>,
    worst: RefCell<Verdict>,
}

impl Watched {
    fn saw(&self, verdict: Verdict) {
        let mut worst = self.worst.borrow_mut();
        *worst = (*worst).max(verdict);
    }
}

/// Ends with a signal: 10 if anything was ever found to differ, or lost. What was unknown for a while and is known now
/// counts no more; what is so at the end does.
pub async fn run(args: &VerifyArgs, global: &Global) -> Result<(), Failure> {
    let admin = global.admin()?;
    let mut signals = Signals::listen()?;
    let listener = match &args.metrics {
        Some(address) => {
            let bound = TcpListener::bind(address).await;
            let listener = bound
                .map_err(|error| Failure::usage(format!("cannot listen on {address:?} for --metrics: {error}")))?;
            say(&format!(
                "metrics at http://{}/metrics",
                listener.local_addr().map_or(address.clone(), |a| a.to_string())
            ));
            Some(listener)
        }
        None => None,
    };
    let watched = Watched { figures: RefCell::default(), worst: RefCell::new(Verdict::Valid) };
    let serving = async {
        match listener {
            Some(listener) => serve(listener, &watched.figures).await,
            None => std::future::pending().await,
        }
    };
    let last = RefCell::new(Verdict::Valid);
    tokio::select! {
        _ = signals.next() => {}
        failed = rounds(args, &admin, &watched, &last) => return failed,
        failed = fly(&admin, &watched) => return failed,
        () = serving => {}
    }
    let (worst, last) = (*watched.worst.borrow(), *last.borrow());
    exit(if worst == Verdict::Differs { worst } else { last })
}

/// Compares, for ever.
async fn rounds(args: &VerifyArgs, admin: &Admin, watched: &Watched, last: &RefCell<Verdict>) -> Result<(), Failure> {
    let mut ticks = interval(args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let verified = verify(args, admin).await;
        let seconds = SystemClock.wall().0.div_euclid(1_000);
        match verified {
            Ok(groups) => {
                watched.figures.borrow_mut().saw(&groups, seconds);
                let verdict = worst(&groups);
                watched.saw(verdict);
                *last.borrow_mut() = verdict;
                match args.format.format {
                    OutputFormat::Json => {
                        let mut json = groups_json(&groups, args.deep);
                        json["time"] = json!(time(seconds));
                        print_json(&json)?;
                    }
                    OutputFormat::Text => {
                        let canary = canary_line(&watched.figures.borrow());
                        let lines = groups.iter().flat_map(findings).map(|line| format!("  {line}"));
                        let head = format!("{} {}; {canary}", time(seconds), summary(&groups, args.deep));
                        print_line(&[head].into_iter().chain(lines).collect::<Vec<_>>().join("\n"))?;
                    }
                }
            }
            Err(error) if error.is_not_found() => return Err(not_verified(error)),
            Err(error) => {
                watched.figures.borrow_mut().rounds_failed += 1;
                *last.borrow_mut() = Verdict::Unknown;
                say(&format!("{} unknown: {error}", time(seconds)));
            }
        }
    }
}

/// Keeps the canary flying, for ever; it begins again when its topic or its producer is gone.
async fn fly(admin: &Admin, watched: &Watched) -> Result<(), Failure> {
    let mut ticks = interval(BEAT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut canary: Option<Canary> = None;
    loop {
        ticks.tick().await;
        let flying = match &mut canary {
            Some(canary) => canary,
            None => match Canary::open(admin).await {
                Ok(opened) => canary.insert(opened),
                Err(failure) => {
                    watched.figures.borrow_mut().unacknowledged += 1;
                    say(&format!("canary: {TOPIC} cannot be used: {}", failure.message));
                    continue;
                }
            },
        };
        let beats = flying.beat().await;
        let mut figures = watched.figures.borrow_mut();
        figures.acknowledged += u64::from(!matches!(beats[..], [Beat::NotSent(_), ..]));
        for beat in beats {
            match beat {
                Beat::Same(trip) => {
                    figures.read += 1;
                    figures.round_trip = trip.as_secs_f64();
                }
                Beat::NotSent(why) => {
                    figures.unacknowledged += 1;
                    say(&format!("canary: not acknowledged: {why}"));
                    canary = None;
                }
                Beat::NotRead(why) => {
                    figures.unread += 1;
                    say(&format!("canary: cannot be read: {why}"));
                }
                Beat::Lost(what) => {
                    figures.lost += 1;
                    watched.saw(Verdict::Differs);
                    say(&format!("canary: LOST: {what}"));
                }
            }
        }
    }
}

fn canary_line(figures: &Figures) -> String {
    let Figures { acknowledged, read, lost, .. } = figures;
    format!("canary: {acknowledged} acknowledged, {read} read back, {lost} lost")
}

fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "?".into(), |time| time.to_string())
}
