//! Fuzz targets of what parses; how long they run, `formats::fuzz` says.

use std::{panic::AssertUnwindSafe, sync::Arc};

use bolero::check;
use bytes::{BufMut, Bytes, BytesMut};

use super::super::{
    apis::ROUTES,
    frame::{Arriving, Frames},
    limits,
};
use crate::{
    broker::held::Closer,
    formats::fuzz::time,
    metrics::Metrics,
    record::{BatchLimits, validate_batch},
};

/// Bytes in which lengths are small and extremes are common: of plain random ones most claim too much at once.
fn shaped(bytes: &[u8]) -> Bytes {
    const COMMON: [u8; 16] = [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 0x7f, 0x80, 0xfe, 0xff];
    bytes
        .chunks(2)
        .map(|pair| if pair[0] < 0xc0 { COMMON[pair[0] as usize & 15] } else { *pair.last().unwrap_or(&0) })
        .collect()
}

/// What of a request's memory is no multiple of its bytes: one element of each kind that it may have.
const FLOOR_BYTES: usize = 4_096;

#[test]
fn fuzz_requests_of_every_api_and_version() {
    check!().with_test_time(time()).with_type::<(u8, u8, Vec<u8>)>().for_each(|(api, version, bytes)| {
        let route = &ROUTES[*api as usize % ROUTES.len()];
        let version = route.min + i16::from(*version) % (route.max - route.min + 1);
        let mut frame = BytesMut::new();
        frame.put_i16(route.key);
        frame.put_i16(version);
        frame.put_i32(7);
        frame.put_slice(&shaped(bytes));
        let length = frame.len();
        if let Ok(weight) = (route.weigh)(frame.freeze(), version) {
            let allowed = limits::DECODED_PER_BYTE * length + FLOOR_BYTES;
            assert!(weight <= allowed, "{} v{version}: {length} bytes became {weight}", route.name);
        }
    });
}

#[test]
fn fuzz_frames() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let arriving = AssertUnwindSafe(Arriving::new(Metrics::new().intake()));
    let runtime = AssertUnwindSafe(runtime);
    check!().with_test_time(time()).with_type::<Vec<u8>>().for_each(|bytes| {
        let (arriving, runtime) = (&arriving, &runtime);
        let bytes = shaped(bytes);
        let closer = Arc::<Closer>::default();
        let mut frames = Frames::new(&bytes[..]);
        let mut read = 0;
        while let Ok(Some(frame)) = runtime.0.block_on(frames.next(&arriving.0, &closer)) {
            read += 4 + frame.bytes.len();
            assert!(read <= bytes.len());
        }
    });
}

#[test]
fn fuzz_batch_headers() {
    let whole = super::data::batch(&["a", "b"]);
    check!().with_test_time(time()).with_type::<(Vec<(u8, u8)>, Vec<u8>)>().for_each(|(changes, tail)| {
        let mut batch = whole.to_vec();
        batch.extend(tail);
        for (at, value) in changes {
            let at = *at as usize % batch.len();
            batch[at] = *value;
        }
        // The checksum is right: what lies behind it must stand by itself.
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        if let Ok(header) = validate_batch(&batch.into(), &BatchLimits { batch_bytes_max: 1 << 20 }) {
            assert!(header.count >= 1 && header.last_offset_delta == header.count - 1, "{header:?}");
        }
    });
}
