//! Tables for people, JSON for programs.

use std::{
    future::pending,
    io::{self, IsTerminal, Write},
};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, TableStyle, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    exit::Failure,
    terminal::{self, say},
};
use crate::client::BrokerId;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    #[default]
    Text,
    Json,
}

/// `--format`, for every command that prints something other than records.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct FormatArg {
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    pub format: OutputFormat,
}

/// Prints one line of JSON on stdout.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::failed(format!("cannot print JSON: {error}")))?;
    write_all_out(&format!("{}\n", terminal::shown_json(&text)))
}

/// Prints a line, or some, on stdout.
pub fn print_line(text: &str) -> Result<(), Failure> {
    write_all_out(&format!("{}\n", terminal::shown_lines(text)))
}

/// Writes for a command whose purpose is what it prints: without a reader it ends.
pub fn write_all_out(text: &str) -> Result<(), Failure> {
    match write_out(text.as_bytes())? {
        Reader::Listening => Ok(()),
        Reader::Gone => Err(Failure::closed_pipe()),
    }
}

/// Whether somebody still reads what we print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    Listening,
    /// Nobody reads any more: `| head` has enough.
    Gone,
}

/// Writes to stdout and flushes. Whoever got `Listening` may rely on it: the bytes have left this process.
pub fn write_out(bytes: &[u8]) -> Result<Reader, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Reader::Listening),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(stdout_failed(&error)),
    }
}

/// Waits until nobody reads standard output any more; for ever, if that cannot be seen (a file) or does not come.
/// `follow | head -1` would else end with the next record, or never.
pub async fn closed() {
    #[expect(deprecated, reason = "sound for standard output, which is open as long as the process lives")]
    let Ok(stdout) = AsyncFd::with_interest(io::stdout(), Interest::ERROR) else { return pending().await };
    loop {
        match stdout.ready(Interest::ERROR).await {
            Ok(seen) if seen.ready().is_error() => return,
            Ok(mut seen) => seen.clear_ready(),
            Err(_) => return pending().await,
        }
    }
}

/// Tells people what was done, or would be.
pub fn said(dry_run: bool, what: &str) {
    say(&format!("{}{what}", if dry_run { "would be: " } else { "" }));
}

fn stdout_failed(error: &io::Error) -> Failure {
    Failure::failed(format!("cannot write to standard output: {error}"))
}

/// Prints a table: with lines on a terminal, in plain columns on a pipe.
pub fn print_table(header: &[&str], rows: Vec<Vec<String>>) -> Result<(), Failure> {
    let preset = if io::stdout().is_terminal() { presets::UTF8_FULL_CONDENSED } else { presets::NOTHING };
    print_line(&table(header, rows, preset))
}

fn table(header: &[&str], rows: Vec<Vec<String>>, preset: TableStyle) -> String {
    let mut table = Table::new();
    table.load_style(preset).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|h| h.to_string()).collect::<Vec<_>>());
    for row in rows {
        // A line feed in a name would forge a row.
        table.add_row(row.iter().map(|cell| terminal::shown(cell).into_owned()).collect::<Vec<_>>());
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_string()).collect();
    lines.join("\n")
}

/// Returns the cell of a table for what may be missing.
pub fn or_none(text: &str) -> String {
    if text.is_empty() { "-".to_string() } else { text.to_string() }
}

/// A spinner on stderr, silent when that is no terminal.
pub fn progress(message: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {human_pos} [{elapsed}]") {
        bar.set_style(style);
    }
    bar.set_message(message.to_string());
    bar
}

/// Writes broker ids as a list.
pub fn ids(ids: &[BrokerId]) -> String {
    ids.iter().map(BrokerId::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client may call itself anything, and an operator lists the members of a group.
    #[test]
    fn a_name_neither_forges_a_row_nor_moves_the_cursor() {
        let rows = vec![vec!["a\n b  stable".into(), "\u{1b}[2J\u{202e}x".into()]];
        let text = table(&["GROUP", "CLIENT"], rows, presets::NOTHING);
        assert_eq!(text.lines().count(), 2, "{text:?}");
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text:?}");
    }
}
