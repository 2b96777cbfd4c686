//! Which objects of a kind a list or a watch is about, and by which one property an index finds its watchers.

use std::borrow::Cow;
use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::{Pod, RestartPolicy};
use crate::api::selector::{FieldSelector, Selector};
use crate::etcd::key::{Key, KeyRange};

use super::protocol::{FieldTest, Scope};
use super::status::{Reason, Status};
use super::storage;

/// A checked [`Scope`].
#[derive(Clone, Debug)]
pub struct Selection {
    /// The kind.
    pub kind: Kind,
    /// One namespace; none for all.
    pub namespace: Option<Name>,
    labels: Option<Rc<Selector>>,
    fields: Vec<FieldTest>,
}

/// The property under which a watcher is filed: a change looks only at those filed under its own properties.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Trigger {
    /// Every change of the kind.
    Any,
    /// Objects of one namespace.
    Namespace(Name),
    /// Objects of one name.
    Object(Name),
    /// Pods bound to one node.
    Node(Name),
}

impl Selection {
    /// Checks a scope: fields by which the kind cannot be selected are refused.
    pub fn of(scope: &Scope) -> Result<Selection, Box<Status>> {
        if !scope.fields.is_empty() {
            let text = scope.fields.iter().map(|test| {
                let sign = if test.equal { "=" } else { "!=" };
                format!("{}{sign}{}", test.field, test.value)
            });
            let text = text.collect::<Vec<_>>().join(",");
            let parsed = FieldSelector::parse(&text).and_then(|selector| selector.for_kind(scope.kind.row().name));
            parsed.map_err(|message| Box::new(Status::new(Reason::BadRequest, message)))?;
        }
        let namespace = scope.namespace.clone().filter(|_| scope.kind.row().namespaced);
        let labels = scope.labels.clone().filter(|labels| !labels.is_everything());
        Ok(Selection { kind: scope.kind, namespace, labels, fields: scope.fields.clone() })
    }

    /// True if the object is meant.
    pub fn matches(&self, object: &Object) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| *namespace == object.meta().namespace)
            && self.fields.iter().all(|test| (field(object, &test.field) == test.value.as_str()) == test.equal)
            && self.labels.as_ref().is_none_or(|labels| labels.matches(&object.meta().labels))
    }

    /// True if objects are selected by more than their place: a limited list then cannot know how many remain.
    pub fn has_selectors(&self) -> bool {
        self.labels.is_some() || !self.fields.is_empty()
    }

    /// The one namespace in which all selected objects are, if there is one: that of the request, or one that a field names.
    pub fn single_namespace(&self) -> Option<&Name> {
        self.namespace.as_ref().or_else(|| self.exact("metadata.namespace")).filter(|it| !it.is_empty())
    }

    /// The place of the one object that can be selected, if a field names it (registry/generic: `MatchesSingle`).
    pub fn single_key(&self) -> Option<Key> {
        let name = self.exact("metadata.name")?.clone();
        let namespace = match self.kind.row().namespaced {
            true => self.single_namespace()?.clone(),
            false => Name::EMPTY,
        };
        (!name.is_empty()).then(|| storage::key_of(&ObjectKey { kind: self.kind, namespace, name }))
    }

    /// The keys in etcd among which all selected objects are.
    pub fn range(&self) -> KeyRange {
        match self.single_key() {
            Some(key) => KeyRange::One(key),
            None => KeyRange::Prefix(self.prefix()),
        }
    }

    /// What the keys of all selected objects begin with.
    pub fn prefix(&self) -> Key {
        storage::prefix_in(self.kind, self.single_namespace().map(Name::as_str))
    }

    /// The value that a field must have.
    fn exact(&self, field: &str) -> Option<&Name> {
        self.fields.iter().find(|test| test.equal && test.field == field).map(|test| &test.value)
    }

    /// The narrowest property that all matching objects share.
    pub fn trigger(&self) -> Trigger {
        if let Some(name) = self.exact("metadata.name") {
            return Trigger::Object(name.clone());
        }
        if let Some(node) = self.exact("spec.nodeName").filter(|_| self.kind == Kind::Pod) {
            return Trigger::Node(node.clone());
        }
        self.namespace.clone().map_or(Trigger::Any, Trigger::Namespace)
    }
}

/// The value of a field by which objects can be selected; empty if it is absent.
fn field<'a>(object: &'a Object, name: &str) -> Cow<'a, str> {
    let meta = object.meta();
    let text = match (name, object) {
        ("metadata.name", _) => &meta.name,
        ("metadata.namespace", _) => &meta.namespace,
        (name, Object::Pod(pod)) => return pod_field(pod, name),
        (name, Object::Event(event)) => match name {
            "involvedObject.kind" => &event.class.involved_kind,
            "involvedObject.namespace" => &event.involved.namespace,
            "involvedObject.name" => &event.involved.name,
            "involvedObject.uid" => return event.involved.uid.to_string().into(),
            "involvedObject.apiVersion" => &event.class.involved_api_version,
            "involvedObject.resourceVersion" if event.involved_revision != 0 => {
                return event.involved_revision.to_string().into();
            }
            "involvedObject.fieldPath" => &event.class.field_path,
            "reason" => &event.class.reason,
            "reportingComponent" | "source" => &event.class.reporter.component,
            "type" => return event.class.kind.as_str().into(),
            _ => return Cow::Borrowed(""),
        },
        ("spec.unschedulable", Object::Node(node)) => return if node.unschedulable { "true" } else { "false" }.into(),
        ("status.phase", Object::Namespace(namespace)) => {
            return if namespace.terminating { "Terminating" } else { "Active" }.into();
        }
        ("status.replicas", Object::ReplicaSet(set)) => return set.status.replicas.to_string().into(),
        ("status.replicas", Object::ReplicationController(controller)) => {
            return controller.status.replicas.to_string().into();
        }
        ("status.successful", Object::Job(job)) => return job.status.succeeded.to_string().into(),
        ("type", Object::Secret(secret)) => return secret.content.type_.as_deref().unwrap_or_default().into(),
        ("spec.clusterIP", Object::Service(service)) => {
            return service.spec.cluster_ip.as_deref().unwrap_or_default().into();
        }
        ("spec.type", Object::Service(service)) => return service.spec.type_.as_deref().unwrap_or_default().into(),
        _ => return Cow::Borrowed(""),
    };
    Cow::Borrowed(text)
}

fn pod_field<'a>(pod: &'a Pod, name: &str) -> Cow<'a, str> {
    let absent = Cow::Borrowed("");
    let full = &pod.spec.full;
    match name {
        "spec.nodeName" => pod.node.as_deref().map_or(absent, Cow::Borrowed),
        "status.phase" => pod.status.phase.as_str().into(),
        "status.podIP" | "status.podIPs" => pod.status.pod_ip.map_or(absent, |ip| ip.to_string().into()),
        "status.nominatedNodeName" => {
            pod.status.nominated_node.as_deref().map_or(absent, |node| Cow::Borrowed(node.as_str()))
        }
        "spec.schedulerName" => full.scheduler_name.as_deref().map_or(absent, Cow::Borrowed),
        "spec.serviceAccountName" => full.service_account_name.as_deref().map_or(absent, Cow::Borrowed),
        "spec.hostNetwork" => if full.host_network == Some(true) { "true" } else { "false" }.into(),
        "spec.restartPolicy" => match pod.spec.restart_policy {
            RestartPolicy::Always => "Always",
            RestartPolicy::OnFailure => "OnFailure",
            RestartPolicy::Never => "Never",
        }
        .into(),
        _ => absent,
    }
}
