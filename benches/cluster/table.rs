//! The one table.

use crate::{
    figures::{Figure, Figures, Side},
    kept::Kept,
    scenarios::Scenario,
};

const NOTES: &str = "\
Medians of the rounds. A ratio above 1 is better in every column; in brackets are the least and the most of the
rounds, of the figure that the scenario is judged by. Latency: from when a record was due to its acknowledgement, to
its consumer (e2e), or of waiting for an answer (consume). CPU s/M: CPU seconds of the three brokers per million
records (or commits). written B/B: bytes to the device per byte of value and replica. read B/B: bytes from the device per
byte of value, 0 if all of it came from memory. RSS MB: of the three brokers together, the most; of idle ones, at the
end. s: until `cluster health` is content.";

struct Row {
    scenario: String,
    what: String,
    cells: Vec<Option<String>>,
}

pub fn of(wanted: &[&Scenario], kept: &Kept, before: Option<&Kept>) -> String {
    let rows: Vec<Row> = wanted.iter().flat_map(|scenario| rows_of(scenario, kept, before)).collect();
    let used: Vec<usize> =
        (0..Figure::ALL.len()).filter(|column| rows.iter().any(|row| row.cells[*column].is_some())).collect();
    let mut lines: Vec<Vec<String>> = vec![vec!["scenario".into(), String::new()]];
    lines[0].extend(used.iter().map(|column| Figure::ALL[*column].heading().to_string()));
    lines.extend(rows.into_iter().map(|row| {
        let cells = used.iter().map(|column| row.cells[*column].clone().unwrap_or_default());
        [row.scenario, row.what].into_iter().chain(cells).collect()
    }));
    format!("{}\n\n{}\n{NOTES}", kept.headline(), aligned(&lines))
}

fn rows_of(scenario: &Scenario, kept: &Kept, before: Option<&Kept>) -> Vec<Row> {
    let name = scenario.name;
    let row = |what: &str, cells| Row { scenario: String::new(), what: what.into(), cells };
    let Some(this) = kept.median(name, Side::This) else { return vec![] };
    let mut rows = vec![Row { scenario: name.into(), ..row("", values(&this)) }];
    if let Some(other) = kept.median(name, Side::Other) {
        let rounds = kept.ratios_by_round(name);
        rows.push(row("other", values(&other)));
        rows.push(row("ratio", ratios(&kept.ratios(name), scenario.judged_by, &rounds)));
    }
    if let Some(before) = before.and_then(|before| before.median(name, Side::This)) {
        rows.push(row("before", values(&before)));
        rows.push(row("ratio", ratios(&this.ratios(&before), scenario.judged_by, &[])));
    }
    rows
}

fn values(figures: &Figures) -> Vec<Option<String>> {
    let value = |figure: &Figure| figures.get(*figure).map(|value| format!("{value:.*}", figure.digits()));
    Figure::ALL.iter().map(value).collect()
}

fn ratios(ratios: &Figures, judged_by: Figure, rounds: &[Figures]) -> Vec<Option<String>> {
    let range = |figure: Figure| {
        let of_rounds = || rounds.iter().filter_map(move |round| round.get(figure));
        let (least, most) = (of_rounds().reduce(f64::min)?, of_rounds().reduce(f64::max)?);
        (figure == judged_by && rounds.len() > 1).then(|| format!(" ({least:.2}-{most:.2})"))
    };
    let cell = |figure: &Figure| {
        let ratio = ratios.get(*figure)?;
        Some(format!("{ratio:.2}{}", range(*figure).unwrap_or_default()))
    };
    Figure::ALL.iter().map(cell).collect()
}

/// Names to the left, numbers to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let widths: Vec<usize> =
        (0..lines[0].len()).map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0)).collect();
    let mut out = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}
