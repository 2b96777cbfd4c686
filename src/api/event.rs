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
    pub involved: Rc<ObjectReference>,
    pub kind: EventType,
    pub reason: Name,
    pub message: Name,
    pub reporter: Rc<Reporter>,
    /// How often; zero for events of the new API, which count in a series.
    pub count: i32,
    /// Zero in events of the new API, and so is `last`.
    pub first: Timestamp,
    pub last: Timestamp,
    /// What only events of the new API have.
    pub newer: Option<Box<NewerPart>>,
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

impl Event {
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
