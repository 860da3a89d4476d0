//! Contexts: clusters by name, so that commands need no -b. One small JSON file below
//! XDG_CONFIG_HOME; written whole and renamed, so that a crash leaves the old one.

use std::{collections::BTreeMap, env, fs, io, path::PathBuf};

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Failure, Global,
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

/// One remembered cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    pub brokers: Vec<String>,
    /// Of a cluster of `flotilla local`: its directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_dir: Option<PathBuf>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Contexts {
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
}

pub fn run(command: ContextCommand, global: &Global) -> Result<(), Failure> {
    match command {
        ContextCommand::Add { name } => {
            if global.brokers.is_empty() {
                return Err(Failure::usage("which cluster? give its brokers with -b HOST:PORT,..."));
            }
            save(&name, Context { brokers: global.brokers.clone(), local_dir: None })
        }
        ContextCommand::List(format) => list(format),
        ContextCommand::Use { name } => {
            let mut all = load()?;
            if !all.contexts.contains_key(&name) {
                let known: Vec<_> = all.contexts.keys().cloned().collect();
                return Err(Failure::not_found(format!("no context {name:?}; known: {}", known.join(", "))));
            }
            all.current = Some(name);
            store(&all)
        }
        ContextCommand::Show(format) => {
            let context = current()?;
            match format.format {
                OutputFormat::Json => print_json(&context),
                OutputFormat::Text => print_line(&context.brokers.join(",")),
            }
        }
    }
}

fn list(format: FormatArg) -> Result<(), Failure> {
    let all = load()?;
    match format.format {
        OutputFormat::Json => print_json(&json!({"current": all.current, "contexts": all.contexts})),
        OutputFormat::Text => {
            let row = |(name, context): (&String, &Context)| {
                let mark = if Some(name) == all.current.as_ref() { "*" } else { "" };
                vec![mark.to_string(), name.clone(), context.brokers.join(",")]
            };
            print_table(&["", "CONTEXT", "BROKERS"], all.contexts.iter().map(row).collect())
        }
    }
}

/// The context in use.
pub fn current() -> Result<Context, Failure> {
    let all = load()?;
    let context = all.current.as_ref().and_then(|name| all.contexts.get(name)).cloned();
    context.ok_or_else(|| {
        Failure::usage(
            "which cluster? give -b HOST:PORT,..., set FLOTILLA_BROKERS, or start one with `flotilla local start`",
        )
    })
}

/// Remembers a context and uses it.
pub fn save(name: &str, context: Context) -> Result<(), Failure> {
    let mut all = load()?;
    all.contexts.insert(name.to_string(), context);
    all.current = Some(name.to_string());
    store(&all)
}

/// The context of this name, if there is one.
pub fn get(name: &str) -> Result<Option<Context>, Failure> {
    Ok(load()?.contexts.get(name).cloned())
}

fn path() -> Result<PathBuf, Failure> {
    let base = env::var_os("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let base = base.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    let base = base.ok_or_else(|| Failure::usage("neither XDG_CONFIG_HOME nor HOME is set"))?;
    Ok(base.join("flotilla").join("contexts.json"))
}

fn load() -> Result<Contexts, Failure> {
    let path = path()?;
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| Failure::failed(format!("{} is damaged: {error}; mend or remove it", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Contexts::default()),
        Err(error) => Err(Failure::failed(format!("cannot read {}: {error}", path.display()))),
    }
}

fn store(all: &Contexts) -> Result<(), Failure> {
    let path = path()?;
    let text = serde_json::to_vec_pretty(all).map_err(|e| Failure::failed(format!("cannot write contexts: {e}")))?;
    super::files::write_whole(&path, &text)
}
