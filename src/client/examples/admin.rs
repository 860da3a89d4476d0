use std::error::Error;

use flotilla::client::{Admin, Effect, ErrorCode};

/// Creates the topic `orders` and describes it, and shows how a failure is read.
pub async fn administer(admin: &Admin) -> Result<(), Box<dyn Error>> {
    let cluster = admin.describe_cluster().send().await?;
    let replicas = cluster.brokers.len().min(3) as i32;
    let topic = admin
        .create_topic("orders")
        .partitions(6)
        .replicas(replicas)
        .config("retention.ms", "604800000")
        // Until every partition has a leader that takes records.
        .wait(true)
        .send()
        .await?;
    for partition in &topic.partitions {
        println!("partition {} is kept by {:?}", partition.partition, partition.replicas);
    }
    // A failed change says what it did: surely nothing, or perhaps something.
    let error = admin.create_topic("orders").send().await.expect_err("it is there");
    assert_eq!((error.code(), error.effect()), (Some(ErrorCode::TopicExists), Effect::Nothing));

    let altered = admin.alter_topic("orders").set("retention.ms", "86400000").send().await?;
    println!("records are kept for {} ms", altered.configs["retention.ms"]);
    let health = admin.health().send().await?;
    println!("healthy: {}, problems: {:?}", health.is_healthy, health.problems);
    Ok(())
}
