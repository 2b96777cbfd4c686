//! What happens to a cluster from outside: which machines a scenario means, and doing it.

use std::collections::BTreeMap;

use crate::cluster::Cluster;
use crate::cluster::options::NodeOptions;
use crate::engine::network::PartitionId;

use super::plan::Fault;

/// The partitions of a run that have not ended.
#[derive(Default)]
pub struct Partitions {
    open: BTreeMap<String, PartitionId>,
}

impl Partitions {
    /// Does what a step says; an error says why it cannot be done.
    pub fn inject(&mut self, fault: &Fault, cluster: &mut Cluster) -> Result<(), String> {
        let done = match fault {
            Fault::MachineCrash(name) | Fault::RemoveNode(name) => cluster.crash_machine(name),
            Fault::MachineRestart(name) => cluster.restart_machine(name),
            Fault::ProcessCrash(name) => cluster.crash_process(name),
            Fault::ProcessRestart(name) => cluster.restart_process(name),
            Fault::StopHeartbeats(node) => cluster.stop_heartbeats(node),
            Fault::ResumeHeartbeats(node) => cluster.resume_heartbeats(node),
            Fault::EtcdCrash(member) => {
                let member = etcd_member(member, cluster)?;
                cluster.crash_machine(&member)
            }
            Fault::EtcdRestart(member) => return restart_etcd(member, cluster),
            Fault::AddNodes(nodes) => return add_nodes(nodes, cluster),
            Fault::Partition { name, between, and, directions } => {
                if self.open.contains_key(name) {
                    return Err(format!("there is a partition \"{name}\" already"));
                }
                let first = machines(between, &[], cluster)?;
                let every = ["*".to_owned()];
                let second = machines(if and.is_empty() { &every } else { and }, &first, cluster)?;
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

fn restart_etcd(word: &str, cluster: &mut Cluster) -> Result<(), String> {
    let names: Vec<String> = match word {
        "all" => (0..cluster.etcd().len() as u32).map(member_name).collect(),
        name => vec![name.to_owned()],
    };
    // A machine that is up stays as it is.
    names.iter().try_for_each(|name| cluster.restart_machine(name)).map_err(|error| error.to_string())
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
        let meant: Vec<&String> = known.iter().filter(|name| matches(&pattern, name)).collect();
        if meant.is_empty() {
            return Err(format!("there is no machine \"{pattern}\" (there are: {})", known.join(", ")));
        }
        found.extend(meant.into_iter().filter(|name| !without.contains(name)).cloned());
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Whether a pattern, in which `*` stands for any text, means a name.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => match name.strip_prefix(start) {
            None => false,
            Some(name) => {
                name.char_indices().map(|(at, _)| at).chain([name.len()]).any(|at| matches(rest, &name[at..]))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, expected) in [
            ("etcd-*", "etcd-0", true),
            ("*", "", true),
            ("*-1", "node-1", true),
            ("n*e-*", "node-12", true),
            ("node-1", "node-12", false),
            ("etcd-*", "node-1", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
