//! RuntimeClass: a pod that names the class of its runtime gets the class's overhead, node selector and tolerations
//! (kubernetes, plugin/pkg/admission/runtimeclass).

use std::rc::Rc;

use k8s_openapi::api::core::v1::Toleration;

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::plain;
use crate::api::pod::{Pod, PodSpec};
use crate::api::quota::Amounts;
use crate::engine::time::SimDuration;

use super::{Attributes, Facts, Plugin, Refusal, Verb, forbidden};

/// The plugin.
pub struct RuntimeClass;

impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn spec_facts(&self, pod: &Pod, facts: Facts<'_>) -> Result<u64, Refusal> {
        Ok(find(pod, facts)?.map_or(0, |class| class.meta.revision()))
    }

    fn admit_spec(&self, pod: &Pod, facts: Facts<'_>, spec: &mut PodSpec) -> Result<(), Refusal> {
        let Some(class) = find(pod, facts)? else { return Ok(()) };
        let full = &mut spec.full;
        if let Some(overhead) = &class.content.overhead {
            let given = Amounts::of_valid(full.overhead.as_ref());
            if !given.is_empty() && given != Amounts::of_valid(overhead.pod_fixed.as_ref()) {
                return refuse(pod, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead");
            }
            full.overhead = overhead.pod_fixed.clone();
        }
        let Some(scheduling) = &class.content.scheduling else { return Ok(()) };
        for (key, wanted) in scheduling.node_selector.iter().flatten() {
            let selector = full.node_selector.get_or_insert_default();
            if let Some(given) = selector.get(key).filter(|given| *given != wanted) {
                let class = format!("runtimeClass.scheduling.nodeSelector[{key}] = {wanted}");
                return refuse(pod, format!("conflict: {class}; pod.spec.nodeSelector[{key}] = {given}"));
            }
            selector.insert(key.clone(), wanted.clone());
        }
        let given = full.tolerations.take().unwrap_or_default();
        let merged = merge(given, scheduling.tolerations.as_deref().unwrap_or_default());
        full.tolerations = (!merged.is_empty()).then_some(merged);
        Ok(())
    }

    fn validate(
        &self,
        attributes: Attributes<'_>,
        facts: Facts<'_>,
        object: &Object,
        _old: Option<&Object>,
    ) -> Result<(), Refusal> {
        let Object::Pod(pod) = object else { return Ok(()) };
        if attributes.verb != Verb::Create || attributes.subresource {
            return Ok(());
        }
        let given = pod.spec.full.overhead.as_ref();
        if given.is_none() && pod.spec.full.runtime_class_name.is_none() {
            return Ok(());
        }
        let class = find(pod, facts)?;
        match class.and_then(|class| class.content.overhead.as_ref()) {
            Some(overhead) if Amounts::of_valid(overhead.pod_fixed.as_ref()) != Amounts::of_valid(given) => {
                refuse(pod, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
            }
            None if given.is_some() => {
                refuse(pod, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
            }
            _ => Ok(()),
        }
    }
}

fn refuse(pod: &Pod, why: impl std::fmt::Display) -> Result<(), Refusal> {
    Err(forbidden(Kind::Pod, &pod.meta.name, pod.meta.generate_name.as_ref(), why))
}

/// The class that the pod names.
fn find<'a>(pod: &Pod, facts: Facts<'a>) -> Result<Option<&'a Rc<plain::RuntimeClass>>, Refusal> {
    let Some(name) = pod.spec.full.runtime_class_name.as_deref() else { return Ok(None) };
    let class = Name::new(name);
    if let Some(found) = facts.cached::<plain::RuntimeClass>(&Name::EMPTY, &class) {
        return Ok(Some(found));
    }
    match facts.looked_up::<plain::RuntimeClass>(&Name::EMPTY, &class) {
        Some(Some(found)) => Ok(Some(found)),
        Some(None) => {
            let why = format!("pod rejected: RuntimeClass \"{name}\" not found");
            Err(forbidden(Kind::Pod, &pod.meta.name, pod.meta.generate_name.as_ref(), why))
        }
        None => {
            let key = ObjectKey::new(Kind::RuntimeClass, Name::EMPTY, class);
            Err(Refusal::LookUp { key, after: SimDuration::ZERO })
        }
    }
}

/// Both lists without what another toleration covers (kubernetes, pkg/util/tolerations: `MergeTolerations`).
fn merge(first: Vec<Toleration>, second: &[Toleration]) -> Vec<Toleration> {
    let mut all = first;
    all.extend_from_slice(second);
    let mut merged: Vec<Toleration> = Vec::new();
    for (position, toleration) in all.iter().enumerate() {
        let covered_before = merged.iter().any(|other| covers(other, toleration));
        let mut later = all[position + 1..].iter();
        if !covered_before && !later.any(|other| other != toleration && covers(other, toleration)) {
            merged.push(toleration.clone());
        }
    }
    merged
}

/// True if whatever `less` tolerates `more` tolerates too (`isSuperset`).
fn covers(more: &Toleration, less: &Toleration) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let exists = more.operator.as_deref() == Some("Exists");
    if more == less {
        return true;
    }
    if text(&less.key) != text(&more.key) && !(text(&more.key).is_empty() && exists) {
        return false;
    }
    if text(&less.effect) != text(&more.effect) && !text(&more.effect).is_empty() {
        return false;
    }
    if more.effect.as_deref() == Some("NoExecute")
        && let Some(seconds) = more.toleration_seconds
        && less.toleration_seconds.is_none_or(|less| less > seconds)
    {
        return false;
    }
    exists || (less.operator.as_deref() == Some("Equal") && text(&less.value) == text(&more.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toleration(key: &str, operator: &str, value: &str) -> Toleration {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Toleration { key: some(key), operator: some(operator), value: some(value), ..Toleration::default() }
    }

    #[test]
    fn of_tolerations_that_cover_one_another_the_wider_one_stays() {
        let (narrow, wide, all) =
            (toleration("a", "Equal", "1"), toleration("a", "Exists", ""), toleration("", "Exists", ""));
        let check = |first: &Toleration, second: &Toleration, expected: &[Toleration]| {
            assert_eq!(merge(vec![first.clone()], std::slice::from_ref(second)), expected);
        };
        let only = std::slice::from_ref::<Toleration>;
        check(&narrow, &wide, only(&wide));
        check(&wide, &narrow, only(&wide));
        check(&wide, &all, only(&all));
        check(&narrow, &narrow, only(&narrow));
        let other = toleration("b", "Equal", "1");
        check(&narrow, &other, &[narrow.clone(), other.clone()]);
    }
}
