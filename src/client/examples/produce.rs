use std::{error::Error, time::Duration};

use flotilla::client::{Cluster, Outcome, Producer, ProducerOptions, Record};

/// Appends ten records to the topic `orders`, and says where they are. Acknowledged is what a majority of the
/// partition's brokers has on disk.
pub async fn produce(cluster: &Cluster) -> Result<(), Box<dyn Error>> {
    let (producer, mut deliveries) = Producer::open(cluster, ProducerOptions::default()).await?;
    let orders = producer.topic("orders", Duration::from_secs(10)).await?;
    for number in 0..10 {
        let record = Record {
            key: Some(format!("customer-{}", number % 3).into()),
            value: Some(format!("order {number}").into()),
            timestamp: cluster.now(),
            ..Record::default()
        };
        // Records of one key go to one partition, and keep their order. The number is a tag: it comes back with the
        // outcome.
        producer.send(orders, None, &record, number).await?;
    }
    // Nothing more comes: what is still waiting for a full batch is sent, and the deliveries end with the last outcome.
    drop(producer);
    while let Some(delivery) = deliveries.recv().await {
        match delivery.outcome {
            Outcome::Acked(receipt) => {
                println!("{:?} in {} from offset {} on", delivery.tags, receipt.at, receipt.base_offset);
            }
            Outcome::Failed(error) => return Err(format!("{:?}: surely not stored: {error}", delivery.tags).into()),
            Outcome::Unknown(error) => return Err(format!("{:?}: perhaps stored: {error}", delivery.tags).into()),
            Outcome::Sent | Outcome::Dropped(_) => unreachable!("only without acknowledgements"),
        }
    }
    Ok(())
}
