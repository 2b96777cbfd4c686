//! Defaults of autoscalers (kubernetes, pkg/apis/autoscaling/v2/defaults.go).

use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler, MetricSpec, MetricTarget, ResourceMetricSource,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::Defaults;
use crate::api::quantity;

/// The share of the requested CPU that pods should use if nothing else is said.
const CPU_UTILIZATION: i32 = 80;
/// The period of the default policies, in seconds.
const PERIOD_SECONDS: i32 = 15;

impl Defaults for HorizontalPodAutoscaler {
    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.min_replicas.get_or_insert(1);
        if spec.metrics.as_ref().is_none_or(Vec::is_empty) {
            let target = MetricTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(CPU_UTILIZATION),
                ..MetricTarget::default()
            };
            let resource = ResourceMetricSource { name: "cpu".to_owned(), target };
            let metric = MetricSpec { type_: "Resource".to_owned(), resource: Some(resource), ..MetricSpec::default() };
            spec.metrics = Some(vec![metric]);
        }
        spec.metrics.iter_mut().flatten().for_each(metric);
        if let Some(behavior) = &mut spec.behavior {
            let up = [policy("Pods", 4), policy("Percent", 100)];
            complete(behavior.scale_up.get_or_insert_default(), Some(0), &up);
            complete(behavior.scale_down.get_or_insert_default(), None, &[policy("Percent", 100)]);
        }
    }
}

fn policy(kind: &str, value: i32) -> HPAScalingPolicy {
    HPAScalingPolicy { type_: kind.to_owned(), value, period_seconds: PERIOD_SECONDS }
}

/// The window of scaling down is an option of the controller and so left open.
fn complete(rules: &mut HPAScalingRules, window: Option<i32>, policies: &[HPAScalingPolicy]) {
    rules.select_policy.get_or_insert_with(|| "Max".to_owned());
    rules.stabilization_window_seconds = rules.stabilization_window_seconds.or(window);
    rules.policies.get_or_insert_with(|| policies.to_vec());
    canonical(&mut rules.tolerance);
}

fn metric(metric: &mut MetricSpec) {
    let targets = [
        metric.resource.as_mut().map(|source| &mut source.target),
        metric.container_resource.as_mut().map(|source| &mut source.target),
        metric.pods.as_mut().map(|source| &mut source.target),
        metric.object.as_mut().map(|source| &mut source.target),
        metric.external.as_mut().map(|source| &mut source.target),
    ];
    for target in targets.into_iter().flatten() {
        canonical(&mut target.value);
        canonical(&mut target.average_value);
    }
}

fn canonical(amount: &mut Option<Text>) {
    if let Some(text) = amount
        && let Ok(canonical) = quantity::canonical(&text.0)
    {
        *text = Text(canonical.into_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(spec: Value, expected: Value) {
        let mut autoscaler: HorizontalPodAutoscaler =
            serde_json::from_value(json!({"metadata": {}, "spec": spec})).expect("an autoscaler");
        autoscaler.set_defaults();
        assert_eq!(serde_json::to_value(autoscaler).expect("JSON")["spec"], expected);
    }

    #[test]
    fn an_autoscaler_that_names_no_measure_looks_at_cpu() {
        let target = json!({"kind": "Deployment", "name": "web"});
        check(
            json!({"maxReplicas": 5, "scaleTargetRef": target}),
            json!({
                "maxReplicas": 5, "minReplicas": 1, "scaleTargetRef": target,
                "metrics": [{
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
                }]
            }),
        );
    }

    #[test]
    fn who_names_one_rule_gets_the_others() {
        let target = json!({"kind": "Deployment", "name": "web"});
        let metric = json!({
            "type": "Pods",
            "pods": {"metric": {"name": "n"}, "target": {"type": "AverageValue", "averageValue": "1000m"}}
        });
        let mut canonical = metric.clone();
        canonical["pods"]["target"]["averageValue"] = "1".into();
        check(
            json!({
                "maxReplicas": 5, "scaleTargetRef": target, "metrics": [metric],
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}
            }),
            json!({
                "maxReplicas": 5, "minReplicas": 1, "scaleTargetRef": target, "metrics": [canonical],
                "behavior": {
                    "scaleUp": {
                        "selectPolicy": "Max", "stabilizationWindowSeconds": 0,
                        "policies": [
                            {"type": "Pods", "value": 4, "periodSeconds": 15},
                            {"type": "Percent", "value": 100, "periodSeconds": 15}
                        ]
                    },
                    "scaleDown": {
                        "selectPolicy": "Max", "stabilizationWindowSeconds": 60,
                        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]
                    }
                }
            }),
        );
    }
}
