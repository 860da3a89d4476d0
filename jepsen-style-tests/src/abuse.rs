//! A client without manners: HTTP/2 and gRPC by hand, so that a test can stop in the middle of a message, take no
//! answers, or send batches that lie. It keeps to the frames and windows of the protocol, else the server would
//! rightly hang up, and to nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

const INITIAL_WINDOW_SIZE: u16 = 4;
const FRAME_BYTES: usize = 16 * 1024;

/// One connection.
pub struct Abuser {
    stream: TcpStream,
    received: Vec<u8>,
    /// What we may still send, on the connection and on each stream.
    window: i64,
    windows: BTreeMap<u32, i64>,
    initial_window: i64,
    next_stream: u32,
    /// Streams that the server ended.
    pub ended: BTreeSet<u32>,
    /// Bytes of answers, by stream.
    pub taken: BTreeMap<u32, usize>,
    /// Whether what is taken is granted again, so that answers go on.
    takes: bool,
    pub is_closed: bool,
}

impl Abuser {
    /// `window`: how much of each answer the server may send before it hears of more room.
    pub fn connect(address: &str, window: u32, takes: bool) -> io::Result<Abuser> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_write_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(PREFACE)?;
        let mut settings = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
        settings.extend(window.to_be_bytes());
        stream.write_all(&frame(SETTINGS, 0, 0, &settings))?;
        let (windows, ended, taken) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        let mut client = Abuser {
            stream,
            received: vec![],
            window: 65_535,
            windows,
            initial_window: 65_535,
            next_stream: 1,
            ended,
            taken,
            takes,
            is_closed: false,
        };
        // The server's settings come first.
        client.pump(Duration::from_millis(50));
        Ok(client)
    }

    /// Begins a call of gRPC.
    pub fn call(&mut self, path: &str) -> u32 {
        let headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "abuse"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let mut block = vec![];
        for (name, value) in headers {
            // Literal without indexing, both short.
            block.push(0);
            for part in [name, value] {
                block.push(part.len() as u8);
                block.extend(part.as_bytes());
            }
        }
        let id = self.next_stream;
        self.next_stream += 2;
        self.windows.insert(id, self.initial_window);
        self.write(&frame(HEADERS, END_HEADERS, id, &block));
        id
    }

    /// Sends as much as the windows allow. How much went out.
    pub fn send(&mut self, id: u32, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() && !self.is_closed && !self.ended.contains(&id) {
            let window = self.window.min(self.windows[&id]).max(0) as usize;
            let part = (bytes.len() - sent).min(window).min(FRAME_BYTES);
            if part == 0 {
                break;
            }
            self.write(&frame(DATA, 0, id, &bytes[sent..sent + part]));
            self.window -= part as i64;
            *self.windows.get_mut(&id).expect("a stream of ours") -= part as i64;
            sent += part;
        }
        sent
    }

    /// Sends all of it, waiting for windows; false: not in time, or the stream or connection has ended.
    pub fn send_all(&mut self, id: u32, bytes: &[u8], within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let mut sent = self.send(id, bytes);
        while sent < bytes.len() {
            if Instant::now() >= deadline || self.is_closed || self.ended.contains(&id) {
                return false;
            }
            self.pump(Duration::from_millis(20));
            sent += self.send(id, &bytes[sent..]);
        }
        true
    }

    /// The client's half of a call is over.
    pub fn finish(&mut self, id: u32) {
        self.write(&frame(DATA, END_STREAM, id, &[]));
    }

    /// Takes what the server says within a time, and answers its pings.
    pub fn pump(&mut self, within: Duration) {
        let deadline = Instant::now() + within;
        let mut buffer = vec![0; 64 * 1024];
        while !self.is_closed {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).expect("a socket has timeouts");
            match self.stream.read(&mut buffer) {
                Ok(0) => self.is_closed = true,
                Ok(read) => {
                    self.received.extend(&buffer[..read]);
                    self.frames();
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(_) => self.is_closed = true,
            }
            if Instant::now() >= deadline {
                return;
            }
        }
    }

    fn frames(&mut self) {
        let mut at = 0;
        while let Some(head) = self.received.get(at..at + 9) {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let (kind, flags) = (head[3], head[4]);
            let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
            let Some(payload) = self.received.get(at + 9..at + 9 + length) else { break };
            let payload = payload.to_vec();
            at += 9 + length;
            self.take(kind, flags, id, &payload);
        }
        self.received.drain(..at);
    }

    fn take(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        match kind {
            SETTINGS if flags & ACK == 0 => {
                for setting in payload.chunks_exact(6) {
                    if u16::from_be_bytes([setting[0], setting[1]]) == INITIAL_WINDOW_SIZE {
                        let initial = i64::from(u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]));
                        self.windows.values_mut().for_each(|window| *window += initial - self.initial_window);
                        self.initial_window = initial;
                    }
                }
                self.write(&frame(SETTINGS, ACK, 0, &[]));
            }
            PING if flags & ACK == 0 => self.write(&frame(PING, ACK, 0, payload)),
            WINDOW_UPDATE => {
                let more = i64::from(u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]]));
                match id {
                    0 => self.window += more,
                    _ => *self.windows.entry(id).or_default() += more,
                }
            }
            DATA => {
                *self.taken.entry(id).or_default() += payload.len();
                if self.takes && !payload.is_empty() {
                    let more = (payload.len() as u32).to_be_bytes();
                    self.write(&frame(WINDOW_UPDATE, 0, 0, &more));
                    self.write(&frame(WINDOW_UPDATE, 0, id, &more));
                }
            }
            RST_STREAM => drop(self.ended.insert(id)),
            GOAWAY => self.is_closed = true,
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            self.ended.insert(id);
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.is_closed |= self.stream.write_all(bytes).is_err();
    }
}

fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(id.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A message behind its prefix, as gRPC sends it.
pub fn message(body: &[u8]) -> Vec<u8> {
    let mut message = vec![0];
    message.extend((body.len() as u32).to_be_bytes());
    message.extend(body);
    message
}

/// A field of protobuf that holds bytes.
pub fn bytes_field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    varint(bytes.len() as u64, &mut field);
    field.extend(bytes);
    field
}

/// A field of protobuf that holds a number.
pub fn number_field(number: u8, value: u64) -> Vec<u8> {
    let mut field = vec![number << 3];
    varint(value, &mut field);
    field
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A `ProduceRequest` of one batch.
pub fn produce_request(correlation_id: u64, topic: &str, partition: u32, batch: &[u8]) -> Vec<u8> {
    let parts = [
        number_field(1, correlation_id),
        bytes_field(2, topic.as_bytes()),
        number_field(3, partition.into()),
        number_field(5, 20_000),
        bytes_field(6, batch),
    ];
    message(&parts.concat())
}

/// A `ConsumeRequest` from the start.
pub fn consume_request(topic: &str, partition: u32, raw: bool) -> Vec<u8> {
    let parts = [
        bytes_field(1, topic.as_bytes()),
        number_field(2, partition.into()),
        number_field(4, 1),
        number_field(10, raw.into()),
    ];
    message(&parts.concat())
}

/// A batch with zstd's bits whose header claims `count` records of what `payload` decompresses to.
pub fn claiming_batch(count: u32, payload: &[u8]) -> Vec<u8> {
    const ZSTD: u8 = 4;
    let mut batch = vec![0; 61];
    batch[8..12].copy_from_slice(&(49 + payload.len() as u32).to_be_bytes());
    batch[12..16].fill(0xff);
    batch[16] = 2;
    batch[22] = ZSTD;
    batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    // No producer.
    batch[43..57].fill(0xff);
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    batch.extend(payload);
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// One record of `mib` MiB of zeros, as zstd may write it: some thousand bytes.
pub fn bomb(mib: usize) -> Vec<u8> {
    let value_bytes = mib << 20;
    let zigzag = |value: i64| {
        let mut out = vec![];
        varint((value << 1) as u64, &mut out);
        out
    };
    let mut body = vec![0, 0, 0, 1];
    body.extend(zigzag(value_bytes as i64));
    let mut head = zigzag((body.len() + value_bytes + 1) as i64);
    head.extend(body);
    // Magic, no single segment, a window of 8 MiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 13 << 3];
    let mut block = |kind: u32, size: usize, is_last: bool, bytes: &[u8]| {
        let header = (size as u32) << 3 | kind << 1 | u32::from(is_last);
        frame.extend(&header.to_le_bytes()[..3]);
        frame.extend(bytes);
    };
    block(0, head.len(), false, &head);
    for _ in 0..mib * 8 {
        block(1, 128 << 10, false, &[0]);
    }
    // No headers.
    block(0, 1, true, &[0]);
    claiming_batch(1, &frame)
}

/// Castagnoli's, bit by bit: these batches are small.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    };
    !bytes.iter().fold(!0, step)
}

#[test]
fn checksums_are_castagnolis() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

#[test]
fn fields_and_frames_are_as_their_protocols_say() {
    assert_eq!(number_field(5, 300), [0x28, 0xac, 0x02]);
    assert_eq!(bytes_field(2, b"ab"), [0x12, 2, b'a', b'b']);
    assert_eq!(frame(PING, ACK, 1, b"x"), [0, 0, 1, 6, 1, 0, 0, 0, 1, b'x']);
    assert!(bomb(60).len() < 3_000);
}
