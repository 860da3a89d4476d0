//! The HTTP listener: `/metrics` (Prometheus text), `/livez` and `/readyz`.
//!
//! - `/livez` answers 200 while the process can answer at all: a supervisor restarts on anything else.
//! - `/readyz` answers 200 when clients can be served, else 503 with the reason in words.
//!
//! It takes no request body and changes nothing. The console comes with a later issue.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};

use crate::{
    metrics::CONTENT_TYPE,
    seam::{ConnectionLimits, GuardedListener, GuardedStream, Listener, Silence},
};

/// A few scrapers, a load balancer and people: far below the file descriptor limit, so that no
/// stranger takes the clients' descriptors away.
pub const CONNECTIONS_MAX: usize = 128;

/// Longer than usual scrape intervals, so that scrapers keep their connection.
pub const SILENCE_MAX: Duration = Duration::from_secs(75);

/// What the listener asks of the broker.
pub struct Faces {
    /// The registry's text.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// Why clients cannot be served now, as a sentence.
    pub ready: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// Serves until `stop` completes and what was being answered is answered.
pub async fn serve(
    listener: Box<dyn Listener>,
    faces: Faces,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let limits = ConnectionLimits { connections_max: CONNECTIONS_MAX, silence: Silence::Always(SILENCE_MAX) };
    let listener = Guarded(GuardedListener::new(listener, "http", limits));
    axum::serve(listener, router(faces)).with_graceful_shutdown(stop).await
}

fn router(faces: Faces) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .fallback(async || (StatusCode::NOT_FOUND, "there are /metrics, /livez and /readyz\n"))
        .with_state(Arc::new(faces))
}

async fn metrics(State(faces): State<Arc<Faces>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], (faces.metrics)())
}

async fn readyz(State(faces): State<Arc<Faces>>) -> (StatusCode, String) {
    match (faces.ready)() {
        Ok(()) => (StatusCode::OK, "ready\n".into()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}

struct Guarded(GuardedListener);

impl axum::serve::Listener for Guarded {
    type Io = GuardedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (GuardedStream, SocketAddr) {
        self.0.accept().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::oneshot,
    };

    use super::*;
    use crate::seam::{Net, TcpNet};

    struct Server {
        address: SocketAddr,
        ready: Arc<AtomicBool>,
        stop: oneshot::Sender<()>,
        served: tokio::task::JoinHandle<io::Result<()>>,
    }

    async fn server() -> Server {
        let listener = TcpNet.bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ready = Arc::new(AtomicBool::new(true));
        let (stop, stopped) = oneshot::channel();
        let faces = Faces {
            metrics: Box::new(|| "# EOF\n".into()),
            ready: Box::new({
                let ready = ready.clone();
                move || ready.load(Ordering::SeqCst).then_some(()).ok_or_else(|| "stopping".into())
            }),
        };
        let served = tokio::spawn(serve(listener, faces, async move {
            stopped.await.ok();
        }));
        Server { address, ready, stop, served }
    }

    async fn exchange(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Garbage may be answered with a reset while it is sent.
        stream.write_all(request).await.ok();
        stream.shutdown().await.ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        exchange(address, request.as_bytes()).await
    }

    #[tokio::test]
    async fn each_path_answers_and_readiness_is_told_with_its_reason() {
        let server = server().await;
        assert!(get(server.address, "/livez").await.starts_with("HTTP/1.1 200"));
        let metrics = get(server.address, "/metrics").await;
        assert!(metrics.starts_with("HTTP/1.1 200") && metrics.contains(CONTENT_TYPE), "{metrics}");
        assert!(metrics.ends_with("# EOF\n"), "{metrics}");
        assert!(get(server.address, "/readyz").await.starts_with("HTTP/1.1 200"));
        server.ready.store(false, Ordering::SeqCst);
        let unready = get(server.address, "/readyz").await;
        assert!(unready.starts_with("HTTP/1.1 503") && unready.ends_with("not ready: stopping\n"), "{unready}");
        assert!(get(server.address, "/nothing").await.starts_with("HTTP/1.1 404"));
        server.stop.send(()).unwrap();
        server.served.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn garbage_does_not_end_the_listener() {
        let server = server().await;
        for garbage in
            [&b"\0\xff\x16\x03\x01garbage\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[b'a'; 100_000]]
        {
            exchange(server.address, garbage).await;
        }
        assert!(get(server.address, "/livez").await.starts_with("HTTP/1.1 200"));
    }
}
