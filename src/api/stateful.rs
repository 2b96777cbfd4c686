//! StatefulSets: pods with names, places and volumes of their own.

use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;

use super::int_or_string::IntOrString;
use super::meta::Meta;
use super::name::Name;
use super::pod::PodTemplate;
use super::selector::Selector;

/// A StatefulSet.
#[derive(Clone, Debug)]
pub struct StatefulSet {
    /// Metadata.
    pub meta: Meta,
    /// `spec.selector`, compiled.
    pub selector: Rc<Selector>,
    /// `spec.template`.
    pub template: Rc<PodTemplate>,
    /// The rest of the desired state.
    pub spec: Rc<StatefulSetSpec>,
    /// The observed state.
    pub status: StatefulSetStatus,
}

/// The desired state of a StatefulSet, defaulted, without selector and template.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct StatefulSetSpec {
    /// `replicas`.
    pub replicas: i32,
    /// `ordinals.start`, if it is given.
    pub start: Option<i32>,
    /// `podManagementPolicy` is Parallel, not OrderedReady.
    pub is_parallel: bool,
    /// `updateStrategy`.
    pub strategy: UpdateStrategy,
    /// `minReadySeconds`.
    pub min_ready_seconds: i32,
    /// `revisionHistoryLimit`.
    pub revision_history_limit: i32,
    /// `serviceName`: the subdomain of the pods.
    pub service_name: Name,
    /// `volumeClaimTemplates`: the claims that each pod has for itself.
    pub claim_templates: Vec<core::PersistentVolumeClaim>,
    /// `persistentVolumeClaimRetentionPolicy`.
    pub retention: ClaimRetention,
}

/// How pods come to a new revision.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum UpdateStrategy {
    /// When somebody deletes them.
    #[default]
    OnDelete,
    /// From the highest ordinal down.
    RollingUpdate(Option<RollingUpdate>),
}

/// How far an update goes.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RollingUpdate {
    /// `partition`: pods before this place stay at the old revision.
    pub partition: i32,
    /// `maxUnavailable`. Stored only if the feature MaxUnavailableStatefulSet is on, which it is not by default.
    pub max_unavailable: Option<IntOrString>,
}

/// Whether claims go with what they are for (`Delete`) or stay (`Retain`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClaimRetention {
    /// They go when the set is deleted.
    pub delete_when_deleted: bool,
    /// They go when their pod is scaled away.
    pub delete_when_scaled: bool,
}

/// The observed state of a StatefulSet.
#[derive(Clone, PartialEq, Debug, Default)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct StatefulSetStatus {
    pub observed_generation: i64,
    pub replicas: i32,
    pub ready_replicas: i32,
    pub available_replicas: i32,
    pub current_replicas: i32,
    pub updated_replicas: i32,
    pub current_revision: Name,
    pub update_revision: Name,
    pub collision_count: Option<i32>,
}

impl StatefulSet {
    /// The lowest ordinal.
    pub fn first_ordinal(&self) -> i32 {
        self.spec.start.unwrap_or(0)
    }

    /// How many pods there are to be; never negative.
    pub fn size(&self) -> usize {
        usize::try_from(self.spec.replicas).unwrap_or(0)
    }
}
