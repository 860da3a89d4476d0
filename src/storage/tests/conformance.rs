//! One suite for everything that is a `Kv`.

use bytes::Bytes;

use super::bed::on_both;
use crate::storage::{Family, KeyRange, Kv, ScanLimit, WriteBatch};

const ALL: ScanLimit = ScanLimit { pairs: usize::MAX, bytes: usize::MAX };

fn range(from: &str, to: &str) -> KeyRange {
    KeyRange { from: from.into(), to: to.into() }
}

fn put(batch: &mut WriteBatch, key: &str, value: &'static str) {
    batch.put(Family::Applied, key, Bytes::from_static(value.as_bytes()));
}

async fn keys(kv: &dyn Kv, range: KeyRange, limit: ScanLimit, reverse: bool) -> Vec<String> {
    let found = kv.scan(Family::Applied, range, limit, reverse).await.expect("scan");
    found.into_iter().map(|(key, _)| String::from_utf8(key.to_vec()).expect("utf-8")).collect()
}

async fn get(kv: &dyn Kv, family: Family, key: &str) -> Option<Bytes> {
    kv.get(family, key.as_bytes()).await.expect("get")
}

#[test]
fn a_commit_is_seen_once_it_returned_synced_or_not() {
    on_both(|bed| async move {
        let kv = bed.kv().await;
        for (key, sync) in [("a", true), ("b", false)] {
            let mut batch = WriteBatch::default();
            put(&mut batch, key, "value");
            kv.commit(batch, sync).await.expect("commit");
            assert_eq!(get(&*kv, Family::Applied, key).await.as_deref(), Some(&b"value"[..]));
        }
        assert_eq!(get(&*kv, Family::Log, "a").await, None, "families are apart");
        kv.commit(WriteBatch::default(), true).await.expect("an empty commit");
    });
}

#[test]
fn the_writes_of_a_batch_take_effect_in_their_order() {
    on_both(|bed| async move {
        let kv = bed.kv().await;
        let mut batch = WriteBatch::default();
        put(&mut batch, "a", "1");
        put(&mut batch, "b", "1");
        put(&mut batch, "c", "1");
        batch.delete_range(Family::Applied, range("a", "c"));
        put(&mut batch, "b", "2");
        put(&mut batch, "d", "1");
        batch.delete(Family::Applied, "d");
        // Ranges of nothing are no error.
        batch.delete_range(Family::Applied, range("c", "c"));
        batch.delete_range(Family::Applied, range("z", "a"));
        kv.commit(batch, true).await.expect("commit");
        assert_eq!(keys(&*kv, range("a", "z"), ALL, false).await, ["b", "c"]);
        assert_eq!(get(&*kv, Family::Applied, "b").await.as_deref(), Some(&b"2"[..]));
    });
}

#[test]
fn a_scan_is_half_open_ordered_and_stops_at_its_limits_after_one_pair() {
    on_both(|bed| async move {
        let kv = bed.kv().await;
        let mut batch = WriteBatch::default();
        for key in ["d", "b", "a", "c"] {
            put(&mut batch, key, "12345");
        }
        kv.commit(batch, false).await.expect("commit");
        let limit = |pairs, bytes| ScanLimit { pairs, bytes };
        assert_eq!(keys(&*kv, range("a", "d"), ALL, false).await, ["a", "b", "c"]);
        assert_eq!(keys(&*kv, range("a", "d"), ALL, true).await, ["c", "b", "a"]);
        assert_eq!(keys(&*kv, range("b", "z"), limit(2, usize::MAX), false).await, ["b", "c"]);
        assert_eq!(keys(&*kv, range("b", "z"), limit(9, 10), true).await, ["d", "c"]);
        assert_eq!(keys(&*kv, range("b", "z"), limit(9, 0), false).await, ["b"]);
        assert_eq!(keys(&*kv, range("b", "z"), limit(0, 9), false).await, ["b"]);
        assert_eq!(keys(&*kv, range("c", "c"), ALL, false).await, [""; 0]);
        assert_eq!(keys(&*kv, range("z", "a"), ALL, true).await, [""; 0]);
    });
}

#[test]
fn a_value_in_two_parts_reads_back_as_one_whatever_its_size() {
    on_both(|bed| async move {
        let kv = bed.kv().await;
        for len in [0, 1, 511, 512, 70_000, 3 << 20] {
            let payload: Bytes = (0..len).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
            let mut batch = WriteBatch::default();
            batch.put_parts(Family::Log, "key", [Bytes::from_static(b"head"), payload.clone()]);
            kv.commit(batch, true).await.expect("commit");
            let value = get(&*kv, Family::Log, "key").await.expect("there");
            assert_eq!(value, [b"head", &payload[..]].concat(), "{len} bytes");
        }
    });
}

#[test]
fn what_was_committed_is_there_after_opening_again() {
    on_both(|bed| async move {
        let kv = bed.kv().await;
        for (key, sync) in [("a", true), ("b", false)] {
            let mut batch = WriteBatch::default();
            put(&mut batch, key, "value");
            kv.commit(batch, sync).await.expect("commit");
        }
        drop(kv);
        let kv = bed.kv().await;
        assert_eq!(keys(&*kv, range("a", "z"), ALL, false).await, ["a", "b"].map(|key| key.to_string())[..]);
    });
}

/// What peers are told of a directory: a number that no crash takes back.
#[test]
fn synced_commits_are_numbered_one_by_one_and_the_number_is_kept() {
    on_both(|bed| async move {
        let kv = bed.kv().await;
        let first = kv.commit_no();
        for (sync, number) in [(true, first + 1), (false, first + 1), (true, first + 2)] {
            kv.commit(WriteBatch::default(), sync).await.expect("commit");
            assert_eq!(kv.commit_no(), number, "synced {sync}");
        }
        drop(kv);
        assert_eq!(bed.kv().await.commit_no(), first + 2);
    });
}
