//! The serving side of an append exchange: its requests go to the replica in order, its answers back.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt};
use openraft::raft::AppendEntriesRequest;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::Status;

use super::{
    lanes::Lanes,
    member::Member,
    types::Types,
    wire::{Frame, Kind, encode_append_reply},
};
use crate::proto::internal;

/// What goes back to a peer on its stream.
pub(super) type Replies = Lanes<Result<internal::Frame, Status>>;

pub(super) async fn send(replies: &Replies, frame: Frame) {
    // A peer that is gone needs no reply.
    let _ = replies.send(Ok(internal::Frame { data: frame.encode() })).await;
}

/// A request, and the memory that it holds until it is answered.
pub(super) struct Incoming {
    pub request: AppendEntriesRequest<Types>,
    pub room: Option<OwnedSemaphorePermit>,
}

/// What of the requests that the replica took is not answered yet, oldest first.
type Unanswered = Arc<Mutex<VecDeque<Option<OwnedSemaphorePermit>>>>;

/// The replica's side of the requests. openraft's own task reads it, and drops it when it ends, which at a
/// core that waits for its disk may be long after the exchange: so this holds the exchange's turn.
struct Requests {
    arriving: mpsc::Receiver<Incoming>,
    unanswered: Unanswered,
    _turn: OwnedSemaphorePermit,
}

impl Stream for Requests {
    type Item = AppendEntriesRequest<Types>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let arrived = std::task::ready!(self.arriving.poll_recv(cx));
        Poll::Ready(arrived.map(|Incoming { request, room }| {
            self.unanswered.lock().expect("no panic under this lock").push_back(room);
            request
        }))
    }
}

/// Runs until the requests end and all are answered, or until the first error.
pub(super) async fn run(
    member: Arc<dyn Member>,
    head: Frame,
    arriving: mpsc::Receiver<Incoming>,
    turn: OwnedSemaphorePermit,
    replies: Replies,
) {
    let unanswered = Unanswered::default();
    let requests = Requests { arriving, unanswered: unanswered.clone(), _turn: turn };
    let mut answers = member.appends(Box::pin(requests)).await;
    while let Some(answer) = answers.next().await {
        drop(unanswered.lock().expect("no panic under this lock").pop_front());
        let frame = match answer {
            Ok(answer) => head.reply(Kind::AppendReply, encode_append_reply(&answer)),
            Err(reason) => head.reply(Kind::Failed, reason.into()),
        };
        send(&replies, frame).await;
    }
}
