//! What the metadata group reads from its log, from disk and from peers: commands, responses, and whole states.

use std::sync::OnceLock;

use bytes::Bytes;

use super::{
    tests::{Cluster, creation, frozen, groups},
    *,
};
use crate::{
    formats::{
        frozen::literals,
        fuzz::{bounded, fuzz, linear},
    },
    replicated::Replicated,
    types::{BrokerId, EntryPosition, LogIndex, Term, TopicId, WallMs},
};

/// An empty topic name or partition list is a byte encoded and 24 in memory, in a vector that is being doubled; a
/// set or map of them has nodes of eleven.
const COMMAND_PER_BYTE: usize = 128;
/// What is derived of a state is there twice more, by group and by id.
const STATE_PER_BYTE: usize = 1_024;

fn seeds(text: &str) -> Vec<Vec<u8>> {
    literals(text).into_iter().map(|(_, bytes)| bytes).collect()
}

/// Commands of every kind, as they can be applied one after the other.
fn commands() -> Vec<Vec<u8>> {
    let changes = frozen::changes().into_iter().map(|(_, change)| change);
    let changes = changes.chain(groups::commands().into_iter().map(Change::Group));
    let commands = changes.map(|change| Command::new(WallMs(1), change).encode().to_vec());
    commands.chain(seeds(frozen::COMMANDS)).collect()
}

/// Clusters that commands find: empty, with topics, with groups of either kind.
fn clusters() -> &'static [Metadata] {
    static CLUSTERS: OnceLock<Vec<Metadata>> = OnceLock::new();
    CLUSTERS.get_or_init(|| {
        let mut cluster = Cluster::founded(3, |id| Some(format!("rack-{id}")));
        for (name, partitions) in [("t", 2), ("orders", 3), ("gone", 1)] {
            let mut wish = creation(name, partitions, 2);
            wish.topic_id = if name == "orders" { TopicId(0x0102) } else { wish.topic_id };
            cluster.apply(Change::CreateTopic(wish)).expect("a valid wish");
        }
        let topic_id = cluster.state.topic("gone").expect("just made").id;
        cluster.apply(Change::DeleteTopic(DeleteTopic { name: "gone".to_string(), topic_id })).expect("it is there");
        let topics = cluster.state.clone();
        for command in groups::commands() {
            let _ = cluster.apply(Change::Group(command.clone()));
            // A member that was asked to leave comes back: states with members are what is wanted.
            let _ = cluster.apply(Change::Group(groups::commands().swap_remove(0)));
        }
        let heard = (1..=3).map(|id| (BrokerId(id), 3)).collect();
        cluster.apply(Change::RaiseFeatureLevel(RaiseFeatureLevel { to: 3, heard })).expect("all support it");
        vec![Metadata::new(), topics, cluster.state]
    })
}

fn after(state: &Metadata) -> EntryPosition {
    let last = state.applied().map_or(0, |at| at.index.0);
    EntryPosition { term: Term(1), index: LogIndex(last + 1) }
}

/// Applies a command, and holds the state to its promises. Every invariant is asserted within.
fn apply(state: &mut Metadata, command: &Bytes) {
    let before = state.clone();
    match state.apply(after(state), command) {
        Err(_) => assert_eq!(*state, before, "what cannot be applied changes nothing"),
        Ok(applied) => {
            let response = decode_response(&applied.response).expect("what apply encodes");
            assert_eq!(super::response::encode(&response), applied.response);
            if response.is_err() {
                assert_eq!(state.topics().count(), before.topics().count(), "a refusal changes nothing");
            }
        }
    }
}

fn check_state(state: &Metadata) {
    let bytes = state.encode();
    let again = Metadata::decode(&bytes).expect("our own bytes");
    assert_eq!(again.encode(), bytes);
    for topic in state.topics() {
        topic.config();
    }
    for broker in [BrokerId(1), BrokerId(u64::MAX)] {
        state.groups_on(broker);
        state.deleted_on(broker);
    }
}

#[test]
fn fuzz_commands_on_the_metadata() {
    for (command, (name, _)) in commands().iter().zip(frozen::changes()) {
        assert!(Command::decode(command).is_ok(), "{name}");
    }
    fuzz!(commands(), |bytes| {
        let command = Bytes::copy_from_slice(bytes);
        let decoded = bounded(bytes.len(), COMMAND_PER_BYTE, || Command::decode(&command));
        if let Ok(decoded) = &decoded {
            assert_eq!(Command::decode(&decoded.encode()).as_ref(), Ok(decoded));
            assert!(decoded.change.level() <= crate::formats::FEATURE_LEVEL);
        }
        for state in clusters() {
            let mut state = state.clone();
            let was = state.applied();
            apply(&mut state, &command);
            assert!(decoded.is_ok() || state.applied() == was, "what cannot be read is never passed over");
            check_state(&state);
        }
    });
}

/// Many names take time in proportion, as long as a command may be.
#[test]
fn commands_of_many_names_take_time_in_proportion() {
    let named = |bytes: usize| {
        let unset = (0..bytes / 8).map(|i| format!("{i:07}")).collect();
        let wish = AlterTopic { name: "t".to_string(), topic_id: TopicId(1), set: Default::default(), unset };
        Command::new(WallMs(1), Change::AlterTopic(wish)).encode().to_vec()
    };
    linear(named, |bytes| apply(&mut clusters()[1].clone(), &bytes));
    let empty = |bytes: usize| {
        let unset = vec![String::new(); bytes];
        let wish = AlterTopic { name: "t".to_string(), topic_id: TopicId(1), set: Default::default(), unset };
        Command::new(WallMs(1), Change::AlterTopic(wish)).encode().to_vec()
    };
    linear(empty, |bytes| assert!(Command::decode(&bytes).is_ok()));
}

#[test]
fn fuzz_states_of_the_metadata() {
    let seeds = clusters().iter().map(|state| state.encode().to_vec()).chain(seeds(frozen::STATES));
    fuzz!(seeds, |bytes| {
        let Ok(mut state) = bounded(bytes.len(), STATE_PER_BYTE, || Metadata::decode(bytes)) else { return };
        check_state(&state);
        let last = state.applied().map_or(0, |at| at.index.0);
        // Whoever loads it holds it against the entry that it is said to be of.
        if !state.can_be_after(Some(EntryPosition { term: Term(1), index: LogIndex(1 << 40) })) {
            return;
        }
        assert!(last <= 1 << 40);
        for command in commands() {
            apply(&mut state, &command.into());
        }
        check_state(&state);
    });
}

#[test]
fn fuzz_responses_of_the_metadata() {
    fuzz!(seeds(frozen::RESPONSES), |bytes| {
        let Ok(response) = bounded(bytes.len(), COMMAND_PER_BYTE, || decode_response(bytes)) else { return };
        assert_eq!(decode_response(&super::response::encode(&response)), Ok(response));
    });
}
