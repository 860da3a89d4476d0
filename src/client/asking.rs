//! How a cluster is asked: who is tried, in which order, how often, and what is believed.
//!
//! Promises: metadata is asked for at most every [`REFRESH_MS_MIN`] however many callers want it, and each time of
//! another broker, so that one that knows nothing of the present misleads nobody for long; a frozen broker costs a
//! call `HEDGE_MS`, not its whole deadline, because the next broker is asked beside it; a change is repeated only
//! while it surely had no effect. Leaves out: connections (`net`), and what calls mean.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;

use super::{
    error::{ClientError, Effect},
    metadata::is_cut_off,
    net::{Cluster, cluster_client, unary},
};
use crate::{proto::v1, types::BrokerId};

/// How long a broker may think before another one is asked the same beside it.
const HEDGE_MS: u64 = 300;
/// How long two metadata requests are apart, so that there are at most ten a second: enough to follow an election, no
/// burden for a broker.
const REFRESH_MS_MIN: u64 = 100;
/// How long a call pauses between rounds over all brokers, when none of them could do it.
const ROUND_PAUSE_MS: u64 = 100;
/// Brokers that are cut off are asked for no more than these in one refresh: their answers together are the best there
/// is, and the next refresh asks others.
const CUT_OFF_ANSWERS_MAX: usize = 5;
/// So many brokers need to deny that something exists in one round, if as many are there; see [`DENIED_ROUNDS`].
const DENIALS_OF_A_ROUND: usize = 2;
/// It is denied in so many rounds before it is believed: a broker that just started may not know what exists.
const DENIED_ROUNDS: u32 = 3;

/// What a call is to the cluster.
#[derive(Clone, Copy)]
struct Manner {
    what: &'static str,
    deadline: Duration,
    /// What became of a call without an answer.
    effect: Effect,
    /// Brokers look for what they do not know before they say that there is no such thing, so they are believed soon.
    believes_denials: bool,
}

/// Whether a call is under way that a broker may have received.
#[derive(Default)]
struct Doubt(Mutex<Option<Arc<AtomicBool>>>);

impl Doubt {
    fn begin(&self, connected: Arc<AtomicBool>) {
        *self.0.lock().expect("no holder panics") = Some(connected);
    }

    fn end(&self) {
        *self.0.lock().expect("no holder panics") = None;
    }

    fn effect(&self) -> Effect {
        let under_way = self.0.lock().expect("no holder panics");
        match under_way.as_ref().is_some_and(|connected| connected.load(Ordering::Acquire)) {
            true => Effect::Unknown,
            false => Effect::Nothing,
        }
    }
}

impl Cluster {
    /// Asks for brokers and the leaders of `topics`; waits its turn if somebody just did.
    pub(super) async fn refresh(&self, topics: &[String]) -> Result<(), ClientError> {
        self.refresh_and_judge(topics).await.map(|_| ())
    }

    /// Does what [`Cluster::refresh`] does, and returns whether a broker answered that is in touch with the others: if
    /// none did, what is missing in the answers may exist.
    pub(super) async fn refresh_and_judge(&self, topics: &[String]) -> Result<bool, ClientError> {
        let asked = Instant::now();
        let mut refreshed = self.refreshed().lock().await;
        if let Some(last) = *refreshed {
            let known = self.look(|m| topics.iter().all(|t| m.topic(t).is_some()));
            if last > asked && known {
                return Ok(true); // Somebody asked while we waited for the lock.
            }
            tokio::time::sleep_until(last + Duration::from_millis(REFRESH_MS_MIN)).await;
        }
        *refreshed = Some(Instant::now());
        let mut all = self.look(|m| m.topic_names());
        all.extend(topics.iter().filter(|t| self.look(|m| m.topic(t).is_none())).cloned());
        self.gather(v1::GetMetadataRequest { topics: all, all_topics: false }).await
    }

    /// Takes in one broker's word, or, if it is cut off, the words of a few together. Returns whether one was in touch.
    async fn gather(&self, request: v1::GetMetadataRequest) -> Result<bool, ClientError> {
        let call = |address: String, channel| {
            let request = request.clone();
            async move { unary(&address, cluster_client(channel).get_metadata(request)).await }
        };
        let mut cut_off = 0;
        let judge = |address: &str, answer: v1::GetMetadataResponse| {
            let is_cut_off = is_cut_off(&answer);
            self.note_cut_off(address, is_cut_off);
            self.update(answer);
            cut_off += usize::from(is_cut_off);
            (!is_cut_off || cut_off >= CUT_OFF_ANSWERS_MAX).then_some(!is_cut_off)
        };
        match self.race(self.in_turn(), "metadata", usize::MAX, call, judge).await {
            Err(_) if cut_off > 0 => Ok(false),
            heard => heard,
        }
    }

    /// Asks these brokers the same, in this order, until one answers, the next one when the last has thought for
    /// `HEDGE_MS` or failed. Only for calls that change nothing, or nothing that matters.
    pub(super) async fn hedged<T, F>(
        &self,
        candidates: Vec<String>,
        what: &'static str,
        call: impl Fn(String, Channel) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        self.race(candidates, what, usize::MAX, call, |_, answer| Some(answer)).await
    }

    /// Asks one after the other, the next beside those that think, until `judge` is content with an answer, or so many
    /// deny that there is such a thing.
    async fn race<T, R, F>(
        &self,
        candidates: Vec<String>,
        what: &'static str,
        denials_max: usize,
        call: impl Fn(String, Channel) -> F,
        mut judge: impl FnMut(&str, T) -> Option<R>,
    ) -> Result<R, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let hedge = Duration::from_millis(HEDGE_MS);
        let mut waiting = candidates.iter();
        let mut running = FuturesUnordered::new();
        // What a broker said, and what the network did.
        let (mut said, mut failed) = (None, None);
        let (mut is_answered, mut denials) = (false, 0);
        while denials < denials_max {
            let more = match waiting.next() {
                Some(address) => {
                    let asked = call(address.clone(), self.channel(address)?);
                    running.push(async move { (address, asked.await) });
                    true
                }
                None => false,
            };
            if running.is_empty() {
                break;
            }
            // Once a broker has said something, the silent ones get no more than the usual patience: the next round
            // asks them again.
            let got = match more || is_answered {
                true => timeout(hedge, running.next()).await.ok().flatten(),
                false => running.next().await,
            };
            match got {
                Some((address, Ok(answer))) => match judge(address, answer) {
                    Some(result) => return Ok(result),
                    None => is_answered = true,
                },
                Some((_, Err(error))) if !error.is_retriable() => return Err(error),
                Some((_, Err(error @ ClientError::Broker(_)))) => {
                    denials += usize::from(error.is_not_found());
                    (said, is_answered) = (Some(error), true);
                }
                Some((_, Err(error))) => failed = Some(error),
                None if more => {}
                None => break,
            }
        }
        if let Some(error) = said {
            return Err(error);
        }
        let last = failed.map_or("nothing answered".into(), |error: ClientError| error.to_string());
        Err(ClientError::NoBroker { what, tried: candidates.join(", "), last })
    }

    /// A call that only asks: repeated over all brokers until `deadline`. What brokers deny three times does not
    /// exist.
    pub(super) async fn ask<T, F>(
        &self,
        what: &'static str,
        deadline: Duration,
        call: impl Fn(String, Channel) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let manner = Manner { what, deadline, effect: Effect::Nothing, believes_denials: true };
        self.until(manner, &Doubt::default(), || self.ask_once(what, DENIALS_OF_A_ROUND, &call)).await
    }

    /// Does what [`Cluster::ask`] does, with leaders of partitions: those that do not know a partition yet are asked
    /// again until `deadline`, since they do not look for it.
    pub(super) async fn ask_leader<T, F>(
        &self,
        what: &'static str,
        deadline: Duration,
        call: impl Fn(String, Channel) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let manner = Manner { what, deadline, effect: Effect::Nothing, believes_denials: false };
        self.until(manner, &Doubt::default(), || self.ask_once(what, usize::MAX, &call)).await
    }

    async fn ask_once<T, F>(
        &self,
        what: &'static str,
        denials_max: usize,
        call: impl Fn(String, Channel) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        if self.look(|m| !m.knows_brokers()) {
            // Who is cut off is asked last, and so it has to be known. If nobody answers, the call says so.
            let _ = self.refresh(&[]).await;
        }
        self.race(self.candidates(), what, denials_max, call, |_, answer| Some(answer)).await
    }

    /// A call that changes something: one broker at a time, repeated only while it surely had no effect. What
    /// brokers deny three times does not exist.
    pub(super) async fn change<T, F>(
        &self,
        what: &'static str,
        deadline: Duration,
        call: impl Fn(String, Channel) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let manner = Manner { what, deadline, effect: Effect::Unknown, believes_denials: true };
        let doubt = Doubt::default();
        self.until(manner, &doubt, || self.change_in(&doubt, &call)).await
    }

    /// Does what [`Cluster::change`] does, for what any broker can do: `avoid` is asked last.
    pub(super) async fn change_avoiding<T, F>(
        &self,
        what: &'static str,
        deadline: Duration,
        avoid: Option<BrokerId>,
        call: impl Fn(String, Channel) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let doubt = Doubt::default();
        let round = || async {
            self.refresh(&[]).await?;
            let avoided = avoid.and_then(|broker| self.look(|m| m.address(broker).map(str::to_string)));
            let mut candidates = self.candidates();
            candidates.sort_by_key(|address| Some(address) == avoided.as_ref());
            self.one_by_one_in(&doubt, candidates, &call).await
        };
        let manner = Manner { what, deadline, effect: Effect::Unknown, believes_denials: true };
        self.until(manner, &doubt, round).await
    }

    /// Goes one round of [`Cluster::change`].
    pub(super) async fn change_once<T, F>(&self, call: impl Fn(String, Channel) -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        self.change_in(&Doubt::default(), call).await
    }

    async fn change_in<T, F>(&self, doubt: &Doubt, call: impl Fn(String, Channel) -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        // Who answers at all, and who leads: a frozen broker asked first would cost the deadline.
        self.refresh(&[]).await?;
        self.one_by_one_in(doubt, self.coordinators(), call).await
    }

    /// Lists addresses in the order for what the metadata leader does in the end: its own, if it is known and alive,
    /// then those of [`Cluster::candidates`]. The metadata leader is the coordinator of every group.
    pub(super) fn coordinators(&self) -> Vec<String> {
        let leader = self.look(|m| m.live_address(m.metadata_leader).map(str::to_string));
        let mut candidates = self.candidates();
        candidates.sort_by_key(|address| Some(address) != leader.as_ref());
        candidates
    }

    /// Asks one broker after the other, for as long as each says that nothing happened and another may do it.
    pub(super) async fn one_by_one<T, F>(
        &self,
        candidates: Vec<String>,
        call: impl Fn(String, Channel) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        self.one_by_one_in(&Doubt::default(), candidates, call).await
    }

    async fn one_by_one_in<T, F>(
        &self,
        doubt: &Doubt,
        candidates: Vec<String>,
        call: impl Fn(String, Channel) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let (mut last, mut denials) = (None, 0);
        for address in candidates {
            let (channel, connected) = self.watched_channel(&address)?;
            doubt.begin(connected);
            let done = call(address, channel).await;
            doubt.end();
            match done {
                Err(error) if error.is_retriable() && error.effect() == Effect::Nothing => {
                    denials += usize::from(error.is_not_found());
                    last = Some(error);
                }
                done => return done,
            }
            if denials >= DENIALS_OF_A_ROUND {
                break;
            }
        }
        Err(last.expect("there is at least one bootstrap address"))
    }

    /// Repeats while the error is retriable and had no effect, until the deadline.
    async fn until<T, F>(&self, manner: Manner, doubt: &Doubt, round: impl Fn() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let Manner { what, deadline, effect, believes_denials } = manner;
        let end = Instant::now() + deadline;
        let mut denied = 0;
        let mut last: Option<ClientError> = None;
        loop {
            match tokio::time::timeout_at(end, round()).await {
                // What only asks has no effect, whatever became of it.
                Ok(Err(error)) if error.is_retriable() && Effect::Nothing == effect.and(error.effect()) => {
                    denied = if error.is_not_found() { denied + 1 } else { 0 };
                    if believes_denials && denied >= DENIED_ROUNDS {
                        return Err(error);
                    }
                    last = Some(error);
                }
                Ok(done) => return done,
                Err(_) => {
                    let last = last.map_or("no answer came".into(), |e| e.to_string());
                    let effect = effect.and(doubt.effect());
                    return Err(ClientError::Deadline { what: what.into(), waited: deadline, effect, last });
                }
            }
            let pause = Duration::from_millis(ROUND_PAUSE_MS / 2 + self.world().rng.below(ROUND_PAUSE_MS));
            if Instant::now() + pause >= end {
                let error = last.expect("a round just failed");
                if error.effect() == Effect::Nothing {
                    return Err(error);
                }
                let (last, waited) = (error.to_string(), deadline);
                return Err(ClientError::Deadline { what: what.into(), waited, effect: Effect::Nothing, last });
            }
            tokio::time::sleep(pause).await;
        }
    }
}
