//! Tables for people, JSON for programs.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::Failure;

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

/// One line of JSON on stdout.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::failed(format!("cannot print JSON: {error}")))?;
    print_line(&text)
}

/// A line on stdout. A reader that went away has heard enough: that is no failure.
pub fn print_line(text: &str) -> Result<(), Failure> {
    write_out(format!("{text}\n").as_bytes()).map(drop)
}

/// Whether somebody still reads what we print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    Listening,
    /// `| head` has enough.
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

/// Talk about what was done, or would be.
pub fn said(dry_run: bool, what: &str) {
    eprintln!("{}{what}", if dry_run { "would be: " } else { "" });
}

pub fn stdout_failed(error: &io::Error) -> Failure {
    Failure::failed(format!("cannot write to standard output: {error}"))
}

/// A table with lines on a terminal, plain columns on a pipe.
pub fn print_table(header: &[&str], rows: Vec<Vec<String>>) -> Result<(), Failure> {
    let mut table = Table::new();
    let preset = if io::stdout().is_terminal() { presets::UTF8_FULL_CONDENSED } else { presets::NOTHING };
    table.load_style(preset).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|h| h.to_string()).collect::<Vec<_>>());
    for row in rows {
        table.add_row(row);
    }
    let text: Vec<String> = table.lines().map(|line| line.trim_end().to_string()).collect();
    print_line(&text.join("\n"))
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

/// Broker ids, as in a list.
pub fn ids(ids: &[u64]) -> String {
    ids.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}
