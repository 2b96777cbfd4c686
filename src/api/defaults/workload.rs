//! Defaults of Deployments, ReplicaSets, StatefulSets, ReplicationControllers and DaemonSets.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{PodTemplateSpec, ReplicationController};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Defaults, fill, pod_template_defaults};

impl Defaults for Deployment {
    fn set_defaults(&mut self) {
        let Some(spec) = &mut self.spec else { return };
        spec.replicas.get_or_insert(1);
        let strategy = spec.strategy.get_or_insert_default();
        fill(&mut strategy.type_, "RollingUpdate");
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let rolling = strategy.rolling_update.get_or_insert_default();
            let quarter = || IntOrString::String("25%".to_owned());
            rolling.max_unavailable.get_or_insert_with(quarter);
            rolling.max_surge.get_or_insert_with(quarter);
        }
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
        template(&mut spec.template);
    }
}

impl Defaults for ReplicaSet {
    fn set_defaults(&mut self) {
        let Some(spec) = &mut self.spec else { return };
        spec.replicas.get_or_insert(1);
        if let Some(pods) = &mut spec.template {
            template(pods);
        }
    }
}

impl Defaults for StatefulSet {
    fn set_defaults(&mut self) {
        let Some(spec) = &mut self.spec else { return };
        fill(&mut spec.pod_management_policy, "OrderedReady");
        let strategy = spec.update_strategy.get_or_insert_default();
        if super::unset(&strategy.type_) {
            strategy.type_ = Some("RollingUpdate".to_owned());
            strategy.rolling_update.get_or_insert_default();
        }
        if strategy.type_.as_deref() == Some("RollingUpdate")
            && let Some(rolling) = &mut strategy.rolling_update
        {
            rolling.partition.get_or_insert(0);
        }
        let retention = spec.persistent_volume_claim_retention_policy.get_or_insert_default();
        fill(&mut retention.when_deleted, "Retain");
        fill(&mut retention.when_scaled, "Retain");
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        template(&mut spec.template);
        spec.volume_claim_templates.iter_mut().flatten().for_each(Defaults::set_defaults);
    }
}

impl Defaults for ReplicationController {
    fn set_defaults(&mut self) {
        let Some(spec) = &mut self.spec else { return };
        spec.replicas.get_or_insert(1);
        let labels = spec.template.as_ref().and_then(|template| template.metadata.as_ref()?.labels.clone());
        if let Some(labels) = labels {
            if spec.selector.as_ref().is_none_or(|selector| selector.is_empty()) {
                spec.selector = Some(labels.clone());
            }
            if self.metadata.labels.as_ref().is_none_or(|own| own.is_empty()) {
                self.metadata.labels = Some(labels);
            }
        }
        if let Some(pods) = &mut spec.template {
            template(pods);
        }
    }
}

impl Defaults for DaemonSet {
    fn set_defaults(&mut self) {
        let Some(spec) = &mut self.spec else { return };
        let strategy = spec.update_strategy.get_or_insert_default();
        fill(&mut strategy.type_, "RollingUpdate");
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
            rolling.max_surge.get_or_insert(IntOrString::Int(0));
        }
        spec.revision_history_limit.get_or_insert(10);
        template(&mut spec.template);
    }
}

fn template(template: &mut PodTemplateSpec) {
    if let Some(spec) = &mut template.spec {
        pod_template_defaults(spec);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(spec: Value, expected: Value) {
        let deployment: Result<Deployment, _> =
            serde_json::from_value(json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec}));
        let mut deployment = deployment.unwrap_or_default();
        deployment.set_defaults();
        let mut found = serde_json::to_value(&deployment.spec).unwrap_or_default();
        for implied in ["template", "selector"] {
            found.as_object_mut().map(|spec| spec.remove(implied));
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn a_deployment_rolls_by_a_quarter_unless_told_otherwise() {
        check(
            json!({}),
            json!({"replicas": 1, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600}),
        );
        check(
            json!({"replicas": 0, "strategy": {"rollingUpdate": {"maxSurge": 1}}, "revisionHistoryLimit": 0, "progressDeadlineSeconds": 5}),
            json!({"replicas": 0, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "25%"}}, "revisionHistoryLimit": 0, "progressDeadlineSeconds": 5}),
        );
        check(
            json!({"strategy": {"type": "Recreate"}}),
            json!({"replicas": 1, "strategy": {"type": "Recreate"}, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600}),
        );
    }

    /// The manifest and what kube-apiserver 1.36 made of its pod template, as recorded.
    #[test]
    fn a_manifest_becomes_what_a_real_api_server_stored() {
        let manifest = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: app, image: \"fake/app:v1\", resources: {requests: {cpu: 100m, memory: 64Mi}}}
";
        let documents = crate::api::manifest::read("web.yml", manifest).unwrap_or_default();
        let deployment = documents.first().and_then(|document| document.part.decode::<Deployment>().ok());
        let mut deployment = deployment.unwrap_or_default();
        deployment.set_defaults();
        let template = deployment.spec.map(|spec| spec.template);
        assert_eq!(
            serde_json::to_value(template).ok(),
            Some(
                json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"image": "fake/app:v1", "imagePullPolicy": "IfNotPresent", "name": "app", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}, "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}], "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler", "securityContext": {}, "terminationGracePeriodSeconds": 30}})
            )
        );
    }
}
