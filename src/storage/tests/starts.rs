//! What a directory keeps of its own starts and of other brokers, on both disks.

use super::bed::on_both;
use crate::{
    storage::{Seen, SetBack, Start, StartId},
    types::{BrokerId, StorageId},
};

const STORAGE: StorageId = StorageId(7);

fn seen(start: Start, commit_no: u64) -> Seen {
    Seen { storage_id: STORAGE, start, commit_no, alarm: String::new() }
}

#[test]
fn each_start_is_added_to_those_before_and_knows_where_they_ended() {
    on_both(|bed| async move {
        let store = bed.store().await;
        let first = store.begin_start(StartId(11)).await.expect("begun").current();
        assert_eq!(first, Start { number: 1, id: StartId(11) });
        store.flush().await.expect("a commit");
        let ended = store.commit_no();
        store.close().await.expect("closed");
        let last = ended + 1; // Of the close.
        drop(store);
        let store = bed.store().await;
        let starts = store.begin_start(StartId(12)).await.expect("begun");
        assert_eq!(starts.current(), Start { number: 2, id: StartId(12) });
        assert_eq!(starts.check(STORAGE, &seen(first, last)), Ok(()));
        let proof = SetBack::LaterCommit { number: 1, seen: last + 1, here: last };
        assert_eq!(starts.check(STORAGE, &seen(first, last + 1)), Err(proof));
    });
}

#[test]
fn what_is_kept_of_others_is_there_after_opening_again_and_is_no_news_for_them() {
    on_both(|bed| async move {
        let store = bed.store().await;
        store.flush().await.expect("a commit");
        let told = store.commit_no();
        let start = Start { number: 3, id: StartId(9) };
        store.save_seen(BrokerId(2), &seen(start, 5)).await.expect("saved");
        let alarmed = Seen { alarm: "it stops".into(), ..seen(start, 6) };
        let queued = store.queue_seen(BrokerId(3), &alarmed);
        store.sync_seen(queued).await.expect("synced");
        assert_eq!(store.commit_no(), told, "else two idle brokers would never rest");
        drop(store);
        let store = bed.store().await;
        let all = store.all_seen().await.expect("read");
        assert_eq!(all, [(BrokerId(2), seen(start, 5)), (BrokerId(3), alarmed)].into());
        store.flush().await.expect("a commit");
        assert!(store.commit_no() > told);
    });
}
