//! StatefulSets.

use std::rc::Rc;

use k8s_openapi::api::apps::v1 as apps;

use super::meta::{from_label_selector, from_meta, to_label_selector, to_meta};
use super::workload::{from_template, to_template};
use super::{Convert, ConvertError, name_or_empty, nonempty, nonzero, some_unless_empty};
use crate::api::stateful::{
    ClaimRetention, RollingUpdate, StatefulSet, StatefulSetSpec, StatefulSetStatus, UpdateStrategy,
};

impl Convert for StatefulSet {
    type Full = apps::StatefulSet;

    fn to_full(&self) -> apps::StatefulSet {
        let spec = &*self.spec;
        apps::StatefulSet {
            metadata: to_meta(&self.meta),
            spec: Some(apps::StatefulSetSpec {
                replicas: Some(spec.replicas),
                selector: to_label_selector(&self.selector),
                template: to_template(&self.template),
                ordinals: spec.start.map(|start| apps::StatefulSetOrdinals { start: Some(start) }),
                pod_management_policy: Some(if spec.is_parallel { "Parallel" } else { "OrderedReady" }.to_owned()),
                update_strategy: Some(to_strategy(&spec.strategy)),
                min_ready_seconds: nonzero(spec.min_ready_seconds),
                revision_history_limit: Some(spec.revision_history_limit),
                service_name: nonempty(&spec.service_name),
                volume_claim_templates: some_unless_empty(spec.claim_templates.clone()),
                persistent_volume_claim_retention_policy: Some(to_retention(spec.retention)),
            }),
            status: Some(to_status(&self.status)),
        }
    }

    fn from_full(full: apps::StatefulSet) -> Result<Self, ConvertError> {
        let spec = full.spec.unwrap_or_default();
        Ok(StatefulSet {
            meta: from_meta(full.metadata)?,
            selector: Rc::new(from_label_selector("spec.selector", &spec.selector)?),
            template: from_template("spec.template", spec.template)?,
            spec: Rc::new(StatefulSetSpec {
                replicas: spec.replicas.unwrap_or(1),
                start: spec.ordinals.map(|ordinals| ordinals.start.unwrap_or(0)),
                is_parallel: spec.pod_management_policy.as_deref() == Some("Parallel"),
                strategy: from_strategy(spec.update_strategy),
                min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
                revision_history_limit: spec.revision_history_limit.unwrap_or(10),
                service_name: name_or_empty(spec.service_name),
                claim_templates: spec.volume_claim_templates.unwrap_or_default(),
                retention: from_retention(spec.persistent_volume_claim_retention_policy),
            }),
            status: full.status.map(from_status).unwrap_or_default(),
        })
    }
}

fn to_strategy(strategy: &UpdateStrategy) -> apps::StatefulSetUpdateStrategy {
    let (kind, rolling) = match strategy {
        UpdateStrategy::OnDelete => ("OnDelete", None),
        UpdateStrategy::RollingUpdate(rolling) => ("RollingUpdate", rolling.as_ref()),
    };
    let rolling = rolling.map(|rolling| apps::RollingUpdateStatefulSetStrategy {
        partition: Some(rolling.partition),
        max_unavailable: rolling.max_unavailable.clone(),
    });
    apps::StatefulSetUpdateStrategy { type_: Some(kind.to_owned()), rolling_update: rolling }
}

fn from_strategy(full: Option<apps::StatefulSetUpdateStrategy>) -> UpdateStrategy {
    let full = full.unwrap_or_default();
    if full.type_.as_deref() == Some("OnDelete") {
        return UpdateStrategy::OnDelete;
    }
    UpdateStrategy::RollingUpdate(full.rolling_update.map(|rolling| RollingUpdate {
        partition: rolling.partition.unwrap_or(0),
        max_unavailable: rolling.max_unavailable,
    }))
}

fn to_retention(retention: ClaimRetention) -> apps::StatefulSetPersistentVolumeClaimRetentionPolicy {
    let word = |delete: bool| Some(if delete { "Delete" } else { "Retain" }.to_owned());
    apps::StatefulSetPersistentVolumeClaimRetentionPolicy {
        when_deleted: word(retention.delete_when_deleted),
        when_scaled: word(retention.delete_when_scaled),
    }
}

fn from_retention(full: Option<apps::StatefulSetPersistentVolumeClaimRetentionPolicy>) -> ClaimRetention {
    let full = full.unwrap_or_default();
    let is_delete = |word: Option<String>| word.as_deref() == Some("Delete");
    ClaimRetention {
        delete_when_deleted: is_delete(full.when_deleted),
        delete_when_scaled: is_delete(full.when_scaled),
    }
}

fn to_status(status: &StatefulSetStatus) -> apps::StatefulSetStatus {
    apps::StatefulSetStatus {
        observed_generation: nonzero(status.observed_generation),
        replicas: status.replicas,
        ready_replicas: nonzero(status.ready_replicas),
        // The one count besides `replicas` that the API writes even if it is zero.
        available_replicas: Some(status.available_replicas),
        current_replicas: nonzero(status.current_replicas),
        updated_replicas: nonzero(status.updated_replicas),
        current_revision: nonempty(&status.current_revision),
        update_revision: nonempty(&status.update_revision),
        collision_count: status.collision_count,
        conditions: None,
    }
}

fn from_status(full: apps::StatefulSetStatus) -> StatefulSetStatus {
    StatefulSetStatus {
        observed_generation: full.observed_generation.unwrap_or(0),
        replicas: full.replicas,
        ready_replicas: full.ready_replicas.unwrap_or(0),
        available_replicas: full.available_replicas.unwrap_or(0),
        current_replicas: full.current_replicas.unwrap_or(0),
        updated_replicas: full.updated_replicas.unwrap_or(0),
        current_revision: name_or_empty(full.current_revision),
        update_revision: name_or_empty(full.update_revision),
        collision_count: full.collision_count,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::api::kind::Kind;
    use crate::api::object::Object;

    #[test]
    fn a_stateful_set_comes_back_as_it_was() {
        let full = json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "db", "namespace": "c", "generation": 2},
            "spec": {
                "replicas": 3, "ordinals": {"start": 5}, "podManagementPolicy": "Parallel", "minReadySeconds": 5,
                "revisionHistoryLimit": 2, "serviceName": "db",
                "selector": {"matchLabels": {"app": "db"}},
                "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "i", "resources": {}}]}},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}},
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"},
                "volumeClaimTemplates": [{
                    "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
                }]
            },
            "status": {
                "observedGeneration": 2, "replicas": 3, "readyReplicas": 2, "availableReplicas": 1, "currentReplicas": 2,
                "updatedReplicas": 1, "currentRevision": "db-1", "updateRevision": "db-2", "collisionCount": 0
            }
        });
        let object = Object::from_json(Kind::StatefulSet, full.clone()).unwrap();
        assert_eq!(object.to_json(), full);
    }
}
