//! `matchLabelKeys` and `mismatchLabelKeys`: a new pod's own values of these labels become part of the selectors beside them, so that
//! nobody needs to know of the keys later (kubernetes, pkg/registry/core/pod: `mutatePodAffinity`, `mutateTopologySpreadConstraints`).

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use k8s_openapi::api::core::v1::{PodAffinityTerm, PodSpec as Full, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::meta::Labels;
use super::pod::PodSpec;

/// What a specification last became for pods with certain labels, so that pods of one template go on sharing theirs.
#[derive(Default, Debug)]
pub struct Merged(RefCell<Option<(Labels, Weak<PodSpec>)>>);

/// A copy has not become anything yet.
impl Clone for Merged {
    fn clone(&self) -> Self {
        Merged::default()
    }
}

/// The specification of a new pod with these labels: the one given, if it names no keys.
pub fn merge(spec: &Rc<PodSpec>, labels: &Labels) -> Rc<PodSpec> {
    if !has_keys(&spec.full) {
        return spec.clone();
    }
    let mut last = spec.merged.0.borrow_mut();
    if let Some((before, merged)) = &*last
        && before == labels
        && let Some(merged) = merged.upgrade()
    {
        return merged;
    }
    let mut merged = PodSpec::clone(spec);
    terms(&mut merged.full).for_each(|term| merge_term(term, labels));
    let constraints = merged.full.topology_spread_constraints.iter_mut().flatten();
    constraints.for_each(|constraint| merge_constraint(constraint, labels));
    let merged = Rc::new(merged);
    *last = Some((labels.clone(), Rc::downgrade(&merged)));
    merged
}

fn has_keys(full: &Full) -> bool {
    let names = |keys: &Option<Vec<String>>| keys.as_ref().is_some_and(|keys| !keys.is_empty());
    let constraints = full.topology_spread_constraints.iter().flatten();
    if constraints.into_iter().any(|constraint| names(&constraint.match_label_keys)) {
        return true;
    }
    let Some(affinity) = &full.affinity else { return false };
    let near = affinity.pod_affinity.iter().flat_map(|near| {
        let preferred = near.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        let required = near.required_during_scheduling_ignored_during_execution.iter().flatten();
        preferred.map(|term| &term.pod_affinity_term).chain(required)
    });
    let far = affinity.pod_anti_affinity.iter().flat_map(|far| {
        let preferred = far.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        let required = far.required_during_scheduling_ignored_during_execution.iter().flatten();
        preferred.map(|term| &term.pod_affinity_term).chain(required)
    });
    near.chain(far).any(|term| names(&term.match_label_keys) || names(&term.mismatch_label_keys))
}

/// All terms of affinity and anti-affinity to pods.
fn terms(full: &mut Full) -> impl Iterator<Item = &mut PodAffinityTerm> {
    let (near, far) = full
        .affinity
        .as_mut()
        .map_or((None, None), |affinity| (affinity.pod_affinity.as_mut(), affinity.pod_anti_affinity.as_mut()));
    let near = near.into_iter().flat_map(|near| {
        let preferred = near.preferred_during_scheduling_ignored_during_execution.iter_mut().flatten();
        let required = near.required_during_scheduling_ignored_during_execution.iter_mut().flatten();
        preferred.map(|term| &mut term.pod_affinity_term).chain(required)
    });
    let far = far.into_iter().flat_map(|far| {
        let preferred = far.preferred_during_scheduling_ignored_during_execution.iter_mut().flatten();
        let required = far.required_during_scheduling_ignored_during_execution.iter_mut().flatten();
        preferred.map(|term| &mut term.pod_affinity_term).chain(required)
    });
    near.chain(far)
}

/// A selector that is absent matches nothing, and stays so.
fn merge_term(term: &mut PodAffinityTerm, labels: &Labels) {
    if let Some(selector) = &mut term.label_selector {
        require(selector, term.match_label_keys.as_deref(), "In", labels);
        require(selector, term.mismatch_label_keys.as_deref(), "NotIn", labels);
    }
}

fn merge_constraint(constraint: &mut TopologySpreadConstraint, labels: &Labels) {
    if let Some(selector) = &mut constraint.label_selector {
        require(selector, constraint.match_label_keys.as_deref(), "In", labels);
    }
}

/// Keys of labels that the pod does not have say nothing.
fn require(selector: &mut LabelSelector, keys: Option<&[String]>, operator: &str, labels: &Labels) {
    for key in keys.unwrap_or_default() {
        if let Some(value) = labels.get(key) {
            selector.match_expressions.get_or_insert_default().push(LabelSelectorRequirement {
                key: key.clone(),
                operator: operator.to_owned(),
                values: Some(vec![value.as_str().to_owned()]),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::convert::Convert;
    use crate::api::pod::Pod;
    use serde_json::json;

    fn pod() -> Pod {
        let selector = json!({ "matchLabels": { "app": "web" } });
        let spec = json!({
            "containers": [{ "name": "web", "image": "web:1" }],
            "topologySpreadConstraints": [{
                "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": selector, "matchLabelKeys": ["version", "absent"],
            }],
            "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{
                "topologyKey": "zone", "labelSelector": selector,
                "matchLabelKeys": ["app"], "mismatchLabelKeys": ["version"],
            }] } },
        });
        let full = serde_json::from_value(json!({ "metadata": { "name": "web" }, "spec": spec })).expect("a pod");
        Pod::from_full(full).expect("a pod")
    }

    #[test]
    fn a_pods_own_labels_are_merged_into_the_selectors_and_replicas_go_on_sharing_one_specification() {
        let (pod, labels) = (pod(), Labels::NONE.with("app", "web").with("version", "1"));
        let merged = merge(&pod.spec, &labels);
        let constraint = &merged.full.topology_spread_constraints.as_ref().expect("constraints")[0];
        let expressions = |selector: &Option<LabelSelector>| {
            let expressions = selector.as_ref().and_then(|selector| selector.match_expressions.clone());
            serde_json::to_value(expressions).expect("JSON")
        };
        assert_eq!(
            expressions(&constraint.label_selector),
            json!([{ "key": "version", "operator": "In", "values": ["1"] }])
        );
        let anti = merged.full.affinity.as_ref().and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        let terms = anti.and_then(|anti| anti.required_during_scheduling_ignored_during_execution.as_ref());
        assert_eq!(
            expressions(&terms.expect("terms")[0].label_selector),
            json!([
                { "key": "app", "operator": "In", "values": ["web"] },
                { "key": "version", "operator": "NotIn", "values": ["1"] },
            ])
        );
        assert!(Rc::ptr_eq(&merged, &merge(&pod.spec, &labels)));
        assert!(!Rc::ptr_eq(&merged, &merge(&pod.spec, &labels.with("version", "2"))));
    }
}
