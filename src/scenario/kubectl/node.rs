//! Commands about nodes: `kubectl cordon`, `uncordon` and `taint`.

use std::rc::Rc;

use serde_json::{Value, json};

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::node::{Node, Taint, TaintEffect};
use crate::apiserver::protocol::{Part, Patch, TypedPatch};

use super::change::send_patch;
use super::{Done, Shell};

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
