//! The command line.

use std::ops::Range;

use flotilla::seam::plant::Plant;

use crate::{
    corpus,
    seed::{Crash, Options},
};

pub enum Asked {
    /// One crash at one moment, as the first simulation had it.
    Crash(Options),
    Stall(Options),
    /// One seed of the corpus.
    Seed(corpus::Options),
    Seeds(Many),
    /// Those whose names hold this.
    Cases(Option<String>),
    /// The table of planted bugs.
    Plants,
}

/// Many seeds of the corpus.
pub struct Many {
    pub seeds: Range<u64>,
    pub jobs: usize,
    /// Stop at the first that fails.
    pub until_found: bool,
    /// What each is told besides its number.
    pub more: Vec<String>,
}

#[derive(Default)]
struct Words {
    seed: Option<u64>,
    seeds: Option<Range<u64>>,
    jobs: usize,
    until_found: bool,
    prints: bool,
    is_stall: bool,
    crash: Option<Crash>,
    plant: Option<String>,
    lists_plants: bool,
    filter: Option<String>,
}

pub fn parse(args: &[String]) -> Result<Asked, String> {
    let words = read(args)?;
    let acks_before_sync = words.plant.as_deref() == Some(ACKS_BEFORE_SYNC);
    let bug = match words.plant.as_deref() {
        None | Some(ACKS_BEFORE_SYNC) => None,
        Some(name) => Some(name.parse::<Plant>().map_err(|error| format!("{error}, and {ACKS_BEFORE_SYNC}"))?),
    };
    let prints = words.prints;
    Ok(match (words.seed, words.seeds) {
        (Some(seed), _) if words.crash.is_some() || words.is_stall => {
            let options = Options { seed, crash: words.crash.unwrap_or_default(), acks_before_sync, prints };
            if words.is_stall { Asked::Stall(options) } else { Asked::Crash(options) }
        }
        (Some(seed), _) => Asked::Seed(corpus::Options { seed, prints, acks_before_sync, bug }),
        (None, Some(seeds)) => {
            let more = words.plant.map(|plant| vec!["--plant".to_string(), plant]).unwrap_or_default();
            Asked::Seeds(Many { seeds, jobs: words.jobs.max(1), until_found: words.until_found, more })
        }
        (None, None) if words.lists_plants => Asked::Plants,
        (None, None) => Asked::Cases(words.filter),
    })
}

/// A bug of the disk rather than of the program, which needs no feature.
const ACKS_BEFORE_SYNC: &str = "acks-before-sync";

fn read(args: &[String]) -> Result<Words, String> {
    let mut words = Words::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} wants a value"));
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{arg}: {text:?} is not a number"));
        match arg.as_str() {
            "--seed" => words.seed = Some(number(value()?)?),
            "--seeds" => {
                let range = value()?;
                let (from, to) = range.split_once("..").ok_or_else(|| format!("{range:?} is not FROM..TO"))?;
                words.seeds = Some(number(from)?..number(to)?);
            }
            "--jobs" => words.jobs = number(value()?)? as usize,
            "--until-found" => words.until_found = true,
            "--trace" => words.prints = true,
            "--stall" => words.is_stall = true,
            "--crash" => {
                words.crash = Some(match value()?.as_str() {
                    "leader" => Crash::Leader,
                    "all" => Crash::All,
                    other => return Err(format!("--crash {other}: leader or all")),
                });
            }
            "--plants" => words.lists_plants = true,
            "--plant" => words.plant = Some(value()?.clone()),
            // What cargo test passes on to every test binary.
            "--nocapture" | "--no-capture" | "--quiet" | "-q" => {}
            "--test-threads" => drop(value()?),
            flag if flag.starts_with("--test-threads=") => {}
            flag if flag.starts_with('-') => return Err(format!("unknown flag {flag}")),
            name => words.filter = Some(name.to_string()),
        }
    }
    Ok(words)
}
