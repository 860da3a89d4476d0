//! What waits to be sent on one stream, in two lanes. Bulk waits for room. What must not wait behind it
//! (pings and their answers, who leads, goodbye) has a lane of its own that is emptied first: under a
//! saturated link a peer would otherwise be taken for dead that answers all the time.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::Stream;
use tokio::sync::mpsc;

/// Frames of bulk queued to one peer before their senders wait. Each append window is at most
/// [`APPEND_WINDOW`](super::link::APPEND_WINDOW) frames a group, so this bounds what a slow peer can pin.
const BULK_FRAMES_MAX: usize = 64;
/// Frames that overtake bulk. Small ones: a digest of 1,000 led groups is the largest.
const URGENT_FRAMES_MAX: usize = 64;

/// The senders' side. Clones send on the same stream.
pub(super) struct Lanes<T> {
    urgent: mpsc::Sender<T>,
    bulk: mpsc::Sender<T>,
}

impl<T> Clone for Lanes<T> {
    fn clone(&self) -> Lanes<T> {
        Lanes { urgent: self.urgent.clone(), bulk: self.bulk.clone() }
    }
}

/// The stream that is sent. Ends once it is empty and all senders are gone.
pub(super) struct Outgoing<T> {
    urgent: mpsc::Receiver<T>,
    bulk: mpsc::Receiver<T>,
}

impl<T: Send + 'static> Lanes<T> {
    pub fn new() -> (Lanes<T>, Outgoing<T>) {
        let (urgent, urgent_out) = mpsc::channel(URGENT_FRAMES_MAX);
        let (bulk, bulk_out) = mpsc::channel(BULK_FRAMES_MAX);
        (Lanes { urgent, bulk }, Outgoing { urgent: urgent_out, bulk: bulk_out })
    }

    /// Waits for room among the bulk. False: the stream is gone.
    pub async fn send(&self, frame: T) -> bool {
        self.bulk.send(frame).await.is_ok()
    }

    /// Queues bulk if there is room; a task waits for it otherwise. For what follows bulk and must not be lost.
    pub fn send_later(&self, frame: T) {
        if let Err(mpsc::error::TrySendError::Full(frame)) = self.bulk.try_send(frame) {
            let bulk = self.bulk.clone();
            // Ends with the stream.
            tokio::spawn(async move { bulk.send(frame).await });
        }
    }

    /// Queues a frame before all bulk. False: there is no room for it, or the stream is gone.
    pub fn send_first(&self, frame: T) -> bool {
        self.urgent.try_send(frame).is_ok()
    }
}

impl<T> Stream for Outgoing<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let urgent = self.urgent.poll_recv(cx);
        if let Poll::Ready(Some(frame)) = urgent {
            return Poll::Ready(Some(frame));
        }
        match (self.bulk.poll_recv(cx), urgent) {
            (Poll::Ready(Some(frame)), _) => Poll::Ready(Some(frame)),
            (Poll::Ready(None), Poll::Ready(None)) => Poll::Ready(None),
            (Poll::Ready(None), _) | (Poll::Pending, _) => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn what_is_urgent_overtakes_bulk_although_senders_wait_for_room() {
        let (lanes, mut outgoing) = Lanes::new();
        for number in 0..BULK_FRAMES_MAX {
            assert!(lanes.send(number).await);
        }
        let waiting = lanes.clone();
        let waiting = tokio::spawn(async move { waiting.send(BULK_FRAMES_MAX).await });
        tokio::task::yield_now().await;
        assert!(lanes.send_first(4_711));
        assert_eq!(outgoing.next().await, Some(4_711));
        for number in 0..=BULK_FRAMES_MAX {
            assert_eq!(outgoing.next().await, Some(number), "bulk keeps its order");
        }
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn the_stream_ends_after_what_was_queued_and_its_senders_hear_of_its_end() {
        let (lanes, mut outgoing) = Lanes::new();
        assert!(lanes.send(1).await && lanes.send_first(2));
        lanes.send_later(3);
        drop(lanes);
        let sent = [outgoing.next().await, outgoing.next().await, outgoing.next().await, outgoing.next().await];
        assert_eq!(sent, [Some(2), Some(1), Some(3), None]);
        let (lanes, outgoing) = Lanes::new();
        drop(outgoing);
        assert!(!lanes.send(1).await && !lanes.send_first(1));
    }
}
