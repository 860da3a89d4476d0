//! An answer's bytes, in pieces: what was encoded, and stored batches as they are.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes};

/// Bytes that follow one another and are not copied together.
#[derive(Debug, Default)]
pub(super) struct Segments {
    /// None is empty.
    pieces: VecDeque<Bytes>,
    remaining: usize,
}

impl Segments {
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.remaining += piece.len();
            self.pieces.push_back(piece);
        }
    }

    pub fn append(&mut self, other: Segments) {
        self.remaining += other.remaining;
        self.pieces.extend(other.pieces);
    }

    pub fn len(&self) -> usize {
        self.remaining
    }

    pub fn pieces(&self) -> usize {
        self.pieces.len()
    }
}

impl From<Bytes> for Segments {
    fn from(bytes: Bytes) -> Segments {
        let mut segments = Segments::default();
        segments.push(bytes);
        segments
    }
}

impl Buf for Segments {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece.as_ref())
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        let filled = dst.len().min(self.pieces.len());
        for (slice, piece) in dst.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "{count} bytes of {}", self.remaining);
        self.remaining -= count;
        while let Some(first) = self.pieces.front_mut().filter(|_| count > 0) {
            let taken = first.len().min(count);
            first.advance(taken);
            count -= taken;
            if first.is_empty() {
                self.pieces.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(pieces: &[&'static str]) -> Segments {
        let mut segments = Segments::default();
        pieces.iter().for_each(|piece| segments.push(Bytes::from_static(piece.as_bytes())));
        segments
    }

    #[test]
    fn pieces_are_read_as_one() {
        let mut all = segments(&["ab", "", "cde"]);
        all.append(segments(&["f"]));
        assert_eq!((all.len(), all.pieces()), (6, 3));
        for step in 0..=6 {
            let mut rest = segments(&["ab", "cde", "f"]);
            rest.advance(step);
            assert_eq!(rest.copy_to_bytes(rest.remaining()), "abcdef"[step..], "after {step} bytes");
        }
    }

    #[test]
    fn as_many_pieces_are_offered_as_there_is_room_for() {
        let all = segments(&["ab", "cde", "f"]);
        let mut slices = [IoSlice::new(&[]); 2];
        assert_eq!(all.chunks_vectored(&mut slices), 2);
        assert_eq!((&*slices[0], &*slices[1]), (&b"ab"[..], &b"cde"[..]));
    }
}
