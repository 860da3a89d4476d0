//! The main APIs at the lowest and the highest version that is served, byte for byte: requests and whole answers.
//!
//! They stand in `golden/*.txt`, a line for each field. Neither our codec nor our code made them: an encoder in Python did
//! (`jepsen-style-tests/clients/python/golden.py`), from Apache Kafka's own message specifications, and kafka-python 3
//! read each of them back and wrote the same. Fetch, whose answers are written by hand, has tests of its own.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{apis::ROUTES, client::CALLER, wire},
    harness::{Alone, Wire},
};
use crate::broker::{OffsetAt, TopicsWanted, tests::rig::read};

const STORIES: [&str; 4] = [
    include_str!("golden/cluster.txt"),
    include_str!("golden/records.txt"),
    include_str!("golden/groups.txt"),
    include_str!("golden/topics.txt"),
];

/// A field of a message: its bytes, and what the file says of it.
struct Field {
    bytes: FieldBytes,
    note: &'static str,
}

enum FieldBytes {
    Fixed(Vec<u8>),
    /// What a running broker chose. The same name means the same bytes.
    Open {
        name: &'static str,
        length: usize,
    },
}

#[derive(Default)]
struct Exchange {
    what: &'static str,
    request: Vec<Field>,
    answer: Vec<Field>,
}

type Known = BTreeMap<&'static str, Vec<u8>>;

fn exchanges(text: &'static str) -> Vec<Exchange> {
    let (mut all, mut what, mut is_answer) = (Vec::<Exchange>::new(), "", false);
    for line in text.lines() {
        let (hex, note) = line.split_once('#').map_or((line, ""), |(hex, note)| (hex.trim(), note.trim()));
        match hex {
            "" => what = if note.is_empty() { what } else { note },
            ">" => {
                all.push(Exchange { what, ..Exchange::default() });
                is_answer = false;
            }
            "<" => is_answer = true,
            hex => {
                let exchange = all.last_mut().expect("a field belongs to a message");
                let fields = if is_answer { &mut exchange.answer } else { &mut exchange.request };
                fields.push(Field { bytes: field_bytes(hex), note });
            }
        }
    }
    all
}

fn field_bytes(text: &'static str) -> FieldBytes {
    if let Some(open) = text.strip_prefix('<').and_then(|open| open.strip_suffix('>')) {
        let (name, length) = open.split_once(':').expect("a name and a length");
        return FieldBytes::Open { name, length: length.parse().expect("a length") };
    }
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap_or_else(|error| panic!("{text}: {error}"));
    FieldBytes::Fixed((0..text.len()).step_by(2).map(byte).collect())
}

fn filled(fields: &[Field], known: &Known) -> Vec<u8> {
    let bytes = fields.iter().map(|field| match &field.bytes {
        FieldBytes::Fixed(bytes) => bytes,
        FieldBytes::Open { name, .. } => known.get(name).unwrap_or_else(|| panic!("{name} is not known yet")),
    });
    bytes.flatten().copied().collect()
}

/// Field by field, so that what is wrong has a name.
fn compare(exchange: &Exchange, answer: &[u8], known: &mut Known) {
    let mut rest = answer;
    for Field { bytes, note } in &exchange.answer {
        let length = match bytes {
            FieldBytes::Fixed(bytes) => bytes.len(),
            FieldBytes::Open { length, .. } => *length,
        };
        let what = exchange.what;
        let (found, behind) = rest.split_at_checked(length).unwrap_or_else(|| panic!("{what} ends before {note}"));
        let wanted = match bytes {
            FieldBytes::Fixed(bytes) => bytes,
            FieldBytes::Open { name, .. } => &*known.entry(name).or_insert_with(|| found.to_vec()),
        };
        assert_eq!(found, wanted, "{what}\n{note}\nin {answer:02x?}");
        rest = behind;
    }
    assert!(rest.is_empty(), "{} goes on: {rest:02x?}", exchange.what);
}

async fn play(wire: &mut Wire, story: &'static str, known: &mut Known) {
    for exchange in exchanges(story) {
        wire.write(&filled(&exchange.request, known)).await;
        let body = wire.frame().await.unwrap_or_else(|| panic!("{} is answered", exchange.what));
        let length = i32::try_from(body.len()).expect("it is short").to_be_bytes();
        compare(&exchange, &[&length[..], &body].concat(), known);
    }
}

#[tokio::test]
async fn the_main_apis_are_answered_byte_for_byte() {
    for (seed, story) in (1_240..).zip(STORIES) {
        let alone = Alone::start(seed).await;
        alone.cluster.create_on("t", 1, 1).await;
        alone.cluster.led_by("t").await;
        let broker = alone.broker();
        let id = broker.topic_id("t").expect("it was made");
        let cluster = broker.cluster_view(&CALLER, TopicsWanted::None).await.cluster_id.expect("it was founded");
        let epoch = broker.find_offset(&CALLER, read(None), OffsetAt::Latest).await.expect("it is led").epoch;
        let mut known = Known::from([
            ("topic-id", wire::uuid(id).to_bytes().to_vec()),
            ("cluster-id", cluster.to_string().into_bytes()),
            ("epoch", epoch.0.to_be_bytes().to_vec()),
        ]);
        play(&mut alone.face.connect(), story, &mut known).await;
    }
}

#[test]
fn each_of_them_stands_at_its_lowest_and_its_highest_version() {
    const MAIN: [i16; 12] = [0, 2, 3, 8, 9, 10, 11, 12, 14, 18, 19, 22];
    let asked = STORIES.into_iter().flat_map(exchanges).map(|exchange| {
        let head: Vec<u8> = filled(&exchange.request[1..3], &Known::new());
        let number = |at: usize| i16::from_be_bytes([head[at], head[at + 1]]);
        (number(0), number(2))
    });
    let wanted = ROUTES.iter().filter(|route| MAIN.contains(&route.key));
    let wanted: BTreeSet<_> = wanted.flat_map(|route| [(route.key, route.min), (route.key, route.max)]).collect();
    assert_eq!(wanted.len(), 2 * MAIN.len(), "all of them are served");
    assert_eq!(asked.collect::<BTreeSet<_>>(), wanted);
}
