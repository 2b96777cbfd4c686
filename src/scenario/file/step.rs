//! The steps of a scenario file: when something is done, and what.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::runtime::span::{Span, Spread};

use super::ManifestFile;
use super::amount::Amount;
use super::cluster::{EffectFile, PoolFile};

/// Something that is done at some time. Exactly one of `at`, `after` and `when` says when (`after` and `when` may stand
/// together), and exactly one of the others what.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepFile {
    /// The step's name, its own.
    pub name: String,
    /// What the step is called in the list of writes, as a recording of a real cluster would: the command itself. `{node}` in it
    /// stands for the node to which the step does something.
    #[serde(default)]
    pub label: Option<String>,
    /// It is expected to fail: it counts as done if it does, and as failed if it does not.
    #[serde(default)]
    pub expect_failure: bool,

    /// At this time after the run began.
    #[serde(default)]
    pub at: Option<Span>,
    /// When this other step has ended. If that one failed, this one is skipped.
    #[serde(default)]
    pub after: Option<String>,
    /// How long after the end of `after`.
    #[serde(default)]
    pub delay: Option<Span>,
    /// As soon as this condition (CEL) holds; with `after`, looked at only from then on.
    #[serde(default)]
    pub when: Option<String>,
    /// The step has failed if `when` has not come true after so long.
    #[serde(default)]
    pub timeout: Option<Span>,

    /// How long kubectl takes before its first request; a real one takes 50 to 300 ms. None if not given.
    #[serde(default)]
    pub client_delay: Option<Span>,

    /// `kubectl create`: creates objects; fails if they are there.
    #[serde(default)]
    pub create: Option<ApplyFile>,
    /// `kubectl apply`: creates objects or changes them to what is said here.
    #[serde(default)]
    pub apply: Option<ApplyFile>,
    /// `kubectl delete`.
    #[serde(default)]
    pub delete: Option<DeleteFile>,
    /// `kubectl scale`.
    #[serde(default)]
    pub scale: Option<ScaleFile>,
    /// `kubectl set image`.
    #[serde(default)]
    pub set_image: Option<SetImageFile>,
    /// `kubectl patch`.
    #[serde(default)]
    pub patch: Option<PatchFile>,
    /// `kubectl rollout`.
    #[serde(default)]
    pub rollout: Option<RolloutFile>,
    /// `kubectl label`.
    #[serde(default)]
    pub label_object: Option<MarkFile>,
    /// `kubectl annotate`.
    #[serde(default)]
    pub annotate: Option<MarkFile>,
    /// `kubectl cordon`: nothing new is scheduled to the node.
    #[serde(default)]
    pub cordon: Option<String>,
    /// `kubectl uncordon`.
    #[serde(default)]
    pub uncordon: Option<String>,
    /// `kubectl drain`: cordons the node and evicts its pods.
    #[serde(default)]
    pub drain: Option<DrainFile>,
    /// `kubectl taint`.
    #[serde(default)]
    pub taint: Option<TaintStepFile>,
    /// Something that happens to nodes.
    #[serde(default)]
    pub node: Option<NodeFile>,
    /// Something that happens to etcd members.
    #[serde(default)]
    pub etcd: Option<EtcdStepFile>,
    /// Something that happens to a process, such as `kube-scheduler` or `kubelet/node-3` (or `kubelet/pod/db-0` and so on, as nodes are
    /// meant in `node`).
    #[serde(default)]
    pub process: Option<PowerFile>,
    /// Something that happens to a machine, such as `control-plane-0`.
    #[serde(default)]
    pub machine: Option<PowerFile>,
    /// Packets between two groups of machines are no longer delivered.
    #[serde(default)]
    pub partition: Option<PartitionFile>,
    /// The partition of this name ends; `all` ends all partitions.
    #[serde(default)]
    pub heal: Option<String>,
    /// A signal changes.
    #[serde(default)]
    pub signal: Option<SignalStepFile>,
    /// Nothing is done; for a `label` or for other steps to come `after`.
    #[serde(default)]
    pub note: Option<String>,
}

/// How much a signal is from now on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignalStepFile {
    /// Which of the scenario's signals.
    pub name: String,
    /// How much.
    pub amount: Amount,
}

/// Objects to be applied.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplyFile {
    /// The objects.
    pub manifests: Vec<ManifestFile>,
    /// The namespace of objects that name none. `default` if not given.
    #[serde(default)]
    pub namespace: Option<String>,
}

/// An object: `deployment/web`, in the namespace `default` unless another one is given. A `*` in the name stands for any text: the
/// first object, by name, that there is at that moment.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeleteFile {
    /// What is deleted: kind and name, as `deployment/web`; or objects in the same order as they are deleted.
    pub objects: Vec<String>,
    /// The namespace of the objects.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Whether the step ends only when the objects are gone. True if not given, as for kubectl.
    #[serde(default)]
    pub wait: Option<bool>,
    /// Seconds of grace; zero deletes at once and does not ask the kubelet (`--force --grace-period=0`).
    #[serde(default)]
    pub grace_period_seconds: Option<u32>,
    /// What becomes of objects that the deleted one owns.
    #[serde(default)]
    pub cascade: CascadeFile,
}

/// What becomes of objects that a deleted one owns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CascadeFile {
    /// They are deleted afterwards.
    #[default]
    Background,
    /// They are deleted before it.
    Foreground,
    /// They are left alone.
    Orphan,
}

/// How many replicas there shall be.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScaleFile {
    /// The object, as `deployment/web`.
    pub object: String,
    /// Its namespace.
    #[serde(default)]
    pub namespace: Option<String>,
    /// How many.
    pub replicas: u32,
}

/// Which images containers shall have.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetImageFile {
    /// The object, as `deployment/web`.
    pub object: String,
    /// Its namespace.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Images by container; the container `*` stands for all.
    pub images: BTreeMap<String, String>,
}

/// A change of an object.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchFile {
    /// The object, as `deployment/web`.
    pub object: String,
    /// Its namespace.
    #[serde(default)]
    pub namespace: Option<String>,
    /// How the patch is meant.
    #[serde(default, rename = "type")]
    pub kind: PatchKindFile,
    /// The patch: an object, or a list for `json`.
    pub patch: Value,
    /// Whether the patch is for the object's status.
    #[serde(default)]
    pub status: bool,
    /// Whether the patch is for the resources of a running pod's containers (`--subresource=resize`).
    #[serde(default)]
    pub resize: bool,
}

/// How a patch is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PatchKindFile {
    /// Strategic merge patch: lists of things with names are merged.
    #[default]
    Strategic,
    /// JSON merge patch (RFC 7386): lists are replaced.
    Merge,
    /// JSON patch (RFC 6902): a list of operations.
    Json,
}

/// What is done about the rollout of a Deployment (`web` or `deployment/web`) or DaemonSet (`daemonset/agent`); exactly one of the fields besides `namespace` is given.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutFile {
    /// The namespace of the object.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Goes back to an earlier revision of this Deployment, or of another object such as `statefulset/db`.
    #[serde(default)]
    pub undo: Option<String>,
    /// With `undo`: the revision; the one before the present one if not given.
    #[serde(default)]
    pub to_revision: Option<u32>,
    /// Holds the rollout of this Deployment.
    #[serde(default)]
    pub pause: Option<String>,
    /// Lets the rollout of this Deployment go on.
    #[serde(default)]
    pub resume: Option<String>,
    /// Replaces all pods of this Deployment or other object.
    #[serde(default)]
    pub restart: Option<String>,
    /// Waits until the rollout of this Deployment or other object is complete; fails if it has failed.
    #[serde(default)]
    pub status: Option<String>,
    /// With `status`: how long at most.
    #[serde(default)]
    pub timeout: Option<Span>,
}

/// Labels or annotations of an object.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MarkFile {
    /// The object, as `node/node-3`.
    pub object: String,
    /// Its namespace.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Values by key; null removes a key.
    pub set: BTreeMap<String, Option<String>>,
}

/// A node to be emptied, with the options of `kubectl drain`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrainFile {
    /// The node.
    pub node: String,
    /// Whether pods go that no controller would replace (`--force`).
    #[serde(default)]
    pub force: bool,
    /// Whether pods of DaemonSets, which stay, are no obstacle (`--ignore-daemonsets`).
    #[serde(default)]
    pub ignore_daemonsets: bool,
    /// Whether pods go whose data goes with them (`--delete-emptydir-data`).
    #[serde(default)]
    pub delete_emptydir_data: bool,
    /// Whether pods are deleted and no disruption budget is asked (`--disable-eviction`).
    #[serde(default)]
    pub disable_eviction: bool,
    /// Seconds of grace for each pod; its own if not given.
    #[serde(default)]
    pub grace_period_seconds: Option<u32>,
    /// How long at most.
    #[serde(default)]
    pub timeout: Option<Span>,
}

/// Taints of a node to be set or removed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaintStepFile {
    /// The node.
    pub node: String,
    /// The key.
    pub key: String,
    /// The value.
    #[serde(default)]
    pub value: String,
    /// What it does; with `remove`, all effects if not given.
    #[serde(default)]
    pub effect: Option<EffectFile>,
    /// Whether the taint is removed.
    #[serde(default)]
    pub remove: bool,
}

/// Something that happens to nodes; exactly one of the fields is given, besides `down` with `reboot`. A node is meant by its name,
/// by its zone (`zone/a` for all nodes there), as the one on which a pod runs at that moment (`pod/db-0`, `pod/shop/db-0`, `pod/shop/web-*` for the first of that name), or as
/// the one to which an earlier step did something (`step/power loss`).
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeFile {
    /// The machine loses power.
    #[serde(default)]
    pub crash: Option<String>,
    /// The machine has power again.
    #[serde(default)]
    pub restart: Option<String>,
    /// The machine is switched off in good order: with a `shutdownGracePeriod` its kubelet ends the pods first.
    #[serde(default)]
    pub shutdown: Option<String>,
    /// The machine is rebooted in good order: containers die, and pods that the kubelet did not end before are started again in place.
    #[serde(default)]
    pub reboot: Option<String>,
    /// With `reboot`: how long it is down. 30s if not given.
    #[serde(default)]
    pub down: Option<Span>,
    /// The kubelet hangs: its process is there and does nothing; no heartbeat, no pod begun or ended. Containers run on.
    #[serde(default)]
    pub hang: Option<String>,
    /// A kubelet that hangs goes on.
    #[serde(default)]
    pub resume: Option<String>,
    /// The machine's clock is wrong from now on.
    #[serde(default)]
    pub clock: Option<ClockFile>,
    /// The kubelet neither renews the node's lease nor writes its status; pods run on.
    #[serde(default)]
    pub stop_heartbeats: Option<String>,
    /// The kubelet does so again.
    #[serde(default)]
    pub resume_heartbeats: Option<String>,
    /// Machines are added and register themselves as nodes.
    #[serde(default)]
    pub add: Option<PoolFile>,
    /// The machine goes for good, and its node with it.
    #[serde(default)]
    pub remove: Option<String>,
    /// The files of static pods appear on a node; its kubelet runs them without being asked by the API.
    #[serde(default)]
    pub add_static_pods: Option<StaticPodsFile>,
    /// The file of a static pod goes.
    #[serde(default)]
    pub remove_static_pod: Option<StaticPodFile>,
    /// An image is put into a node's store by other means than a pull (`ctr image import`).
    #[serde(default)]
    pub add_image: Option<NodeImageFile>,
    /// An image is taken out of a node's store.
    #[serde(default)]
    pub remove_image: Option<NodeImageFile>,
}

/// Files of static pods on a node.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StaticPodsFile {
    /// The node.
    pub node: String,
    /// The pods.
    pub manifests: Vec<ManifestFile>,
}

/// The file of a static pod on a node.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StaticPodFile {
    /// The node.
    pub node: String,
    /// The pod's name in the file.
    pub name: String,
}

/// An image on a node.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeImageFile {
    /// The node.
    pub node: String,
    /// The image.
    pub image: String,
}

/// How the clock of a node's machine is wrong. Without any of the times it is right again.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClockFile {
    /// The node.
    pub node: String,
    /// It is ahead by so much.
    #[serde(default)]
    pub ahead: Option<Span>,
    /// It is behind by so much.
    #[serde(default)]
    pub behind: Option<Span>,
    /// It gains so much in every second.
    #[serde(default)]
    pub gains: Option<Span>,
    /// It loses so much in every second; less than a second.
    #[serde(default)]
    pub loses: Option<Span>,
}

/// Something that happens to etcd members; exactly one of the fields is given. A member is named by `etcd-0`, ..., or as
/// `leader` or `follower` (the first that does not lead).
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EtcdStepFile {
    /// The member's machine loses power: what it had not yet synced is lost.
    #[serde(default)]
    pub crash: Option<String>,
    /// The member begins anew from its disk; `all` stands for every member that is down.
    #[serde(default)]
    pub restart: Option<String>,
    /// The member's disk takes another time to make writes durable, also after the member was restarted.
    #[serde(default)]
    pub slow_disk: Option<SlowDiskFile>,
    /// The member's disk is as fast again as it was at first; `all` stands for every member.
    #[serde(default)]
    pub restore_disk: Option<String>,
}

/// A disk that takes longer.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlowDiskFile {
    /// The member whose disk it is: `leader`, `follower` or a name, as `etcd-0`.
    pub member: String,
    /// How long it takes from now on until what was written would survive a power loss.
    pub fsync: Spread,
}

/// Something that happens to a process or a machine; exactly one of the fields is given.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PowerFile {
    /// It is killed.
    #[serde(default)]
    pub crash: Option<String>,
    /// It begins anew.
    #[serde(default)]
    pub restart: Option<String>,
}

/// Two groups of machines that no longer hear of one another. A machine is named as `etcd-0`, `control-plane-0`, `operator`
/// or as its node; a `*` stands for any text, `etcd-leader` for the member that leads at that moment.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PartitionFile {
    /// The partition's name, for `heal`. The step's name if not given.
    #[serde(default)]
    pub name: Option<String>,
    /// The first group.
    pub between: Vec<String>,
    /// The second group. All other machines if not given.
    #[serde(default)]
    pub and: Vec<String>,
    /// Which packets are stopped.
    #[serde(default)]
    pub direction: DirectionFile,
}

/// Which packets a partition stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DirectionFile {
    /// All.
    #[default]
    Both,
    /// Those from the first group to the second.
    FirstToSecond,
}
