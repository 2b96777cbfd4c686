//! A scenario that was checked: what will be done and when, with every name resolved that can be resolved beforehand.
//!
//! Plain data, shared by all runs of the scenario.

use std::rc::Rc;

use serde_json::Value;

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::node::TaintEffect;
use crate::api::pod::Pod;
use crate::apiserver::protocol::{Part, Propagation};
use crate::cluster::options::NodeOptions;
use crate::engine::distribution::Distribution;
use crate::engine::network::Directions;
use crate::engine::time::{SimDuration, SimTime};
use crate::kubelet::clock;

use super::condition::Expression;
use super::file::step::PatchKindFile;
use super::manifests::Manifest;

/// Something that is done.
#[derive(Clone, Debug)]
pub struct Step {
    /// The step's name, its own.
    pub name: String,
    /// What it is called in the list of writes.
    pub label: String,
    /// True if the scenario gives the label.
    pub is_labelled: bool,
    /// Whether it is expected to fail.
    pub expect_failure: bool,
    /// When it begins.
    pub start: Start,
    /// How long kubectl takes before its first request.
    pub client_delay: SimDuration,
    /// What is done.
    pub action: Action,
}

/// When a step begins.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Not before this time.
    pub at: SimTime,
    /// Not before this step, by its place, has ended ...
    pub after: Option<usize>,
    /// ... so long ago.
    pub delay: SimDuration,
    /// Then as soon as this holds ...
    pub when: Option<Rc<Expression>>,
    /// ... which it must do in this time.
    pub timeout: Option<SimDuration>,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Action {
    /// A command of kubectl.
    Command(Command),
    /// Something that happens to the cluster.
    Fault(Fault),
    /// Nothing.
    Note(String),
}

/// A command of kubectl.
#[derive(Clone, Debug)]
pub enum Command {
    /// `kubectl create`.
    Create {
        /// What is created, in this order.
        manifests: Rc<[Manifest]>,
    },
    /// `kubectl apply`.
    Apply {
        /// What is applied, in this order.
        manifests: Rc<[Manifest]>,
        /// Whether to try again what failed because the cluster is not fully up.
        is_patient: bool,
    },
    /// `kubectl delete`.
    Delete {
        /// What is deleted, in this order.
        keys: Vec<ObjectKey>,
        /// Whether to wait until all are gone.
        wait: bool,
        /// Seconds of grace.
        grace_seconds: Option<i64>,
        /// What becomes of dependents.
        propagation: Propagation,
    },
    /// `kubectl scale`.
    Scale {
        /// Which.
        key: ObjectKey,
        /// How many.
        replicas: i32,
    },
    /// `kubectl set image`.
    SetImage {
        /// Which.
        key: ObjectKey,
        /// Container and image.
        images: Vec<(String, String)>,
    },
    /// `kubectl patch`.
    Patch {
        /// Which.
        key: ObjectKey,
        /// How the patch is meant.
        kind: PatchKindFile,
        /// The patch.
        patch: Rc<Value>,
        /// Which part it is for.
        part: Part,
    },
    /// `kubectl rollout`.
    Rollout {
        /// The Deployment or StatefulSet.
        key: ObjectKey,
        /// What is done.
        verb: Rollout,
    },
    /// `kubectl label` and `kubectl annotate`.
    Mark {
        /// Which.
        key: ObjectKey,
        /// Labels or annotations.
        mark: Mark,
        /// Values by key; none removes a key.
        set: Vec<(String, Option<String>)>,
    },
    /// `kubectl cordon` and `kubectl uncordon`.
    Cordon {
        /// The node.
        node: String,
        /// True for cordon.
        on: bool,
    },
    /// `kubectl drain`.
    Drain {
        /// The node.
        node: String,
        /// How.
        options: Drain,
    },
    /// `kubectl taint`.
    Taint {
        /// The node.
        node: String,
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What it does; none removes all effects.
        effect: Option<TaintEffect>,
        /// Whether it is removed.
        remove: bool,
    },
}

/// How a node is drained: the options of `kubectl drain`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Drain {
    /// `--force`: pods go, too, that no controller would replace.
    pub force: bool,
    /// `--ignore-daemonsets`: pods of DaemonSets are no obstacle; they stay.
    pub ignore_daemon_sets: bool,
    /// `--delete-emptydir-data`: pods go, too, whose data goes with them.
    pub delete_empty_dir_data: bool,
    /// `--disable-eviction`: pods are deleted, and no disruption budget is asked.
    pub disable_eviction: bool,
    /// `--grace-period`: seconds of grace.
    pub grace_seconds: Option<i64>,
    /// `--timeout`: how long at most.
    pub timeout: Option<SimDuration>,
}

/// What is done about a rollout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rollout {
    /// Back to a revision; zero for the one before the present one.
    Undo(i64),
    /// Held.
    Pause,
    /// Going on.
    Resume,
    /// All pods anew.
    Restart,
    /// Waited for, so long at most.
    Status(Option<SimDuration>),
}

/// Labels or annotations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// Labels.
    Label,
    /// Annotations.
    Annotation,
}

/// Something that happens to the cluster.
#[derive(Clone, PartialEq, Debug)]
pub enum Fault {
    /// A machine loses power.
    MachineCrash(String),
    /// A machine has power again.
    MachineRestart(String),
    /// A process is killed.
    ProcessCrash(String),
    /// A process begins anew.
    ProcessRestart(String),
    /// A node's kubelet falls silent.
    StopHeartbeats(String),
    /// A node's kubelet speaks again.
    ResumeHeartbeats(String),
    /// A node's machine is rebooted and is down for so long.
    Reboot(String, SimDuration),
    /// A node's machine is switched off in good order.
    Shutdown(String),
    /// A node's kubelet hangs.
    Hang(String),
    /// A node's kubelet that hangs goes on.
    Resume(String),
    /// The clock of a node's machine is wrong.
    Clock(String, clock::Fault),
    /// Nodes are added.
    AddNodes(Vec<NodeOptions>),
    /// A node's machine goes for good; its node is deleted by a command that follows.
    RemoveNode(String),
    /// The files of static pods appear on a node.
    AddStaticPods {
        /// The node.
        node: String,
        /// The pods.
        pods: Vec<StaticPod>,
    },
    /// The file of a static pod goes.
    RemoveStaticPod {
        /// The node.
        node: String,
        /// The pod's name in the file.
        name: String,
    },
    /// An image appears in a node's store, or goes, by other means than the kubelet's.
    Image {
        /// The node.
        node: String,
        /// The image.
        image: String,
        /// It appears.
        present: bool,
    },
    /// An etcd member's machine loses power.
    EtcdCrash(String),
    /// An etcd member begins anew.
    EtcdRestart(String),
    /// An etcd member's disk takes so long to make a write durable.
    EtcdSlowDisk(String, Distribution),
    /// An etcd member's disk is as fast as at first.
    EtcdRestoreDisk(String),
    /// Packets between two groups of machines are stopped.
    Partition {
        /// The partition's name.
        name: String,
        /// Patterns of the first group.
        between: Vec<String>,
        /// Patterns of the second group; none for all other machines.
        and: Vec<String>,
        /// Which packets.
        directions: Directions,
    },
    /// A partition ends.
    Heal(String),
    /// A signal changes.
    Signal {
        /// Which.
        name: String,
        /// How much it is from now on, in thousandths.
        amount: i64,
    },
}

impl Fault {
    /// How the scenario names the node that this happens to, if it happens to one.
    pub fn node(&self) -> Option<&str> {
        match self {
            Fault::StopHeartbeats(node)
            | Fault::ResumeHeartbeats(node)
            | Fault::Reboot(node, _)
            | Fault::Shutdown(node)
            | Fault::Hang(node)
            | Fault::Resume(node)
            | Fault::Clock(node, _)
            | Fault::RemoveNode(node)
            | Fault::MachineCrash(node)
            | Fault::MachineRestart(node) => Some(node),
            Fault::AddStaticPods { node, .. } | Fault::RemoveStaticPod { node, .. } | Fault::Image { node, .. } => {
                Some(node)
            }
            Fault::ProcessCrash(_)
            | Fault::ProcessRestart(_)
            | Fault::AddNodes(_)
            | Fault::Signal { .. }
            | Fault::EtcdCrash(_)
            | Fault::EtcdRestart(_)
            | Fault::EtcdSlowDisk(..)
            | Fault::EtcdRestoreDisk(_)
            | Fault::Partition { .. }
            | Fault::Heal(_) => None,
        }
    }

    /// The same for a node of this name; of a process, for its kubelet.
    pub fn at(&self, node: String) -> Fault {
        match self {
            Fault::StopHeartbeats(_) => Fault::StopHeartbeats(node),
            Fault::ResumeHeartbeats(_) => Fault::ResumeHeartbeats(node),
            Fault::Reboot(_, down) => Fault::Reboot(node, *down),
            Fault::Shutdown(_) => Fault::Shutdown(node),
            Fault::Hang(_) => Fault::Hang(node),
            Fault::Resume(_) => Fault::Resume(node),
            Fault::Clock(_, fault) => Fault::Clock(node, *fault),
            Fault::RemoveNode(_) => Fault::RemoveNode(node),
            Fault::MachineCrash(_) => Fault::MachineCrash(node),
            Fault::MachineRestart(_) => Fault::MachineRestart(node),
            Fault::ProcessCrash(_) => Fault::ProcessCrash(format!("kubelet/{node}")),
            Fault::ProcessRestart(_) => Fault::ProcessRestart(format!("kubelet/{node}")),
            Fault::AddStaticPods { pods, .. } => Fault::AddStaticPods { node, pods: pods.clone() },
            Fault::RemoveStaticPod { name, .. } => Fault::RemoveStaticPod { node, name: name.clone() },
            Fault::Image { image, present, .. } => Fault::Image { node, image: image.clone(), present: *present },
            other => other.clone(),
        }
    }
}

/// The file of a static pod.
#[derive(Clone, Debug)]
pub struct StaticPod(pub Rc<Pod>);

/// Two files are the same if they were read from one place.
impl PartialEq for StaticPod {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

/// When a run ends.
#[derive(Clone, Debug)]
pub enum Until {
    /// When everything has settled, and nothing was written for so long.
    Settled(SimDuration),
    /// When this holds and every step is done.
    Condition(Rc<Expression>),
    /// At this time.
    Time(SimTime),
}

/// Something expected of the run.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// In words.
    pub name: String,
    /// The condition.
    pub condition: Rc<Expression>,
    /// When it is to hold.
    pub term: Term,
    /// The step, by its place, after whose end it counts.
    pub from: Option<usize>,
    /// The step at whose beginning it no longer counts.
    pub to: Option<usize>,
}

/// When a condition is to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Term {
    /// All the time.
    Always,
    /// At no time.
    Never,
    /// At some time, in so long.
    Eventually(Option<SimDuration>),
    /// When the run ends.
    AtEnd,
}

impl Expectation {
    /// As the scenario writes it.
    pub fn text(&self) -> String {
        let term = match self.term {
            Term::Always => "always",
            Term::Never => "never",
            Term::Eventually(_) => "eventually",
            Term::AtEnd => "at the end",
        };
        format!("{term}: {}", self.condition.text())
    }
}

/// The key of an object that is named as kubectl lets one: `deploy/web`, `node/node-3`.
pub fn object_key(word: &str, namespace: &str) -> Result<ObjectKey, String> {
    let Some((kind, name)) = word.split_once('/').filter(|(_, name)| !name.is_empty() && !name.contains('/')) else {
        return Err(format!("{word:?} names no object"));
    };
    let Some(kind) = Kind::of_word(kind) else {
        return Err(format!("the server doesn't have a resource type \"{kind}\""));
    };
    let namespace = if kind.row().namespaced { namespace } else { "" };
    Ok(ObjectKey::new(kind, namespace, name))
}
