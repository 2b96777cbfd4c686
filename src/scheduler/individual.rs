//! Labels that tell the pods of one workload apart. As long as no selector asks for them, plugins think the same of all these pods.

use crate::api::batch::COMPLETION_INDEX;
use crate::api::meta::Labels;
use crate::api::name::Name;
use crate::api::selector::Selector;

/// The labels that StatefulSets and Indexed Jobs give to each of their pods.
const LABELS: [&str; 3] = ["statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index", COMPLETION_INDEX];

fn is_individual(key: &str) -> bool {
    LABELS.contains(&key)
}

/// True if a selector asks for such a label.
pub fn is_told_by(selector: &Selector) -> bool {
    selector.requirements().iter().any(|requirement| is_individual(requirement.key()))
}

/// The labels but for such.
pub fn without(labels: &Labels) -> Labels {
    if !labels.pairs().iter().any(|(key, _)| is_individual(key)) {
        return labels.clone();
    }
    others(labels).cloned().collect()
}

fn others(labels: &Labels) -> impl Iterator<Item = &(Name, Name)> {
    labels.pairs().iter().filter(|(key, _)| !is_individual(key))
}

/// True if labels differ in nothing but such.
pub fn are_alike(left: &Labels, right: &Labels) -> bool {
    left.same(right) || others(left).eq(others(right))
}
