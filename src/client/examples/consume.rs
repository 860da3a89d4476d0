use std::error::Error;

use flotilla::client::{Admin, Cluster, ConsumeOptions, Consumer, PartitionId, Start, TopicPartition};

/// Reads all that the topic `orders` holds now, one partition after the other. Returns how many records that were.
pub async fn consume(cluster: &Cluster, admin: &Admin) -> Result<usize, Box<dyn Error>> {
    let mut count = 0;
    for number in 0..admin.partition_count("orders").await? {
        let partition = TopicPartition::new("orders", PartitionId(number as i32));
        // Without `stop_at_end` it would wait for more.
        let options = ConsumeOptions { start: Start::Earliest, stop_at_end: true, ..ConsumeOptions::default() };
        let mut consumer = Consumer::open(cluster, partition.clone(), options).await?;
        while let Some(chunk) = consumer.next().await? {
            for found in chunk.records {
                println!("{partition} {}: {:?}", found.offset, found.record.value);
                count += 1;
            }
        }
    }
    Ok(count)
}
