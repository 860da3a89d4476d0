//! The pages: what they show, and that nothing a user chose becomes markup.

use bytes::Bytes;

use super::{Server, fake::Fake, server};
use crate::{
    http::limits,
    record::{Codec, Record},
    types::WallMs,
};

const PAGES: [&str; 7] = [
    "/",
    "/topics",
    "/topic?name=orders",
    "/records?topic=orders&partition=0",
    "/groups",
    "/group?name=billing",
    "/kafka",
];

async fn shows(server: &Server, path: &str, texts: &[&str]) {
    let page = server.page(path).await;
    for text in texts {
        assert!(page.contains(text), "{path} does not show {text:?}:\n{page}");
    }
}

#[tokio::test]
async fn the_overview_shows_health_brokers_and_charts_with_units() {
    let server = server(Fake::with(|state| state.problems = vec!["broker 3 does not answer".into()])).await;
    let texts = [
        "00000000000000000000000000000abc",
        "Unhealthy",
        "broker 3 does not answer",
        "retention is about to delete unread records",
        "2 of 3",
        "<span class=\"mark bad\">dead</span>",
        "<td data-label=\"Metadata\">leader</td>",
        "href=\"http://n2:7080/\"",
        "<code>n2:9092</code>",
        "1.0 GiB",
        "KiB/s",
        "records/s",
        ">ms</text>",
        "−15 min",
        "2.0 KiB/s",
        "4.00 ms",
        "16:00:00 UTC",
    ];
    shows(&server, "/", &texts).await;
    let page = server.page("/?node=3").await;
    assert!(page.contains("Broker 3 does not answer") && !page.contains("<svg"), "{page}");
    // Below its reserve (broker 2 keeps 2 GiB back): marked.
    assert_eq!(server.page("/").await.matches("<span class=\"mark bad\">1.0 GiB</span>").count(), 1);
}

#[tokio::test]
async fn topics_and_groups_are_listed_found_and_shown() {
    let server = server(Fake::new()).await;
    shows(&server, "/topics", &["href=\"/topic?name=orders\"", "href=\"/topic?name=clicks\""]).await;
    assert!(!server.page("/topics?find=ORD").await.contains("clicks"), "found in any case");
    shows(&server, "/topics?find=zzz", &["No topic has “zzz” in its name"]).await;
    let texts = ["broker 2", "<span class=\"mark bad\">none</span>", "2, 1", "1.5 KiB", "604800000", "partition=1"];
    shows(&server, "/topic?name=orders", &texts).await;
    shows(&server, "/groups", &["billing", "stable", "flotilla", "1 min 30 s", "threatens 1"]).await;
    let texts = [
        "sticky",
        "broker 1",
        "m-1",
        "orders 0",
        "1 min 30 s",
        "threatens unread records",
        "/records?topic=orders&#38;partition=0&#38;offset=4",
        "unread records of 1 partition.",
    ];
    shows(&server, "/group?name=billing", &texts).await;
}

#[tokio::test]
async fn kafka_clients_are_shown_with_what_they_are_and_ask() {
    let server = server(Fake::new()).await;
    let texts = [
        "<dt>Connections</dt><dd>9</dd>",
        "<dt>Fetch sessions</dt><dd>4</dd>",
        "<th scope=\"row\" data-label=\"Software\">librdkafka 2.15.0</th>\n<td data-label=\"Connections\" class=\"number\">6</td>",
        "<th scope=\"row\" data-label=\"Software\">(others)</th>",
        "does not say</th>\n<td data-label=\"Connections\" class=\"number\">2</td>",
        "<td data-label=\"Version\" class=\"number\">17</td>",
        "70,000",
        "<a href=\"/kafka?node=2\">Broker 2</a>",
        "<a href=\"/kafka\" aria-current=\"page\">Kafka</a>",
    ];
    shows(&server, "/kafka", &texts).await;
    shows(&server, "/kafka?node=2", &["<a href=\"/kafka?node=2\" aria-current=\"true\">Broker 2</a>"]).await;
    let page = server.page("/kafka?node=3").await;
    assert!(page.contains("Broker 3 does not answer") && !page.contains("<table"), "{page}");
}

#[tokio::test]
async fn records_are_shown_as_text_and_hex_with_ways_on() {
    let fake = Fake::new();
    let record = |value: &'static [u8]| Record {
        key: Some("k".into()),
        value: Some(Bytes::from_static(value)),
        headers: vec![("trace".into(), Some("t1".into()))],
        timestamp: WallMs(1_764_000_000_123),
    };
    fake.append(Codec::Lz4, &vec![record(b"pears"); 60]);
    fake.append(Codec::None, &[record(b"\x00\xff")]);
    let server = server(fake).await;
    let texts = [
        "2025-11-24 16:00:00.123",
        "<span class=\"text\">pears</span>",
        "trace",
        "offsets 0 to 60 are kept by broker 2",
        "&amp;offset=50\" rel=\"next\"",
    ];
    shows(&server, "/records?topic=orders&from=start", &texts).await;
    let last = server.page("/records?topic=orders").await;
    assert!(last.contains("0000  00 ff") && last.contains("rel=\"prev\"") && !last.contains("rel=\"next\""), "{last}");
    let outside = server.get("/records?topic=orders&offset=99").await;
    assert_eq!(outside.status, 400);
    assert!(outside.body.contains("is outside 0..61") && outside.body.contains("<form"), "the form stays");
}

/// Just at each limit nothing is left out; one more is, and the page says so.
#[tokio::test]
async fn long_lists_are_cut_and_it_is_said() {
    for more in [0, 1] {
        let fake = Fake::with(|state| {
            state.groups = limits::GROUPS_MAX + more;
            state.members = limits::MEMBERS_MAX + more;
            state.brokers = (limits::NODES_MAX + more) as u64;
        });
        let headers = |count: usize| (0..count).map(|n| (format!("h-{n}"), Some(Bytes::from("v")))).collect();
        fake.append(Codec::None, &[Record { headers: headers(limits::SHOWN_HEADERS_MAX + more), ..Record::default() }]);
        let server = server(fake).await;
        for (path, item, max, said) in [
            ("/", "href=\"http://n", limits::NODES_MAX, "1 more brokers are not shown"),
            ("/groups", "href=\"/group?name=", limits::GROUPS_MAX, "rel=\"next\""),
            (
                "/group?name=billing",
                "<th scope=\"row\" data-label=\"Member\">",
                limits::MEMBERS_MAX,
                "1 more members are not shown",
            ),
            ("/records?topic=orders&from=start", "<code>h-", limits::SHOWN_HEADERS_MAX, "… 1 more"),
        ] {
            let page = server.page(path).await;
            assert_eq!(page.matches(item).count(), max, "{path} with {more} more\n{page}");
            assert_eq!(page.contains(said), more > 0, "{path} with {more} more");
        }
    }
}

#[tokio::test]
async fn nothing_that_a_user_chose_becomes_markup() {
    const HOSTILE: &str = "\"><img src=x onerror=alert(1)>'&\u{202e}";
    let fake = Fake::with(|state| {
        state.topic = HOSTILE.into();
        state.group = HOSTILE.into();
        state.problems = vec![HOSTILE.into()];
        state.software = vec![(HOSTILE.into(), 1)];
    });
    let bytes = || Some(Bytes::from_static(HOSTILE.as_bytes()));
    let headers = vec![(HOSTILE.to_string(), bytes())];
    fake.append(Codec::None, &[Record { key: bytes(), value: bytes(), headers, timestamp: WallMs(0) }]);
    let server = server(fake).await;
    let name = crate::http::query::encoded(HOSTILE);
    let paths = [
        "/".to_string(),
        "/topics".into(),
        "/kafka".into(),
        format!("/topics?find={name}"),
        format!("/topic?name={name}"),
        format!("/topic?name=x{name}"),
        format!("/records?topic={name}"),
        format!("/records?topic={name}&offset={name}"),
        format!("/records?topic={name}&offset=99"),
        "/groups".into(),
        format!("/groups?find={name}x"),
        format!("/group?name={name}"),
        format!("/group?name=x{name}"),
        format!("/?node={name}"),
        format!("/nothing/{name}"),
    ];
    for path in paths {
        let answer = server.get(&path).await;
        assert!([200, 400, 404].contains(&answer.status), "{path}: {}", answer.status);
        assert!(!answer.body.contains("<img src=x"), "{path}:\n{}", answer.body);
    }
}

/// The content policy forbids all of it; a page that tries would be broken.
#[tokio::test]
async fn pages_hold_no_script_no_style_and_nothing_from_elsewhere() {
    let server = server(Fake::new()).await;
    for path in PAGES {
        let page = server.page(path).await;
        for forbidden in [" style=", "<style", "javascript:", " onclick=", " onload=", "src=\"http", "https://"] {
            assert!(!page.contains(forbidden), "{path} has {forbidden:?}");
        }
        let scripts: Vec<&str> = page.match_indices("<script").map(|(at, _)| &page[at..at + 41]).collect();
        assert_eq!(scripts, ["<script src=\"/assets/console.js\" defer></"], "{path}");
    }
    for asset in ["/assets/console.css", "/assets/console.js", "/assets/icon.svg"] {
        let text = server.page(asset).await;
        for forbidden in ["@import", "url(", "eval(", "innerHTML", "document.write"] {
            assert!(!text.contains(forbidden), "{asset} has {forbidden:?}");
        }
    }
}

#[tokio::test]
async fn every_page_says_who_saw_it_when_and_can_be_walked_by_keyboard() {
    let server = server(Fake::new()).await;
    for path in PAGES {
        let page = server.page(path).await;
        for text in ["Seen by broker 1 at 16:00:00 UTC", "href=\"#main\"", "<h1>", "lang=\"en\"", "<title>"] {
            assert!(page.contains(text), "{path} lacks {text:?}");
        }
        let fields = page.matches("<input").count() - page.matches("type=\"hidden\"").count();
        assert!(page.matches("<label>").count() >= fields, "{path}: a field without a label");
    }
}
