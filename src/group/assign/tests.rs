//! What assignors promise, on random deals; and a few literal ones that people can check by eye.

use proptest::{collection::vec, prelude::*};

use super::*;

/// Up to 10 members with up to 4 distinct subscriptions, up to 6 topics; owners at random, also such
/// as may not read what they have.
fn deal() -> impl Strategy<Value = Deal> {
    (vec(0..4usize, 1..10), vec((0..16u64, vec(proptest::option::of(0..10usize), 0..9)), 0..6)).prop_map(
        |(subscription_of, topics)| {
            let members = subscription_of.len();
            let mut subscriptions = vec![Vec::new(); 4];
            for (member, subscription) in subscription_of.iter().enumerate() {
                subscriptions[*subscription].push(member);
            }
            let topic = |(readers, owners): (u64, Vec<Option<usize>>)| TopicToDeal {
                readers,
                owners: owners.into_iter().map(|owner| owner.filter(|m| *m < members)).collect(),
            };
            Deal { members, subscriptions, topics: topics.into_iter().map(topic).collect() }
        },
    )
}

/// All members read all topics.
fn even_deal() -> impl Strategy<Value = Deal> {
    (1..10usize, vec(vec(proptest::option::of(0..10usize), 0..12), 0..6)).prop_map(|(members, topics)| {
        let topic = |owners: Vec<Option<usize>>| TopicToDeal {
            readers: 1,
            owners: owners.into_iter().map(|owner| owner.filter(|m| *m < members)).collect(),
        };
        let topics = topics.into_iter().map(topic).collect();
        Deal { members, subscriptions: vec![(0..members).collect()], topics }
    })
}

fn loads(deal: &Deal, owners: &[Vec<Option<usize>>]) -> Vec<usize> {
    let mut loads = vec![0; deal.members];
    owners.iter().flatten().flatten().for_each(|owner| loads[*owner] += 1);
    loads
}

fn spread(loads: impl Iterator<Item = usize> + Clone) -> usize {
    loads.clone().max().unwrap_or(0) - loads.min().unwrap_or(0)
}

const ALL: [Assignor; 3] = [Assignor::Sticky, Assignor::Range, Assignor::RoundRobin];

proptest! {
    #[test]
    fn every_partition_goes_to_one_reader(deal in deal()) {
        for assignor in ALL {
            let owners = deal.owners(assignor);
            prop_assert_eq!(owners.len(), deal.topics.len());
            for (topic, owners) in deal.topics.iter().zip(&owners) {
                prop_assert_eq!(owners.len(), topic.owners.len());
                let readers = deal.readers_of(topic.readers);
                for owner in owners {
                    match owner {
                        Some(owner) => prop_assert!(readers.contains(owner), "{assignor:?}: {owner} of {readers:?}"),
                        None => prop_assert!(readers.is_empty(), "{assignor:?}: nobody of {readers:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn sticky_evens_out_among_equal_subscriptions(deal in deal()) {
        let loads = loads(&deal, &deal.owners(Assignor::Sticky));
        for members in &deal.subscriptions {
            prop_assert!(spread(members.iter().map(|m| loads[*m])) <= 1, "{members:?} have {loads:?}");
        }
    }

    /// Not even to give a member less that has more than another it could give to.
    #[test]
    fn sticky_leaves_no_single_move_that_helps(deal in deal()) {
        let owners = deal.owners(Assignor::Sticky);
        let loads = loads(&deal, &owners);
        for (topic, owners) in deal.topics.iter().zip(&owners) {
            for owner in owners.iter().flatten() {
                let least = deal.readers_of(topic.readers).iter().map(|m| loads[*m]).min().expect("it has an owner");
                prop_assert!(loads[*owner] <= least + 1, "{owner} of {loads:?} could give one away");
            }
        }
    }

    #[test]
    fn sticky_twice_moves_nothing(deal in deal()) {
        let mut again = deal.clone();
        for (topic, owners) in again.topics.iter_mut().zip(deal.owners(Assignor::Sticky)) {
            topic.owners = owners;
        }
        prop_assert_eq!(again.owners(Assignor::Sticky), deal.owners(Assignor::Sticky));
    }

    /// The least that any even assignment must move: what members have above their even share, where
    /// those with most get the larger shares.
    #[test]
    fn sticky_moves_the_minimum(deal in even_deal()) {
        let before: Vec<Option<usize>> = deal.topics.iter().flat_map(|t| t.owners.clone()).collect();
        let after: Vec<Option<usize>> = deal.owners(Assignor::Sticky).into_iter().flatten().collect();
        let moved = before.iter().zip(&after).filter(|(b, a)| b.is_some() && b != a).count();
        let mut had = vec![0usize; deal.members];
        before.iter().flatten().for_each(|m| had[*m] += 1);
        had.sort_unstable_by(|a, b| b.cmp(a));
        let (each, more) = (before.len() / deal.members, before.len() % deal.members);
        let share = |i: usize| each + usize::from(i < more);
        let least: usize = had.iter().enumerate().map(|(i, had)| had.saturating_sub(share(i))).sum();
        prop_assert_eq!(moved, least);
    }

    #[test]
    fn round_robin_evens_out_if_all_read_all(deal in even_deal()) {
        let loads = loads(&deal, &deal.owners(Assignor::RoundRobin));
        prop_assert!(spread(loads.iter().copied()) <= 1, "{loads:?}");
    }

    #[test]
    fn range_gives_each_topics_readers_one_range(deal in deal()) {
        for (topic, owners) in deal.topics.iter().zip(deal.owners(Assignor::Range)) {
            let readers = deal.readers_of(topic.readers);
            prop_assert!(owners.is_sorted(), "{owners:?}");
            let loads = readers.iter().map(|m| owners.iter().filter(|o| **o == Some(*m)).count());
            prop_assert!(spread(loads) <= 1, "{owners:?}");
        }
    }
}

fn fresh(members: usize, partitions: &[usize]) -> Deal {
    let topics = partitions.iter().map(|count| TopicToDeal { readers: 1, owners: vec![None; *count] });
    Deal { members, subscriptions: vec![(0..members).collect()], topics: topics.collect() }
}

fn shown(owners: Vec<Vec<Option<usize>>>) -> Vec<String> {
    let number = |owner: &Option<usize>| owner.map_or("-".to_string(), |m| m.to_string());
    owners.iter().map(|topic| topic.iter().map(number).collect()).collect()
}

/// The examples of Kafka's documentation.
#[test]
fn literal_deals() {
    let two_of_three = fresh(2, &[3, 3]);
    assert_eq!(shown(two_of_three.owners(Assignor::Range)), ["001", "001"]);
    assert_eq!(shown(two_of_three.owners(Assignor::RoundRobin)), ["010", "101"]);
    assert_eq!(shown(two_of_three.owners(Assignor::Sticky)), ["010", "101"]);
    // C0 reads t0, C1 t0 and t1, C2 all; t0 has one partition, t1 two, t2 three.
    let unequal = Deal {
        members: 3,
        subscriptions: vec![vec![0], vec![1], vec![2]],
        topics: vec![
            TopicToDeal { readers: 0b111, owners: vec![None; 1] },
            TopicToDeal { readers: 0b110, owners: vec![None; 2] },
            TopicToDeal { readers: 0b100, owners: vec![None; 3] },
        ],
    };
    assert_eq!(shown(unequal.owners(Assignor::RoundRobin)), ["0", "12", "222"]);
    assert_eq!(shown(unequal.owners(Assignor::Sticky)), ["0", "11", "222"]);
}

/// A fourth member joins three that have four each: it gets three, one from each.
#[test]
fn a_joining_member_gets_one_from_each() {
    let mut deal = fresh(4, &[12]);
    deal.topics[0].owners = (0..12).map(|p| Some(p % 3)).collect();
    assert_eq!(shown(deal.owners(Assignor::Sticky)), ["012012012333"]);
}
