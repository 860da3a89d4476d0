//! What a browser, or whoever plays one, asks for; and stored batches on their way to a page.

use std::panic::AssertUnwindSafe;

use axum::{body::Body, extract::Request};
use bytes::Bytes;
use tower::Service;

use super::{records::decode, router, tests::fake::Fake, units, *};
use crate::{
    broker::{Browsed, Fetched},
    formats::fuzz::{bounded, fuzz},
    record::{BatchBuilder, Codec, Record},
    types::{BrokerId, Offset, WallMs},
};

#[test]
fn fuzz_addresses_of_pages() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let options = HttpOptions {
        metrics: Metrics::new(),
        console: true,
        advertised: "n1.example.com:7080".into(),
        descriptors_max: 9,
    };
    let router = runtime.block_on(async { router(Fake::new(), options) });
    let seeds = [
        "/",
        "/topics",
        "/topic?name=orders",
        "/records?topic=orders&partition=0&offset=7&limit=5",
        "/metrics",
        "/readyz",
        "/records?topic=orders&time=2025-11-24T16:00",
        "/group?name=billing",
        "/api/v1/topics",
        "/api/v1/records?topic=o&from=end",
        "/api/v1/overview",
        "/kafka?node=1&first=3",
        "/topics?first=%31&q=%C3%A4",
    ];
    let all = AssertUnwindSafe((runtime, router));
    fuzz!(seeds.map(|seed| seed.as_bytes().to_vec()), |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let Ok(uri) = text.parse::<axum::http::Uri>() else { return };
        let (runtime, router) = &*all;
        let request = Request::builder().uri(uri).header("host", "localhost").body(Body::empty()).expect("a request");
        let answered = runtime.block_on(async { router.clone().call(request).await });
        let Ok(answered) = answered;
        assert!(answered.status().as_u16() < 500 || answered.status().as_u16() == 503, "{text}: {answered:?}");
        if let Some(at) = units::parse_time(&text) {
            assert_eq!(units::parse_time(&at.0.to_string()), Some(at));
        }
    });
}

#[test]
fn fuzz_batches_on_a_page() {
    let record = Record { key: Some("k".into()), value: Some("v".into()), timestamp: WallMs(1), ..Record::default() };
    let seeds = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd].map(|codec| {
        let mut builder = BatchBuilder::new(codec);
        (0..3).for_each(|_| builder.push(&record).expect("it is small"));
        builder.build().expect("it has records").to_vec()
    });
    fuzz!(seeds, |bytes| {
        let mut sealed = bytes.to_vec();
        if sealed.len() > 61 {
            let crc = crc32c::crc32c(&sealed[21..]);
            sealed[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        let fetched = Fetched {
            batches: vec![Bytes::copy_from_slice(bytes), sealed.into(), Bytes::new()],
            high_watermark: Offset(9),
            log_start: Offset(0),
            next_offset: Offset(9),
        };
        let browsed = Browsed { leader: BrokerId(1), offset: Offset(1), fetched };
        let page = bounded(bytes.len() + limits::DECODED_BYTES_MAX, 16, || decode(&browsed, 5));
        assert!(page.rows.len() <= 6, "five were asked for");
        for row in &page.rows {
            if let records::Row::Record(_, record) = row {
                let shown = [&record.key, &record.value].map(|part| records::Shown::new(part.as_ref()));
                shown.iter().for_each(|shown| assert!(shown.left_out() <= bytes.len() + limits::DECODED_BYTES_MAX));
            }
        }
    });
}
