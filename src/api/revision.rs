//! ControllerRevisions: the pod templates that a StatefulSet or DaemonSet had, so that it can go back to one.

use std::cell::OnceCell;
use std::rc::Rc;

use serde_json::Value;

use super::meta::Meta;
use super::pod::{PodSpec, PodTemplate};

/// A ControllerRevision.
#[derive(Clone, Debug)]
pub struct ControllerRevision {
    /// Metadata.
    pub meta: Meta,
    /// `revision`: which came after which.
    pub revision: i64,
    /// `data`, which never changes.
    pub data: Rc<RevisionData>,
}

/// What a revision keeps.
#[derive(Clone, Debug)]
pub enum RevisionData {
    /// A patch that puts a pod template back: `{"spec": {"template": {..., "$patch": "replace"}}}`.
    Template(RevisionTemplate),
    /// Anything else; nothing if there is no data.
    Other(Option<Value>),
}

/// A pod template, shared with the owner that had it and with all pods made of it.
#[derive(Clone, Debug)]
pub struct RevisionTemplate {
    /// The template.
    pub template: Rc<PodTemplate>,
    /// What the owner made of the template's specification for its pods, once it has made some: the owner and what it adds
    /// never change, so that all pods of a revision can share it.
    pub for_pods: OnceCell<Rc<PodSpec>>,
}

impl ControllerRevision {
    /// The template that the revision keeps, if it keeps one.
    pub fn template(&self) -> Option<&RevisionTemplate> {
        match &*self.data {
            RevisionData::Template(template) => Some(template),
            RevisionData::Other(_) => None,
        }
    }
}

impl RevisionData {
    /// The data that puts a template back.
    pub fn of(template: Rc<PodTemplate>) -> Self {
        RevisionData::Template(RevisionTemplate { template, for_pods: OnceCell::new() })
    }
}

/// Two revisions are equal if they say the same (kube-controller-manager, history: `EqualRevision`).
impl PartialEq for RevisionData {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (RevisionData::Template(left), RevisionData::Template(right)) => {
                left.template.says_the_same(&right.template)
            }
            (RevisionData::Other(left), RevisionData::Other(right)) => left == right,
            _ => false,
        }
    }
}
