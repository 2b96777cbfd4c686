//! Kubernetes events: what components say happened.

use super::meta::{Meta, MicroTime, Timestamp, Uid};
use super::name::Name;

/// A Kubernetes event, of either API (`source` and `firstTimestamp`, or `reportingComponent` and `eventTime`).
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct Event {
    pub meta: Meta,
    pub involved: ObjectReference,
    pub kind: EventType,
    pub reason: Name,
    pub message: Name,
    /// `source.component` and `reportingComponent`.
    pub component: Name,
    /// `source.host`; empty if there is none.
    pub host: Name,
    /// `reportingInstance`; empty if there is none.
    pub instance: Name,
    /// How often; zero for events of the new API, which count in a series.
    pub count: i32,
    pub first: Option<Timestamp>,
    pub last: Option<Timestamp>,
    /// `eventTime`, of the new API.
    pub event_time: Option<MicroTime>,
    /// `action`, of the new API.
    pub action: Option<Name>,
    /// `series` of the new API: how often, and when last.
    pub series: Option<(i32, MicroTime)>,
    /// `related`, of the new API.
    pub related: Option<Box<ObjectReference>>,
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
