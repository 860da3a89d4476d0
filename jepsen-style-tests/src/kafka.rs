//! Two of Kafka's requests by hand, to one broker, whatever the cluster says of leaders: ListOffsets (latest) and Fetch.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

const LIST_OFFSETS: (i16, i16) = (2, 1);
const FETCH: (i16, i16) = (1, 4);
const LATEST: i64 = -1;
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// What a broker says of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Kafka's code.
    Error(i16),
    /// The latest offset.
    Latest(i64),
    Fetched {
        high_watermark: i64,
        records: Vec<u8>,
    },
}

/// Answers come in the order of the requests.
pub struct Connection {
    stream: TcpStream,
    topic: String,
    asked: Vec<i16>,
}

impl Connection {
    pub fn open(address: &str, topic: &str, patience: Duration) -> io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, topic: topic.into(), asked: vec![] })
    }

    pub fn ask_latest(&mut self, partition: i32) -> io::Result<()> {
        let mut body = (-1i32).to_be_bytes().to_vec();
        self.name(&mut body);
        body.extend(partition.to_be_bytes());
        body.extend(LATEST.to_be_bytes());
        self.send(LIST_OFFSETS, &body)
    }

    /// Without waiting for records.
    pub fn ask_records(&mut self, partition: i32, offset: i64) -> io::Result<()> {
        let (replica, wait_ms, bytes_min, bytes_max) = (-1i32, 0i32, 0i32, 1i32 << 20);
        let mut body: Vec<u8> = [replica, wait_ms, bytes_min, bytes_max].iter().flat_map(|n| n.to_be_bytes()).collect();
        body.push(0); // Uncommitted, as far as transactions go.
        self.name(&mut body);
        body.extend(partition.to_be_bytes());
        body.extend(offset.to_be_bytes());
        body.extend(bytes_max.to_be_bytes());
        self.send(FETCH, &body)
    }

    /// One topic, one partition of it.
    fn name(&self, body: &mut Vec<u8>) {
        body.extend(1i32.to_be_bytes());
        body.extend((self.topic.len() as i16).to_be_bytes());
        body.extend(self.topic.as_bytes());
        body.extend(1i32.to_be_bytes());
    }

    fn send(&mut self, (key, version): (i16, i16), body: &[u8]) -> io::Result<()> {
        let mut head = vec![];
        head.extend(key.to_be_bytes());
        head.extend(version.to_be_bytes());
        head.extend((self.asked.len() as i32).to_be_bytes());
        head.extend((-1i16).to_be_bytes()); // No client id.
        self.asked.push(key);
        let frame = [&((head.len() + body.len()) as i32).to_be_bytes()[..], &head, body].concat();
        self.stream.write_all(&frame)
    }

    pub fn answer(&mut self) -> io::Result<Answer> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let size = u32::from_be_bytes(size) as usize;
        if size > ANSWER_BYTES_MAX {
            return Err(io::Error::other(format!("an answer of {size} bytes")));
        }
        let mut bytes = vec![0; size];
        self.stream.read_exact(&mut bytes)?;
        let mut bytes = Bytes(&bytes);
        let number = bytes.i32()? as usize;
        match self.asked.get(number) {
            Some(&key) if key == FETCH.0 => bytes.fetched(self.topic.len()),
            Some(_) => bytes.latest(self.topic.len()),
            None => Err(io::Error::other(format!("an answer to request {number}, which was not made"))),
        }
    }
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take(&mut self, count: usize) -> io::Result<&[u8]> {
        let short = || io::Error::other(format!("{count} bytes wanted of {}", self.0.len()));
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn i16(&mut self) -> io::Result<i16> {
        Ok(i16::from_be_bytes(self.take(2)?.try_into().expect("two bytes")))
    }

    fn i32(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into().expect("four bytes")))
    }

    fn i64(&mut self) -> io::Result<i64> {
        Ok(i64::from_be_bytes(self.take(8)?.try_into().expect("eight bytes")))
    }

    /// Topics, name, partitions, partition: one of each.
    fn skip_to_partition(&mut self, name: usize) -> io::Result<()> {
        self.take(4 + 2 + name + 4 + 4).map(drop)
    }

    fn latest(&mut self, name: usize) -> io::Result<Answer> {
        self.skip_to_partition(name)?;
        let (error, _timestamp, offset) = (self.i16()?, self.i64()?, self.i64()?);
        Ok(if error == 0 { Answer::Latest(offset) } else { Answer::Error(error) })
    }

    fn fetched(&mut self, name: usize) -> io::Result<Answer> {
        let _throttled_ms = self.i32()?;
        self.skip_to_partition(name)?;
        let (error, high_watermark, _stable) = (self.i16()?, self.i64()?, self.i64()?);
        let aborted = self.i32()?.max(0) as usize;
        self.take(aborted * 16)?;
        let size = self.i32()?.max(0) as usize;
        let records = self.take(size)?.to_vec();
        Ok(if error == 0 { Answer::Fetched { high_watermark, records } } else { Answer::Error(error) })
    }
}
