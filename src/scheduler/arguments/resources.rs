//! The arguments of NodeResourcesFit and NodeResourcesBalancedAllocation.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::PluginArguments;
use crate::api::validation::error::{ErrorList, FieldError, Path};
use crate::api::validation::format;

/// The strategies of NodeResourcesFit.
const STRATEGIES: [&str; 3] = ["LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"];

/// The highest score in a shape (`MaxCustomPriorityScore`).
pub const MAX_SHAPE_SCORE: i64 = 10;

/// What NodeResourcesFit takes.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeResourcesFitArgs {
    /// Extended resources that the filter does not look at.
    pub ignored_resources: Vec<String>,
    /// The same for all resources whose names begin with these and a slash.
    pub ignored_resource_groups: Vec<String>,
    /// How nodes are scored; always there once defaults are set.
    pub scoring_strategy: Option<ScoringStrategy>,
}

/// How NodeResourcesFit scores nodes.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScoringStrategy {
    /// `LeastAllocated`, `MostAllocated` or `RequestedToCapacityRatio`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The resources that count.
    pub resources: Vec<ResourceSpec>,
    /// What `RequestedToCapacityRatio` needs to know.
    pub requested_to_capacity_ratio: Option<RequestedToCapacityRatioParam>,
}

/// A resource and how much it counts.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceSpec {
    /// The resource.
    pub name: String,
    /// How much it counts.
    pub weight: i64,
}

/// What `RequestedToCapacityRatio` needs to know.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestedToCapacityRatioParam {
    /// A line through these points says what a utilization is worth.
    pub shape: Vec<UtilizationShapePoint>,
}

/// A point of a shape.
#[derive(Clone, Copy, PartialEq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all(deserialize = "camelCase", serialize = "PascalCase"), default)]
pub struct UtilizationShapePoint {
    /// In percent.
    pub utilization: i32,
    /// From 0 to 10.
    pub score: i32,
}

/// What NodeResourcesBalancedAllocation takes.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeResourcesBalancedAllocationArgs {
    /// The resources that are to be in balance.
    pub resources: Vec<ResourceSpec>,
}

/// CPU and memory, which count alike.
fn default_resources() -> Vec<ResourceSpec> {
    ["cpu", "memory"].map(|name| ResourceSpec { name: name.to_owned(), weight: 1 }).into()
}

/// A weight that is not given, or zero, is one.
fn default_weights(resources: &mut [ResourceSpec]) {
    resources.iter_mut().filter(|resource| resource.weight == 0).for_each(|resource| resource.weight = 1);
}

impl PluginArguments for NodeResourcesFitArgs {
    fn set_defaults(&mut self) {
        let default = || ScoringStrategy {
            kind: "LeastAllocated".to_owned(),
            resources: Vec::new(),
            ..ScoringStrategy::default()
        };
        let strategy = self.scoring_strategy.get_or_insert_with(default);
        if strategy.resources.is_empty() {
            strategy.resources = default_resources();
        }
        default_weights(&mut strategy.resources);
    }

    fn validate(&self, path: &Path<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        let resources = path.child("ignoredResources");
        for (position, resource) in self.ignored_resources.iter().enumerate() {
            errors.invalid_each(&resources.index(position), resource, format::label_key(resource));
        }
        let groups = path.child("ignoredResourceGroups");
        for (position, group) in self.ignored_resource_groups.iter().enumerate() {
            let place = groups.index(position);
            if group.contains('/') {
                errors.push(FieldError::invalid(&place, group, "resource group name can't contain '/'"));
            }
            errors.invalid_each(&place, group, format::label_key(group));
        }
        let place = path.child("scoringStrategy");
        match &self.scoring_strategy {
            Some(strategy) => strategy.validate(&place, &mut errors),
            None => errors.push(FieldError::required(&place, "ScoringStrategy field is required")),
        }
        errors
    }
}

impl ScoringStrategy {
    fn validate(&self, path: &Path<'_>, errors: &mut ErrorList) {
        if !STRATEGIES.contains(&self.kind.as_str()) {
            errors.push(FieldError::not_supported(&path.child("type"), &self.kind, &STRATEGIES));
        }
        let resources = path.child("resources");
        for (position, resource) in self.resources.iter().enumerate() {
            if !(1..=100).contains(&resource.weight) {
                let message = format!("resource weight of {} not in valid range (0, 100]", resource.name);
                let place = resources.index(position);
                errors.push(FieldError::invalid(&place.child("weight"), resource.weight, message));
            }
        }
        let place = path.child("requestedToCapacityRatio");
        match (self.kind == "RequestedToCapacityRatio", &self.requested_to_capacity_ratio) {
            (true, None) => {
                let message = "must be specified when type is RequestedToCapacityRatio";
                errors.push(FieldError::required(&place, message));
            }
            (true, Some(ratio)) => validate_shape(&ratio.shape, &place.child("shape"), errors),
            (false, Some(_)) => {
                let message = "must be nil when type is not RequestedToCapacityRatio";
                errors.push(FieldError::forbidden(&place, message));
            }
            (false, None) => {}
        }
    }
}

fn validate_shape(shape: &[UtilizationShapePoint], path: &Path<'_>, errors: &mut ErrorList) {
    if shape.is_empty() {
        return errors.push(FieldError::required(path, "at least one point must be specified"));
    }
    let falls = |position: &usize| shape[*position - 1].utilization >= shape[*position].utilization;
    if let Some(position) = (1..shape.len()).find(falls) {
        let (place, value) = (path.index(position), shape[position].utilization);
        let message = "values must be sorted in increasing order";
        errors.push(FieldError::invalid(&place.child("utilization"), value, message));
    }
    for (position, point) in shape.iter().enumerate() {
        let place = path.index(position);
        for (name, value, highest) in
            [("utilization", point.utilization, 100), ("score", point.score, MAX_SHAPE_SCORE as i32)]
        {
            if !(0..=highest).contains(&value) {
                let message = format!("not in valid range [0, {highest}]");
                errors.push(FieldError::invalid(&place.child(name), value, message));
            }
        }
    }
}

impl PluginArguments for NodeResourcesBalancedAllocationArgs {
    fn set_defaults(&mut self) {
        if self.resources.is_empty() {
            self.resources = default_resources();
        }
        default_weights(&mut self.resources);
    }

    fn validate(&self, path: &Path<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        let mut seen = BTreeSet::new();
        let resources = path.child("resources");
        for (position, resource) in self.resources.iter().enumerate() {
            let place = resources.index(position);
            if !seen.insert(&resource.name) {
                errors.push(FieldError::duplicate(&place.child("name"), &resource.name));
            }
            if resource.weight != 1 {
                errors.push(FieldError::invalid(&place.child("weight"), resource.weight, "must be 1"));
            }
        }
        errors
    }
}
