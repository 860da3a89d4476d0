//! One windowed append exchange: the requests of one group to one follower, and its replies.
//!
//! openraft tells a follower of each commit with an append of its own, without entries. Such news is
//! held back a moment: if a request with entries follows, which carries the newer commit, only that is
//! sent, and its reply answers both. That halves the frames of a steady load; a follower applies at
//! most [`COMMIT_HELD`] later, and nobody reads from it.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::{
    checks::check_term,
    link::{APPEND_WINDOW, Exchange},
    matches::Matches,
    reads::{Held, Reads},
    rpc::{Refusals, RpcResult, broken, expect, failed},
    types::{RaftLogId, Types},
    wire::{Address, Frame, Kind, decode_append_reply, encode_append},
};
use crate::types::{LogIndex, Term};

/// An append exchange without a reply for this long is given up: openraft would wait for ever, and
/// a hung follower would pin the log against purging (SAFETY M5, M15). Long enough for a slow disk.
const APPEND_STALLED: Duration = Duration::from_secs(3);
/// How long the news of a commit waits for entries to travel with.
const COMMIT_HELD: Duration = Duration::from_millis(1);
/// Commits that one append stands for; reached only if none is followed by entries.
const SUPERSEDED_MAX: usize = 16;

type Request = AppendEntriesRequest<Types>;

/// What is sent now, what is held back, and which requests a reply answers. Pure, time is passed in.
///
/// Invariants, true whenever no method is running:
/// - What is outstanding and what is held back are at most [`APPEND_WINDOW`] frames together.
/// - Requests are superseded only while a newer one is held back, and at most [`SUPERSEDED_MAX`] of them.
/// - No frame that is outstanding reaches beyond `sent`.
struct Window {
    /// How long the news of a commit waits for entries to travel with.
    hold: Duration,
    /// The last entry that was sent in this exchange, or that its first request followed on.
    sent: Option<RaftLogId>,
    /// News of a commit, and until when it waits.
    held: Option<(Request, Instant)>,
    /// What to answer to requests that were held back for good, until the next frame is sent.
    superseded: Vec<Option<RaftLogId>>,
    /// Frames without a reply, oldest first.
    outstanding: VecDeque<Outstanding>,
}

struct Outstanding {
    term: Term,
    superseded: Vec<Option<RaftLogId>>,
    /// The last entry that the follower has before and after it.
    before: Option<RaftLogId>,
    last: Option<RaftLogId>,
}

impl Outstanding {
    /// What no follower answers: openraft takes it for granted, and would stop.
    fn check(&self, reply: &StreamAppendResult<Types>) -> Result<(), String> {
        match reply {
            Ok(matched) if *matched > self.last => Err(format!("{matched:?} matches, of all up to {:?}", self.last)),
            Ok(_) => Ok(()),
            Err(StreamAppendError::Conflict(at)) if Some(at) != self.before.as_ref() => {
                Err(format!("{at:?} conflicts, where {:?} was asked for", self.before))
            }
            Err(StreamAppendError::Conflict(_)) => Ok(()),
            Err(StreamAppendError::HigherVote(vote)) => check_term(vote.leader_id().term, self.term.0),
        }
    }
}

/// What an exchange writes down for its owner.
pub(super) struct Books {
    pub matches: Arc<Matches>,
    /// Whether matches are written down here; they are looked at in any case.
    pub notes: bool,
    pub refusals: Refusals,
}

impl Window {
    fn new(hold: Duration) -> Window {
        Window { hold, sent: None, held: None, superseded: Vec::new(), outstanding: VecDeque::new() }
    }

    fn has_room(&self) -> bool {
        self.outstanding.len() < APPEND_WINDOW
    }

    fn is_waiting(&self) -> bool {
        !self.outstanding.is_empty()
    }

    /// What is to be sent now that there is this request. Whoever asks has seen that there is room.
    fn offer(&mut self, request: Request, now: Instant) -> Option<Request> {
        // It asks the follower nothing that the frames before it did not.
        let is_news = request.entries.is_empty() && self.sent.is_some() && request.prev_log_id <= self.sent;
        if let Some((older, _)) = self.held.take() {
            self.superseded.push(older.prev_log_id);
        }
        if is_news && self.superseded.len() < SUPERSEDED_MAX {
            self.held = Some((request, now + self.hold));
            self.check();
            return None;
        }
        Some(self.send(request))
    }

    /// When what is held back is to be sent. None: nothing is.
    fn due(&self) -> Option<Instant> {
        self.held.as_ref().map(|(_, until)| *until)
    }

    /// What was held back is to be sent.
    fn release(&mut self) -> Option<Request> {
        let (request, _) = self.held.take()?;
        Some(self.send(request))
    }

    fn send(&mut self, request: Request) -> Request {
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        self.sent = self.sent.max(last);
        let term = Term(request.vote.leader_id().term);
        let (superseded, before) = (std::mem::take(&mut self.superseded), request.prev_log_id);
        self.outstanding.push_back(Outstanding { term, superseded, before, last });
        self.check();
        request
    }

    /// The oldest frame was answered. What it superseded is to be answered first: had it been refused,
    /// the exchange would end, and those requests would need no answer.
    fn replied(&mut self) -> Option<Outstanding> {
        let answered = self.outstanding.pop_front();
        self.check();
        answered
    }

    /// A few comparisons: it runs for every frame. A peer has no part in it, whose replies only take frames out.
    fn check(&self) {
        let (frames, held, superseded) = (self.outstanding.len(), self.held.is_some(), self.superseded.len());
        assert!(
            frames + usize::from(held) <= APPEND_WINDOW,
            "{frames} frames are outstanding and held back: {held}, the window is {APPEND_WINDOW}"
        );
        assert!(
            superseded <= if held { SUPERSEDED_MAX } else { 0 },
            "{superseded} requests are superseded, {SUPERSEDED_MAX} may be, held back: {held}"
        );
        let last = self.outstanding.back().and_then(|frame| frame.last);
        assert!(last <= self.sent, "a frame up to {last:?} is outstanding, of all up to {:?}", self.sent);
    }
}

/// The exchange itself. It ends when its input has and every reply came, or with the first error.
pub(super) struct Appends<S> {
    exchange: Exchange,
    address: Address,
    books: Books,
    input: S,
    /// What was read for requests that are not sent yet.
    reads: Arc<Reads>,
    next: Option<Request>,
    ended: bool,
    window: Window,
    /// Rings when what is held back may be due. Runs on through what is superseded meanwhile: to set a
    /// timer costs more than to look once in vain.
    alarm: Option<Pin<Box<Sleep>>>,
    /// Answers that a reply brought besides its own.
    ready: VecDeque<StreamAppendResult<Types>>,
}

type Step<S> = Option<(RpcResult<StreamAppendResult<Types>>, Option<Appends<S>>)>;

impl<S: Stream<Item = Request> + Unpin> Appends<S> {
    /// `first`: what the input yielded before.
    pub fn new(
        exchange: Exchange,
        address: Address,
        books: Books,
        (input, reads): (S, Arc<Reads>),
        first: Request,
    ) -> Appends<S> {
        Appends {
            exchange,
            address,
            books,
            input,
            reads,
            next: Some(first),
            ended: false,
            window: Window::new(COMMIT_HELD),
            alarm: None,
            ready: VecDeque::new(),
        }
    }

    /// Yields the next reply, sending requests as the window allows.
    pub async fn step(this: Option<Appends<S>>) -> Step<S> {
        let mut this = this?;
        loop {
            if let Some(answer) = this.ready.pop_front() {
                let goes_on = answer.is_ok();
                return Some((Ok(answer), goes_on.then_some(this)));
            }
            let may_send = !this.ended && this.window.has_room();
            let waits = this.window.is_waiting();
            if this.next.is_none() && !may_send && !waits && this.window.due().is_none() {
                return None;
            }
            if let Err(error) = this.go_on(may_send, waits).await {
                return Some((Err(error), None));
            }
        }
    }

    /// Does the next thing that there is to do.
    async fn go_on(&mut self, may_send: bool, waits: bool) -> RpcResult<()> {
        if let Some(request) = self.next.take() {
            return self.take_request(request).await;
        }
        tokio::select! {
            biased;
            reply = timeout(APPEND_STALLED, self.exchange.replies.recv()), if waits => match reply {
                Ok(Some(frame)) => self.take_reply(frame),
                Ok(None) => Err(broken("link lost")),
                Err(_) => Err(broken("appends stalled")),
            },
            request = self.reads.during(self.input.next()), if may_send => match request {
                Some(request) => self.take_request(request).await,
                None => {
                    self.ended = true;
                    drop(self.reads.held()); // Read in vain: it leads no more.
                    let held = self.window.release();
                    self.send(held, None).await
                }
            },
            () = rings(&mut self.alarm), if self.alarm.is_some() => {
                self.alarm = None;
                let due = self.window.due();
                let held = if due.is_some_and(|due| due <= Instant::now()) { self.window.release() } else { None };
                self.set_alarm();
                self.send(held, None).await
            }
        }
    }

    async fn take_request(&mut self, request: Request) -> RpcResult<()> {
        // A request with entries is sent at once; one without needs no room.
        let room = self.reads.held();
        let request = self.window.offer(request, Instant::now());
        self.set_alarm();
        self.send(request, room).await
    }

    fn set_alarm(&mut self) {
        if let (Some(due), None) = (self.window.due(), &self.alarm) {
            self.alarm = Some(Box::pin(sleep_until(due)));
        }
    }

    async fn send(&mut self, request: Option<Request>, room: Option<Held>) -> RpcResult<()> {
        let Some(request) = request else { return Ok(()) };
        let body = encode_append(request);
        self.exchange.send_holding(Kind::Append, self.address, body, room).await.map_err(failed)
    }

    fn take_reply(&mut self, frame: Frame) -> RpcResult<()> {
        let sent = self.window.replied().expect("a reply is awaited only while one is outstanding");
        if let Kind::Failed | Kind::Busy = frame.kind {
            self.books.refusals.fetch_add(1, Relaxed);
        }
        let reply = decode_append_reply(expect(frame, Kind::AppendReply)?).map_err(broken)?;
        let (group, replica) = (self.address.0, self.address.2);
        if let Err(reason) = sent.check(&reply) {
            self.books.refusals.store(0, Relaxed);
            tracing::error!(%group, %replica, reason, "an impossible answer to an append");
            return Err(broken(reason));
        }
        if let Err(StreamAppendError::Conflict(at)) = &reply
            && self.books.matches.covers(replica, sent.term, LogIndex(at.index))
        {
            // It is not fed again (SAFETY B5), and openraft would ask it the same at once, for ever. As a
            // refusal it is asked less and less often.
            let reason = format!("replica {replica} has lost entry {at}, which it had acknowledged");
            if self.books.refusals.fetch_add(1, Relaxed) == 0 {
                tracing::error!(%group, %replica, %at, "a follower has lost entries that it had acknowledged");
            }
            return Err(broken(reason));
        }
        self.books.refusals.store(0, Relaxed);
        if let Ok(Some(matched)) = &reply {
            self.ready.extend(sent.superseded.into_iter().map(Ok));
            if self.books.notes {
                self.books.matches.note(replica, sent.term, LogIndex(matched.index));
            }
        }
        self.ready.push_back(reply);
        Ok(())
    }
}

async fn rings(alarm: &mut Option<Pin<Box<Sleep>>>) {
    if let Some(alarm) = alarm {
        alarm.as_mut().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;
    use crate::{
        proto::internal,
        raft::{
            lanes::Outgoing,
            link::Link,
            reads::link_room,
            types::{Command, RaftEntry, log_id},
            wire::{decode_append, encode_append_reply},
        },
        types::{EntryPosition, RaftGroupId, ReplicaId},
    };

    /// Many of the timers' ticks.
    const HOLD: Duration = Duration::from_millis(100);

    fn at(index: u64) -> RaftLogId {
        log_id(EntryPosition { term: Term(1), index: LogIndex(index) })
    }

    /// Entries after `prev`, up to and with `last`, and news that all up to `committed` is.
    fn request(prev: u64, last: u64, committed: u64) -> Request {
        let entries = (prev + 1..=last).map(|index| RaftEntry {
            log_id: at(index),
            payload: openraft::EntryPayload::Normal(Command(bytes::Bytes::new())),
        });
        Request {
            vote: openraft::Vote::new_committed(1, 1),
            prev_log_id: Some(at(prev)),
            leader_commit: Some(at(committed)),
            entries: entries.collect(),
        }
    }

    /// The last index and the commit of what is sent.
    fn sent(request: Option<Request>) -> Option<(u64, u64)> {
        let request = request?;
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        Some((last.unwrap().index, request.leader_commit.unwrap().index))
    }

    fn answered(window: &mut Window) -> Vec<u64> {
        window.replied().unwrap().superseded.into_iter().map(|id| id.unwrap().index).collect()
    }

    #[test]
    fn news_of_a_commit_travels_with_the_entries_that_follow_it() {
        let (mut window, now) = (Window::new(HOLD), Instant::now());
        assert_eq!(sent(window.offer(request(4, 5, 4), now)), Some((5, 4)));
        assert_eq!(answered(&mut window), [] as [u64; 0]);
        assert_eq!(sent(window.offer(request(5, 5, 5), now)), None);
        assert_eq!(window.due(), Some(now + HOLD));
        assert_eq!(sent(window.offer(request(5, 6, 5), now)), Some((6, 5)));
        assert_eq!((window.due(), answered(&mut window)), (None, vec![5]), "its reply answers both");
    }

    /// The other followers were faster: the entry is committed before this one has answered.
    #[test]
    fn news_waits_also_while_the_follower_has_not_answered_yet() {
        let (mut window, now) = (Window::new(HOLD), Instant::now());
        window.offer(request(4, 5, 4), now);
        assert_eq!(sent(window.offer(request(5, 5, 5), now)), None);
        assert_eq!(sent(window.offer(request(5, 6, 5), now)), Some((6, 5)));
        assert_eq!((answered(&mut window), answered(&mut window)), (vec![], vec![5]));
        assert!(!window.is_waiting());
    }

    #[test]
    fn news_without_entries_is_sent_once_it_is_due_and_answered_once() {
        let (mut window, now) = (Window::new(HOLD), Instant::now());
        window.offer(request(4, 5, 4), now);
        window.offer(request(5, 5, 5), now);
        assert_eq!(sent(window.release()), Some((5, 5)));
        assert_eq!(sent(window.release()), None);
        assert_eq!((answered(&mut window), answered(&mut window)), (vec![], vec![]));
    }

    #[test]
    fn a_question_to_the_follower_is_never_held_back() {
        let (mut window, now) = (Window::new(HOLD), Instant::now());
        assert_eq!(sent(window.offer(request(4, 4, 4), now)), Some((4, 4)), "whether its log agrees");
        assert_eq!(sent(window.offer(request(4, 4, 4), now)), None);
        assert_eq!(sent(window.offer(request(9, 9, 4), now)), Some((9, 4)), "whether it has more");
    }

    #[test]
    fn one_append_stands_for_a_bounded_number_of_commits() {
        let (mut window, now) = (Window::new(HOLD), Instant::now());
        window.offer(request(4, 5, 4), now);
        answered(&mut window);
        let sent_one = (0..=SUPERSEDED_MAX).find_map(|_| sent(window.offer(request(5, 5, 5), now)));
        assert_eq!(sent_one, Some((5, 5)));
        assert_eq!(answered(&mut window), [5; SUPERSEDED_MAX]);
    }

    #[test]
    fn the_window_has_room_for_so_many_frames() {
        let (mut window, now) = (Window::new(HOLD), Instant::now());
        for index in 1..=APPEND_WINDOW as u64 {
            assert!(window.has_room());
            window.offer(request(index, index + 1, 0), now);
        }
        assert!(!window.has_room());
        answered(&mut window);
        assert!(window.has_room());
    }

    #[test]
    #[should_panic(expected = "4 frames are outstanding and held back: true")]
    fn a_request_that_was_taken_without_room_is_a_bug() {
        let (mut window, now) = (Window::new(HOLD), Instant::now());
        for index in 1..=APPEND_WINDOW as u64 {
            window.offer(request(index, index + 1, 0), now);
        }
        window.offer(request(5, 5, 5), now);
    }

    /// The follower: what it is sent, at which moment, and its answers.
    struct Follower {
        link: Arc<Link>,
        frames: Outgoing<internal::Frame>,
    }

    impl Follower {
        /// The frame, and the last index and the commit that it carries.
        async fn hear(&mut self) -> (Frame, Option<(u64, u64)>) {
            let heard = timeout(HOLD * 9, self.frames.next()).await.expect("something is sent");
            let frame = Frame::decode(heard.unwrap().data).unwrap();
            let request = decode_append(frame.body.clone()).unwrap();
            (frame, sent(Some(request)))
        }

        fn agree(&self, frame: &Frame, index: u64) {
            self.link.dispatch(frame.reply(Kind::AppendReply, encode_append_reply(&Ok(Some(at(index))))));
        }
    }

    /// An exchange that runs by itself: where its requests come from, its follower, and its answers.
    fn exchange(first: Request) -> (mpsc::Sender<Request>, Follower, mpsc::Receiver<u64>) {
        let (link, frames) = Link::to_a_test();
        let (requests, input) = mpsc::channel(8);
        let address = (RaftGroupId(1), ReplicaId(1), ReplicaId(2));
        let opened = link.open(APPEND_WINDOW).unwrap();
        let books = Books { matches: Arc::default(), notes: true, refusals: Refusals::default() };
        let mut appends =
            Appends::new(opened, address, books, (ReceiverStream::new(input), Reads::through(link_room())), first);
        appends.window.hold = HOLD;
        let (answer, answers) = mpsc::channel(8);
        tokio::spawn(async move {
            let mut steps = Box::pin(stream::unfold(Some(appends), Appends::step));
            while let Some(Ok(Ok(Some(matched)))) = steps.next().await {
                let _ = answer.send(matched.index).await;
            }
        });
        (requests, Follower { link, frames }, answers)
    }

    #[tokio::test(start_paused = true)]
    async fn news_that_nothing_follows_is_sent_in_time() {
        let (requests, mut follower, mut answers) = exchange(request(4, 5, 4));
        let (frame, said) = follower.hear().await;
        assert_eq!(said, Some((5, 4)));
        follower.agree(&frame, 5);
        assert_eq!(answers.recv().await, Some(5));

        let began = Instant::now();
        requests.send(request(5, 5, 5)).await.unwrap();
        let (frame, said) = follower.hear().await;
        assert_eq!(said, Some((5, 5)));
        let tick = Duration::from_millis(2);
        assert!((HOLD..HOLD + tick).contains(&began.elapsed()), "{:?}", began.elapsed());
        follower.agree(&frame, 5);
        assert_eq!(answers.recv().await, Some(5));
    }

    /// The alarm was set for what is superseded before it rings.
    #[tokio::test(start_paused = true)]
    async fn the_alarm_of_superseded_news_serves_the_next() {
        let (requests, mut follower, mut answers) = exchange(request(4, 5, 4));
        let (first, _) = follower.hear().await;
        follower.agree(&first, 5);
        let began = Instant::now();
        requests.send(request(5, 5, 5)).await.unwrap();
        requests.send(request(5, 6, 5)).await.unwrap();
        let (second, said) = follower.hear().await;
        assert_eq!((said, began.elapsed()), (Some((6, 5)), Duration::ZERO));
        follower.agree(&second, 6);
        // Half of the first one's time later, so that the alarm rings too early for this one.
        tokio::time::advance(HOLD / 2).await;
        requests.send(request(6, 6, 6)).await.unwrap();
        let (third, said) = follower.hear().await;
        assert_eq!(said, Some((6, 6)));
        let held = began.elapsed();
        let tick = Duration::from_millis(2);
        assert!((HOLD * 3 / 2..HOLD * 3 / 2 + tick).contains(&held), "{held:?}");
        follower.agree(&third, 6);
        for index in [5, 5, 6, 6] {
            assert_eq!(answers.recv().await, Some(index), "each request has its answer, in order");
        }
    }
}
