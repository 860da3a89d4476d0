//! The topic that a bench measures on: an existing one, or one that is made for it and deleted.

use clap::Args;

use crate::{
    cli::{exit::Failure, terminal::say, units},
    client::{Admin, World},
};

/// How many replicas the topics have that a bench makes.
pub const REPLICATION_FACTOR: i32 = 3;

/// The topic of a bench.
#[derive(Args)]
pub struct TopicArgs {
    /// Partitions of the topic that is made for it.
    #[arg(short, long, default_value = "1", value_parser = units::count::<i32>, allow_negative_numbers = true)]
    pub partitions: i32,
    /// Bytes of a record's value.
    #[arg(long, default_value = "1KiB", value_parser = units::room)]
    pub size: usize,
    /// An existing topic; it is kept.
    #[arg(short, long)]
    pub topic: Option<String>,
}

/// A topic to measure on.
pub struct BenchTopic {
    pub name: String,
    /// Whether the topic was made for this, and is to be deleted.
    pub is_ours: bool,
}

impl BenchTopic {
    pub async fn open(admin: &Admin, args: &TopicArgs) -> Result<BenchTopic, Failure> {
        match &args.topic {
            Some(name) => Ok(BenchTopic { name: name.clone(), is_ours: false }),
            None => BenchTopic::make(admin, args.partitions).await,
        }
    }

    pub async fn make(admin: &Admin, partitions: i32) -> Result<BenchTopic, Failure> {
        let name = format!("bench-{:08x}", World::system().rng.u64() as u32);
        let brokers = admin.describe_cluster().send().await.map_err(Failure::of_read)?.brokers;
        let replicas = REPLICATION_FACTOR.min(brokers.len().max(1) as i32);
        admin.create_topic(&name).partitions(partitions).replicas(replicas).wait(true).send().await?;
        Ok(BenchTopic { name, is_ours: true })
    }

    /// Deletes it if it was made for this.
    pub async fn close(self, admin: &Admin) {
        if self.is_ours
            && let Err(error) = admin.delete_topic(&self.name).send().await
        {
            say(&format!("flotilla: topic {} is still there: {error}", self.name));
        }
    }
}
