//! TCP whose links between brokers a test can cut and mend.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::seam::{Listener, Net, NetFuture, Stream, TcpNet};

/// Which links of a broker are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Both,
    /// It can ask nobody.
    Outgoing,
    /// Nobody can ask it.
    Incoming,
}

/// Ordered pairs of brokers whose link is cut, and who listens where.
#[derive(Default)]
pub struct Cuts {
    pairs: Mutex<BTreeSet<(u64, u64)>>,
    listeners: Mutex<BTreeMap<String, u64>>,
}

impl Cuts {
    /// A broker listens here, now or soon.
    pub fn listens(&self, id: u64, address: &str) {
        self.listeners.lock().unwrap().insert(address.to_string(), id);
    }

    /// Cuts what `from` dials, not what it is dialled by.
    pub fn cut(&self, from: u64, to: u64) {
        self.pairs.lock().unwrap().insert((from, to));
    }

    /// Cuts a broker off from the others, in both directions.
    pub fn isolate(&self, id: u64, others: impl Iterator<Item = u64>) {
        self.cut_off(Shape::Both, id, others);
    }

    /// Cuts links of a broker. One carries questions one way, and their answers the other.
    pub fn cut_off(&self, shape: Shape, id: u64, others: impl Iterator<Item = u64>) {
        let mut cuts = self.pairs.lock().unwrap();
        for other in others.filter(|other| *other != id) {
            if shape != Shape::Incoming {
                cuts.insert((id, other));
            }
            if shape != Shape::Outgoing {
                cuts.insert((other, id));
            }
        }
    }

    pub fn mend(&self) {
        self.pairs.lock().unwrap().clear();
    }

    fn check(&self, pair: (u64, u64)) -> io::Result<()> {
        match self.pairs.lock().unwrap().contains(&pair) {
            true => Err(io::Error::new(io::ErrorKind::ConnectionReset, "the link is cut")),
            false => Ok(()),
        }
    }
}

/// One broker's network.
pub struct CutNet {
    pub me: u64,
    pub cuts: Arc<Cuts>,
}

impl Net for CutNet {
    fn connect<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Stream>> {
        Box::pin(async move {
            let listener = self.cuts.listeners.lock().unwrap().get(address).copied();
            let nobody = || io::Error::new(io::ErrorKind::ConnectionRefused, "nobody of this cluster listens there");
            let pair = (self.me, listener.ok_or_else(nobody)?);
            self.cuts.check(pair)?;
            let stream = TcpNet.connect(address).await?;
            Ok(Box::new(CutStream { stream, pair, cuts: Arc::clone(&self.cuts) }) as Box<dyn Stream>)
        })
    }

    fn bind<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Listener>> {
        TcpNet.bind(address)
    }
}

/// Breaks at the first byte after its link was cut, and takes the other side with it: pings come often.
struct CutStream {
    stream: Box<dyn Stream>,
    pair: (u64, u64),
    cuts: Arc<Cuts>,
}

impl AsyncRead for CutStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.cuts.check(self.pair)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for CutStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.cuts.check(self.pair)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.cuts.check(self.pair)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
