//! `flotilla cluster health`: once, or watched. Watching repaints a terminal; on a pipe it prints one
//! line a change, so that a log of it reads like a story.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use clap::Args;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior};

use crate::{
    cli::{
        exit::Failure,
        global::Global,
        output::{FormatArg, OutputFormat, Reader, print_json, print_line, write_out},
        signals::Signals,
        units,
    },
    client::{Admin, ClusterHealth},
    seam::{Clock, SystemClock},
};

/// While watching, a cluster that says nothing for so long is shown as silent.
const SILENT: Duration = Duration::from_secs(3);

#[derive(Args)]
pub struct HealthArgs {
    /// Go on looking until Ctrl-C: repaint on a terminal, print one line a change on a pipe.
    #[arg(short, long)]
    watch: bool,
    /// Also show each partition that has a problem.
    #[arg(long)]
    details: bool,
    /// How often to look.
    #[arg(long, requires = "watch", default_value = "1s", value_name = "TIME", value_parser = units::wait, allow_hyphen_values = true)]
    interval: Duration,
    #[command(flatten)]
    format: FormatArg,
}

/// What one look saw. A cluster that does not answer is not healthy.
type Look = Result<ClusterHealth, String>;

pub async fn run(args: HealthArgs, global: &Global) -> Result<(), Failure> {
    match args.watch {
        false => once(&args, global).await,
        true => watch(&args, global).await,
    }
}

async fn once(args: &HealthArgs, global: &Global) -> Result<(), Failure> {
    let health = global.admin()?.health().details(args.details).send().await;
    let health = health.map_err(|error| Failure::unhealthy(error.to_string()))?;
    match args.format.format {
        OutputFormat::Json => print_json(&health_json(&health))?,
        OutputFormat::Text => print_line(&lines(&Ok(health.clone())).join("\n"))?,
    }
    if health.is_healthy { Ok(()) } else { Err(Failure::unhealthy("")) }
}

async fn watch(args: &HealthArgs, global: &Global) -> Result<(), Failure> {
    let admin = Admin::new(global.cluster()?, SILENT.min(global.timeout));
    let mut signals = Signals::listen()?;
    let mut ticks = tokio::time::interval(args.interval.max(Duration::from_millis(100)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let style = match args.format.format {
        OutputFormat::Json => Style::Json,
        OutputFormat::Text if io::stdout().is_terminal() => Style::Screen,
        OutputFormat::Text => Style::Lines,
    };
    let (began, mut last) = (Instant::now(), None);
    loop {
        let look = tokio::select! {
            _ = signals.next() => return Ok(()),
            look = async { ticks.tick().await; admin.health().details(args.details).send().await } => look,
        };
        let look: Look = look.map_err(|error| error.to_string());
        let is_news = last.as_ref() != Some(&look);
        // A screen shows that it is alive, also when nothing changes.
        if (is_news || style == Style::Screen)
            && write_out(style.show(&look, &now(), began.elapsed()).as_bytes())? == Reader::Gone
        {
            return Err(Failure::closed_pipe());
        }
        last = Some(look);
    }
}

fn now() -> String {
    let seconds = SystemClock.wall().0.div_euclid(1_000);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "?".into(), |time| time.to_string())
}

/// How a watched look is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Screen,
    Lines,
    Json,
}

impl Style {
    fn show(self, look: &Look, time: &str, watched: Duration) -> String {
        match self {
            Style::Screen => {
                // Home, every line to its end, and what a longer look left below: nothing flickers.
                let mut text = String::from("\x1b[H");
                let head = format!("{time}, watched for {} s; Ctrl-C ends", watched.as_secs());
                for line in std::iter::once(head).chain(lines(look)) {
                    text.push_str(&line);
                    text.push_str("\x1b[K\n");
                }
                text.push_str("\x1b[J");
                text
            }
            Style::Lines => format!("{time} {}\n", lines(look).join("; ")),
            Style::Json => {
                let mut json = match look {
                    Ok(health) => health_json(health),
                    Err(error) => json!({"healthy": false, "problems": [error], "notes": []}),
                };
                json["time"] = json!(time);
                format!("{json}\n")
            }
        }
    }
}

/// Tells people the verdict, the counts, each problem, the details if asked for, and apart from them each note.
fn lines(look: &Look) -> Vec<String> {
    let health = match look {
        Ok(health) => health,
        Err(error) => return vec!["unhealthy".into(), format!("- {error}")],
    };
    let mut lines = vec![
        if health.is_healthy { "healthy".into() } else { "unhealthy".to_string() },
        format!(
            "{} of {} brokers alive; {} partitions, {} without leader, {} under-replicated; feature level {}",
            health.brokers_alive,
            health.brokers,
            health.partitions,
            health.partitions_without_leader,
            health.partitions_under_replicated,
            health.feature_level.map_or("not told".to_string(), |level| level.to_string())
        ),
    ];
    lines.extend(health.problems.iter().map(|problem| format!("- {problem}")));
    lines.extend(health.details.iter().map(|detail| format!("    {detail}")));
    lines.extend(health.notes.iter().map(|note| format!("note: {note}")));
    lines
}

/// The report's JSON, an interface. Watching adds "time"; "details" are there if they were asked for and there are
/// any.
fn health_json(h: &ClusterHealth) -> Value {
    let mut json = json!({
        "healthy": h.is_healthy, "problems": h.problems, "notes": h.notes,
        "brokers_alive": h.brokers_alive, "brokers": h.brokers,
        "partitions": h.partitions, "partitions_without_leader": h.partitions_without_leader,
        "partitions_under_replicated": h.partitions_under_replicated,
        "feature_level": h.feature_level, "feature_level_supported": h.feature_level_supported,
    });
    if !h.details.is_empty() {
        json["details"] = json!(h.details);
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sick() -> ClusterHealth {
        ClusterHealth {
            is_healthy: false,
            problems: vec!["broker 3 does not answer".into()],
            notes: vec!["retention is about to delete unread records of group g".into()],
            brokers_alive: 2,
            brokers: 3,
            partitions: 6,
            partitions_without_leader: 0,
            partitions_under_replicated: 6,
            details: vec!["t-0 misses its replica on broker 3".into()],
            feature_level: Some(1),
            feature_level_supported: Some(2),
        }
    }

    #[test]
    fn a_reports_json_is_frozen() {
        let want = json!({"healthy":false,"problems":["broker 3 does not answer"],
            "details":["t-0 misses its replica on broker 3"],
            "notes":["retention is about to delete unread records of group g"],"brokers_alive":2,"brokers":3,
            "partitions":6,"partitions_without_leader":0,"partitions_under_replicated":6,"feature_level":1,
            "feature_level_supported":2});
        assert_eq!(health_json(&sick()), want);
        let asked_for_none = ClusterHealth { details: vec![], ..sick() };
        assert_eq!(health_json(&asked_for_none).get("details"), None, "as the console's");
    }

    #[test]
    fn notes_stand_apart_from_problems() {
        let text = lines(&Ok(sick()));
        assert_eq!(text[0], "unhealthy");
        assert!(text[1].ends_with("6 under-replicated; feature level 1"), "{text:?}");
        let of_an_old_broker = lines(&Ok(ClusterHealth { feature_level: None, ..sick() }));
        assert!(of_an_old_broker[1].ends_with("feature level not told"), "{of_an_old_broker:?}");
        assert_eq!(text[2], "- broker 3 does not answer");
        assert_eq!(text[3], "    t-0 misses its replica on broker 3");
        assert!(text[4].starts_with("note: retention"), "{text:?}");
        let well = ClusterHealth { is_healthy: true, problems: vec![], details: vec![], ..sick() };
        assert_eq!(lines(&Ok(well)).len(), 3);
    }

    #[test]
    fn every_style_says_it_all() {
        let look = Ok(sick());
        for style in [Style::Screen, Style::Lines, Style::Json] {
            let text = style.show(&look, "2026-11-24T12:00:00Z", Duration::from_secs(5));
            for part in ["2026-11-24T12:00:00Z", "broker 3 does not answer", "retention is about"] {
                assert!(text.contains(part), "{style:?} leaves out {part:?}: {text}");
            }
            assert_eq!(text.ends_with('\n'), style != Style::Screen);
        }
        let lines = Style::Lines.show(&Err("no broker answered".into()), "t", Duration::ZERO);
        assert_eq!(lines, "t unhealthy; - no broker answered\n");
        let silent = Style::Json.show(&Err("no broker answered".into()), "t", Duration::ZERO);
        assert!(silent.contains(r#""healthy":false"#) && silent.contains(r#""time":"t""#), "{silent}");
    }
}
