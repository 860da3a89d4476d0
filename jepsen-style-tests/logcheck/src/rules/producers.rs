//! No two producers are one.
//!
//! `pid-reuse`: two answers to InitProducerId give the same id and epoch. (That an older epoch's send is refused once a newer
//! one was given out is a matter of transactional ids, which this checker leaves out.)

use std::collections::HashMap;

use super::Rule;
use crate::{
    facts::{Facts, Init},
    meta::Meta,
    report::{Found, Severity, Sheet},
};

pub fn check(facts: &Facts, _: &Meta, sheet: &mut Sheet) {
    if facts.inits.is_empty() {
        return sheet.not_applied(Rule::PidReuse, "nobody asked for a producer id");
    }
    sheet.checked(Rule::PidReuse, facts.inits.len() as u64);
    let mut given: HashMap<(i64, i16), &Init> = HashMap::new();
    for init in &facts.inits {
        let (id, epoch) = (init.producer_id, init.producer_epoch);
        if let Some(first) = given.insert((id, epoch), init) {
            sheet.add(Rule::PidReuse, Severity::Fatal, || {
                let (a, b) = (first.process, init.process);
                let says = format!("processes {a} and {b} were both given producer id {id} with epoch {epoch}");
                Found::new(init.at, says).ops([(a, first.op), (b, init.op)])
            });
        }
    }
}
