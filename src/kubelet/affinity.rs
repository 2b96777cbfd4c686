//! Whether a pod's node selector and required node affinity are for a node (component-helpers, `GetRequiredNodeAffinity`).

use k8s_openapi::api::core::v1 as core;

use crate::api::meta::Labels;
use crate::api::pod::PodSpec;

/// True if the pod may run on a node of this name with these labels.
pub fn matches(spec: &PodSpec, name: &str, labels: &Labels) -> bool {
    let selector = spec.full.node_selector.iter().flatten();
    if selector.into_iter().any(|(key, value)| labels.get(key).is_none_or(|label| label.as_str() != value)) {
        return false;
    }
    let affinity = spec.full.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|required| required.node_selector_terms.iter().any(|term| term_matches(term, name, labels)))
}

/// All expressions of a term hold; a term without any is for no node.
fn term_matches(term: &core::NodeSelectorTerm, name: &str, labels: &Labels) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let label = |key: &str| labels.get(key).map(|value| value.as_str());
    let field = |key: &str| (key == "metadata.name").then_some(name);
    (!expressions.is_empty() || !fields.is_empty())
        && expressions.iter().all(|one| holds(one, label(&one.key)))
        && fields.iter().all(|one| holds(one, field(&one.key)))
}

fn holds(requirement: &core::NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let among = value.is_some_and(|value| values.iter().any(|one| one == value));
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let limit = number(values.first().map(String::as_str));
    match requirement.operator.as_str() {
        "In" => among,
        "NotIn" => !among,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value).zip(limit).is_some_and(|(value, limit)| value > limit),
        "Lt" => number(value).zip(limit).is_some_and(|(value, limit)| value < limit),
        _ => false,
    }
}
