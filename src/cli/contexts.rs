//! The clusters that this user's command line knows: one small JSON file below XDG_CONFIG_HOME, written whole and
//! renamed, so that a crash leaves the old one.

use std::{collections::BTreeMap, env, fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::exit::Failure;

/// A cluster that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    pub brokers: Vec<String>,
    /// The cluster's directory, if `flotilla local` made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_dir: Option<PathBuf>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Contexts {
    pub current: Option<String>,
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// Returns the context in use.
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

/// Reads the file's content.
pub(super) fn read(bytes: &[u8]) -> serde_json::Result<Contexts> {
    serde_json::from_slice(bytes)
}

pub fn load() -> Result<Contexts, Failure> {
    let path = path()?;
    match fs::read(&path) {
        Ok(bytes) => read(&bytes)
            .map_err(|error| Failure::failed(format!("{} is damaged: {error}; mend or remove it", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Contexts::default()),
        Err(error) => Err(Failure::failed(format!("cannot read {}: {error}", path.display()))),
    }
}

pub fn store(all: &Contexts) -> Result<(), Failure> {
    let path = path()?;
    let text = serde_json::to_vec_pretty(all).map_err(|e| Failure::failed(format!("cannot write contexts: {e}")))?;
    super::files::write_whole(&path, &text)
}
