//! The registry of kinds: one row says what a resource is called and how it may be reached.

/// The list of all kinds, in the order of the registry: `each_kind!(act)` calls the macro `act` with them. Everything
/// that exists once for each kind is made from it.
macro_rules! each_kind {
    ($act:ident) => {
        $act! {
            // The kind and the module of `api/` with its type.
            Namespace in plain, Node in node, Lease in node, Pod in pod, ReplicaSet in workload,
            Deployment in workload, Service in network, EndpointSlice in network, Endpoints in network,
            Event in event, ConfigMap in plain, Secret in plain, ServiceAccount in plain, PriorityClass in plain,
            ControllerRevision in revision, PersistentVolume in storage, PersistentVolumeClaim in storage,
            StorageClass in storage, CSINode in storage, CSIDriver in storage, CSIStorageCapacity in storage,
            VolumeAttachment in storage, PodDisruptionBudget in policy, StatefulSet in stateful,
            ReplicationController in workload, DaemonSet in workload, Job in batch, CronJob in batch,
            ResourceQuota in quota, LimitRange in quota, RuntimeClass in plain, HorizontalPodAutoscaler in autoscaling,
        }
    };
}
pub(crate) use each_kind;

macro_rules! define {
    ($($kind:ident in $module:ident),* $(,)?) => {
        /// A kind that the cluster knows.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "the names are those of the Kubernetes API")]
        pub enum Kind { $($kind),* }
    };
}

each_kind!(define);

/// One row of the registry.
#[derive(Debug)]
pub struct Row {
    /// The kind this row describes.
    pub kind: Kind,
    /// The kind's name, as in a manifest.
    pub name: &'static str,
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The served and stored version.
    pub version: &'static str,
    /// The resource in paths and messages, as `replicasets`.
    pub plural: &'static str,
    /// The resource's singular, as `replicaset`.
    pub singular: &'static str,
    /// What kubectl also accepts.
    pub short_names: &'static [&'static str],
    /// True if objects live in namespaces.
    pub namespaced: bool,
    /// True if there is a status subresource.
    pub has_status: bool,
    /// True if there is a scale subresource.
    pub has_scale: bool,
    /// True if `metadata.generation` counts changes of the spec.
    pub counts_generation: bool,
    /// The prefix of the kind's keys in etcd, between `/registry/` and the namespace.
    pub storage: &'static str,
    /// How long an object lives, in seconds, if it is not kept for ever.
    pub seconds_to_live: Option<u64>,
    /// False for kinds of which only the objects are known: other components read them, and nothing does what they ask for.
    pub is_simulated: bool,
}

impl Row {
    /// `v1`, `apps/v1`, ...
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The resource with its group, as messages name it: `pods`, `deployments.apps`.
    pub fn qualified_plural(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }
}

const PLAIN: Row = Row {
    kind: Kind::ConfigMap,
    name: "",
    group: "",
    version: "v1",
    plural: "",
    singular: "",
    short_names: &[],
    namespaced: true,
    has_status: false,
    has_scale: false,
    counts_generation: false,
    storage: "",
    seconds_to_live: None,
    is_simulated: true,
};

/// All rows, in the order of [`Kind`].
pub static REGISTRY: &[Row] = &[
    Row {
        kind: Kind::Namespace,
        name: "Namespace",
        plural: "namespaces",
        singular: "namespace",
        short_names: &["ns"],
        namespaced: false,
        has_status: true,
        storage: "namespaces",
        ..PLAIN
    },
    Row {
        kind: Kind::Node,
        name: "Node",
        plural: "nodes",
        singular: "node",
        short_names: &["no"],
        namespaced: false,
        has_status: true,
        storage: "minions",
        ..PLAIN
    },
    Row {
        kind: Kind::Lease,
        name: "Lease",
        group: "coordination.k8s.io",
        plural: "leases",
        singular: "lease",
        storage: "leases",
        ..PLAIN
    },
    Row {
        kind: Kind::Pod,
        name: "Pod",
        plural: "pods",
        singular: "pod",
        short_names: &["po"],
        has_status: true,
        counts_generation: true,
        storage: "pods",
        ..PLAIN
    },
    Row {
        kind: Kind::ReplicaSet,
        name: "ReplicaSet",
        group: "apps",
        plural: "replicasets",
        singular: "replicaset",
        short_names: &["rs"],
        has_status: true,
        has_scale: true,
        counts_generation: true,
        storage: "replicasets",
        ..PLAIN
    },
    Row {
        kind: Kind::Deployment,
        name: "Deployment",
        group: "apps",
        plural: "deployments",
        singular: "deployment",
        short_names: &["deploy"],
        has_status: true,
        has_scale: true,
        counts_generation: true,
        storage: "deployments",
        ..PLAIN
    },
    Row {
        kind: Kind::Service,
        name: "Service",
        plural: "services",
        singular: "service",
        short_names: &["svc"],
        has_status: true,
        storage: "services/specs",
        ..PLAIN
    },
    Row {
        kind: Kind::EndpointSlice,
        name: "EndpointSlice",
        group: "discovery.k8s.io",
        plural: "endpointslices",
        singular: "endpointslice",
        counts_generation: true,
        storage: "endpointslices",
        ..PLAIN
    },
    Row {
        kind: Kind::Endpoints,
        name: "Endpoints",
        plural: "endpoints",
        singular: "endpoints",
        short_names: &["ep"],
        storage: "services/endpoints",
        ..PLAIN
    },
    Row {
        kind: Kind::Event,
        name: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        storage: "events",
        seconds_to_live: Some(3600),
        ..PLAIN
    },
    Row {
        kind: Kind::ConfigMap,
        name: "ConfigMap",
        plural: "configmaps",
        singular: "configmap",
        short_names: &["cm"],
        storage: "configmaps",
        ..PLAIN
    },
    Row { kind: Kind::Secret, name: "Secret", plural: "secrets", singular: "secret", storage: "secrets", ..PLAIN },
    Row {
        kind: Kind::ServiceAccount,
        name: "ServiceAccount",
        plural: "serviceaccounts",
        singular: "serviceaccount",
        short_names: &["sa"],
        storage: "serviceaccounts",
        ..PLAIN
    },
    Row {
        kind: Kind::PriorityClass,
        name: "PriorityClass",
        group: "scheduling.k8s.io",
        plural: "priorityclasses",
        singular: "priorityclass",
        short_names: &["pc"],
        namespaced: false,
        counts_generation: true,
        storage: "priorityclasses",
        ..PLAIN
    },
    Row {
        kind: Kind::ControllerRevision,
        name: "ControllerRevision",
        group: "apps",
        plural: "controllerrevisions",
        singular: "controllerrevision",
        storage: "controllerrevisions",
        ..PLAIN
    },
    Row {
        kind: Kind::PersistentVolume,
        name: "PersistentVolume",
        plural: "persistentvolumes",
        singular: "persistentvolume",
        short_names: &["pv"],
        namespaced: false,
        has_status: true,
        storage: "persistentvolumes",
        ..PLAIN
    },
    Row {
        kind: Kind::PersistentVolumeClaim,
        name: "PersistentVolumeClaim",
        plural: "persistentvolumeclaims",
        singular: "persistentvolumeclaim",
        short_names: &["pvc"],
        has_status: true,
        storage: "persistentvolumeclaims",
        ..PLAIN
    },
    Row {
        kind: Kind::StorageClass,
        name: "StorageClass",
        group: "storage.k8s.io",
        plural: "storageclasses",
        singular: "storageclass",
        short_names: &["sc"],
        namespaced: false,
        storage: "storageclasses",
        ..PLAIN
    },
    Row {
        kind: Kind::CSINode,
        name: "CSINode",
        group: "storage.k8s.io",
        plural: "csinodes",
        singular: "csinode",
        namespaced: false,
        storage: "csinodes",
        ..PLAIN
    },
    Row {
        kind: Kind::CSIDriver,
        name: "CSIDriver",
        group: "storage.k8s.io",
        plural: "csidrivers",
        singular: "csidriver",
        namespaced: false,
        storage: "csidrivers",
        ..PLAIN
    },
    Row {
        kind: Kind::CSIStorageCapacity,
        name: "CSIStorageCapacity",
        group: "storage.k8s.io",
        plural: "csistoragecapacities",
        singular: "csistoragecapacity",
        storage: "csistoragecapacities",
        ..PLAIN
    },
    Row {
        kind: Kind::VolumeAttachment,
        name: "VolumeAttachment",
        group: "storage.k8s.io",
        plural: "volumeattachments",
        singular: "volumeattachment",
        namespaced: false,
        has_status: true,
        storage: "volumeattachments",
        ..PLAIN
    },
    Row {
        kind: Kind::PodDisruptionBudget,
        name: "PodDisruptionBudget",
        group: "policy",
        plural: "poddisruptionbudgets",
        singular: "poddisruptionbudget",
        short_names: &["pdb"],
        has_status: true,
        counts_generation: true,
        storage: "poddisruptionbudgets",
        ..PLAIN
    },
    Row {
        kind: Kind::StatefulSet,
        name: "StatefulSet",
        group: "apps",
        plural: "statefulsets",
        singular: "statefulset",
        short_names: &["sts"],
        has_status: true,
        has_scale: true,
        counts_generation: true,
        storage: "statefulsets",
        ..PLAIN
    },
    Row {
        kind: Kind::ReplicationController,
        name: "ReplicationController",
        plural: "replicationcontrollers",
        singular: "replicationcontroller",
        short_names: &["rc"],
        has_status: true,
        has_scale: true,
        counts_generation: true,
        storage: "controllers",
        ..PLAIN
    },
    Row {
        kind: Kind::DaemonSet,
        name: "DaemonSet",
        group: "apps",
        plural: "daemonsets",
        singular: "daemonset",
        short_names: &["ds"],
        has_status: true,
        counts_generation: true,
        storage: "daemonsets",
        ..PLAIN
    },
    Row {
        kind: Kind::Job,
        name: "Job",
        group: "batch",
        plural: "jobs",
        singular: "job",
        has_status: true,
        counts_generation: true,
        storage: "jobs",
        ..PLAIN
    },
    Row {
        kind: Kind::CronJob,
        name: "CronJob",
        group: "batch",
        plural: "cronjobs",
        singular: "cronjob",
        short_names: &["cj"],
        has_status: true,
        counts_generation: true,
        storage: "cronjobs",
        ..PLAIN
    },
    Row {
        kind: Kind::ResourceQuota,
        name: "ResourceQuota",
        plural: "resourcequotas",
        singular: "resourcequota",
        short_names: &["quota"],
        has_status: true,
        storage: "resourcequotas",
        ..PLAIN
    },
    Row {
        kind: Kind::LimitRange,
        name: "LimitRange",
        plural: "limitranges",
        singular: "limitrange",
        short_names: &["limits"],
        storage: "limitranges",
        ..PLAIN
    },
    Row {
        kind: Kind::RuntimeClass,
        name: "RuntimeClass",
        group: "node.k8s.io",
        plural: "runtimeclasses",
        singular: "runtimeclass",
        namespaced: false,
        storage: "runtimeclasses",
        ..PLAIN
    },
    Row {
        kind: Kind::HorizontalPodAutoscaler,
        name: "HorizontalPodAutoscaler",
        group: "autoscaling",
        version: "v2",
        plural: "horizontalpodautoscalers",
        singular: "horizontalpodautoscaler",
        short_names: &["hpa"],
        has_status: true,
        storage: "horizontalpodautoscalers",
        ..PLAIN
    },
];

impl Kind {
    /// All kinds, in the order of the registry.
    pub fn all() -> impl Iterator<Item = Kind> {
        REGISTRY.iter().map(|row| row.kind)
    }

    /// The row of this kind.
    pub fn row(self) -> &'static Row {
        &REGISTRY[self as usize]
    }

    /// The kind that a manifest names, if it is served in that version.
    pub fn of_manifest(api_version: &str, kind: &str) -> Option<Kind> {
        REGISTRY.iter().find(|row| row.name == kind && row.api_version() == api_version).map(|row| row.kind)
    }

    /// The kind that a user names as kubectl lets him: plural, singular, short name, with or without group, in any case.
    pub fn of_word(word: &str) -> Option<Kind> {
        let word = word.to_ascii_lowercase();
        let bare = |row: &&Row| row.plural == word || row.singular == word || row.short_names.contains(&word.as_str());
        let grouped = |row: &&Row| row.qualified_plural() == word;
        REGISTRY.iter().find(bare).or_else(|| REGISTRY.iter().find(grouped)).map(|row| row.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_the_enum() {
        for (index, row) in REGISTRY.iter().enumerate() {
            assert_eq!(row.kind as usize, index, "{}", row.name);
        }
    }

    #[test]
    fn kinds_are_found_by_every_word_that_kubectl_takes() {
        for word in ["po", "pod", "Pods", "deploy", "deployments.apps"] {
            assert!(Kind::of_word(word).is_some(), "{word}");
        }
        assert_eq!(Kind::of_word("widgets"), None);
        assert_eq!(Kind::of_manifest("apps/v1", "Deployment"), Some(Kind::Deployment));
        assert_eq!(Kind::of_manifest("v1", "Deployment"), None);
    }
}
