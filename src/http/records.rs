//! A page of a partition's records, decoded within limits whatever the bytes are. Pure but for the
//! fetch itself.

use std::fmt::Write as _;

use bytes::Bytes;

use super::{backend::Backend, limits, problem::Problem};
use crate::{
    broker::{BrowseFrom, BrowseRequest, Browsed},
    http::backend::CALLER,
    record::{BatchHeader, DecodeError, Record, iter_records},
    types::{BrokerId, Offset, PartitionId},
};

/// What to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub topic: String,
    pub partition: PartitionId,
    pub from: BrowseFrom,
    /// Records at most.
    pub limit: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub leader: BrokerId,
    pub log_start: Offset,
    pub high_watermark: Offset,
    /// Where it begins.
    pub offset: Offset,
    /// Where the next page begins; the high watermark at the end.
    pub next_offset: Offset,
    pub rows: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    Record(Offset, Record),
    /// A batch that cannot be read: the offsets it holds (the last one included), its size, and why.
    Unreadable {
        first: Offset,
        last: Offset,
        bytes: usize,
        why: DecodeError,
    },
}

impl Row {
    fn next_offset(&self) -> Offset {
        match self {
            Row::Record(offset, _) => Offset(offset.0.saturating_add(1)),
            Row::Unreadable { last, .. } => Offset(last.0.saturating_add(1)),
        }
    }
}

/// Asks the broker for a page and decodes it.
pub async fn read<B: Backend>(backend: &B, wanted: &Wanted) -> Result<Page, Problem> {
    let request = BrowseRequest {
        topic: wanted.topic.clone(),
        partition: wanted.partition,
        from: wanted.from,
        bytes_max: limits::BROWSE_BYTES,
    };
    let browsed = backend.browse(&CALLER, request).await?;
    let limit = wanted.limit;
    match browsed.fetched.batches.iter().any(is_long_work) {
        true => Ok(backend.cpu_turns().run(move || decode(&browsed, limit)).await),
        false => Ok(decode(&browsed, limit)),
    }
}

/// Whether decompressing a batch may take longer than the threads that serve producers can be kept.
fn is_long_work(batch: &Bytes) -> bool {
    let codec = BatchHeader::parse(batch).and_then(|header| header.codec());
    codec.is_ok_and(|codec| codec.expands_to_max(batch.len()) > limits::COMPUTED_INLINE_BYTES)
}

/// The records of a page, up to a count and [`limits::PAGE_BYTES_MAX`].
pub fn decode(browsed: &Browsed, limit: u32) -> Page {
    let Browsed { leader, offset, fetched } = browsed;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (mut rows, mut left) = (Vec::new(), limits::PAGE_BYTES_MAX);
    let mut is_whole = true;
    for batch in &fetched.batches {
        if rows.len() >= limit || left == 0 {
            is_whole = false;
            break;
        }
        is_whole = decode_batch(batch, *offset, limit, &mut left, &mut rows);
    }
    let next_offset = match rows.last() {
        Some(last) if !is_whole => last.next_offset(),
        Some(_) | None => fetched.next_offset,
    };
    Page {
        leader: *leader,
        log_start: fetched.log_start,
        high_watermark: fetched.high_watermark,
        offset: *offset,
        next_offset,
        rows,
    }
}

/// False: the page is full before the batch's end.
fn decode_batch(batch: &Bytes, from: Offset, limit: usize, left: &mut usize, rows: &mut Vec<Row>) -> bool {
    let header = match BatchHeader::parse(batch) {
        Ok(header) => header,
        // The broker checked it when it came; only its offset is still known.
        Err(error) => {
            *left = 0;
            let at = rows.last().map_or(from, Row::next_offset);
            rows.push(Row::Unreadable { first: at, last: at, bytes: batch.len(), why: error.into() });
            return false;
        }
    };
    let records = match iter_records(batch, limits::DECODED_BYTES_MAX) {
        Ok(records) => records,
        Err(error) => {
            rows.push(unreadable(&header, from, batch, rows.last(), error, left));
            return true;
        }
    };
    for record in records {
        match record {
            Ok((offset, _)) if offset < from => {}
            Ok(_) if rows.len() >= limit || *left == 0 => return false,
            Ok((offset, record)) => {
                *left = left.saturating_sub(content_bytes(&record));
                rows.push(Row::Record(offset, record));
            }
            Err(error) => {
                rows.push(unreadable(&header, from, batch, rows.last(), error, left));
                return true;
            }
        }
    }
    true
}

/// How much was decompressed for nothing is not known, so the page ends here and the next goes on behind.
fn unreadable(
    header: &BatchHeader,
    from: Offset,
    batch: &Bytes,
    before: Option<&Row>,
    error: DecodeError,
    left: &mut usize,
) -> Row {
    *left = 0;
    let first = before.map_or(from, Row::next_offset).max(header.base_offset);
    Row::Unreadable { first, last: header.last_offset(), bytes: batch.len(), why: error }
}

/// A record's own bytes, and one for itself, so that empty records count too.
fn content_bytes(record: &Record) -> usize {
    let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter().map(|(key, value)| key.len() + len(value));
    1 + len(&record.key) + len(&record.value) + headers.sum::<usize>()
}

/// A key, value or header as a page shows it, cut to a size that a page can carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    Null,
    Empty,
    /// Readable text, and how many bytes are left out.
    Text(String, usize),
    /// Lines of eight bytes, and how many bytes are left out.
    Hex(String, usize),
}

impl Shown {
    pub fn new(bytes: Option<&Bytes>) -> Shown {
        let Some(bytes) = bytes else { return Shown::Null };
        if bytes.is_empty() {
            return Shown::Empty;
        }
        let cut = bytes.len().min(limits::SHOWN_BYTES_MAX);
        match readable(&bytes[..cut], cut < bytes.len()) {
            Some(text) => Shown::Text(text.to_string(), bytes.len() - text.len()),
            None => {
                let cut = bytes.len().min(limits::SHOWN_HEX_MAX);
                Shown::Hex(hex(&bytes[..cut]), bytes.len() - cut)
            }
        }
    }
}

impl Shown {
    /// Bytes that are there and not shown.
    pub fn left_out(&self) -> usize {
        match self {
            Shown::Null | Shown::Empty => 0,
            Shown::Text(_, more) | Shown::Hex(_, more) => *more,
        }
    }

    /// Whether a page shows it in a box of its own that scrolls.
    pub fn is_long(&self) -> bool {
        match self {
            Shown::Null | Shown::Empty => false,
            Shown::Text(text, _) | Shown::Hex(text, _) => text.len() > limits::SHOWN_LONG,
        }
    }
}

/// Text without control characters, but for those of layout. A cut may have hit a character's middle.
fn readable(bytes: &[u8], is_cut: bool) -> Option<&str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if is_cut && error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).expect("valid up to there")
        }
        Err(_) => return None,
    };
    let is_layout = |c: char| matches!(c, '\n' | '\r' | '\t');
    text.chars().all(|c| !c.is_control() || is_layout(c)).then_some(text)
}

/// Shows bytes as hex dumps do, eight a line so that a phone shows it.
fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (line, chunk) in bytes.chunks(8).enumerate() {
        let _ = write!(text, "{:04x} ", line * 8);
        for byte in chunk {
            let _ = write!(text, " {byte:02x}");
        }
        text.extend(std::iter::repeat_n("   ", 8 - chunk.len()));
        text.push_str("  ");
        text.extend(chunk.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' }));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::Fetched,
        record::{BatchBuilder, Codec, append_patched},
        types::{LeaderEpoch, WallMs},
    };

    fn record(value: impl Into<Bytes>) -> Record {
        Record { value: Some(value.into()), timestamp: WallMs(1), ..Record::default() }
    }

    fn batch(codec: Codec, base: i64, records: &[Record]) -> Bytes {
        let mut builder = BatchBuilder::new(codec);
        records.iter().for_each(|record| builder.push(record).unwrap());
        let mut patched = bytes::BytesMut::new();
        append_patched(&mut patched, &builder.build().unwrap(), Offset(base), LeaderEpoch(1));
        patched.freeze()
    }

    fn browsed(offset: i64, batches: Vec<Bytes>, next_offset: i64) -> Browsed {
        let (log_start, high_watermark) = (Offset(0), Offset(1_000));
        let fetched = Fetched { batches, log_start, high_watermark, next_offset: Offset(next_offset) };
        Browsed { leader: BrokerId(1), offset: Offset(offset), fetched }
    }

    fn offsets(page: &Page) -> Vec<i64> {
        let offset = |row: &Row| match row {
            Row::Record(offset, _) => offset.0,
            Row::Unreadable { first, .. } => first.0,
        };
        page.rows.iter().map(offset).collect()
    }

    #[test]
    fn every_codec_is_decoded_and_records_below_the_offset_are_left_out() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let batches = vec![
                batch(codec, 10, &[record("a"), record("b"), record("c")]),
                batch(codec, 13, &[record("d"), record("e")]),
            ];
            let page = decode(&browsed(12, batches, 15), 50);
            assert_eq!((offsets(&page), page.next_offset), (vec![12, 13, 14], Offset(15)), "{codec:?}");
            assert_eq!(page.rows[0], Row::Record(Offset(12), record("c")));
        }
    }

    #[test]
    fn a_page_ends_at_its_count_and_the_next_goes_on_there() {
        let batches = vec![batch(Codec::Zstd, 0, &vec![record("x"); 10]), batch(Codec::None, 10, &[record("y")])];
        let page = decode(&browsed(0, batches.clone(), 11), 4);
        assert_eq!((offsets(&page), page.next_offset), (vec![0, 1, 2, 3], Offset(4)));
        let page = decode(&browsed(4, batches.clone(), 11), 6);
        assert_eq!((page.rows.len(), page.next_offset), (6, Offset(10)), "exactly a batch's end");
        let page = decode(&browsed(10, batches, 11), 6);
        assert_eq!((offsets(&page), page.next_offset), (vec![10], Offset(11)));
        let empty = decode(&browsed(11, vec![], 11), 6);
        assert_eq!((empty.rows.len(), empty.next_offset), (0, Offset(11)));
    }

    #[test]
    fn a_page_ends_at_its_bytes() {
        let large = record(vec![b'x'; limits::PAGE_BYTES_MAX / 2]);
        let one = batch(Codec::None, 0, &[large.clone(), large.clone(), large.clone()]);
        let page = decode(&browsed(0, vec![one], 3), 50);
        assert_eq!((offsets(&page), page.next_offset), (vec![0, 1], Offset(2)), "the one that fills it is the last");
    }

    #[test]
    fn a_batch_that_expands_too_far_or_is_corrupt_is_one_row_that_says_so() {
        let bomb = batch(Codec::Zstd, 0, &vec![record(vec![0; limits::DECODED_BYTES_MAX / 4]); 5]);
        let after = batch(Codec::None, 5, &[record("z")]);
        let page = decode(&browsed(2, vec![bomb, after.clone()], 6), 50);
        let [Row::Unreadable { first: Offset(2), last: Offset(4), why, .. }] = &page.rows[..] else {
            panic!("{page:?}");
        };
        assert!(why.to_string().contains("16777216") && page.next_offset == Offset(5), "{why}");

        let mut flipped = after.to_vec();
        *flipped.last_mut().unwrap() ^= 1;
        let page = decode(&browsed(5, vec![flipped.into()], 6), 50);
        assert!(matches!(&page.rows[..], [Row::Unreadable { first: Offset(5), .. }]), "{page:?}");
        assert_eq!(page.next_offset, Offset(6));
    }

    #[test]
    fn bytes_are_shown_as_text_or_hex_and_cut() {
        let shown = |bytes: &[u8]| Shown::new(Some(&Bytes::copy_from_slice(bytes)));
        assert_eq!(Shown::new(None), Shown::Null);
        assert_eq!(shown(b""), Shown::Empty);
        assert_eq!(shown("grün\n".as_bytes()), Shown::Text("grün\n".into(), 0));
        assert_eq!(shown(b"a\0"), Shown::Hex("0000  61 00                    a.\n".into(), 0));
        assert_eq!(
            shown(&[0xff; 9]),
            Shown::Hex("0000  ff ff ff ff ff ff ff ff  ........\n0008  ff                       .\n".into(), 0)
        );
        let long = "ä".repeat(limits::SHOWN_BYTES_MAX);
        assert_eq!(
            shown(long.as_bytes()),
            Shown::Text("ä".repeat(limits::SHOWN_BYTES_MAX / 2), limits::SHOWN_BYTES_MAX)
        );
        let odd = format!("x{long}");
        let Shown::Text(text, more) = shown(odd.as_bytes()) else { panic!("not text") };
        assert_eq!(text.len() + more, odd.len());
        let Shown::Hex(_, more) = shown(&vec![0; 10_000]) else { panic!("not hex") };
        assert_eq!(more, 10_000 - limits::SHOWN_HEX_MAX);
    }

    proptest::proptest! {
        #[test]
        fn hostile_batches_never_panic(bytes: Vec<u8>, at: proptest::sample::Index, flip: u8) {
            let _ = decode(&browsed(0, vec![bytes.into()], 1), 5);
            let mut good = batch(Codec::Lz4, 0, &[record("abc"), record("def")]).to_vec();
            let at = at.index(good.len());
            good[at] ^= flip;
            let _ = decode(&browsed(0, vec![good.into()], 2), 5);
        }
    }
}
