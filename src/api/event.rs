//! Kubernetes events: what components say happened.

use std::rc::Rc;

use super::meta::{Meta, MicroTime, Timestamp, Uid};
use super::name::Name;

/// A Kubernetes event, of either API (`source` and `firstTimestamp`, or `reportingComponent` and `eventTime`). What many
/// events have in common is shared: there are several for each pod, and they are kept for an hour.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct Event {
    pub meta: Meta,
    /// What it is about. The rest of that reference stands in `involved_revision` and in `class`.
    pub involved: Rc<Involved>,
    /// The version of the object that it is about; zero if not set.
    pub involved_revision: u64,
    pub class: Rc<EventClass>,
    pub message: Name,
    /// How often; zero for events of the new API, which count in a series.
    pub count: i32,
    /// Zero in events of the new API, and so is `last`.
    pub first: Timestamp,
    pub last: Timestamp,
    /// What only events of the new API have.
    pub newer: Option<Box<NewerPart>>,
}

/// What the events of all pods of a template on a node have in common: who says what, and of which part.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct EventClass {
    pub kind: EventType,
    pub reason: Name,
    pub reporter: Rc<Reporter>,
    /// `involvedObject.fieldPath`, as `spec.containers{app}`; empty for the whole object.
    pub field_path: Name,
}

/// The object that events are about, whatever its version and whatever part of it they mean.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct Involved {
    pub api_version: Name,
    pub kind: Name,
    pub namespace: Name,
    pub name: Name,
    pub uid: Uid,
}

/// Who says that something happened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reporter {
    /// `source.component` and `reportingComponent`.
    pub component: Name,
    /// `source.host`; empty if there is none.
    pub host: Name,
    /// `reportingInstance`; empty if there is none.
    pub instance: Name,
    /// True if only `source` says who it is, and the fields of the new API say nothing: so of events that stand for several.
    pub source_only: bool,
}

/// What only events of the new API (`events.k8s.io`) have.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NewerPart {
    /// `eventTime`.
    pub event_time: Option<MicroTime>,
    /// `action`.
    pub action: Option<Name>,
    /// `series`: how often, and when last.
    pub series: Option<(i32, MicroTime)>,
    /// `related`.
    pub related: Option<Box<ObjectReference>>,
}

impl Involved {
    /// The object that a reference is to.
    pub fn of(reference: &ObjectReference) -> Involved {
        let ObjectReference { api_version, kind, namespace, name, uid, .. } = reference.clone();
        Involved { api_version, kind, namespace, name, uid }
    }

    /// Whether a reference is to this object.
    pub fn is(&self, reference: &ObjectReference) -> bool {
        let Involved { api_version, kind, namespace, name, uid } = self;
        *uid == reference.uid
            && *name == reference.name
            && *namespace == reference.namespace
            && *kind == reference.kind
            && *api_version == reference.api_version
    }
}

impl Event {
    /// `involvedObject`, whole.
    pub fn reference(&self) -> ObjectReference {
        let Involved { api_version, kind, namespace, name, uid } = (*self.involved).clone();
        let (resource_version, field_path) = (self.involved_revision, self.class.field_path.clone());
        ObjectReference { api_version, kind, namespace, name, uid, resource_version, field_path }
    }

    /// `series`: how often, and when last.
    pub fn series(&self) -> Option<(i32, MicroTime)> {
        self.newer.as_ref()?.series
    }
}

/// `type` of an event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs, reason = "the API's own words")]
pub enum EventType {
    Normal,
    Warning,
}

/// A reference to any object (`v1.ObjectReference`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct ObjectReference {
    pub api_version: Name,
    pub kind: Name,
    pub namespace: Name,
    pub name: Name,
    pub uid: Uid,
    pub resource_version: u64,
    /// As `spec.containers{app}`; empty for the whole object.
    pub field_path: Name,
}
