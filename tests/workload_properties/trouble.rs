//! What people do to workloads, and what happens to the machines they run on, drawn by chance: each with its time, and each as
//! steps of a scenario. Every fault ends.

use proptest::prelude::*;

use super::workload::{BROKEN, GOOD};

/// How many nodes a cluster has.
pub const NODES: u32 = 4;

/// A workload, by its place among the names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    Web,
    Db,
    Agent,
}

/// Something that somebody does.
#[derive(Clone, Debug)]
pub enum Operation {
    Scale(Target, u32),
    SetImage(Target, &'static str),
    Undo(Target),
    Restart(Target),
    /// Held, and going on after so many seconds.
    Pause(u64),
    /// The partition of the StatefulSet.
    Partition(u32),
    Parallelism(u32),
    /// Suspended, and going on after so many seconds.
    Suspend(u64),
    /// The first pod of a workload.
    DeletePod(Target),
    DeleteOrdinal(u32),
    /// Without asking the kubelet.
    ForceOrdinal(u32),
    /// A node is emptied, and used again after so many seconds.
    Drain(u32, u64),
    /// All of a workload goes; with it what it owns, before it or after it.
    Delete(Target, bool),
    DeleteWork,
}

/// Something that breaks.
#[derive(Clone, Debug)]
pub enum Fault {
    NodeCrash(u32),
    NodeReboot(u32),
    KubeletCrash(u32),
    KubeletHang(u32),
    NodePartition(u32),
    ControllerManager,
    Scheduler,
    ApiServer,
    ControlPlane,
    EtcdMember(u32),
    EtcdLeader,
    EtcdPartition(u32),
    EtcdAll,
    /// The disk of a member takes about so many milliseconds for each write.
    SlowDisk(u32, u64),
    /// The first API server and a member do not reach each other.
    ServerPartition(u32),
}

/// An operation and the second at which it begins.
#[derive(Clone, Debug)]
pub struct Planned {
    pub at: u64,
    pub operation: Operation,
}

/// A fault, the second at which it comes and how many seconds it lasts.
#[derive(Clone, Debug)]
pub struct Breaking {
    pub at: u64,
    pub lasts: u64,
    pub fault: Fault,
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![3 => Just(Target::Web), 3 => Just(Target::Db), 1 => Just(Target::Agent)]
}

fn image() -> impl Strategy<Value = &'static str> {
    prop_oneof![3 => prop::sample::select(GOOD.to_vec()), 2 => prop::sample::select(BROKEN.to_vec())]
}

/// Changes of what is wanted: no pod goes but by its controller.
pub fn changes() -> BoxedStrategy<Operation> {
    prop_oneof![
        3 => (target(), 0u32..8).prop_map(|(target, replicas)| Operation::Scale(target, replicas)),
        4 => (target(), image()).prop_map(|(target, image)| Operation::SetImage(target, image)),
        2 => target().prop_map(Operation::Undo),
        1 => target().prop_map(Operation::Restart),
        1 => (5u64..60).prop_map(Operation::Pause),
        1 => (0u32..4).prop_map(Operation::Partition),
        1 => (0u32..6).prop_map(Operation::Parallelism),
        1 => (5u64..60).prop_map(Operation::Suspend),
    ]
    .boxed()
}

/// All that people do, but for what goes behind a kubelet's back.
pub fn gentle() -> BoxedStrategy<Operation> {
    prop_oneof![
        6 => changes(),
        1 => target().prop_map(Operation::DeletePod),
        2 => (0u32..6).prop_map(Operation::DeleteOrdinal),
        2 => (0..NODES, 20u64..200).prop_map(|(node, lasts)| Operation::Drain(node, lasts)),
        1 => (target(), any::<bool>()).prop_map(|(target, first)| Operation::Delete(target, first)),
        1 => Just(Operation::DeleteWork),
    ]
    .boxed()
}

/// All that people do.
pub fn rough() -> BoxedStrategy<Operation> {
    prop_oneof![6 => gentle(), 1 => (0u32..6).prop_map(Operation::ForceOrdinal)].boxed()
}

/// Evictions in numbers.
pub fn drains() -> BoxedStrategy<Operation> {
    prop_oneof![
        3 => (0..NODES, 20u64..200).prop_map(|(node, lasts)| Operation::Drain(node, lasts)),
        1 => changes(),
    ]
    .boxed()
}

pub fn operations(operation: BoxedStrategy<Operation>, most: usize) -> impl Strategy<Value = Vec<Planned>> {
    let planned = (5u64..200, operation).prop_map(|(at, operation)| Planned { at, operation });
    prop::collection::vec(planned, 0..=most)
}

/// What happens to nodes.
pub fn of_nodes() -> BoxedStrategy<Fault> {
    prop_oneof![
        (0..NODES).prop_map(Fault::NodeCrash),
        (0..NODES).prop_map(Fault::NodeReboot),
        (0..NODES).prop_map(Fault::KubeletCrash),
        (0..NODES).prop_map(Fault::KubeletHang),
        (0..NODES).prop_map(Fault::NodePartition),
    ]
    .boxed()
}

/// What happens to nodes and to the control plane.
pub fn of_all() -> BoxedStrategy<Fault> {
    prop_oneof![
        5 => of_nodes(),
        1 => Just(Fault::ControllerManager),
        1 => Just(Fault::Scheduler),
        1 => Just(Fault::ApiServer),
        1 => Just(Fault::ControlPlane),
        1 => (0u32..3).prop_map(Fault::EtcdMember),
        1 => Just(Fault::EtcdLeader),
        1 => (0u32..3).prop_map(Fault::EtcdPartition),
        1 => Just(Fault::EtcdAll),
    ]
    .boxed()
}

/// What keeps API servers from learning what became of their writes.
pub fn outages() -> BoxedStrategy<Fault> {
    prop_oneof![
        2 => Just(Fault::ApiServer),
        1 => Just(Fault::ControlPlane),
        2 => (0u32..3).prop_map(Fault::EtcdMember),
        2 => Just(Fault::EtcdLeader),
        2 => (0u32..3).prop_map(Fault::EtcdPartition),
        1 => Just(Fault::EtcdAll),
        3 => (0u32..3, 20u64..4000).prop_map(|(member, millis)| Fault::SlowDisk(member, millis)),
        3 => (0u32..3).prop_map(Fault::ServerPartition),
        1 => of_nodes(),
    ]
    .boxed()
}

pub fn faults(fault: BoxedStrategy<Fault>, most: usize) -> impl Strategy<Value = Vec<Breaking>> {
    // Long enough now and then for pods to be evicted from their nodes.
    let lasts = prop_oneof![3 => 1u64..100, 1 => 340u64..450];
    let breaking = (5u64..200, lasts, fault).prop_map(|(at, lasts, fault)| Breaking { at, lasts, fault });
    prop::collection::vec(breaking, 0..=most)
}

impl Target {
    /// Kind and name, as kubectl takes them.
    pub fn object(self) -> &'static str {
        match self {
            Target::Web => "deployment/web",
            Target::Db => "statefulset/db",
            Target::Agent => "daemonset/agent",
        }
    }

    fn pods(self) -> &'static str {
        match self {
            Target::Web => "pod/web-*",
            Target::Db => "pod/db-*",
            Target::Agent => "pod/agent-*",
        }
    }
}

/// A step of a scenario without its name: its second and what it does.
pub type Step = (u64, String);

impl Planned {
    /// The workload that it is about.
    pub fn target(&self) -> Option<Target> {
        match self.operation {
            Operation::Scale(target, _)
            | Operation::SetImage(target, _)
            | Operation::Undo(target)
            | Operation::Restart(target)
            | Operation::DeletePod(target)
            | Operation::Delete(target, _) => Some(target),
            Operation::Pause(_) => Some(Target::Web),
            Operation::Partition(_) | Operation::DeleteOrdinal(_) | Operation::ForceOrdinal(_) => Some(Target::Db),
            Operation::Parallelism(_) | Operation::Suspend(_) | Operation::Drain(..) | Operation::DeleteWork => None,
        }
    }

    /// What ends it, if it lasts: said once more after faults, for whoever said it in an outage was not heard.
    pub fn ending(&self) -> Option<String> {
        match self.operation {
            Operation::Pause(_) => Some("patch: {object: deployment/web, patch: {spec: {paused: false}}}".to_owned()),
            Operation::Suspend(_) => Some(patch_work("suspend: false")),
            Operation::Drain(node, _) => Some(format!("uncordon: node-{node}")),
            _ => None,
        }
    }

    /// Whether it is about the Job.
    pub fn is_for_work(&self) -> bool {
        matches!(self.operation, Operation::Parallelism(_) | Operation::Suspend(_) | Operation::DeleteWork)
    }

    pub fn steps(&self) -> Vec<Step> {
        let at = self.at;
        match &self.operation {
            Operation::Scale(Target::Agent, _) => Vec::new(),
            Operation::Scale(target, replicas) => {
                vec![(at, format!("scale: {{object: {}, replicas: {replicas}}}", target.object()))]
            }
            Operation::SetImage(target, image) => vec![(at, set_image(*target, image))],
            Operation::Undo(target) => vec![(at, format!("rollout: {{undo: {}}}", target.object()))],
            Operation::Restart(target) => vec![(at, format!("rollout: {{restart: {}}}", target.object()))],
            Operation::Pause(lasts) => {
                vec![(at, "rollout: {pause: web}".to_owned()), (at + lasts, "rollout: {resume: web}".to_owned())]
            }
            Operation::Partition(partition) => {
                let patch = format!(
                    "{{spec: {{updateStrategy: {{type: RollingUpdate, rollingUpdate: {{partition: {partition}}}}}}}}}"
                );
                vec![(at, format!("patch: {{object: statefulset/db, patch: {patch}}}"))]
            }
            Operation::Parallelism(parallelism) => vec![(at, patch_work(&format!("parallelism: {parallelism}")))],
            Operation::Suspend(lasts) => {
                vec![(at, patch_work("suspend: true")), (at + lasts, patch_work("suspend: false"))]
            }
            Operation::DeletePod(target) => {
                vec![(at, format!("delete: {{objects: [\"{}\"], wait: false}}", target.pods()))]
            }
            Operation::DeleteOrdinal(ordinal) => {
                vec![(at, format!("delete: {{objects: [pod/db-{ordinal}], wait: false}}"))]
            }
            Operation::ForceOrdinal(ordinal) => {
                vec![(at, format!("delete: {{objects: [pod/db-{ordinal}], wait: false, gracePeriodSeconds: 0}}"))]
            }
            Operation::Drain(node, lasts) => vec![
                (at, format!("drain: {{node: node-{node}, ignoreDaemonsets: true, force: true, timeout: {lasts}s}}")),
                (at + lasts, format!("uncordon: node-{node}")),
            ],
            Operation::Delete(target, first) => {
                let cascade = if *first { "foreground" } else { "background" };
                vec![(at, format!("delete: {{objects: [{}], wait: false, cascade: {cascade}}}", target.object()))]
            }
            Operation::DeleteWork => vec![(at, "delete: {objects: [job/work], wait: false}".to_owned())],
        }
    }
}

pub fn set_image(target: Target, image: &str) -> String {
    format!("setImage: {{object: {}, images: {{app: \"{image}\"}}}}", target.object())
}

pub fn patch_work(change: &str) -> String {
    format!("patch: {{object: job/work, patch: {{spec: {{{change}}}}}}}")
}

impl Breaking {
    /// Whether it touches more than a node.
    pub fn is_of_control_plane(&self) -> bool {
        !matches!(
            self.fault,
            Fault::NodeCrash(_)
                | Fault::NodeReboot(_)
                | Fault::KubeletCrash(_)
                | Fault::KubeletHang(_)
                | Fault::NodePartition(_)
        )
    }

    /// The steps with which it begins and ends; `place` tells partitions apart.
    pub fn steps(&self, place: usize) -> Vec<Step> {
        let (at, end) = (self.at, self.at + self.lasts);
        let pair = |begin: String, finish: String| vec![(at, begin), (end, finish)];
        let power =
            |what: &str, name: &str| pair(format!("{what}: {{crash: {name}}}"), format!("{what}: {{restart: {name}}}"));
        let cut = |between: &str, and: &str| {
            pair(
                format!("partition: {{name: cut-{place}, between: [{between}], and: [{and}]}}"),
                format!("heal: cut-{place}"),
            )
        };
        match &self.fault {
            Fault::NodeCrash(node) => power("node", &format!("node-{node}")),
            Fault::NodeReboot(node) => {
                vec![(at, format!("node: {{reboot: node-{node}, down: {}s}}", self.lasts.min(60)))]
            }
            Fault::KubeletCrash(node) => power("process", &format!("kubelet/node-{node}")),
            Fault::KubeletHang(node) => {
                pair(format!("node: {{hang: node-{node}}}"), format!("node: {{resume: node-{node}}}"))
            }
            Fault::NodePartition(node) => cut(&format!("node-{node}"), "control-plane-0"),
            Fault::ControllerManager => power("process", "kube-controller-manager"),
            Fault::Scheduler => power("process", "kube-scheduler"),
            Fault::ApiServer => power("process", "kube-apiserver-0"),
            Fault::ControlPlane => power("machine", "control-plane-0"),
            Fault::EtcdMember(member) => power("etcd", &format!("etcd-{member}")),
            Fault::EtcdLeader => pair("etcd: {crash: leader}".to_owned(), "etcd: {restart: all}".to_owned()),
            Fault::EtcdPartition(member) => cut(&format!("etcd-{member}"), "\"etcd-*\", control-plane-0"),
            Fault::SlowDisk(member, millis) => pair(
                format!(
                    "etcd: {{slowDisk: {{member: etcd-{member}, fsync: {{median: {millis}ms, p99: {}ms}}}}}}",
                    3 * millis
                ),
                format!("etcd: {{restoreDisk: etcd-{member}}}"),
            ),
            Fault::ServerPartition(member) => cut(&format!("etcd-{member}"), "control-plane-0"),
            Fault::EtcdAll => vec![
                (at, "etcd: {crash: etcd-0}".to_owned()),
                (at, "etcd: {crash: etcd-1}".to_owned()),
                (at, "etcd: {crash: etcd-2}".to_owned()),
                (end, "etcd: {restart: all}".to_owned()),
            ],
        }
    }
}
