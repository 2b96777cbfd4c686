//! PodSecurity: namespaces say by labels how much their pods may be allowed (kubernetes, plugin/pkg/admission/security/podsecurity
//! and pod-security-admission).
//!
//! Only what is enforced has an effect here: warnings and audit annotations are not simulated, nor are the annotations by which
//! policies older than 1.19 know seccomp profiles.

mod baseline;
mod policy;
mod restricted;
mod seen;

use crate::api::kind::Kind;
use crate::api::meta::Labels;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::plain::Namespace;
use crate::api::pod::Pod;
use crate::api::validation::error::ErrorList;
use crate::apiserver::status::Status;

use super::{Attributes, Facts, Plugin, Refusal, Verb};
use policy::Policy;
use seen::Seen;

/// The plugin.
pub struct PodSecurity;

impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn validate(
        &self,
        attributes: Attributes<'_>,
        facts: Facts<'_>,
        object: &Object,
        old: Option<&Object>,
    ) -> Result<(), Refusal> {
        if attributes.subresource || attributes.verb == Verb::Delete {
            return Ok(());
        }
        match object {
            Object::Namespace(namespace) => check_labels(namespace, old),
            Object::Pod(pod) => check_pod(pod, facts, old.and_then(Object::get::<Pod>).map(|pod| &**pod)),
            _ => Ok(()),
        }
    }
}

/// Refuses labels that say nothing sensible, unless they said it before.
fn check_labels(namespace: &Namespace, old: Option<&Object>) -> Result<(), Refusal> {
    let errors = policy::errors(&namespace.meta.labels);
    if errors.is_empty() || old.is_some_and(|old| policy::errors(&old.meta().labels) == errors) {
        return Ok(());
    }
    Err(Status::invalid(Kind::Namespace, &namespace.meta.name, &ErrorList(errors)).into())
}

/// Refuses a pod that does what its namespace forbids. Of a pod that exists already only new images make it look again.
fn check_pod(pod: &Pod, facts: Facts<'_>, old: Option<&Pod>) -> Result<(), Refusal> {
    let name = &pod.meta.namespace;
    let cached = facts.cached::<Namespace>(&Name::EMPTY, name);
    let found = cached.or_else(|| facts.looked_up::<Namespace>(&Name::EMPTY, name).flatten());
    let Some(policy) = found.and_then(|namespace| Policy::enforced(&namespace.meta.labels)) else { return Ok(()) };
    if old.is_some_and(|old| images(old).eq(images(pod))) {
        return Ok(());
    }
    let said = violations(&policy, &pod.meta.annotations, pod);
    if said.is_empty() {
        return Ok(());
    }
    let why = format!("violates PodSecurity \"{policy}\": {}", said.join(", "));
    Err(Status::forbidden(Kind::Pod, &pod.meta.name, why).into())
}

fn images(pod: &Pod) -> impl Iterator<Item = Option<&str>> {
    let full = &pod.spec.full;
    let containers = full.containers.iter().chain(full.init_containers.iter().flatten());
    containers.map(|container| container.image.as_deref())
}

/// What a pod does that the policy forbids: what all forbid first, each by the names of the checks (policy/registry.go).
fn violations(policy: &Policy, annotations: &Labels, pod: &Pod) -> Vec<String> {
    let seen = Seen::new(&pod.spec.full, annotations);
    let mut findings = baseline::findings(&seen, policy);
    if policy.restricted {
        findings.extend(restricted::findings(&seen, policy.minor));
    }
    findings.into_iter().map(|(reason, detail)| format!("{reason} ({detail})")).collect()
}
