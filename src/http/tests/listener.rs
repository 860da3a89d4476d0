//! What machines ask, and how the listener bears strangers.

use std::collections::BTreeMap;

use axum::{body::Body, http::Request};
use futures_util::future::join_all;
use tower::ServiceExt;

use super::{fake::Fake, server, server_with};
use crate::{
    broker::Readiness,
    http::{HttpOptions, limits, router},
    metrics::{CONTENT_TYPE, Metrics},
};

#[tokio::test]
async fn machines_are_answered_under_any_name_and_readiness_has_its_reason() {
    for console in [true, false] {
        let server = server_with(Fake::new(), console).await;
        assert_eq!(server.ask("GET", "/livez", "x").await.status, 200);
        let metrics = server.ask("GET", "/metrics", "x").await;
        assert_eq!(metrics.status, 200);
        assert!(
            metrics.head.contains(CONTENT_TYPE) && metrics.body.contains("flotilla_build_info{"),
            "{}",
            metrics.body
        );
        assert_eq!(server.ask("GET", "/readyz", "x").await.status, 200);
        server.fake.state.lock().unwrap().ready = Readiness::NotReady("stopping".into());
        let unready = server.ask("GET", "/readyz", "x").await;
        assert_eq!((unready.status, unready.body.as_str()), (503, "not ready: stopping\n"));
        assert_eq!(server.get("/nothing").await.status, 404);
        server.stop.send(()).unwrap();
        server.served.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn garbage_does_not_end_the_listener() {
    let server = server(Fake::new()).await;
    for garbage in [&b"\0\xff\x16\x03\x01garbage\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[b'a'; 100_000]] {
        server.exchange(garbage).await;
    }
    assert_eq!(server.get("/livez").await.status, 200);
}

#[tokio::test]
async fn a_console_that_is_off_is_not_there() {
    let server = server_with(Fake::new(), false).await;
    for path in ["/", "/topics", "/api/v1/health", "/assets/console.js"] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
}

/// DNS rebinding: a page of `evil.example` that points its name here must learn nothing.
#[tokio::test]
async fn the_console_answers_only_under_its_own_names() {
    let server = server(Fake::new()).await;
    for path in ["/", "/api/v1/topics", "/assets/console.js", "/nothing"] {
        let refused = server.ask("GET", path, "evil.example:7080").await;
        assert_eq!(refused.status, 421, "{path}");
        assert!(refused.body.contains("http_advertised") && !refused.body.contains("orders"), "{}", refused.body);
        for host in ["127.0.0.1:7080", "[::1]:7080", "localhost", "N1.example.com:80"] {
            assert_ne!(server.ask("GET", path, host).await.status, 421, "{path} as {host}");
        }
    }
    for request in [
        "GET / HTTP/1.0\r\n\r\n",
        "GET http://evil.example/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\nconnection: close\r\n\r\n",
    ] {
        let refused = server.exchange(request.as_bytes()).await;
        assert!(matches!(refused.status, 400 | 421), "{request}: {}", refused.status);
    }
}

#[tokio::test]
async fn only_reading_is_possible() {
    let server = server(Fake::new()).await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
        for path in ["/", "/api/v1/topics", "/nothing"] {
            let refused = server.ask(method, path, "localhost").await;
            assert_eq!(refused.status, 405, "{method} {path}");
            assert!(refused.head.contains("allow: get, head"), "{}", refused.head);
        }
    }
    let head = server.ask("HEAD", "/", "localhost").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn an_address_has_a_longest_length() {
    let server = server(Fake::new()).await;
    let path = "/topics?find=";
    let longest = format!("{path}{}", "a".repeat(limits::URI_BYTES_MAX - path.len()));
    assert_eq!(server.get(&longest).await.status, 200);
    assert_eq!(server.get(&format!("{longest}a")).await.status, 414);
}

#[tokio::test]
async fn every_answer_carries_the_headers_that_shut_strangers_out() {
    let server = server(Fake::new()).await;
    for path in ["/", "/topics", "/api/v1/topics", "/assets/console.css", "/nothing", "/topic?name=gone"] {
        let answer = server.get(path).await;
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cross-origin-resource-policy: same-origin",
            "cache-control: no-store",
        ] {
            assert!(answer.head.contains(header), "{path} lacks {header:?}:\n{}", answer.head);
        }
        assert!(!answer.head.contains("access-control"), "{path}: {}", answer.head);
    }
}

/// Without sockets, so that the deadline passes in no time.
#[tokio::test(start_paused = true)]
async fn at_most_so_many_requests_are_worked_on_at_once_and_none_for_ever() {
    let metrics = Metrics::new();
    let options =
        HttpOptions { metrics: metrics.clone(), console: true, advertised: "n1:7080".into(), descriptors_max: 128 };
    let router = router(Fake::with(|state| state.hangs = true), options);
    let ask = |path: &str| {
        let request = Request::get(path).header("host", "localhost").body(Body::empty()).unwrap();
        router.clone().oneshot(request)
    };
    let held: Vec<_> = (0..limits::REQUESTS_MAX + 4).map(|_| ask("/topic?name=orders")).collect();
    let mut busy = BTreeMap::new();
    for answer in join_all(held).await {
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 503);
        assert!(answer.headers().contains_key("retry-after"));
        let body = axum::body::to_bytes(answer.into_body(), 1_000).await.unwrap();
        *busy.entry(String::from_utf8_lossy(&body).into_owned()).or_insert(0) += 1;
    }
    let want = [
        ("the brokers did not answer in time; try again\n".to_string(), limits::REQUESTS_MAX),
        ("too many requests at once; try again\n".to_string(), 4),
    ];
    assert_eq!(busy, BTreeMap::from(want));
    assert!(metrics.encode().contains("flotilla_limit_refusals_total{limit=\"console_requests\"} 4"));
    assert_eq!(ask("/topics").await.unwrap().status(), 200, "and then there is room again");
}

/// A page whose name was made to point here (DNS rebinding) must not read names of topics and groups.
#[tokio::test]
async fn metrics_are_for_scrapers_under_any_name_and_for_browsers_under_ours() {
    let options =
        HttpOptions { metrics: Metrics::new(), console: true, advertised: "n1:7080".into(), descriptors_max: 128 };
    let router = router(Fake::new(), options);
    let scraper: &[(&str, &str)] = &[("user-agent", "Prometheus/3.5.0"), ("accept", "text/plain")];
    let browser: &[(&str, &str)] = &[("user-agent", "Mozilla/5.0 (X11; Linux x86_64)")];
    let disguised: &[(&str, &str)] = &[("user-agent", "Prometheus/3.5.0"), ("accept-language", "")];
    for (headers, host, status) in [
        (scraper, "flotilla-1.monitoring.svc:7080", 200),
        (scraper, "127.0.0.1:7080", 200),
        (browser, "127.0.0.1:7080", 200),
        (browser, "n1:7080", 200),
        (browser, "evil.example.com:7080", 421),
        (disguised, "evil.example.com:7080", 421),
    ] {
        let request = headers.iter().fold(Request::get("/metrics").header("host", host), |request, (name, value)| {
            request.header(*name, *value)
        });
        let answer = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{headers:?} as {host}");
        let probe = Request::get("/livez").header("host", host).body(Body::empty()).unwrap();
        assert_eq!(router.clone().oneshot(probe).await.unwrap().status(), 200);
    }
}
