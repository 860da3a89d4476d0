//! A broker whose data directory was set back to an older copy has forgotten votes and acknowledged
//! records, and the copy itself cannot tell (SAFETY B5). Its peers can: each keeps, durably, the last
//! start of every other broker and the number of its last commit that it told (`storage::Starts`).
//!
//! - **At start**, before any replica is opened, a broker with data asks each peer what it knows of it, and
//!   waits only for those that can be reached: a cluster whose power was cut comes back by itself.
//! - **Then** it tells each peer its new start, and from time to time its last durable commit. A peer that was
//!   away is asked as soon as a link to it comes up.
//! - A peer keeps a new start only from somebody who knows the one before, so of two processes that run on
//!   copies of one directory the second is told of the first.
//!
//! What a peer knows and the directory does not have is proof: the directory is marked, its replicas are
//! dead, and the process ends. The other alarm of this module is Raft's: a leader that contradicts a
//! committed entry proves the same of some *other* directory where nobody could know at start; then this
//! broker's directory is the one that is right, so it is not marked, and ends nevertheless rather than
//! write the records of two histories into one log.
//!
//! Not seen: what was committed in the last moments (`limits::TELL_EVERY`) before a directory was copied back
//! over its own running life, unless Raft contradicts it.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::{Duration, Instant, sleep};

use super::past::Memory;
use crate::{
    broker::{
        BrokerFailed, limits,
        node::Stage,
        peers::calls::{Answer, Call, Told},
    },
    raft::{Contradiction, Differs},
    seam::plant::{self, Plant},
    storage::{ALARM_BYTES_MAX, SEEN_MAX, Seen, StartId},
    types::{BrokerId, METADATA_GROUP},
};

/// Asks the peers that can be reached, before any replica is opened, what they know of this broker, and tells them of
/// this start.
pub async fn ask_peers(memory: &Memory) -> Result<(), BrokerFailed> {
    let deadline = Instant::now() + limits::ASK_PEERS_WITHIN;
    let asked = memory.node.other_peers().map(|peer| ask_one(memory, peer.id, deadline));
    join_all(asked).await.into_iter().collect()
}

async fn ask_one(memory: &Memory, peer: BrokerId, deadline: Instant) -> Result<(), BrokerFailed> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let is_away =
            memory.node.raft.trouble_with(peer).is_some_and(|trouble| trouble.tries >= limits::AWAY_AFTER_TRIES);
        if left.is_zero() || is_away || exchange(memory, peer, left).await? {
            return Ok(());
        }
        sleep(limits::ASK_AGAIN).await;
    }
}

/// Asks a peer what it knows of this broker and tells it of this start. False: it did not answer.
async fn exchange(memory: &Memory, peer: BrokerId, within: Duration) -> Result<bool, BrokerFailed> {
    let Some(session) = memory.node.raft.session_with(peer) else { return Ok(false) };
    let Ok(Answer::Recalled(known)) = memory.node.call(peer, &Call::Recall, within).await else { return Ok(false) };
    judge(memory, peer, known.as_ref()).await?;
    if !is_known(memory) {
        return Ok(true);
    }
    tell(memory, peer, session, known.map(|known| known.start), within).await
}

/// Others may keep something of this broker: its directory is one that the cluster has registered. A
/// new one, or one that was emptied, says nothing before, so that it cannot overwrite what is known of its
/// predecessor.
fn is_known(memory: &Memory) -> bool {
    memory.past.had_cluster || matches!(*memory.node.stage.borrow(), Stage::Running | Stage::Stopping)
}

async fn tell(
    memory: &Memory,
    peer: BrokerId,
    session: u64,
    after: Option<(u64, StartId)>,
    within: Duration,
) -> Result<bool, BrokerFailed> {
    let start = memory.past.starts.current();
    let commit_no = memory.node.store.commit_no();
    let seen = Seen { storage_id: memory.node.storage_id(), start, commit_no, alarm: String::new() };
    match memory.node.call(peer, &Call::Remember { told: Told::of(&seen), after }, within).await {
        Ok(Answer::Remembered(None)) => {
            memory.past.told.lock().expect("no holder panics").insert(peer, (session, commit_no));
            Ok(true)
        }
        Ok(Answer::Remembered(Some(other))) => {
            judge(memory, peer, Some(&other)).await?;
            memory.past.told.lock().expect("no holder panics").remove(&peer);
            Ok(false)
        }
        Ok(_) | Err(_) => Ok(false),
    }
}

async fn judge(memory: &Memory, peer: BrokerId, known: Option<&Told>) -> Result<(), BrokerFailed> {
    let Some(known) = known.filter(|_| !plant::on(Plant::SetBackUnnoticed)) else { return Ok(()) };
    let Err(proof) = memory.past.starts.check(memory.node.storage_id(), &known.seen()) else { return Ok(()) };
    let failed = BrokerFailed::SetBack { peer, proof: proof.to_string() };
    // First of all: whatever happens next, this directory is not used again.
    memory.node.store.condemn(&format!("it was set back to an older copy; broker {peer} says: {proof}"));
    raise_alarm(memory, &failed).await;
    Err(failed)
}

/// Lets every peer that can be reached keep why this broker stops, for their health reports.
async fn raise_alarm(memory: &Memory, failed: &BrokerFailed) {
    let mut text = failed.to_string();
    clip(&mut text);
    let alarm = Call::Alarm { text };
    let peers = memory.node.raft.peers();
    join_all(peers.iter().map(|peer| memory.node.call(*peer, &alarm, limits::LAST_WORDS_WITHIN))).await;
}

/// Tells peers of commits, asks those whose link came up, and watches for contradictions, until the broker stops.
pub async fn run(memory: Arc<Memory>) {
    let mut contradicted = memory.node.raft.contradicted();
    let mut last_tell = Instant::now();
    loop {
        tokio::select! {
            biased;
            found = async { contradicted.wait_for(Option::is_some).await.map(|found| *found) } => {
                let Ok(Some(found)) = found else { return };
                let failed = contradiction(&memory, found);
                raise_alarm(&memory, &failed).await;
                return memory.node.fail(failed);
            }
            () = sleep(limits::LOOK_FOR_LINKS_EVERY) => {}
        }
        if memory.node.is_stopping() || memory.node.failed.borrow().is_some() {
            return;
        }
        let tells = last_tell.elapsed() >= limits::TELL_EVERY;
        if tells {
            last_tell = Instant::now();
            sync_what_was_heard(&memory).await;
        }
        if is_known(&memory)
            && let Err(failed) = round(&memory, tells).await
        {
            return memory.node.fail(failed);
        }
    }
}

/// Makes durable what others told, unless a commit of this broker's own has done so meanwhile.
async fn sync_what_was_heard(memory: &Memory) {
    let queued = *memory.past.queued.lock().expect("no holder panics");
    let Some(queued) = queued else { return };
    // A store that fails ends the process.
    if memory.node.store.sync_seen(queued).await.is_ok() {
        let mut now = memory.past.queued.lock().expect("no holder panics");
        // Unless more was heard meanwhile.
        if *now == Some(queued) {
            *now = None;
        }
    }
}

/// Asks peers that this broker has not spoken to since their link came up; with `tells`, tells the others what
/// is new.
async fn round(memory: &Memory, tells: bool) -> Result<(), BrokerFailed> {
    let commit_no = memory.node.store.commit_no();
    let peers = memory.node.raft.peers();
    let spoken = peers.into_iter().filter_map(|peer| {
        let session = memory.node.raft.session_with(peer)?;
        let told = memory.past.told.lock().expect("no holder panics").get(&peer).copied();
        match told {
            Some((then, told)) if then == session => (tells && told < commit_no).then_some((peer, session, false)),
            Some(_) | None => Some((peer, session, true)),
        }
    });
    let spoken: Vec<(BrokerId, u64, bool)> = spoken.collect();
    let start = memory.past.starts.current();
    let speak = spoken.into_iter().map(|(peer, session, is_new)| async move {
        if is_new {
            exchange(memory, peer, limits::TELL_WITHIN).await
        } else {
            tell(memory, peer, session, Some((start.number, start.id)), limits::TELL_WITHIN).await
        }
    });
    join_all(speak).await.into_iter().collect::<Result<Vec<bool>, _>>().map(drop)
}

/// The last commit of this life, to whoever can be reached.
pub async fn say_goodbye(memory: &Memory) {
    if is_known(memory)
        && let Err(failed) = round(memory, true).await
    {
        memory.node.fail(failed);
    }
}

fn contradiction(memory: &Memory, found: Contradiction) -> BrokerFailed {
    let Contradiction { group, leader, leads_in, differs } = found;
    let name = memory.node.metadata().and_then(|metadata| metadata.read(|state| state.partition_of(group)));
    let of = match name {
        _ if group == METADATA_GROUP => "the metadata".to_string(),
        Some(at) => at.to_string(),
        None => format!("raft group {group}"),
    };
    let named = |broker: Option<BrokerId>| broker.map_or("an unknown broker".into(), |id| format!("broker {id}"));
    let leader = named(leader);
    let what = match differs {
        Differs::Entry { index, here, there } => format!(
            "{of}: entry {index} is committed here with term {here}, and its leader, {leader}, has an entry of term \
             {there} there (it leads in term {leads_in})"
        ),
        Differs::Leader { here } => format!(
            "{of}: {} was elected in term {leads_in}, as this broker remembers, and now {leader} leads in that term",
            named(here)
        ),
    };
    BrokerFailed::Contradicted { what }
}

/// What this broker keeps of the asker.
pub async fn recall(memory: &Memory, from: BrokerId) -> Option<Told> {
    memory.past.seen.lock().await.get(&from).map(Told::of)
}

/// Keeps what a broker tells of itself, durably if it is a new start. None if it is kept; otherwise what is
/// known instead. An error: nothing was kept.
pub async fn remember(
    memory: &Memory,
    from: BrokerId,
    told: Told,
    after: Option<(u64, StartId)>,
) -> Result<Option<Told>, NotKept> {
    let mut seen = told.seen();
    let mut all = memory.past.seen.lock().await;
    match all.get(&from).filter(|known| known.storage_id == seen.storage_id) {
        Some(known) if known.start == seen.start => {
            if seen.commit_no <= known.commit_no {
                return Ok(None);
            }
            seen.alarm.clone_from(&known.alarm);
            let queued = memory.node.store.queue_seen(from, &seen);
            *memory.past.queued.lock().expect("no holder panics") = Some(queued);
        }
        Some(known) if after != Some((known.start.number, known.start.id)) => return Ok(Some(Told::of(known))),
        Some(_) | None => {
            if all.len() >= SEEN_MAX && !all.contains_key(&from) {
                return Err(NotKept);
            }
            memory.node.store.save_seen(from, &seen).await.map_err(|_| NotKept)?;
            memory.past.note_alarm(from, "");
        }
    }
    all.insert(from, seen);
    Ok(None)
}

/// Keeps why a broker stops for good.
pub async fn take_alarm(memory: &Memory, from: BrokerId, mut text: String) -> Result<(), NotKept> {
    clip(&mut text);
    tracing::error!(broker = %from, alarm = text, "a broker stops for good");
    let mut all = memory.past.seen.lock().await;
    let Some(known) = all.get_mut(&from) else { return Err(NotKept) };
    known.alarm.clone_from(&text);
    memory.past.note_alarm(from, &text);
    memory.node.store.save_seen(from, known).await.map_err(|_| NotKept)
}

/// What was told could not be kept: the store has failed, or there are too many brokers.
pub struct NotKept;

/// Shortens a text to what is kept of an alarm, at a character's end.
fn clip(text: &mut String) {
    let mut end = text.len().min(ALARM_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}
