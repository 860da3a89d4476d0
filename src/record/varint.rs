//! Zigzag varints and length-prefixed bytes, as records use them.

use bytes::{Buf, Bytes};

/// Appends `value`, small magnitudes in few bytes.
pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = (value << 1 ^ value >> 63) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends bytes behind their length; -1 is null.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
        None => put(out, -1),
    }
}

/// Reads from the front of a buffer that somebody else wrote: an error where it ends early. What it
/// hands out shares the buffer's memory.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    bytes: Bytes,
}

impl Reader {
    pub(super) fn new(bytes: Bytes) -> Reader {
        Reader { bytes }
    }

    pub(super) fn remaining(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn u8(&mut self) -> Result<u8, &'static str> {
        let byte = *self.bytes.first().ok_or("it is cut short")?;
        self.bytes.advance(1);
        Ok(byte)
    }

    /// Takes exactly `len` bytes, which are there, or fails without allocating.
    pub(super) fn take(&mut self, len: i64) -> Result<Bytes, &'static str> {
        let len = usize::try_from(len).map_err(|_| "a length is negative")?;
        if len > self.bytes.len() {
            return Err("a length goes past the end");
        }
        Ok(self.bytes.split_to(len))
    }

    /// Bytes behind their length, -1 for null.
    pub(super) fn nullable(&mut self) -> Result<Option<Bytes>, &'static str> {
        match self.varint()? {
            -1 => Ok(None),
            len => self.take(i64::from(len)).map(Some),
        }
    }

    pub(super) fn varint(&mut self) -> Result<i32, &'static str> {
        i32::try_from(self.varlong()?).map_err(|_| "a number does not fit 32 bits")
    }

    pub(super) fn varlong(&mut self) -> Result<i64, &'static str> {
        let mut value = 0u64;
        for (i, &byte) in self.bytes.iter().enumerate() {
            let bits = u64::from(byte & 0x7f);
            // The tenth byte holds the 64th bit and nothing else.
            if i == 9 && byte > 1 {
                return Err("a number does not fit 64 bits");
            }
            value |= bits << (7 * i);
            if byte & 0x80 == 0 {
                self.bytes.advance(i + 1);
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err("it is cut short")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(value: i64) -> Vec<u8> {
        let mut out = vec![];
        put(&mut out, value);
        out
    }

    #[test]
    fn varint_bytes_are_frozen() {
        assert_eq!(encoded(0), [0]);
        assert_eq!(encoded(-1), [1]);
        assert_eq!(encoded(1), [2]);
        assert_eq!(encoded(-64), [0x7f]);
        assert_eq!(encoded(64), [0x80, 0x01]);
        assert_eq!(encoded(i64::from(i32::MAX)), [0xfe, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(encoded(i64::MIN), [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    }

    #[test]
    fn numbers_too_large_are_refused() {
        let eleven = Bytes::from_static(&[0xff; 11]);
        assert!(Reader::new(eleven).varlong().is_err());
        assert!(Reader::new(encoded(i64::from(i32::MAX) + 1).into()).varint().is_err());
        assert!(Reader::new(Bytes::from_static(&[0x80])).varint().is_err());
    }

    proptest! {
        #[test]
        fn varints_round_trip(value: i64, after: u8) {
            let mut bytes = encoded(value);
            bytes.push(after);
            let mut reader = Reader::new(bytes.into());
            prop_assert_eq!(reader.varlong(), Ok(value));
            prop_assert_eq!(reader.u8(), Ok(after));
            prop_assert_eq!(reader.remaining(), 0);
        }
    }
}
