//! Which fields a strategic merge patch treats in a special way: the patchStrategy and patchMergeKey of the API types
//! (k8s.io/api), as a table. What is not in it is merged if it is a map and replaced if it is a list.

/// A type whose fields are known here; all others have none that are special.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Type {
    Object(&'static str),
    ObjectMeta,
    WorkloadSpec,
    DeploymentStrategy,
    CronJobSpec,
    JobTemplate,
    PodTemplate,
    PodSpec,
    PodStatus,
    Container,
    ServiceSpec,
    NodeSpec,
    NodeStatus,
    Status,
    Other,
}

/// How a list is merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ListMerge {
    /// The list is one value.
    Replace,
    /// Items are maps, told apart by this key.
    ByKey(&'static str),
    /// Items are scalars, each there once.
    Set,
}

/// How a field is treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Field {
    /// The type of the field, or of its items.
    pub(super) inside: Type,
    /// What happens if the field is a list.
    pub(super) list: ListMerge,
    /// Whether a difference names the keys that remain, because only one of several may be set.
    pub(super) retain_keys: bool,
}

/// The treatment of a field of a type.
pub(super) fn field(parent: Type, name: &str) -> Field {
    let plain = |inside| Field { inside, list: ListMerge::Replace, retain_keys: false };
    let by_key = |inside, key| Field { inside, list: ListMerge::ByKey(key), retain_keys: false };
    let retained = |inside, key| Field { inside, list: ListMerge::ByKey(key), retain_keys: true };
    let set = Field { inside: Type::Other, list: ListMerge::Set, retain_keys: false };
    match (parent, name) {
        (Type::Object(_) | Type::PodTemplate, "metadata") => plain(Type::ObjectMeta),
        (Type::Object("CronJob"), "spec") => plain(Type::CronJobSpec),
        (Type::CronJobSpec, "jobTemplate") => plain(Type::JobTemplate),
        (Type::JobTemplate, "metadata") => plain(Type::ObjectMeta),
        (Type::JobTemplate, "spec") => plain(Type::WorkloadSpec),
        (Type::ObjectMeta, "ownerReferences") => by_key(Type::Other, "uid"),
        (Type::ObjectMeta, "finalizers") => set,
        (Type::Object("Pod") | Type::PodTemplate, "spec") => plain(Type::PodSpec),
        (Type::Object("Pod"), "status") => plain(Type::PodStatus),
        (Type::Object("Service"), "spec") => plain(Type::ServiceSpec),
        (Type::Object("Node"), "spec") => plain(Type::NodeSpec),
        (Type::Object("Node"), "status") => plain(Type::NodeStatus),
        (Type::Object("ServiceAccount"), "secrets") => by_key(Type::Other, "name"),
        (Type::Object(kind), "spec") if has_template(kind) => plain(Type::WorkloadSpec),
        (Type::Object(_), "status") => plain(Type::Status),
        (Type::WorkloadSpec, "template") => plain(Type::PodTemplate),
        (Type::WorkloadSpec, "strategy") => Field { retain_keys: true, ..plain(Type::DeploymentStrategy) },
        (Type::PodSpec, "containers" | "initContainers" | "ephemeralContainers") => by_key(Type::Container, "name"),
        (Type::PodSpec, "volumes" | "resourceClaims") => retained(Type::Other, "name"),
        (Type::PodSpec, "imagePullSecrets" | "schedulingGates") => by_key(Type::Other, "name"),
        (Type::PodSpec, "hostAliases") => by_key(Type::Other, "ip"),
        (Type::PodSpec, "topologySpreadConstraints") => by_key(Type::Other, "topologyKey"),
        (Type::Container, "ports") => by_key(Type::Other, "containerPort"),
        (Type::Container, "env") => by_key(Type::Other, "name"),
        (Type::Container, "volumeMounts") => by_key(Type::Other, "mountPath"),
        (Type::Container, "volumeDevices") => by_key(Type::Other, "devicePath"),
        (Type::PodStatus, "hostIPs" | "podIPs") => by_key(Type::Other, "ip"),
        (Type::PodStatus, "resourceClaimStatuses") => retained(Type::Other, "name"),
        (Type::PodStatus | Type::NodeStatus | Type::Status, "conditions") => by_key(Type::Other, "type"),
        (Type::NodeStatus, "addresses") => by_key(Type::Other, "type"),
        (Type::NodeSpec, "podCIDRs") => set,
        (Type::ServiceSpec, "ports") => by_key(Type::Other, "port"),
        _ => plain(Type::Other),
    }
}

/// Whether the spec of a kind holds a pod template.
fn has_template(kind: &str) -> bool {
    matches!(kind, "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job")
}

/// The type of an object of a kind.
pub(super) fn root(kind: &str) -> Type {
    let known = [
        "Pod",
        "Service",
        "Node",
        "ServiceAccount",
        "Deployment",
        "ReplicaSet",
        "StatefulSet",
        "DaemonSet",
        "Job",
        "CronJob",
    ];
    Type::Object(known.into_iter().find(|name| *name == kind).unwrap_or_default())
}
