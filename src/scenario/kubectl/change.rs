//! Commands that change one object: `kubectl scale`, `set image`, `patch`, `label` and `annotate`.

use std::rc::Rc;

use serde_json::{Map, Value, json};

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::object::Object;
use crate::api::pod::{ContainerRole, PodSpec};
use crate::apiserver::protocol::{Operation, Part, Patch};

use super::super::file::step::PatchKindFile;
use super::super::plan::Mark;
use super::{Done, Shell, from_server, object_of, printed_name};

pub(super) async fn scale(shell: &Shell, key: &ObjectKey, replicas: i32) -> Done {
    // kubectl looks for the object first, so that its name is in the message if there is none.
    shell.get(key).await?;
    let operation = Operation::SetScale { key: key.clone(), replicas, resource_version: 0 };
    shell.send(operation).await.map_err(from_server)?;
    shell.print(format!("{} scaled", printed_name(key)));
    Ok(())
}

pub(super) async fn set_image(shell: &Shell, key: &ObjectKey, images: &[(String, String)]) -> Done {
    let object = shell.get(key).await?;
    let Some(spec) = pod_spec(&object) else {
        return Err(format!("error: {} has no containers", printed_name(key)));
    };
    let (mut containers, mut init_containers) = (Vec::new(), Vec::new());
    for (name, image) in images {
        let mut is_found = name == "*";
        for container in spec.containers.iter().filter(|container| name == "*" || container.name == **name) {
            is_found = true;
            if container.image == **image {
                continue;
            }
            let list = if container.role == ContainerRole::Main { &mut containers } else { &mut init_containers };
            list.push(json!({"name": container.name.as_str(), "image": image}));
        }
        if !is_found {
            return Err(format!("error: unable to find container named \"{name}\""));
        }
    }
    if containers.is_empty() && init_containers.is_empty() {
        return Ok(()); // kubectl says nothing either.
    }
    let mut spec = Map::new();
    for (field, list) in [("containers", containers), ("initContainers", init_containers)] {
        if !list.is_empty() {
            spec.insert(field.to_owned(), list.into());
        }
    }
    let spec = Value::Object(spec);
    let patch =
        if key.kind == Kind::Pod { json!({"spec": spec}) } else { json!({"spec": {"template": {"spec": spec}}}) };
    send_patch(shell, key, Patch::Strategic(Rc::new(patch)), Part::Main).await?;
    shell.print(format!("{} image updated", printed_name(key)));
    Ok(())
}

/// The specification of an object's pods.
fn pod_spec(object: &Object) -> Option<&PodSpec> {
    match object {
        Object::Pod(pod) => Some(&pod.spec),
        Object::ReplicaSet(set) => Some(&set.template.spec),
        Object::DaemonSet(set) => Some(&set.template.spec),
        Object::ReplicationController(controller) => Some(&controller.template.spec),
        Object::StatefulSet(set) => Some(&set.template.spec),
        Object::Deployment(deployment) => Some(&deployment.spec.template.spec),
        _ => None,
    }
}

pub(super) async fn patch(shell: &Shell, key: &ObjectKey, kind: PatchKindFile, patch: Rc<Value>, part: Part) -> Done {
    let before = shell.get(key).await?;
    let patch = match kind {
        PatchKindFile::Strategic => Patch::Strategic(patch),
        PatchKindFile::Merge => Patch::Merge(patch),
        PatchKindFile::Json => Patch::Json(patch),
    };
    let after = send_patch(shell, key, patch, part).await?;
    let is_same = before.meta().revision() == after.meta().revision();
    shell.print(format!("{} patched{}", printed_name(key), if is_same { " (no change)" } else { "" }));
    Ok(())
}

pub(super) async fn mark(shell: &Shell, key: &ObjectKey, mark: Mark, set: &[(String, Option<String>)]) -> Done {
    let before = shell.get(key).await?;
    let (field, word) = match mark {
        Mark::Label => ("labels", "labeled"),
        Mark::Annotation => ("annotations", "annotated"),
    };
    let values = set.iter().map(|(key, value)| (key.clone(), value.clone().map_or(Value::Null, Value::from)));
    let patch = json!({"metadata": {field: Value::Object(values.collect())}});
    let after = send_patch(shell, key, Patch::Merge(Rc::new(patch)), Part::Main).await?;
    let is_same = before.meta().revision() == after.meta().revision();
    let word = if is_same && mark == Mark::Label { "not labeled" } else { word };
    shell.print(format!("{} {word}", printed_name(key)));
    Ok(())
}

/// Sends a patch; the object as it then is.
pub(super) async fn send_patch(shell: &Shell, key: &ObjectKey, patch: Patch, part: Part) -> Result<Object, String> {
    let operation = Operation::Patch { key: key.clone(), patch, part, dry_run: false };
    object_of(shell.send(operation).await.map_err(from_server)?)
}
