use std::error::Error;

use flotilla::client::{Cluster, GroupConsumer, GroupEvent, GroupOptions};

/// Reads `wanted` records of the topic `orders` as a member of the group `billing`, and commits each portion once it
/// is worked on. A member that comes after this one goes on where it stopped.
pub async fn bill(cluster: &Cluster, wanted: usize) -> Result<(), Box<dyn Error>> {
    let options = GroupOptions {
        topics: vec!["orders".into()],
        // Only what `commit` says is committed.
        auto_commit: None,
        ..GroupOptions::new("billing")
    };
    let mut member = GroupConsumer::open(cluster, options)?;
    let mut count = 0;
    while count < wanted {
        match member.next().await {
            Ok(GroupEvent::Records(portion)) => {
                for found in &portion.records {
                    println!("billing {} {}: {:?}", portion.at, found.offset, found.record.value);
                }
                count += portion.records.len();
                // Answered when a majority of the brokers has it on disk.
                member.commit().await?;
            }
            Ok(GroupEvent::Assigned(partitions)) => println!("reading {partitions:?}"),
            // Others read on from what was committed, after the next call.
            Ok(GroupEvent::Revoked(partitions)) => println!("handing over {partitions:?}"),
            // Others may be reading already: what was not committed is read again, by them.
            Ok(GroupEvent::Lost(partitions)) => println!("lost {partitions:?}"),
            Ok(GroupEvent::Replaced(partitions)) => println!("these are of a new topic now: {partitions:?}"),
            Ok(GroupEvent::Jumped(jump)) => println!("{} goes on at {} instead of {}", jump.at, jump.to, jump.from),
            Err(error) if error.is_retriable() => println!("trying on: {error}"),
            Err(error) => return Err(error.into()),
        }
    }
    // Leaves at once, so that nobody waits until its session is over.
    member.close().await?;
    Ok(())
}
