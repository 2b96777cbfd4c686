//! Kubernetes events: what components say happened.

use std::borrow::Cow;
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
    /// None if it happened once, in the very second in which the event was created, as most do ([`Event::settle`]).
    occurrence: Option<Box<Occurrence>>,
}

/// What the events of all pods of a template on a node have in common: who says what, and of which part of which kind of object.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct EventClass {
    pub kind: EventType,
    pub reason: Name,
    pub reporter: Rc<Reporter>,
    /// `involvedObject.apiVersion`.
    pub involved_api_version: Name,
    /// `involvedObject.kind`.
    pub involved_kind: Name,
    /// `involvedObject.fieldPath`, as `spec.containers{app}`; empty for the whole object.
    pub field_path: Name,
}

/// The object that events are about, whatever its version and whatever part of it they mean.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct Involved {
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

/// When something happened and how often.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Occurrence {
    /// How often; zero for events of the new API (`events.k8s.io`), which count in a series.
    pub count: i32,
    /// Zero in events of the new API, and so is `last`.
    pub first: Timestamp,
    /// `lastTimestamp`.
    pub last: Timestamp,
    /// `eventTime`; this and all that follows is zero or none in events of the older API.
    pub event_time: MicroTime,
    /// `action`.
    pub action: Option<Name>,
    /// `series`: how often, and when last.
    pub series: Option<Box<(i32, MicroTime)>>,
    /// `related`.
    pub related: Option<Box<ObjectReference>>,
}

impl Involved {
    /// The object that a reference is to.
    pub fn of(reference: &ObjectReference) -> Involved {
        Involved { namespace: reference.namespace.clone(), name: reference.name.clone(), uid: reference.uid }
    }

    /// Whether a reference is to this object.
    pub fn is(&self, reference: &ObjectReference) -> bool {
        let Involved { namespace, name, uid } = self;
        *uid == reference.uid && *name == reference.name && *namespace == reference.namespace
    }
}

impl Event {
    /// An event about an object, `involved`, in a version.
    pub fn new(
        meta: Meta,
        (involved, involved_revision): (Rc<Involved>, u64),
        class: Rc<EventClass>,
        message: Name,
        occurrence: Occurrence,
    ) -> Event {
        Event { meta, involved, involved_revision, class, message, occurrence: Some(Box::new(occurrence)) }
    }

    /// `involvedObject`, whole.
    pub fn reference(&self) -> ObjectReference {
        let Involved { namespace, name, uid } = (*self.involved).clone();
        let resource_version = self.involved_revision;
        let EventClass { involved_api_version: api_version, involved_kind: kind, field_path, .. } =
            (*self.class).clone();
        ObjectReference { api_version, kind, namespace, name, uid, resource_version, field_path }
    }

    /// When it happened and how often.
    pub fn occurrence(&self) -> Cow<'_, Occurrence> {
        match &self.occurrence {
            Some(occurrence) => Cow::Borrowed(occurrence),
            None => Cow::Owned(Occurrence::once(self.meta.created)),
        }
    }

    /// The same, to be changed.
    pub fn occurrence_mut(&mut self) -> &mut Occurrence {
        self.occurrence.get_or_insert_with(|| Box::new(Occurrence::once(self.meta.created)))
    }

    /// Keeps no more of when it happened than what its creation does not say. To be called once that is known.
    pub fn settle(&mut self) {
        self.occurrence.take_if(|occurrence| **occurrence == Occurrence::once(self.meta.created));
    }

    /// `series`: how often, and when last.
    pub fn series(&self) -> Option<(i32, MicroTime)> {
        self.occurrence.as_ref()?.series.as_deref().copied()
    }
}

impl Occurrence {
    /// Once, in this second.
    fn once(at: Timestamp) -> Occurrence {
        Occurrence { count: 1, first: at, last: at, ..Occurrence::default() }
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
