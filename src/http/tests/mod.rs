//! The listener over a real socket, in front of a fake broker.

mod api;
mod console;
pub(super) mod fake;
mod listener;

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};

use super::{HttpOptions, serve};
use crate::{
    metrics::Metrics,
    seam::{Net, TcpNet},
};
use fake::Fake;

pub struct Server {
    pub address: SocketAddr,
    pub fake: Fake,
    pub stop: oneshot::Sender<()>,
    pub served: tokio::task::JoinHandle<io::Result<()>>,
}

pub async fn server(fake: Fake) -> Server {
    server_with(fake, true).await
}

pub async fn server_with(fake: Fake, console: bool) -> Server {
    let listener = TcpNet.bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let options = HttpOptions {
        metrics: Metrics::new(),
        console,
        advertised: "n1.example.com:7080".into(),
        descriptors_max: 128,
    };
    let served = tokio::spawn(serve(fake.clone(), listener, options, async move {
        stopped.await.ok();
    }));
    Server { address, fake, stop, served }
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Server {
    /// Whatever it is, and nothing after it.
    pub async fn exchange(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // Garbage may be answered with a reset while it is sent.
        stream.write_all(request).await.ok();
        stream.shutdown().await.ok();
        Self::answer(stream).await
    }

    async fn answer(mut stream: TcpStream) -> Answer {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_string() }
    }

    /// Under a name of a stranger's choice.
    pub async fn ask(&self, method: &str, path: &str, host: &str) -> Answer {
        let request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        // Not closed on our side: who does that while an answer is worked on may be taken to have left.
        Self::answer(stream).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "localhost:7080").await
    }

    /// A page that is there.
    pub async fn page(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body
    }

    pub async fn json(&self, path: &str) -> serde_json::Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
        serde_json::from_str(&answer.body).unwrap()
    }
}
