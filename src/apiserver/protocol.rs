//! What clients and API servers say to one another: requests, answers, watch events.
//!
//! The HTTP paths and bodies of the real API, kept typed: nothing is serialized on the way.

use std::rc::Rc;

use serde_json::Value;

use super::metrics::{Measures, MetricsQuery};
use super::status::Status;
use crate::api::kind::Kind;
use crate::api::meta::{Meta, ObjectKey, Uid};
use crate::api::name::Name;
use crate::api::node::{NodeStatus, Taint};
use crate::api::object::Object;
use crate::api::pod::{PodCondition, PodStatus};
use crate::api::selector::Selector;

/// A client's number for a request; unique for the client as long as an answer can come.
pub type RequestId = u64;

/// A client's number for a watch; unique for the client.
pub type WatchId = u64;

/// Between a client and an API server, in either direction.
#[derive(Debug)]
pub enum ApiMessage {
    /// Client to server.
    Request(Box<Request>),
    /// Client to server: the client does not want the watch any more.
    StopWatch {
        /// The watch.
        watch: WatchId,
    },
    /// Server to client.
    Response {
        /// The request that is answered.
        id: RequestId,
        /// What came of it.
        result: Result<Answer, Box<Status>>,
    },
    /// Server to client: events of one watch, in order.
    Watch {
        /// The watch.
        watch: WatchId,
        /// The events.
        events: Vec<WatchEvent>,
    },
    /// Server to client: the server ended the watch (timeout, slow client, shutdown); the client may resume.
    WatchClosed {
        /// The watch.
        watch: WatchId,
    },
}

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// As `system:kube-scheduler`.
    pub name: Name,
    /// As `system:authenticated`.
    pub groups: Vec<Name>,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The client's number for it.
    pub id: RequestId,
    /// Who asks; the client proves it, the server believes it.
    pub user: Rc<User>,
    /// The program that asks, as its user agent says: `kube-controller-manager/deployment-controller`, `kubelet/node-3`, `kubectl`.
    pub agent: Name,
    /// What is asked.
    pub operation: Operation,
}

/// What a request asks.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Reads one object.
    Get {
        /// Which.
        key: ObjectKey,
    },
    /// Reads all objects of a kind that are selected.
    List {
        /// Which.
        scope: Scope,
        /// How many at most; zero for all.
        limit: u32,
        /// Where a limited list goes on, as the previous answer said.
        continue_token: Option<String>,
        /// Which state is good enough.
        at: ListRevision,
    },
    /// Reads changes of all objects of a kind that are selected.
    Watch {
        /// The client's number for it.
        watch: WatchId,
        /// Which.
        scope: Scope,
        /// Changes after this revision; none begins with the present state as ADDED events.
        after: Option<u64>,
        /// Whether bookmarks are wanted.
        bookmarks: bool,
    },
    /// Creates an object. A name is made if there is only `generate_name`.
    Create {
        /// The object.
        object: Object,
        /// Validate and admit only.
        dry_run: bool,
    },
    /// Replaces an object, or the part of it that the subresource is.
    Update {
        /// The object; with a resourceVersion it must still be that version.
        object: Object,
        /// Which part.
        part: Part,
        /// Validate and admit only.
        dry_run: bool,
    },
    /// Changes an object.
    Patch {
        /// Which.
        key: ObjectKey,
        /// How.
        patch: Patch,
        /// Which part.
        part: Part,
        /// Validate and admit only.
        dry_run: bool,
    },
    /// Deletes an object.
    Delete {
        /// Which.
        key: ObjectKey,
        /// How.
        options: DeleteOptions,
    },
    /// Deletes all objects of a kind that are selected.
    DeleteCollection {
        /// Which.
        scope: Scope,
        /// How.
        options: DeleteOptions,
    },
    /// Reads the scale subresource.
    GetScale {
        /// Of which object.
        key: ObjectKey,
    },
    /// Asks a metrics API.
    Metrics {
        /// What is asked.
        query: MetricsQuery,
        /// In which namespace.
        namespace: Name,
        /// The pods that the question's label selector selects, as the client sees them: the server need not look for them.
        pods: Rc<[Name]>,
    },
    /// Writes the scale subresource.
    SetScale {
        /// Of which object.
        key: ObjectKey,
        /// `spec.replicas`.
        replicas: i32,
        /// The version that must still be there; zero for any.
        resource_version: u64,
    },
    /// Binds a pod to a node (`pods/binding`).
    Bind {
        /// The pod.
        key: ObjectKey,
        /// The incarnation of the pod that is meant.
        uid: Uid,
        /// The node.
        node: Name,
    },
    /// Evicts a pod (`pods/eviction`).
    Evict {
        /// The pod.
        key: ObjectKey,
        /// How the pod is then deleted.
        options: DeleteOptions,
    },
}

/// The part of an object that a request is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Part {
    /// All but the status.
    #[default]
    Main,
    /// The status subresource.
    Status,
    /// The finalize subresource of namespaces: `spec.finalizers`.
    Finalize,
    /// The resize subresource of pods: CPU and memory of containers.
    Resize,
}

/// A selection of objects of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Scope {
    /// The kind.
    pub kind: Kind,
    /// One namespace; none for all.
    pub namespace: Option<Name>,
    /// By labels.
    pub labels: Option<Rc<Selector>>,
    /// By fields, `spec.nodeName=n` and the like; empty for all.
    pub fields: Vec<FieldTest>,
}

impl Scope {
    /// All objects of a kind.
    pub fn all(kind: Kind) -> Self {
        Scope { kind, namespace: None, labels: None, fields: Vec::new() }
    }
}

/// One requirement of a field selector.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldTest {
    /// The field, as `spec.nodeName`.
    pub field: Name,
    /// The value.
    pub value: Name,
    /// True for `=`, false for `!=`.
    pub equal: bool,
}

/// Which state a list may show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListRevision {
    /// The newest, confirmed by a quorum.
    Latest,
    /// Any that the server has (`resourceVersion=0`).
    Any,
    /// One not older than this.
    NotOlderThan(u64),
    /// Exactly this, as long as etcd keeps it in memory.
    Exact(u64),
}

/// How an object is changed.
#[derive(Clone, Debug)]
pub enum Patch {
    /// JSON patch (RFC 6902).
    Json(Rc<Value>),
    /// JSON merge patch (RFC 7386).
    Merge(Rc<Value>),
    /// Strategic merge patch.
    Strategic(Rc<Value>),
    /// A strategic merge patch that a component makes, kept typed.
    Typed(Box<TypedPatch>),
}

/// The strategic merge patches that components send. Each says which fields it carries; all others stay as they are.
#[derive(Clone, Debug)]
pub enum TypedPatch {
    /// The kubelet's pods/status: its own fields replaced, conditions merged by type, `nominatedNodeName` kept.
    PodStatus {
        /// The incarnation that must still be there.
        uid: Uid,
        /// The whole status as the kubelet sees it.
        status: PodStatus,
    },
    /// Conditions merged by type into pods/status.
    PodConditions {
        /// The incarnation that must still be there.
        uid: Uid,
        /// The conditions.
        conditions: Vec<PodCondition>,
        /// `status.nominatedNodeName` if it is to change: the empty name removes it.
        nominated_node: Option<Name>,
    },
    /// The kubelet's nodes/status: its fields replaced, conditions merged by type.
    NodeStatus {
        /// The status.
        status: NodeStatus,
    },
    /// A node's taints.
    NodeTaints {
        /// The version that must still be there; zero for any.
        resource_version: u64,
        /// All taints from now on.
        taints: Rc<[Taint]>,
    },
    /// Metadata: owners and finalizers replaced where given, labels and annotations merged (the empty value removes a key).
    Metadata {
        /// The incarnation that must still be there.
        uid: Option<Uid>,
        /// The version that must still be there; zero for any.
        resource_version: u64,
        /// All owners from now on.
        owners: Option<Vec<crate::api::meta::OwnerReference>>,
        /// All finalizers from now on.
        finalizers: Option<Vec<Name>>,
        /// Labels to set or remove.
        labels: Vec<(Name, Option<Name>)>,
        /// Annotations to set or remove.
        annotations: Vec<(Name, Option<Name>)>,
    },
}

/// How an object is deleted (`metav1.DeleteOptions`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeleteOptions {
    /// Seconds of grace; none for the object's default.
    pub grace_seconds: Option<i64>,
    /// The incarnation that must still be there.
    pub uid: Option<Uid>,
    /// The version that must still be there; none for any.
    pub resource_version: Option<u64>,
    /// What becomes of dependents; none for the kind's default.
    pub propagation: Option<Propagation>,
    /// Check only.
    pub dry_run: bool,
}

/// What becomes of the dependents of a deleted object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the API's own words")]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// What a successful request returns.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The object as it is now stored, or as it was when it went.
    Object(Object),
    /// Done, with nothing to show.
    Done,
    /// A list.
    List {
        /// The objects, by namespace and name.
        items: Vec<Object>,
        /// The state that they show.
        revision: u64,
        /// Where to go on, if the list was limited.
        continue_token: Option<String>,
        /// How many are left, if known.
        remaining: Option<u64>,
    },
    /// The watch is established; events follow as [`ApiMessage::Watch`].
    WatchStarted,
    /// The scale subresource.
    Scale {
        /// `spec.replicas`.
        desired: i32,
        /// `status.replicas`.
        current: i32,
        /// The object's version.
        resource_version: u64,
        /// `status.selector`: which pods are counted.
        selector: String,
    },
    /// What a metrics API knows.
    Metrics(Measures),
}

/// One event of a watch.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// The object is new to the selection.
    Added(Object),
    /// The object changed within the selection.
    Modified(Object),
    /// The object left the selection or the cluster: its last state, with the revision of the deletion as resourceVersion.
    Deleted {
        /// The last state.
        object: Object,
        /// The revision of the deletion.
        revision: u64,
    },
    /// Nothing older than this revision will come any more.
    Bookmark {
        /// The revision.
        revision: u64,
    },
    /// The watch failed and is over; a 410 says that the client must list anew.
    Error(Box<Status>),
}

impl Operation {
    /// The verb as logs and RBAC name it.
    pub fn verb(&self) -> &'static str {
        match self {
            Operation::Get { .. } | Operation::GetScale { .. } => "get",
            Operation::List { .. } | Operation::Metrics { .. } => "list",
            Operation::Watch { .. } => "watch",
            Operation::Create { .. } | Operation::Bind { .. } | Operation::Evict { .. } => "create",
            Operation::Update { .. } | Operation::SetScale { .. } => "update",
            Operation::Patch { .. } => "patch",
            Operation::Delete { .. } => "delete",
            Operation::DeleteCollection { .. } => "deletecollection",
        }
    }

    /// The kind that the request is about.
    pub fn kind(&self) -> Kind {
        match self {
            Operation::Get { key }
            | Operation::Patch { key, .. }
            | Operation::Delete { key, .. }
            | Operation::GetScale { key }
            | Operation::SetScale { key, .. }
            | Operation::Bind { key, .. }
            | Operation::Evict { key, .. } => key.kind,
            Operation::List { scope, .. }
            | Operation::Watch { scope, .. }
            | Operation::DeleteCollection { scope, .. } => scope.kind,
            Operation::Create { object, .. } | Operation::Update { object, .. } => object.kind(),
            Operation::Metrics { .. } => Kind::Pod,
        }
    }
}

/// The metadata that a client puts into an object that it is about to create.
pub fn new_meta(namespace: impl Into<Name>, name: impl Into<Name>) -> Meta {
    let mut meta = Meta { name: name.into(), ..Meta::default() };
    meta.namespace = namespace.into();
    meta
}
