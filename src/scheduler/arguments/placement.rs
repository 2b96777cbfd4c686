//! The arguments of the plugins that do not look at resources.

use k8s_openapi::api::core::v1::{NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm, TopologySpreadConstraint};
use serde::Deserialize;

use super::reading::{long_number, number};
use super::{PluginArguments, UtilizationShapePoint};
use crate::api::duration::Duration;
use crate::api::selector::{Operator, Requirement};
use crate::api::validation::error::{BadValue, ErrorList, FieldError, Path};
use crate::api::validation::format;

/// What DefaultPreemption takes.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DefaultPreemptionArgs {
    /// At least so many percent of the nodes that come into question become candidates, if they can.
    #[serde(deserialize_with = "number::<_, 10>")]
    pub min_candidate_nodes_percentage: i32,
    /// At least so many nodes become candidates, if they can.
    #[serde(deserialize_with = "number::<_, 100>")]
    pub min_candidate_nodes_absolute: i32,
}

impl Default for DefaultPreemptionArgs {
    fn default() -> Self {
        DefaultPreemptionArgs { min_candidate_nodes_percentage: 10, min_candidate_nodes_absolute: 100 }
    }
}

/// What InterPodAffinity takes.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InterPodAffinityArgs {
    /// What the required affinity of a pod that is there to the one that comes is worth.
    #[serde(deserialize_with = "number::<_, 1>")]
    pub hard_pod_affinity_weight: i32,
    /// Whether preferences of pods that are there count only if the one that comes has affinities itself.
    pub ignore_preferred_terms_of_existing_pods: bool,
}

impl Default for InterPodAffinityArgs {
    fn default() -> Self {
        InterPodAffinityArgs { hard_pod_affinity_weight: 1, ignore_preferred_terms_of_existing_pods: false }
    }
}

/// What PodTopologySpread takes.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodTopologySpreadArgs {
    /// The constraints of pods that have none of their own, if `defaulting_type` is `List`.
    pub default_constraints: Vec<TopologySpreadConstraint>,
    /// `System`: Kubernetes' own default constraints; `List`: those of `default_constraints`.
    pub defaulting_type: String,
}

/// What NodeAffinity takes.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeAffinityArgs {
    /// An affinity that every pod has besides its own.
    pub added_affinity: Option<NodeAffinity>,
}

/// What VolumeBinding takes.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeBindingArgs {
    /// How long to wait until volumes are bound.
    #[serde(deserialize_with = "long_number::<_, 600>")]
    pub bind_timeout_seconds: i64,
    /// Must not be given: it belongs to a feature that is off.
    pub shape: Option<Vec<UtilizationShapePoint>>,
}

impl Default for VolumeBindingArgs {
    fn default() -> Self {
        VolumeBindingArgs { bind_timeout_seconds: 600, shape: None }
    }
}

/// What DynamicResources takes.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DynamicResourcesArgs {
    /// How long the search for devices on one node may take.
    pub filter_timeout: Option<Duration>,
    /// How long to wait until devices are ready.
    pub binding_timeout: Option<Duration>,
}

impl PluginArguments for DefaultPreemptionArgs {
    fn validate(&self, path: &Path<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        let (percentage, absolute) = (self.min_candidate_nodes_percentage, self.min_candidate_nodes_absolute);
        let percentage_path = path.child("minCandidateNodesPercentage");
        let absolute_path = path.child("minCandidateNodesAbsolute");
        if !(0..=100).contains(&percentage) {
            errors.push(FieldError::invalid(&percentage_path, percentage, "not in valid range [0, 100]"));
        }
        if absolute < 0 {
            errors.push(FieldError::invalid(&absolute_path, absolute, "not in valid range [0, inf)"));
        }
        if percentage == 0 && absolute == 0 {
            let both = "cannot be zero at the same time as";
            let message = format!("{both} minCandidateNodesAbsolute");
            errors.push(FieldError::invalid(&percentage_path, percentage, message));
            let message = format!("{both} minCandidateNodesPercentage");
            errors.push(FieldError::invalid(&absolute_path, absolute, message));
        }
        errors
    }
}

impl PluginArguments for InterPodAffinityArgs {
    fn validate(&self, path: &Path<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        let weight = self.hard_pod_affinity_weight;
        if !(0..=100).contains(&weight) {
            let place = path.child("hardPodAffinityWeight");
            errors.push(FieldError::invalid(&place, weight, "not in valid range [0, 100]"));
        }
        errors
    }
}

impl PluginArguments for PodTopologySpreadArgs {
    fn set_defaults(&mut self) {
        if self.defaulting_type.is_empty() {
            self.defaulting_type = "System".to_owned();
        }
    }

    fn validate(&self, path: &Path<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        let place = path.child("defaultingType");
        match self.defaulting_type.as_str() {
            "List" => {}
            "System" if self.default_constraints.is_empty() => {}
            "System" => {
                errors.push(FieldError::invalid(&place, "System", "when .defaultConstraints are not empty"));
            }
            other => errors.push(FieldError::not_supported(&place, other, &["System", "List"])),
        }
        let list = path.child("defaultConstraints");
        for (position, constraint) in self.default_constraints.iter().enumerate() {
            self.validate_constraint(position, constraint, &list.index(position), &mut errors);
        }
        errors
    }
}

impl PodTopologySpreadArgs {
    fn validate_constraint(
        &self,
        position: usize,
        constraint: &TopologySpreadConstraint,
        path: &Path<'_>,
        errors: &mut ErrorList,
    ) {
        if constraint.max_skew <= 0 {
            errors.push(FieldError::invalid(
                &path.child("maxSkew"),
                constraint.max_skew,
                "not in valid range (0, inf)",
            ));
        }
        let (key, when) = (&constraint.topology_key, &constraint.when_unsatisfiable);
        if key.is_empty() {
            errors.push(FieldError::required(&path.child("topologyKey"), "can not be empty"));
        } else {
            errors.invalid_each(&path.child("topologyKey"), key, format::label_key(key));
        }
        let place = path.child("whenUnsatisfiable");
        match when.as_str() {
            "DoNotSchedule" | "ScheduleAnyway" => {}
            "" => errors.push(FieldError::required(&place, "can not be empty")),
            other => errors.push(FieldError::not_supported(&place, other, &["DoNotSchedule", "ScheduleAnyway"])),
        }
        if constraint.label_selector.is_some() {
            let message = "constraint must not define a selector, as they deduced for each pod";
            errors.push(FieldError::forbidden(&path.child("labelSelector"), message));
        }
        let same = |other: &TopologySpreadConstraint| other.topology_key == *key && other.when_unsatisfiable == *when;
        if self.default_constraints[..position].iter().any(same) {
            errors.push(FieldError::duplicate(path, format!("{{{key}, {when}}}").as_str()));
        }
    }
}

impl PluginArguments for NodeAffinityArgs {
    fn validate(&self, path: &Path<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        let Some(affinity) = &self.added_affinity else { return errors };
        let place = path.child("addedAffinity");
        if let Some(required) = &affinity.required_during_scheduling_ignored_during_execution {
            let required_path = place.child("requiredDuringSchedulingIgnoredDuringExecution");
            let terms = required_path.child("nodeSelectorTerms");
            for (position, term) in required.node_selector_terms.iter().enumerate() {
                validate_term(term, &terms.index(position), &mut errors);
            }
        }
        let preferred = place.child("preferredDuringSchedulingIgnoredDuringExecution");
        let terms = affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten().enumerate();
        for (position, term) in terms.filter(|(_, term)| term.weight != 0) {
            validate_term(&term.preference, &preferred.index(position), &mut errors);
        }
        errors
    }
}

/// What is wrong with a term of a node selector (component-helpers, `newNodeSelectorTerm`).
fn validate_term(term: &NodeSelectorTerm, path: &Path<'_>, errors: &mut ErrorList) {
    let expressions = path.child("matchExpressions");
    for (position, requirement) in term.match_expressions.iter().flatten().enumerate() {
        validate_expression(requirement, &expressions.index(position), errors);
    }
    let fields = path.child("matchFields");
    for (position, requirement) in term.match_fields.iter().flatten().enumerate() {
        let place = fields.index(position);
        let values = requirement.values.as_deref().unwrap_or_default();
        match requirement.operator.as_str() {
            "In" | "NotIn" if values.len() == 1 => {}
            "In" | "NotIn" => {
                let value = BadValue::json(&values);
                errors.push(FieldError::invalid(&place.child("values"), value, "must have one element"));
            }
            other => errors.push(FieldError::not_supported(&place.child("operator"), other, &["In", "NotIn"])),
        }
    }
}

fn validate_expression(requirement: &NodeSelectorRequirement, path: &Path<'_>, errors: &mut ErrorList) {
    let operator = match requirement.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        other => {
            let supported = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"];
            return errors.push(FieldError::not_supported(&path.child("operator"), other, &supported));
        }
    };
    let values: Vec<&str> = requirement.values.iter().flatten().map(String::as_str).collect();
    if let Err(wrong) = Requirement::new(&requirement.key, operator, &values) {
        for error in wrong.0 {
            errors.push(FieldError { path: format!("{path}.{}", error.path), ..error });
        }
    }
}

impl PluginArguments for VolumeBindingArgs {
    fn validate(&self, path: &Path<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        if self.bind_timeout_seconds < 0 {
            let message = "invalid BindTimeoutSeconds, should not be a negative value";
            let place = path.child("bindTimeoutSeconds");
            errors.push(FieldError::invalid(&place, self.bind_timeout_seconds, message));
        }
        if let Some(shape) = &self.shape {
            let message = "unexpected field `shape`, remove it or turn on the feature gate StorageCapacityScoring";
            errors.push(FieldError::invalid(&path.child("shape"), BadValue::json(shape), message));
        }
        errors
    }
}

impl PluginArguments for DynamicResourcesArgs {
    fn set_defaults(&mut self) {
        self.filter_timeout.get_or_insert(Duration::from_secs(10));
        self.binding_timeout.get_or_insert(Duration::from_secs(600));
    }

    fn validate(&self, path: &Path<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        if let Some(timeout) = self.filter_timeout.filter(|timeout| *timeout < Duration::ZERO) {
            let place = path.child("filterTimeout");
            errors.push(FieldError::invalid(&place, timeout.to_string().as_str(), "must be zero or positive"));
        }
        if let Some(timeout) = self.binding_timeout.filter(|timeout| *timeout < Duration::from_secs(1)) {
            let place = path.child("bindingTimeout");
            errors.push(FieldError::invalid(&place, timeout.to_string().as_str(), "must be at least 1 second"));
        }
        errors
    }
}
