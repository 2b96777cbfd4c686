//! What happens to a cluster from outside: which machines a scenario means, and doing it.

use std::collections::BTreeMap;

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::node::Node;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::cluster::Cluster;
use crate::cluster::options::NodeOptions;
use crate::engine::network::PartitionId;
use crate::engine::time::SimTime;

use super::pattern;
use super::plan::Fault;

/// The label that says in which zone a node stands.
const ZONE: &str = "topology.kubernetes.io/zone";

/// What was done to the cluster and may have to be named again.
#[derive(Default)]
pub struct Faults {
    /// The partitions that have not ended.
    open: BTreeMap<String, PartitionId>,
    /// To which nodes each step did something.
    struck: BTreeMap<String, Vec<String>>,
    /// When the last machine that is being rebooted is up again.
    rebooted: SimTime,
}

impl Faults {
    /// The faults of a step, each with its node by name. Remembers which nodes those are.
    pub fn aim(&mut self, step: &str, fault: &Fault, cluster: &Cluster) -> Result<Vec<Fault>, String> {
        let kubelet = match fault {
            Fault::ProcessCrash(name) | Fault::ProcessRestart(name) => name.strip_prefix("kubelet/"),
            _ => None,
        };
        let Some(word) = kubelet.or(fault.node()) else { return Ok(vec![fault.clone()]) };
        let nodes = self.nodes(word, cluster)?;
        self.struck.insert(step.to_owned(), nodes.clone());
        Ok(nodes.into_iter().map(|node| fault.at(node)).collect())
    }

    /// The nodes to which a step did something.
    pub fn struck(&self, step: &str) -> &[String] {
        self.struck.get(step).map_or(&[], Vec::as_slice)
    }

    /// The nodes that a word means: by a zone, by a pod, by an earlier step, or any other word itself.
    fn nodes(&self, word: &str, cluster: &Cluster) -> Result<Vec<String>, String> {
        if let Some(step) = word.strip_prefix("step/") {
            return self.struck.get(step).cloned().ok_or_else(|| format!("the step \"{step}\" did nothing to a node"));
        }
        if let Some(zone) = word.strip_prefix("zone/") {
            let nodes = cluster.truth().list(Kind::Node).filter_map(Object::get::<Node>);
            let here = nodes.filter(|node| node.meta.labels.get(ZONE).is_some_and(|label| *label == *zone));
            let names: Vec<String> = here.map(|node| node.meta.name.to_string()).collect();
            return if names.is_empty() { Err(format!("there is no node in zone \"{zone}\"")) } else { Ok(names) };
        }
        match word.strip_prefix("pod/") {
            Some(pod) => self.node_of(pod, cluster).map(|node| vec![node]),
            None => Ok(vec![word.to_owned()]),
        }
    }

    /// The node on which a pod runs, named with or without its namespace.
    fn node_of(&self, pod: &str, cluster: &Cluster) -> Result<String, String> {
        let (namespace, name) = pod.split_once('/').unwrap_or(("default", pod));
        let key = pattern::find(&ObjectKey::new(Kind::Pod, namespace, name), cluster.truth())?;
        let pod = cluster.truth().get(Kind::Pod, &key.namespace, &key.name).and_then(Object::get::<Pod>);
        let node = pod.and_then(|pod| pod.node.as_ref());
        node.map(|node| node.to_string()).ok_or_else(|| format!("the pod \"{name}\" is on no node"))
    }

    /// When the last machine that is being rebooted has power again.
    pub fn rebooted(&self) -> SimTime {
        self.rebooted
    }

    /// Does what a step says; an error says why it cannot be done.
    pub fn inject(&mut self, fault: &Fault, cluster: &mut Cluster) -> Result<(), String> {
        let done = match fault {
            Fault::MachineCrash(name) | Fault::RemoveNode(name) => cluster.crash_machine(name),
            Fault::MachineRestart(name) => cluster.restart_machine(name),
            Fault::ProcessCrash(name) => cluster.crash_process(name),
            Fault::ProcessRestart(name) => cluster.restart_process(name),
            Fault::StopHeartbeats(node) => cluster.stop_heartbeats(node),
            Fault::ResumeHeartbeats(node) => cluster.resume_heartbeats(node),
            Fault::Reboot(node, down) => {
                self.rebooted = self.rebooted.max(cluster.now() + *down);
                cluster.reboot(node, *down)
            }
            Fault::Shutdown(node) => cluster.shut_down(node),
            Fault::Hang(node) => cluster.hang_kubelet(node),
            Fault::Resume(node) => cluster.resume_kubelet(node),
            Fault::Clock(node, fault) => cluster.set_clock(node, *fault),
            Fault::AddStaticPods { node, pods } => {
                pods.iter().try_for_each(|pod| cluster.add_static_pod(node, pod.0.clone()))
            }
            Fault::RemoveStaticPod { node, name } => cluster.remove_static_pod(node, name),
            Fault::Image { node, image, present } => cluster.set_image(node, image, *present),
            Fault::EtcdCrash(member) => {
                let member = etcd_member(member, cluster)?;
                cluster.crash_machine(&member)
            }
            Fault::EtcdRestart(member) => return restart_etcd(member, cluster),
            Fault::EtcdSlowDisk(member, fsync) => {
                let member = etcd_member(member, cluster)?;
                cluster.set_fsync(&member, Some(fsync.clone()))
            }
            Fault::EtcdRestoreDisk(member) => {
                etcd_members(member, cluster).iter().try_for_each(|name| cluster.set_fsync(name, None))
            }
            Fault::AddNodes(nodes) => return add_nodes(nodes, cluster),
            Fault::Partition { name, between, and, directions } => {
                if self.open.contains_key(name) {
                    return Err(format!("there is a partition \"{name}\" already"));
                }
                let named = |words: &[String]| -> Result<Vec<String>, String> {
                    let meant: Vec<Vec<String>> =
                        words.iter().map(|word| self.nodes(word, cluster)).collect::<Result<_, _>>()?;
                    Ok(meant.concat())
                };
                let (between, and) = (named(between)?, named(and)?);
                let first = machines(&between, &[], cluster)?;
                let every = ["*".to_owned()];
                let second = machines(if and.is_empty() { &every } else { &and }, &first, cluster)?;
                cluster.partition(&first, &second, *directions).map(|id| {
                    self.open.insert(name.clone(), id);
                })
            }
            Fault::Heal(name) => return self.heal(name, cluster),
            Fault::Signal { name, amount } => return cluster.set_signal(name, *amount),
        };
        done.map_err(|error| error.to_string())
    }

    fn heal(&mut self, name: &str, cluster: &mut Cluster) -> Result<(), String> {
        if name == "all" {
            std::mem::take(&mut self.open).into_values().for_each(|id| cluster.heal(id));
            return Ok(());
        }
        let id = self.open.remove(name).ok_or_else(|| format!("there is no partition \"{name}\""))?;
        cluster.heal(id);
        Ok(())
    }
}

fn member_name(place: u32) -> String {
    format!("etcd-{place}")
}

/// The etcd member that a word means.
fn etcd_member(word: &str, cluster: &Cluster) -> Result<String, String> {
    let leader = cluster.etcd().leader();
    match word {
        "leader" => leader.map(member_name).ok_or_else(|| "no etcd member leads".to_owned()),
        "follower" => {
            let members = 0..cluster.etcd().len() as u32;
            let follower = members.into_iter().find(|place| Some(*place) != leader);
            follower.map(member_name).ok_or_else(|| "every etcd member leads".to_owned())
        }
        name => Ok(name.to_owned()),
    }
}

/// The member of a name, or all.
fn etcd_members(word: &str, cluster: &Cluster) -> Vec<String> {
    match word {
        "all" => (0..cluster.etcd().len() as u32).map(member_name).collect(),
        name => vec![name.to_owned()],
    }
}

fn restart_etcd(word: &str, cluster: &mut Cluster) -> Result<(), String> {
    // A machine that is up stays as it is.
    let mut names = etcd_members(word, cluster).into_iter();
    names.try_for_each(|name| cluster.restart_machine(&name)).map_err(|error| error.to_string())
}

/// Adds nodes; their numbers go on after those that are there.
fn add_nodes(nodes: &[NodeOptions], cluster: &mut Cluster) -> Result<(), String> {
    for node in nodes {
        let (stem, number) = node.name.rsplit_once('-').unwrap_or((&node.name, "0"));
        let mut number = number.parse::<u64>().unwrap_or(0);
        let mut name = node.name.clone();
        while cluster.topology().machine(&name).is_some() {
            number += 1;
            name = format!("{stem}-{number}");
        }
        cluster.add_node(&NodeOptions { name, ..node.clone() }).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The machines that patterns mean, without some.
fn machines(patterns: &[String], without: &[String], cluster: &Cluster) -> Result<Vec<String>, String> {
    let known = cluster.topology().machine_names();
    let mut found: Vec<String> = Vec::new();
    for pattern in patterns {
        let pattern = match pattern.as_str() {
            "etcd-leader" => etcd_member("leader", cluster)?,
            other => other.to_owned(),
        };
        let meant: Vec<&String> = known.iter().filter(|name| pattern::matches(&pattern, name)).collect();
        if meant.is_empty() {
            return Err(format!("there is no machine \"{pattern}\" (there are: {})", known.join(", ")));
        }
        found.extend(meant.into_iter().filter(|name| !without.contains(name)).cloned());
    }
    found.sort();
    found.dedup();
    Ok(found)
}
