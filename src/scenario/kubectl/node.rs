//! Commands about nodes: `kubectl cordon`, `uncordon`, `drain` and `taint`.

use std::rc::Rc;

use serde_json::{Value, json};

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::node::{Node, Taint, TaintEffect};
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::apiserver::protocol::{
    Answer, DeleteOptions, FieldTest, ListRevision, Operation, Part, Patch, Scope, TypedPatch,
};
use crate::apiserver::status::Reason;
use crate::engine::time::{SimDuration, SimTime};

use super::change::send_patch;
use super::{Done, Shell, from_server};

/// How long kubectl waits before it asks again for an eviction that a disruption budget forbids (kubectl, drain).
const EVICTION_RETRY: SimDuration = SimDuration::from_secs(5);

fn node_key(node: &str) -> ObjectKey {
    ObjectKey::new(Kind::Node, "", node)
}

async fn get_node(shell: &Shell, name: &str) -> Result<Rc<Node>, String> {
    let object = shell.get(&node_key(name)).await?;
    object.get::<Node>().cloned().ok_or_else(|| format!("error: {name} is no node"))
}

pub(super) async fn cordon(shell: &Shell, name: &str, on: bool) -> Done {
    let node = get_node(shell, name).await?;
    let word = if on { "cordoned" } else { "uncordoned" };
    if node.unschedulable == on {
        shell.print(format!("node/{name} already {word}"));
        return Ok(());
    }
    let wanted = if on { Value::Bool(true) } else { Value::Null };
    let patch = Patch::Strategic(Rc::new(json!({"spec": {"unschedulable": wanted}})));
    send_patch(shell, &node_key(name), patch, Part::Main).await?;
    shell.print(format!("node/{name} {word}"));
    Ok(())
}

/// Taints to be set or removed.
pub(super) struct Change {
    pub key: String,
    pub value: String,
    pub effect: Option<TaintEffect>,
    pub remove: bool,
}

pub(super) async fn taint(shell: &Shell, name: &str, change: &Change) -> Done {
    let node = get_node(shell, name).await?;
    let is_meant =
        |taint: &&Taint| taint.key == *change.key && change.effect.is_none_or(|effect| effect == taint.effect);
    let mut taints: Vec<Taint> = node.taints.iter().filter(|taint| !is_meant(taint)).cloned().collect();
    if change.remove && taints.len() == node.taints.len() {
        return Err(format!("error: taint \"{}\" not found", change.key));
    }
    if let (false, Some(effect)) = (change.remove, change.effect) {
        let (key, value) = (Name::from(&change.key), Name::from(&change.value));
        taints.push(Taint { key, value, effect, time_added: None });
    }
    let taints: Rc<[Taint]> = taints.into();
    let patch = TypedPatch::NodeTaints { resource_version: node.meta.revision(), taints };
    send_patch(shell, &node_key(name), Patch::Typed(Box::new(patch)), Part::Main).await?;
    shell.print(format!("node/{name} {}", if change.remove { "untainted" } else { "tainted" }));
    Ok(())
}

/// Cordons a node and evicts its pods; ends when they are gone (kubectl, drain).
pub(super) async fn drain(
    shell: &Shell,
    name: &str,
    force: bool,
    grace_seconds: Option<i64>,
    timeout: Option<SimDuration>,
) -> Done {
    let until = timeout.map(|timeout| shell.now() + timeout);
    cordon(shell, name, true).await?;
    let pods = pods_of(shell, name).await?;
    let unmanaged: Vec<&Rc<Pod>> =
        pods.iter().filter(|pod| pod.meta.controller().is_none() && !pod.is_terminal()).collect();
    if !force && !unmanaged.is_empty() {
        let names: Vec<String> =
            unmanaged.iter().map(|pod| format!("{}/{}", pod.meta.namespace, pod.meta.name)).collect();
        return Err(format!(
            "error: unable to drain node \"{name}\": cannot delete Pods that declare no controller (use --force to override): {}",
            names.join(", ")
        ));
    }
    let evicted: Vec<&Rc<Pod>> = pods.iter().filter(|pod| !is_of_daemon(pod)).collect();
    for pod in &evicted {
        shell.watch(&key_of(pod));
    }
    let refused = evict(shell, &evicted, grace_seconds, until).await?;
    if refused > 0 {
        return Err(format!("error: unable to drain node \"{name}\": {refused} pods could not be evicted in time"));
    }
    for pod in evicted {
        while is_there(shell, pod).await? {
            match shell.next_change(&key_of(pod), until).await {
                Some(_) => {}
                None => {
                    return Err(format!(
                        "error: unable to drain node \"{name}\": timed out waiting for pod {}",
                        pod.meta.name
                    ));
                }
            }
        }
        shell.print(format!("pod/{} evicted", pod.meta.name));
    }
    shell.print(format!("node/{name} drained"));
    Ok(())
}

/// Whether a pod is still there, and not another one of its name.
async fn is_there(shell: &Shell, pod: &Pod) -> Result<bool, String> {
    match shell.send(Operation::Get { key: key_of(pod) }).await {
        Ok(Answer::Object(object)) => Ok(object.meta().uid == pod.meta.uid),
        Ok(_) => Ok(false),
        Err(status) if status.reason == Reason::NotFound => Ok(false),
        Err(status) => Err(from_server(status)),
    }
}

/// Asks for the eviction of all pods at once, and again for those that a disruption budget keeps; how many it still keeps
/// when the time is up.
async fn evict(
    shell: &Shell,
    pods: &[&Rc<Pod>],
    grace_seconds: Option<i64>,
    until: Option<SimTime>,
) -> Result<usize, String> {
    let mut left: Vec<&Rc<Pod>> = pods.to_vec();
    loop {
        let asked: Vec<_> = left
            .iter()
            .map(|pod| {
                shell.print(format!("evicting pod {}/{}", pod.meta.namespace, pod.meta.name));
                let options = DeleteOptions { grace_seconds, uid: Some(pod.meta.uid), ..DeleteOptions::default() };
                shell.send(Operation::Evict { key: key_of(pod), options })
            })
            .collect();
        let mut kept = Vec::new();
        for (pod, answer) in left.into_iter().zip(asked) {
            match answer.await {
                Ok(_) => {}
                Err(status) if status.reason == Reason::NotFound => {}
                Err(status) if status.reason == Reason::TooManyRequests => kept.push(pod),
                Err(status) => {
                    return Err(format!("error when evicting pods/\"{}\": {}", pod.meta.name, from_server(status)));
                }
            }
        }
        if kept.is_empty() || until.is_some_and(|until| shell.now() + EVICTION_RETRY > until) {
            return Ok(kept.len());
        }
        for pod in &kept {
            let why = "Cannot evict pod as it would violate the pod's disruption budget.";
            shell.print(format!(
                "error when evicting pods/\"{}\" -n \"{}\" (will retry after 5s): {why}",
                pod.meta.name, pod.meta.namespace
            ));
        }
        shell.sleep(EVICTION_RETRY).await;
        left = kept;
    }
}

fn key_of(pod: &Pod) -> ObjectKey {
    ObjectKey::new(Kind::Pod, pod.meta.namespace.clone(), pod.meta.name.clone())
}

fn is_of_daemon(pod: &Pod) -> bool {
    pod.meta.controller().is_some_and(|owner| owner.kind == "DaemonSet")
}

async fn pods_of(shell: &Shell, node: &str) -> Result<Vec<Rc<Pod>>, String> {
    let field = FieldTest { field: Name::of("spec.nodeName"), value: Name::from(node), equal: true };
    let scope = Scope { kind: Kind::Pod, namespace: None, labels: None, fields: vec![field] };
    let operation = Operation::List { scope, limit: 0, continue_token: None, at: ListRevision::Latest };
    let Answer::List { items, .. } = shell.send(operation).await.map_err(from_server)? else {
        return Err("error: the server answered something else than a list".to_owned());
    };
    Ok(items.iter().filter_map(Object::get::<Pod>).cloned().collect())
}
