//! Contexts: clusters by name, so that commands need no -b.

use clap::Subcommand;
use serde_json::json;

use super::{
    contexts,
    exit::Failure,
    global::Global,
    output::{FormatArg, OutputFormat, print_json, print_line, print_table},
};

pub const EXAMPLES: &str = "\
Examples:
  flotilla context add prod -b 10.0.0.1:7070,10.0.0.2:7070
  flotilla context list
  flotilla context use prod
  flotilla context show";

#[derive(Subcommand)]
pub enum ContextCommand {
    /// Remember the cluster at -b under a name, and use it.
    Add { name: String },
    /// List all contexts.
    List(FormatArg),
    /// Use a context from now on.
    Use { name: String },
    /// Show the context in use.
    Show(FormatArg),
}

pub fn run(command: ContextCommand, global: &Global) -> Result<(), Failure> {
    match command {
        ContextCommand::Add { name } => {
            if global.brokers.is_empty() {
                return Err(Failure::usage("which cluster? give its brokers with -b HOST:PORT,..."));
            }
            contexts::save(&name, contexts::Context { brokers: global.brokers.clone(), local_dir: None })
        }
        ContextCommand::List(format) => list(format),
        ContextCommand::Use { name } => {
            let mut all = contexts::load()?;
            if !all.contexts.contains_key(&name) {
                let known: Vec<_> = all.contexts.keys().cloned().collect();
                return Err(Failure::not_found(format!("no context {name:?}; known: {}", known.join(", "))));
            }
            all.current = Some(name);
            contexts::store(&all)
        }
        ContextCommand::Show(format) => {
            let context = contexts::current()?;
            match format.format {
                OutputFormat::Json => print_json(&context),
                OutputFormat::Text => print_line(&context.brokers.join(",")),
            }
        }
    }
}

fn list(format: FormatArg) -> Result<(), Failure> {
    let all = contexts::load()?;
    match format.format {
        OutputFormat::Json => print_json(&json!({"current": all.current, "contexts": all.contexts})),
        OutputFormat::Text => {
            let row = |(name, context): (&String, &contexts::Context)| {
                let mark = if Some(name) == all.current.as_ref() { "*" } else { "" };
                vec![mark.to_string(), name.clone(), context.brokers.join(",")]
            };
            print_table(&["", "CONTEXT", "BROKERS"], all.contexts.iter().map(row).collect())
        }
    }
}
