//! The operations around an anomaly: a second pass over the files, made only if there is something to explain.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use crate::{
    dump::mentions,
    event::{Body, Event},
    files::{self, BadFile, Events},
    report::Found,
};

/// Events that name a value or operation of an anomaly are shown, so many at most.
const ABOUT_MAX: usize = 12;

/// An event, and who recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub worker: String,
    pub event: Event,
    /// Whether it is what the anomaly is about; else it only happened about then to the key.
    pub about: bool,
}

/// For each of `anomalies`, the events that it is about and up to `near` others of its key about that time, in order.
pub fn around(dir: &Path, anomalies: &[&Found], near: usize) -> Result<Vec<Vec<Seen>>, BadFile> {
    let mut gathering: Vec<Gathering> = anomalies.iter().map(|found| Gathering::new(found, near)).collect();
    for path in files::list(dir)? {
        let mut events = Events::open(&path)?;
        let worker = events.worker();
        // The key of each open operation.
        let mut keys: HashMap<u64, u32> = HashMap::new();
        gathering.iter_mut().for_each(|gathering| gathering.open.clear());
        while let Some(event) = events.next_event()? {
            let mut own = event.body.keys();
            if event.body.is_invocation() {
                keys.extend(own.first().map(|key| (event.op, *key)));
            } else if event.body.is_completion() {
                own.extend(keys.remove(&event.op));
            }
            gathering.iter_mut().for_each(|gathering| gathering.see(&worker, &event, &own));
        }
    }
    Ok(gathering.into_iter().map(Gathering::finish).collect())
}

struct Gathering<'a> {
    found: &'a Found,
    near_max: usize,
    about: Vec<Seen>,
    near: Vec<Seen>,
    /// Operations of the file at hand whose beginning is shown.
    open: HashSet<u64>,
}

impl<'a> Gathering<'a> {
    fn new(found: &'a Found, near_max: usize) -> Gathering<'a> {
        Gathering { found, near_max, about: vec![], near: vec![], open: HashSet::new() }
    }

    fn see(&mut self, worker: &str, event: &Event, keys: &[u32]) {
        let found = self.found;
        let of_op = found.ops.contains(&(event.process, event.op));
        let of_shown = event.body.is_completion() && self.open.remove(&event.op);
        let about = of_op || of_shown || found.values.iter().any(|value| mentions(&event.body, *value));
        let is_near =
            !about && found.key.is_some_and(|key| keys.contains(&key)) && !matches!(event.body, Body::Entry(_));
        if !about && !is_near {
            return;
        }
        if about && event.body.is_invocation() {
            self.open.insert(event.op);
        }
        let seen = Seen { worker: worker.into(), event: event.clone(), about };
        let (list, max) = if about { (&mut self.about, ABOUT_MAX) } else { (&mut self.near, self.near_max) };
        list.push(seen);
        // Trimmed now and then: what is kept is what is nearest.
        if list.len() >= 8 * max.max(8) {
            nearest(list, found.at, max);
        }
    }

    fn finish(mut self) -> Vec<Seen> {
        nearest(&mut self.about, self.found.at, ABOUT_MAX);
        nearest(&mut self.near, self.found.at, self.near_max);
        self.about.append(&mut self.near);
        self.about.sort_by_key(|seen| seen.event.at);
        self.about
    }
}

fn nearest(list: &mut Vec<Seen>, at: u64, max: usize) {
    list.sort_by_key(|seen| seen.event.at.abs_diff(at));
    list.truncate(max);
}
