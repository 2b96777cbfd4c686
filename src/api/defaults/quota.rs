//! Defaults of quotas, limit ranges and runtime classes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::Defaults;
use super::container::resource_list;

impl Defaults for ResourceQuota {
    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        resource_list(&mut spec.hard);
        if let Some(status) = &mut self.status {
            resource_list(&mut status.hard);
            resource_list(&mut status.used);
        }
    }
}

/// A container's limit is by default the most it may have, its request by default its default limit, else the least it must
/// have (core/v1, `SetDefaults_LimitRangeItem`).
impl Defaults for LimitRange {
    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        for item in &mut spec.limits {
            let lists = [
                &mut item.default,
                &mut item.default_request,
                &mut item.max,
                &mut item.max_limit_request_ratio,
                &mut item.min,
            ];
            lists.into_iter().for_each(resource_list);
            if item.type_ == "Container" {
                fill_from(&mut item.default, item.max.as_ref());
                fill_from(&mut item.default_request, item.default.as_ref());
                fill_from(&mut item.default_request, item.min.as_ref());
            }
        }
    }
}

/// Adds the amounts of resources that are not named yet.
fn fill_from(list: &mut Option<BTreeMap<String, Text>>, other: Option<&BTreeMap<String, Text>>) {
    for (name, amount) in other.into_iter().flatten() {
        list.get_or_insert_default().entry(name.clone()).or_insert_with(|| amount.clone());
    }
}

impl Defaults for RuntimeClass {
    fn set_defaults(&mut self) {
        if let Some(overhead) = &mut self.overhead {
            resource_list(&mut overhead.pod_fixed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(limit: Value, expected: Value) {
        let range = json!({"metadata": {}, "spec": {"limits": [limit]}});
        let mut range: LimitRange = serde_json::from_value(range).expect("a limit range");
        range.set_defaults();
        assert_eq!(serde_json::to_value(range).expect("JSON")["spec"]["limits"][0], expected);
    }

    #[test]
    fn what_a_container_gets_follows_from_what_it_may_have() {
        check(
            json!({"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1024Ki"}}),
            json!({
                "type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"},
                "default": {"cpu": "2"}, "defaultRequest": {"cpu": "2", "memory": "1Mi"}
            }),
        );
        check(
            json!({"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "500m"}, "min": {"cpu": "1m"}}),
            json!({"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "500m"}, "min": {"cpu": "1m"}}),
        );
        check(json!({"type": "Pod", "max": {"cpu": "2"}}), json!({"type": "Pod", "max": {"cpu": "2"}}));
    }
}
