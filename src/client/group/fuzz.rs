//! A coordinator that says anything at all: what a member makes of it keeps its own rules.

use std::{collections::BTreeMap, time::Duration};

use prost::Message;

use super::{
    OffsetReset,
    calls::told,
    core::{Core, Rules},
};
use crate::{
    formats::fuzz::fuzz,
    proto::{fuzz::answers, v1},
    types::Offset,
};

fn seed(of: &str) -> Vec<u8> {
    answers().into_iter().find(|(name, _)| *name == of).expect("a sample").1
}

#[test]
fn fuzz_answers_of_a_coordinator() {
    let beat = seed("GroupHeartbeatResponse");
    let long = (beat.len() as u16).to_be_bytes();
    // A first answer, and one that comes after it.
    let twice = [&long[..], &beat, &beat].concat();
    fuzz!([twice, [&long[..], &beat].concat()], |bytes| {
        let Some((length, rest)) = bytes.split_first_chunk() else { return };
        let (first, second) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        let mut core = Core::<()>::new(Rules {
            session_timeout: Duration::from_secs(10),
            poll_interval_max: Duration::from_secs(1_000),
            auto_commit: Some(Duration::from_secs(5)),
            offset_reset: OffsetReset::Earliest,
        });
        for (now, bytes) in (1..).map(Duration::from_secs).zip([first, second, first]) {
            let Ok(answer) = v1::GroupHeartbeatResponse::decode(bytes) else { continue };
            let names_nobody = answer.member_id.is_empty();
            match told(answer) {
                Ok(beat) => core.on_beat(core.membership(), now, beat),
                Err(error) => {
                    assert!(names_nobody, "{error}");
                    core.on_beat_failed(core.membership(), error, now, 0, Duration::from_secs(30));
                }
            }
            core.check();
            let asked = core.unknown(now);
            let found: BTreeMap<_, _> = asked.iter().map(|(_, at)| (at.clone(), Offset(i64::MAX))).collect();
            core.on_offsets(&asked, &found);
            core.take_starts();
            core.begin_next(now);
            // What is fatal is said for ever.
            while let Some(Ok(_)) = core.take(now, 10) {
                core.begin_next(now);
            }
            core.due(now);
            core.check();
            let _ = (core.next_beat(), core.session_ends(), core.owns(), core.has_lost());
        }
    });
}
