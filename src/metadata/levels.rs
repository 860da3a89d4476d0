//! Feature levels: what the cluster may write, what each broker supports, and the one way up. The rule, and how a
//! broker learns that it may write at a level, stand in [`formats`](crate::formats).

use bytes::Bytes;

use super::command::{Change, Command, RaiseFeatureLevel};
use super::limits::ADDRESS_BYTES_MAX;
use super::response::{Outcome, Refusal, Response};
use super::state::Metadata;
use crate::formats::{FEATURE_LEVEL, FEATURE_LEVEL_MIN};
use crate::replicated::{CannotApply, NeedsLevel};
use crate::types::{BrokerId, WallMs};

/// What a broker is told to be wrong with its registration.
const FEATURE_LEVEL_FIELD: &str = "feature level";

/// From this level on brokers register the level that they support.
const REGISTERED_LEVEL: u32 = 2;

/// From this level on brokers register where Kafka clients reach them.
pub const KAFKA_ADDRESS_LEVEL: u32 = 3;

/// From this level on offsets may be deleted of topics to which no classic member subscribes.
const SUBSCRIPTIONS_LEVEL: u32 = 3;

/// From this level on consumer groups that hold nothing stay for a while.
const EMPTY_GROUPS_LEVEL: u32 = 4;

impl Metadata {
    /// What the cluster may write: every registered broker can read it. Only rises.
    pub fn feature_level(&self) -> u32 {
        self.feature_level
    }

    /// The level that a broker said it supports, when it registered or when the cluster's was last raised. None:
    /// registrations do not say at level 1.
    pub fn supported_by(&self, broker: BrokerId) -> Option<u32> {
        self.levels.get(&broker).copied()
    }

    /// Whether registrations say which level a broker supports.
    pub fn registers_levels(&self) -> bool {
        self.feature_level >= REGISTERED_LEVEL
    }

    /// Whether registrations say where Kafka clients reach a broker.
    pub fn registers_kafka(&self) -> bool {
        self.feature_level >= KAFKA_ADDRESS_LEVEL
    }

    /// Whether offsets may be deleted by what classic members say that they subscribe to.
    pub fn reads_subscriptions(&self) -> bool {
        self.feature_level >= SUBSCRIPTIONS_LEVEL
    }

    /// Sets the level, and what it means to the state machine of the groups.
    pub(super) fn set_feature_level(&mut self, level: u32) {
        self.feature_level = level;
        self.groups.keep_empty(level >= EMPTY_GROUPS_LEVEL);
    }

    /// The bytes of a command for the metadata group's log, for its leader to propose. The only way there is to make
    /// them, since here stands the gate: what is above the cluster's feature level is refused and never written, so
    /// whatever is in the log can be read by every broker. A registration is written as the level allows.
    pub fn write(&self, now: WallMs, change: Change) -> Result<Bytes, Refusal> {
        let change = self.as_level_allows(change);
        self.check_write(&change)?;
        Ok(Command::new(now, change).encode())
    }

    /// A registration without what the cluster's level has no room for, any other change as it is.
    fn as_level_allows(&self, change: Change) -> Change {
        let change = match change {
            Change::RegisterBrokerWithKafka { wish, feature_level, kafka_address: _ } if !self.registers_kafka() => {
                Change::RegisterBrokerAt { wish, feature_level }
            }
            other => other,
        };
        match change {
            Change::RegisterBrokerAt { wish, feature_level: _ } if !self.registers_levels() => {
                Change::RegisterBroker(wish)
            }
            other => other,
        }
    }

    fn check_write(&self, change: &Change) -> Result<(), Refusal> {
        let (needed, level) = (change.level(), self.feature_level);
        match change {
            // What every broker said that it supports it can read. What would be refused is not even written, since
            // those it was refused for could not read it.
            Change::RaiseFeatureLevel(wish) => self.check_raise(wish),
            // It sets the level; nobody is there yet who could not read it.
            Change::FoundAt { .. } if self.cluster_id.is_none() => Ok(()),
            _ if needed <= level => Ok(()),
            _ => Err(Refusal::AboveLevel { needed, level }),
        }
    }

    /// Whether what a registration says has room in a state of the cluster's level. What came through the gate of
    /// [`Metadata::write`] has, for the level never falls. A state that took more could not be written whole, and
    /// replicas that begin from what was written would differ from the others.
    pub(super) fn check_room(&self, change: &Change) -> Result<(), CannotApply> {
        let (needed, level) = (change.level(), self.feature_level);
        let registers = matches!(change, Change::RegisterBrokerAt { .. } | Change::RegisterBrokerWithKafka { .. });
        match registers && needed > level {
            true => Err(CannotApply(format!(
                "it is a registration of feature level {needed}, and the cluster is at {level}"
            ))),
            false => Ok(()),
        }
    }

    /// Whether the level may be raised like this, as far as is known here.
    pub fn check_raise(&self, wish: &RaiseFeatureLevel) -> Result<(), Refusal> {
        self.check_founded()?;
        let (asked, level) = (wish.to, self.feature_level);
        if asked < level {
            return Err(Refusal::LevelLowered { asked, level });
        }
        let behind = self.brokers_below(asked, &wish.heard);
        if asked > level && !behind.is_empty() {
            return Err(Refusal::BrokersBehind { asked, behind });
        }
        Ok(())
    }

    /// Brokers that do not support `level`, as far as is known, and what they support. `heard`: what brokers just said.
    pub fn brokers_below(&self, level: u32, heard: &[(BrokerId, u32)]) -> Vec<(BrokerId, Option<u32>)> {
        let supported = self.brokers.keys().map(|broker| {
            let said = heard.iter().find(|(id, _)| id == broker).map(|(_, level)| *level);
            (*broker, said.or_else(|| self.supported_by(*broker)))
        });
        supported.filter(|(_, supports)| supports.unwrap_or(FEATURE_LEVEL_MIN) < level).collect()
    }

    pub(super) fn raise_feature_level(&mut self, wish: RaiseFeatureLevel) -> Response {
        self.check_raise(&wish)?;
        let (from, to) = (self.feature_level, wish.to);
        // A late copy of an earlier raise knows less than what brokers have registered with since.
        if to > from {
            self.set_feature_level(to);
            for broker in self.brokers.keys() {
                if let Some((_, level)) = wish.heard.iter().find(|(id, _)| id == broker) {
                    self.levels.insert(*broker, *level);
                }
            }
        }
        Ok(Outcome::FeatureLevelRaised { from, to })
    }

    /// Whether a broker that says it supports a level may join. None: it is of a version that does not say.
    pub(super) fn check_joins(&self, broker: BrokerId, supports: Option<u32>) -> Result<(), Refusal> {
        let (supports, level) = (supports.unwrap_or(FEATURE_LEVEL_MIN), self.feature_level);
        if supports >= level {
            return Ok(());
        }
        // Not a variant of its own: the broker that reads it is an older one.
        Err(Refusal::InvalidBroker {
            broker,
            field: FEATURE_LEVEL_FIELD.to_string(),
            value: supports.to_string(),
            rule: format!(
                "and the cluster is at {level}: start this broker with a version that supports feature level {level}"
            ),
        })
    }

    /// Whether a registration was refused only because the level rose after [`Metadata::write`] had written it: the
    /// same one is taken now.
    pub fn was_written_lower(&self, asked: &Change, refusal: &Refusal) -> bool {
        let (Change::RegisterBrokerAt { feature_level, .. } | Change::RegisterBrokerWithKafka { feature_level, .. }) =
            asked
        else {
            return false;
        };
        let is_refused = matches!(refusal, Refusal::InvalidBroker { field, .. } if field == FEATURE_LEVEL_FIELD);
        is_refused && *feature_level >= self.feature_level
    }

    /// Whether this version can go on after `change`. Only what raises the level may say no: whatever needs a level is
    /// written after that.
    pub(super) fn check_supports(&self, change: &Change) -> Result<(), NeedsLevel> {
        let after = match change {
            Change::FoundAt { feature_level, .. } if self.cluster_id.is_none() => *feature_level,
            Change::RaiseFeatureLevel(wish) if self.check_raise(wish).is_ok() => wish.to,
            _ => self.feature_level,
        };
        supports(after)
    }

    /// For a state that was decoded.
    pub(super) fn check_supported(&self) -> Result<(), NeedsLevel> {
        supports(self.feature_level)
    }

    /// The invariants of `levels` and `kafka_addresses`.
    pub(super) fn check_levels(&self) -> Result<(), String> {
        let (level, levels) = (self.feature_level, &self.levels);
        let is_told = match self.registers_levels() {
            true => levels.keys().eq(self.brokers.keys()),
            false => levels.is_empty(),
        };
        if level < FEATURE_LEVEL_MIN || !is_told || levels.values().any(|supports| *supports < level) {
            return Err(format!("the cluster is at feature level {level}, and brokers support {levels:?}"));
        }
        let is_possible = |(broker, address): (&BrokerId, &String)| {
            self.brokers.contains_key(broker) && (1..=ADDRESS_BYTES_MAX).contains(&address.len())
        };
        let addresses = &self.kafka_addresses;
        if !addresses.iter().all(is_possible) || (!self.registers_kafka() && !addresses.is_empty()) {
            return Err(format!("the cluster is at feature level {level}, and Kafka clients are told {addresses:?}"));
        }
        Ok(())
    }
}

fn supports(needed: u32) -> Result<(), NeedsLevel> {
    if needed > FEATURE_LEVEL { Err(NeedsLevel { needed }) } else { Ok(()) }
}
