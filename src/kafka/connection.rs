//! One client's connection: its requests begin in the order in which they came, and its answers leave in that order.
//!
//! Kafka's brokers work on one request of a connection at a time. Here that holds for what changes groups and topics
//! ([`Lane::Serial`]); a Produce begins before anything behind it is looked at and a Fetch waits beside the others, so
//! that a long poll holds up nobody but the answers behind it.

use std::{future::poll_fn, net::SocketAddr, sync::Arc, task::Poll};

use futures_util::FutureExt;
use tokio::{
    io::{AsyncRead, AsyncWrite, split},
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    answers::write_answers,
    api::api_versions,
    apis::ROUTES,
    call,
    client::{Answering, Asked, Begun, Client, Closing, Lane, Shared},
    frame::{Frame, Frames},
    limits,
};
use crate::broker::held::Closer;

/// Serves a connection until either side closes it.
pub(super) async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send, from: SocketAddr, shared: Arc<Shared>) {
    shared.probe.connection_opened();
    let connection = shared.kafka.connection();
    let gone = shared.stop.child_token();
    let sessions = shared.sessions.connection();
    let client = Client { shared, closer: Arc::default(), from, gone: gone.clone(), connection, sessions };
    let client = Arc::new(client);
    let (read, write) = split(stream);
    let (begun, to_answer) = mpsc::channel(1);
    let reading = async {
        let ended = read_requests(Frames::new(read), &client, begun).await;
        // What waits for something to happen ends with its client, what changes something does not.
        gone.cancel();
        ended
    };
    let talking = async {
        let writing = write_answers(write, to_answer);
        let (reading, mut writing) = (std::pin::pin!(reading), std::pin::pin!(writing));
        tokio::select! {
            ended = reading => {
                let rest = timeout(limits::LEAVING_WAIT, writing).await;
                ended.and(rest.unwrap_or(Ok(())))
            }
            ended = &mut writing => ended,
        }
    };
    let ended = tokio::select! {
        ended = talking => ended,
        () = closed(&client.closer) => Err(Closing::Slow),
    };
    gone.cancel();
    match ended {
        Ok(()) | Err(Closing::Gone) => {}
        Err(why @ Closing::Unwritable { .. }) => tracing::error!(%from, %why, "Kafka connection closed"),
        Err(why) => tracing::debug!(%from, %why, "Kafka connection closed"),
    }
    client.shared.probe.connection_closed();
}

/// Resolves when others want what the client holds up.
async fn closed(closer: &Closer) {
    poll_fn(|cx| {
        closer.wake_at_close(cx.waker());
        if closer.is_closed() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Reads requests and begins them, one after the other, until the client closes its side.
async fn read_requests<R: AsyncRead + Unpin>(
    mut frames: Frames<R>,
    client: &Arc<Client>,
    begun: mpsc::Sender<Answering>,
) -> Result<(), Closing> {
    let mut before = None;
    loop {
        // Room to answer comes first: nothing is read that could not be begun.
        let Ok(place) = begun.reserve().await else { return Ok(()) };
        let arriving = &client.shared.arriving;
        let Some(frame) = client.gone.run_until_cancelled(frames.next(arriving, &client.closer)).await else {
            return Ok(());
        };
        let Some(frame) = frame? else { return Ok(()) };
        place.send(begin(client, frame, &mut before).await?);
    }
}

/// Begins a request. `before`: ends with the last one of the serial lane.
async fn begin(
    client: &Arc<Client>,
    frame: Frame,
    before: &mut Option<oneshot::Receiver<()>>,
) -> Result<Answering, Closing> {
    let Begun { lane, answering } = find(client, frame).await?;
    if lane == Lane::Free {
        return Ok(answering);
    }
    let (done, next) = oneshot::channel();
    let before = before.replace(next);
    let those_before = async move {
        if let Some(before) = before {
            // It ends without a word: its sender is dropped.
            let _ = before.await;
        }
    };
    Ok(async move {
        let answer = match lane {
            // Its answer leaves after theirs in any case.
            Lane::Early => tokio::join!(answering, those_before).0,
            Lane::Serial | Lane::Free => {
                those_before.await;
                answering.await
            }
        };
        drop(done);
        answer
    }
    .boxed())
}

/// Finds who answers a request, and begins it.
async fn find(client: &Arc<Client>, frame: Frame) -> Result<Begun, Closing> {
    let Frame { head, bytes, held } = frame;
    let route = ROUTES.iter().find(|route| route.key == head.key).ok_or(Closing::UnknownApi { key: head.key })?;
    let (api, version) = (route.name, head.version);
    let asked = Asked { client: Arc::clone(client), client_id: None, version, correlation: head.correlation };
    if !route.serves(version) {
        return match head.key == api_versions::KEY {
            true => Ok(api_versions::unknown_version(asked)),
            false => Err(Closing::UnknownVersion { api, version }),
        };
    }
    client.shared.kafka.request_began(api, version);
    let (header, decoder) = (route.header)(bytes, version).map_err(|error| call::unreadable(api, error))?;
    (route.begin)(Asked { client_id: header.client_id, ..asked }, decoder, held).await
}
