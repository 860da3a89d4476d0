//! The cluster's feature level as a broker sees it: what all support, and raising it. The rule stands in
//! [`formats`](crate::formats).

use futures_util::future::join_all;
use tokio::time::Instant;

use super::access::MetadataGroup;
use crate::{
    broker::{
        errors::AdminError,
        limits,
        peers::calls::{Answer, Call},
        requests::{FeatureLevelRaised, RaiseFeatureLevelRequest, or_default},
    },
    metadata::{Change, Metadata, Outcome, RaiseFeatureLevel, Refusal},
    types::BrokerId,
};

/// For a health report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureLevels {
    /// What the cluster may write.
    pub cluster: u32,
    /// What every registered broker supports, as far as they said.
    pub supported: u32,
    /// A sentence, if there is something to do.
    pub note: Option<String>,
}

impl MetadataGroup {
    /// Raises the level, if every registered broker says that it supports the new one.
    pub async fn raise_feature_level(
        &self,
        request: RaiseFeatureLevelRequest,
    ) -> Result<FeatureLevelRaised, AdminError> {
        let deadline = Instant::now() + or_default(request.timeout, limits::ADMIN_TIMEOUT);
        let Some(metadata) = self.node.metadata() else {
            return Err(AdminError::Unavailable { reason: "this broker is not part of a cluster yet".into() });
        };
        self.refresh().await;
        let to = request.to.unwrap_or(self.node.settings.feature_level);
        let wish = RaiseFeatureLevel { to, heard: self.hear_levels().await };
        let from = metadata.read(|state| state.check_raise(&wish).map(|()| state.feature_level()))?;
        if request.dry_run {
            return Ok(FeatureLevelRaised { from, to });
        }
        let left = deadline.saturating_duration_since(Instant::now());
        match self.change(Change::RaiseFeatureLevel(wish), left).await {
            Ok(changed) => match changed.outcome {
                Outcome::FeatureLevelRaised { from, to } => {
                    tracing::info!(from, to, "the cluster's feature level is raised");
                    Ok(FeatureLevelRaised { from, to })
                }
                other => Err(AdminError::Internal { detail: format!("a raise was answered {other:?}") }),
            },
            Err(failed) => Err(failed.into_admin(&format!("raising the feature level to {to}"))),
        }
    }

    /// What registered brokers say that they support, now. One that does not run, or is of level 1, says nothing.
    async fn hear_levels(&self) -> Vec<(BrokerId, u32)> {
        let brokers =
            self.node.metadata().map(|metadata| metadata.read(|state| state.brokers().map(|b| b.id).collect()));
        let brokers: Vec<BrokerId> = brokers.unwrap_or_default();
        let asked = brokers.into_iter().map(|broker| async move {
            if broker == self.node.me() {
                return Some((broker, self.node.settings.feature_level));
            }
            match self.node.call(broker, &Call::Describe, limits::CALL_WITHIN).await {
                Ok(Answer::Described { feature_level, .. }) => Some((broker, feature_level)),
                Ok(_) | Err(_) => None,
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Asks the others only while the cluster is below what this broker supports: during an upgrade.
    pub async fn feature_levels(&self) -> FeatureLevels {
        let own = self.node.settings.feature_level;
        let Some(metadata) = self.node.metadata() else {
            return FeatureLevels { cluster: 0, supported: 0, note: None };
        };
        let heard = match metadata.read(Metadata::feature_level) < own {
            true => self.hear_levels().await,
            false => Vec::new(),
        };
        metadata.read(|state| levels(state, own, &heard))
    }
}

fn levels(state: &Metadata, own: u32, heard: &[(BrokerId, u32)]) -> FeatureLevels {
    let cluster = state.feature_level();
    let is_supported = |level: &u32| state.brokers_below(*level, heard).is_empty();
    let supported = (cluster..=own.max(cluster)).rev().find(is_supported).unwrap_or(cluster);
    let note = if supported > cluster {
        Some(format!(
            "the cluster is at feature level {cluster} and every broker supports {supported}: `flotilla cluster upgrade` \
             raises it; older versions cannot join after that"
        ))
    } else if own > cluster {
        let why = Refusal::BrokersBehind { asked: own, behind: state.brokers_below(own, heard) };
        Some(format!("the cluster stays at feature level {cluster} during an upgrade: {why}"))
    } else {
        None
    };
    FeatureLevels { cluster, supported, note }
}
