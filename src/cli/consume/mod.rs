//! `flotilla consume`: records to standard output, in order within each partition. Alone, or as a member of
//! a consumer group.

mod args;
mod group;
mod plain;
mod printer;
mod readers;

use std::io::IsTerminal;

use super::{
    exit::Failure,
    format::{PrintFormat, PrintOptions},
    global::Global,
};
use printer::Printer;

pub use args::ConsumeArgs;

pub const EXAMPLES: &str = "\
Examples:
  flotilla consume orders                         everything, then wait for more
  flotilla consume orders payments -e -f '%t %k:%v\\n'   everything there is in both
  flotilla consume orders -p 0 -o 100:200 -f json
  flotilla consume orders -o -10                  the last ten of each partition, then wait
  flotilla consume orders -o @2026-11-24T12:00:00Z -n 5
  flotilla consume orders -o @-1h -e
  flotilla consume orders -e -f json | flotilla produce copy -f json
  flotilla consume --topics-regex 'audit\\..*'     also topics created later

As a member of a group: members share the partitions, and each goes on where the group has committed.
  flotilla consume orders -g billing              run it again elsewhere: the two share the work
  flotilla consume orders -g billing -n 100       the next hundred, whoever took the ones before
  flotilla consume orders -g billing --commit-interval 200ms --instance-id billing-1
  flotilla consume --topics-regex 'audit\\..*' -g audit --offset-reset latest
  flotilla group describe billing                 how far it is; `group seek` moves it

With --offset-reset latest a group skips what was there when it began, and nothing else: partitions that are added,
and topics that are created, while it runs are read from their first record, whether a name or a pattern led to them.
If the place to go on at is not there (retention took it, or it lies beyond the end), --offset-reset decides too, and
what is skipped is said on standard error.

Committed is only what was written to standard output and flushed: after a crash some records come twice,
none is left out. Ctrl-C and SIGTERM commit and leave, so that the others take over at once.

Fields: %t topic, %p partition, %o offset, %k key, %v value, %T timestamp (ms), %h headers, %% percent;
\\n \\t \\r \\0 \\\\ \\xHH.
json: one object a line with topic, partition, offset, timestamp, key, value, headers; bytes that are
no text come as key_base64 and value_base64, in a header as {\"key\",\"value_base64\"}. It tells null from empty,
as -Z does in the other formats. On a terminal, what would move its cursor is shown escaped.";

pub async fn run(args: ConsumeArgs, global: &Global) -> Result<(), Failure> {
    let options =
        PrintOptions { is_terminal: std::io::stdout().is_terminal(), null: args.null.clone().unwrap_or_default() };
    let format = PrintFormat::parse(args.format.as_deref(), options)
        .map_err(|error| Failure::usage(format!("--format: {error}")))?;
    let printer = Printer::new(format, args.num);
    match args.group.group.clone() {
        Some(name) => group::run(&name, &args, printer, global).await,
        None => plain::run(&args, printer, global).await,
    }
}
