//! Stories of autoscalers.

use serde_json::{Value, json};

use super::*;
use crate::api::meta::Timestamp;
use crate::api::object::Resource;
use crate::apiserver::metrics::{ContainerMetrics, Measures, PodMetrics};
use crate::controllers::testing::{self, Server};

struct Story {
    server: Server,
    controller: HorizontalController,
}

fn key() -> ObjectKey {
    ObjectKey::new(Kind::HorizontalPodAutoscaler, "default", "web")
}

/// A Deployment of so many ready pods, each of which requests a core, and an autoscaler.
fn story(replicas: i32, spec: Value) -> Story {
    let mut server = Server::at(1000);
    let mut deployment = testing::deployment("web", replicas);
    deployment.status.replicas = replicas;
    let set = testing::replica_set(&deployment, 1, replicas);
    for number in 0..replicas {
        let value = json!({
            "metadata": {"name": format!("web-{number}"), "namespace": "default", "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "app", "image": "i", "resources": {"requests": {"cpu": "1"}}}]},
            "status": {
                "phase": "Running", "startTime": "1970-01-01T00:01:00Z",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:01:10Z"}]
            }
        });
        let mut pod = Object::from_json(Kind::Pod, value).expect("a pod");
        pod.meta_mut().owners = [crate::controllers::owner::controller_reference(&set)].into();
        server.put(pod);
    }
    server.put(set.boxed());
    server.put(deployment.boxed());
    let mut value = json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "minReplicas": 1, "maxReplicas": 10,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "metrics": [{
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}
            }]
        }
    });
    for (field, given) in spec.as_object().into_iter().flatten() {
        value["spec"][field] = given.clone();
    }
    server.put(Object::from_json(Kind::HorizontalPodAutoscaler, value).expect("an autoscaler"));
    Story { server, controller: HorizontalController::new(&Config::default()) }
}

impl Story {
    /// Each pod uses so much CPU, in thousandths of a core.
    fn use_cpu(&mut self, amounts: &[i64]) {
        let of = |(number, amount): (usize, &i64)| PodMetrics {
            pod: format!("web-{number}").into(),
            timestamp: Timestamp(990),
            window: SimDuration::from_secs(20),
            containers: vec![ContainerMetrics { name: Name::of("app"), milli_cpu: *amount, memory: 1 << 20 }],
            value: 0,
        };
        self.server.metrics = Some(Measures::Pods(amounts.iter().enumerate().map(of).collect()));
    }

    /// Looks once, which always means to look again in 15 s.
    fn look(&mut self) -> Vec<String> {
        let before = self.server.writes.len();
        let again = self.server.reconcile(&self.controller, &key());
        assert_eq!(again, Again::After(SimDuration::from_secs(15)));
        self.server.writes[before..].to_vec()
    }

    fn condition(&self, kind: &str) -> (String, String) {
        let found = self.server.get::<HorizontalPodAutoscaler>("default", "web").expect("the autoscaler");
        let status = found.content.status.clone().expect("a status");
        let condition = status.conditions.into_iter().flatten().find(|condition| condition.type_ == kind);
        let condition = condition.expect("the condition");
        (condition.status, condition.reason.unwrap_or_default())
    }

    fn status(&self) -> Value {
        let found = self.server.get::<HorizontalPodAutoscaler>("default", "web").expect("the autoscaler");
        Object::HorizontalPodAutoscaler(found.clone()).to_json()["status"].clone()
    }
}

const STATUS: &str = "update status of horizontalpodautoscaler/default/web";

#[test]
fn a_busy_target_is_scaled_up_and_the_autoscaler_says_so() {
    let mut story = story(3, json!({}));
    story.use_cpu(&[800, 700, 900]);
    assert_eq!(story.look(), ["scale deployment/default/web to 5", STATUS]);
    assert_eq!(
        story.server.events,
        ["SuccessfulRescale New size: 5; reason: cpu resource utilization (percentage of request) above target"]
    );
    assert_eq!(story.condition("AbleToScale"), ("True".into(), "SucceededRescale".into()));
    assert_eq!(story.condition("ScalingActive"), ("True".into(), "ValidMetricFound".into()));
    assert_eq!(story.condition("ScalingLimited"), ("False".into(), "DesiredWithinRange".into()));
    let status = story.status();
    assert_eq!((&status["currentReplicas"], &status["desiredReplicas"]), (&json!(3), &json!(5)));
    assert_eq!(status["lastScaleTime"], "1970-01-01T00:16:40Z");
    assert_eq!(
        status["currentMetrics"],
        json!([{"type": "Resource", "resource": {
            "name": "cpu", "current": {"averageUtilization": 80, "averageValue": "800m"}
        }}])
    );
}

#[test]
fn a_target_that_is_as_it_should_be_is_left_alone_and_nothing_is_written_twice() {
    let mut story = story(2, json!({}));
    story.use_cpu(&[500, 520]);
    assert_eq!(story.look(), [STATUS]);
    assert_eq!(story.condition("AbleToScale"), ("True".into(), "ReadyForNewScale".into()));
    story.server.seconds += 15;
    assert_eq!(story.look(), Vec::<String>::new());
}

#[test]
fn an_idle_target_is_scaled_down_only_after_five_minutes() {
    let mut story = story(4, json!({}));
    story.use_cpu(&[100, 100, 100, 100]);
    for _ in 0..20 {
        let writes = story.look();
        assert!(!writes.iter().any(|write| write.starts_with("scale")), "{writes:?}");
        assert_eq!(story.condition("AbleToScale"), ("True".into(), "ScaleDownStabilized".into()));
        story.server.seconds += 15;
    }
    story.server.seconds += 1;
    assert_eq!(story.look()[0], "scale deployment/default/web to 1");
    assert_eq!(story.server.events, ["SuccessfulRescale New size: 1; reason: All metrics below target"]);
}

#[test]
fn without_metrics_nothing_happens_and_the_reason_is_told() {
    let mut story = story(2, json!({}));
    story.server.metrics = Some(Measures::Pods(Vec::new()));
    assert_eq!(story.look(), [STATUS]);
    let why = "failed to get cpu utilization: unable to get metrics for resource cpu: \
               no metrics returned from resource metrics API";
    assert_eq!(
        story.server.events,
        [
            format!("FailedGetResourceMetric {why}"),
            format!(
                "FailedComputeMetricsReplicas invalid metrics (1 invalid out of 1), first error is: \
                 failed to get cpu resource metric value: {why}"
            ),
        ]
    );
    assert_eq!(story.condition("ScalingActive"), ("False".into(), "FailedGetResourceMetric".into()));
}

#[test]
fn of_several_measures_the_largest_counts_and_one_that_fails_keeps_the_target_from_shrinking() {
    let queue = json!({
        "type": "External",
        "external": {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "10"}}
    });
    let cpu = json!({
        "type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}
    });
    let mut up = story(2, json!({"metrics": [queue, cpu]}));
    // Both questions get this answer: to the one about the queue it is none.
    up.use_cpu(&[900, 900]);
    assert_eq!(up.look()[0], "scale deployment/default/web to 4");
    assert_eq!(up.server.events[0].split(' ').next(), Some("FailedGetExternalMetric"));
    let mut down = story(2, json!({"metrics": [queue, cpu]}));
    down.use_cpu(&[10, 10]);
    assert_eq!(down.look(), [STATUS]);
    assert_eq!(down.condition("ScalingActive"), ("False".into(), "FailedGetExternalMetric".into()));
}

#[test]
fn a_measure_of_an_object_that_is_not_known_is_told_of_in_the_originals_confused_order() {
    let object = json!([{
        "type": "Object",
        "object": {
            "metric": {"name": "hits"}, "target": {"type": "Value", "value": "5"},
            "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "svc"}
        }
    }]);
    let mut story = story(2, json!({"metrics": object}));
    story.look();
    let why = "unable to get metric hits: Service on default svc/unable to fetch metrics from custom metrics API: \
               the server could not find the metric";
    assert_eq!(story.server.events[0], format!("FailedGetObjectMetric {why}"));
}

#[test]
fn a_measure_from_outside_is_shared_among_the_replicas() {
    let queue = json!({
        "type": "External",
        "external": {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "10"}}
    });
    let mut story = story(2, json!({"metrics": [queue]}));
    story.server.metrics = Some(Measures::Values(vec![33_000]));
    assert_eq!(story.look()[0], "scale deployment/default/web to 4");
    assert_eq!(story.server.events, ["SuccessfulRescale New size: 4; reason: external metric queue(nil) above target"]);
}

#[test]
fn bounds_hold_without_any_measure_and_zero_switches_scaling_off() {
    let mut above = story(12, json!({}));
    assert_eq!(above.look()[0], "scale deployment/default/web to 10");
    assert_eq!(
        above.server.events,
        ["SuccessfulRescale New size: 10; reason: Current number of replicas above Spec.MaxReplicas"]
    );
    let mut below = story(1, json!({"minReplicas": 3}));
    assert_eq!(below.look()[0], "scale deployment/default/web to 3");
    let mut off = story(0, json!({}));
    assert_eq!(off.look(), [STATUS]);
    assert_eq!(off.condition("ScalingActive"), ("False".into(), "ScalingDisabled".into()));
}

#[test]
fn a_target_that_is_not_there_is_told_of() {
    let mut missing =
        story(1, json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"}}));
    assert_eq!(missing.look(), [STATUS]);
    assert_eq!(missing.server.events, ["FailedGetScale deployments.apps \"shop\" not found"]);
    assert_eq!(missing.condition("AbleToScale"), ("False".into(), "FailedGetScale".into()));
    let mut unknown = story(1, json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Widget", "name": "web"}}));
    unknown.look();
    assert_eq!(unknown.server.events, ["FailedGetScale no matches for kind \"Widget\" in group \"apps\""]);
}

#[test]
fn pods_that_two_autoscalers_speak_of_are_scaled_by_neither() {
    let mut story = story(2, json!({}));
    story.use_cpu(&[900, 900]);
    let mut other = (**story.server.get::<HorizontalPodAutoscaler>("default", "web").expect("it is there")).clone();
    other.meta.name = Name::of("other");
    story.server.put(other.boxed());
    story.server.reconcile(&story.controller, &ObjectKey::new(Kind::HorizontalPodAutoscaler, "default", "other"));
    story.server.events.clear();
    assert_eq!(story.look(), [STATUS]);
    assert_eq!(
        story.server.events[0],
        "AmbiguousSelector pods by selector app=web are controlled by multiple HPAs: [{default other} {default web}]"
    );
    assert_eq!(story.condition("ScalingActive"), ("False".into(), "AmbiguousSelector".into()));
}

#[test]
fn rules_of_its_own_pace_an_autoscaler() {
    let behavior = json!({
        "scaleUp": {
            "stabilizationWindowSeconds": 0, "selectPolicy": "Max",
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]
        },
        "scaleDown": {
            "selectPolicy": "Disabled", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]
        }
    });
    let mut story = story(2, json!({"behavior": behavior}));
    story.use_cpu(&[1000, 1000]);
    assert_eq!(story.look()[0], "scale deployment/default/web to 3");
    assert_eq!(story.condition("ScalingLimited"), ("True".into(), "ScaleUpLimit".into()));
    story.server.seconds += 15;
    assert!(!story.look().iter().any(|write| write.starts_with("scale")), "one in a minute");
    story.server.seconds += 46;
    assert_eq!(story.look()[0], "scale deployment/default/web to 4");
}
