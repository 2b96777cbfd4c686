//! What the checks look at, and how they name it.

use std::borrow::Cow;
use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, PodSecurityContext, PodSpec, SecurityContext};

use crate::api::meta::Labels;

/// What a check found: the reason, and what exactly.
pub type Finding = Option<(Cow<'static, str>, String)>;

/// A pod as the checks see it.
pub struct Seen<'a> {
    /// The specification.
    pub full: &'a PodSpec,
    /// What is set for all containers.
    pub context: Option<&'a PodSecurityContext>,
    /// The pod's annotations.
    pub annotations: &'a Labels,
    /// Init containers and then the others; pods are not created with ephemeral ones.
    pub containers: Vec<&'a Container>,
}

impl<'a> Seen<'a> {
    /// A pod's specification.
    pub fn new(full: &'a PodSpec, annotations: &'a Labels) -> Seen<'a> {
        let containers = full.init_containers.iter().flatten().chain(&full.containers).collect();
        Seen { full, context: full.security_context.as_ref(), annotations, containers }
    }

    /// The names of the containers whose security context, if there is one, fits.
    pub fn where_context(&self, mut fits: impl FnMut(Option<&'a SecurityContext>) -> bool) -> Vec<&'a str> {
        let fitting = self.containers.iter().filter(|container| fits(container.security_context.as_ref()));
        fitting.map(|container| container.name.as_str()).collect()
    }

    /// True if the pod runs for Windows, where some fields cannot be set.
    pub fn is_windows(&self) -> bool {
        self.full.os.as_ref().is_some_and(|os| os.name == "windows")
    }

    /// True if the pod has users of its own: its root is none (`relaxPolicyForUserNamespacePod`).
    pub fn has_own_users(&self) -> bool {
        self.full.host_users == Some(false)
    }
}

/// `"a", "b"`
pub fn quoted<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    format!("\"{}\"", items.into_iter().collect::<Vec<_>>().join("\", \""))
}

/// `"a", "b"`, sorted.
pub fn quoted_set(items: &BTreeSet<String>) -> String {
    quoted(items.iter().map(String::as_str))
}

/// `container "a"` or `containers "a", "b"`
pub fn named(what: &str, names: &[&str]) -> String {
    format!("{what}{} {}", s(names.len()), quoted(names.iter().copied()))
}

/// The ending of the plural.
pub fn s(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// The ending of a verb.
pub fn verb_s(count: usize) -> &'static str {
    if count == 1 { "s" } else { "" }
}

/// Who sets something: `pod and container "a"`; none if nobody does.
pub fn setters(pod: bool, containers: &[&str]) -> Option<String> {
    match (pod, containers) {
        (false, []) => None,
        (true, []) => Some("pod".to_owned()),
        (false, names) => Some(named("container", names)),
        (true, names) => Some(format!("pod and {}", named("container", names))),
    }
}
