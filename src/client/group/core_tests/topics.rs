//! What becomes of a partition whose topic is replaced, or that cannot be read on.

use std::collections::BTreeMap;

use super::*;

/// Answers the question for offsets, with the topic that they are of.
fn identified(core: &mut Core<()>, id: &str, found: &[(i32, i64)]) -> Vec<Start> {
    let asked = core.unknown(ms(0));
    core.identify(&asked, &BTreeMap::from([("t".to_string(), id.to_string())]));
    core.on_offsets(&asked, &found.iter().map(|(p, offset)| (at(*p), Offset(*offset))).collect());
    core.take_starts()
}

#[test]
fn a_partition_of_a_replaced_topic_is_begun_anew_and_nothing_of_the_old_one_is_committed() {
    let mut core = core();
    beat(&mut core, ms(0), &[0, 1]);
    let starts = identified(&mut core, "old", &[(0, 10), (1, 10)]);
    assert!(starts.iter().all(|start| start.topic_id == "old"));
    assert_eq!(next(&mut core, ms(0)), "assigned 0,1");
    core.on_brought(starts[0].reader, &at(0), brought(10..13));
    assert_eq!(next(&mut core, ms(0)), "0: 10..13");
    core.on_brought(starts[0].reader, &at(0), brought(13..20));
    core.on_topic_gone(starts[0].reader, &at(0));
    assert_eq!(core.take_stops(), [starts[0].reader]);
    assert_eq!(next(&mut core, ms(0)), "replaced 0");
    assert_eq!(due(&mut core, INTERVAL), [], "neither what was in hand nor what was brought");
    assert_eq!(next(&mut core, ms(0)), "assigned 0");
    let starts = identified(&mut core, "new", &[]);
    assert_eq!((starts.len(), starts[0].topic_id.as_str(), starts[0].from), (1, "new", From::Reset));
    core.on_positioned(starts[0].reader, &at(0), None, Offset(0));
    core.on_brought(starts[0].reader, &at(0), brought(0..2));
    assert_eq!(next(&mut core, ms(0)), "0: 0..2");
    assert_eq!(next(&mut core, ms(0)), "-");
    let dues = core.due(INTERVAL * 2);
    let of = dues.iter().map(|due| (due.topic_id.as_str(), due.offset.at.partition.0, due.offset.offset.0));
    assert_eq!(of.collect::<Vec<_>>(), [("new", 0, 2)]);
}

#[test]
fn a_commit_that_is_refused_for_its_topic_begins_the_new_one() {
    let mut core = core();
    beat(&mut core, ms(0), &[0]);
    let starts = identified(&mut core, "old", &[(0, 10)]);
    assert_eq!(next(&mut core, ms(0)), "assigned 0");
    core.on_brought(starts[0].reader, &at(0), brought(10..13));
    assert_eq!(next(&mut core, ms(0)), "0: 10..13");
    assert_eq!(next(&mut core, ms(0)), "-");
    let dues = core.due(INTERVAL);
    assert_eq!((dues.len(), dues[0].topic_id.as_str()), (1, "old"));
    core.on_committed(&dues, &BTreeSet::from([at(0)]));
    core.on_replaced(&dues, &at(0));
    assert_eq!((next(&mut core, ms(0)), next(&mut core, ms(0))), ("replaced 0".into(), "assigned 0".into()));
    // Late news of the old holding change nothing more.
    core.on_replaced(&dues, &at(0));
    assert_eq!(next(&mut core, ms(0)), "-");
}

#[test]
fn what_was_read_before_a_batch_that_cannot_be_is_handed_out_first() {
    let (mut core, starts) = reading(core());
    core.on_brought(starts[0].reader, &at(0), brought(10..13));
    let error =
        ClientError::BadBatch { partition: at(0), offset: Offset(13), next: Some(Offset(15)), detail: "crc".into() };
    core.on_read_failed(starts[0].reader, &at(0), error, true);
    core.check();
    assert_eq!(next(&mut core, ms(0)), "0: 10..13");
    assert_eq!(next(&mut core, ms(0)), "error ?");
    assert_eq!(commit(&mut core, INTERVAL), [(0, 13)]);
    core.seek(&at(0), Offset(15)).expect("it is ours");
    assert_eq!(core.take_starts()[0].from, From::Offset(Offset(15)));
}
