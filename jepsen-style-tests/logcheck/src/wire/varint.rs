//! LEB128 and zigzag.

pub fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub fn put_signed(out: &mut Vec<u8>, number: i64) {
    put(out, ((number << 1) ^ (number >> 63)) as u64);
}

/// What is wrong with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadVarint {
    /// The bytes end within it.
    Short,
    /// More than 64 bits.
    Long,
}

/// Takes one number off the front of `bytes`.
#[inline]
pub fn take(bytes: &mut &[u8]) -> Result<u64, BadVarint> {
    if let [first, rest @ ..] = *bytes
        && *first < 0x80
    {
        *bytes = rest;
        return Ok(u64::from(*first));
    }
    let mut number = 0u64;
    for (at, byte) in bytes.iter().enumerate() {
        let (bits, shift) = (u64::from(byte & 0x7f), 7 * at as u32);
        if at == 9 && *byte > 1 {
            return Err(BadVarint::Long);
        }
        number |= bits << shift;
        if *byte < 0x80 {
            *bytes = &bytes[at + 1..];
            return Ok(number);
        }
    }
    Err(BadVarint::Short)
}

#[inline]
pub fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(number: u64, signed: i64) {
            let mut out = vec![];
            put(&mut out, number);
            put_signed(&mut out, signed);
            let mut rest = &out[..];
            prop_assert_eq!(take(&mut rest), Ok(number));
            prop_assert_eq!(take(&mut rest).map(unzigzag), Ok(signed));
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn a_number_that_is_too_long_or_cut_off_is_none() {
        assert_eq!(take(&mut &[0xff; 10][..]), Err(BadVarint::Long));
        assert_eq!(take(&mut &[0xff; 9][..]), Err(BadVarint::Short));
        assert_eq!(take(&mut &[][..]), Err(BadVarint::Short));
    }
}
