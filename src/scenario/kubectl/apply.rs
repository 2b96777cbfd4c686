//! `kubectl create` and `kubectl apply`. For the latter, what was written last time, what is written now and what is there make the change (kubectl, apply and
//! apimachinery, util/strategicpatch: three-way merge).

use std::rc::Rc;

use serde_json::{Value, json};

use crate::api::patch::{PatchError, difference, strategic};
use crate::apiserver::protocol::{Operation, Part, Patch};
use crate::apiserver::status::{Reason, Status};
use crate::engine::time::SimDuration;

use super::super::manifests::Manifest;
use super::{Done, Shell, from_server, printed_name};

/// Where kubectl notes what was applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// How long to wait before trying again what failed because the cluster is not fully up, and how often.
const PATIENCE: SimDuration = SimDuration::from_secs(1);
const ATTEMPTS: u32 = 60;

pub(super) async fn apply(shell: &Shell, manifests: &[Manifest], is_patient: bool) -> Done {
    let mut failed: Vec<String> = Vec::new();
    for manifest in manifests {
        let mut attempt = 1;
        loop {
            match apply_one(shell, manifest).await {
                Ok(what) => {
                    shell.print(format!("{} {what}", printed_name(&manifest.key)));
                    break;
                }
                Err(Refusal::Status(status)) if is_patient && attempt < ATTEMPTS && is_early(&status) => {
                    attempt += 1;
                    shell.sleep(PATIENCE).await;
                }
                // kubectl goes on with the other objects.
                Err(refusal) => {
                    failed.push(refusal.text());
                    break;
                }
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

pub(super) async fn create(shell: &Shell, manifests: &[Manifest]) -> Done {
    let mut failed: Vec<String> = Vec::new();
    for manifest in manifests {
        match shell.send(Operation::Create { object: manifest.object.clone(), dry_run: false }).await {
            Ok(_) => shell.print(format!("{} created", printed_name(&manifest.key))),
            Err(status) => failed.push(from_server(status)),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

enum Refusal {
    Status(Box<Status>),
    Patch(PatchError),
}

impl Refusal {
    fn text(self) -> String {
        match self {
            Refusal::Status(status) => from_server(status),
            Refusal::Patch(error) => format!("error: {error}"),
        }
    }
}

impl From<Box<Status>> for Refusal {
    fn from(status: Box<Status>) -> Self {
        Refusal::Status(status)
    }
}

impl From<PatchError> for Refusal {
    fn from(error: PatchError) -> Self {
        Refusal::Patch(error)
    }
}

/// Whether the request failed because the cluster is not fully up: no leader yet, or no service account in the namespace.
fn is_early(status: &Status) -> bool {
    status.is_retryable() || status.reason == Reason::Forbidden && status.message.contains("serviceaccount")
}

/// Applies one object; what kubectl says has become of it.
async fn apply_one(shell: &Shell, manifest: &Manifest) -> Result<&'static str, Refusal> {
    match shell.send(Operation::Get { key: manifest.key.clone() }).await {
        Err(status) if status.reason == Reason::NotFound => {
            let mut object = manifest.object.clone();
            let meta = object.meta_mut();
            meta.annotations = meta.annotations.with(LAST_APPLIED, note(&manifest.written));
            shell.send(Operation::Create { object, dry_run: false }).await?;
            Ok("created")
        }
        Err(status) => Err(status.into()),
        Ok(answer) => {
            let present =
                super::object_of(answer).map_err(|text| Status::new(Reason::InternalError, text)).map_err(Box::new)?;
            match change(manifest, present.to_json())? {
                None => Ok("unchanged"),
                Some(patch) => {
                    let (key, patch) = (manifest.key.clone(), Patch::Strategic(Rc::new(patch)));
                    shell.send(Operation::Patch { key, patch, part: Part::Main, dry_run: false }).await?;
                    Ok("configured")
                }
            }
        }
    }
}

/// What kubectl notes: the object as it was written, on one line.
fn note(written: &Value) -> String {
    let mut noted = written.clone();
    if let Some(metadata) = noted.get_mut("metadata").and_then(Value::as_object_mut) {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.remove(LAST_APPLIED);
        }
    }
    format!("{noted}\n")
}

/// The patch that makes what is there what it shall be; none if it is that already. What was written last time and is not
/// written any more goes, what is written now is set, and everything else stays.
fn change(manifest: &Manifest, present: Value) -> Result<Option<Value>, PatchError> {
    let kind = manifest.key.kind.row().name;
    let mut written = Value::clone(&manifest.written);
    written["metadata"]["annotations"][LAST_APPLIED] = note(&manifest.written).into();
    let last = present["metadata"]["annotations"][LAST_APPLIED].as_str();
    let last: Value = last.and_then(|last| serde_json::from_str(last).ok()).unwrap_or_else(|| json!({}));
    let dropped = strategic::apply(kind, present.clone(), difference::between(kind, &last, &written)?)?;
    let wanted = strategic::apply(kind, dropped, written)?;
    let patch = difference::between(kind, &present, &wanted)?;
    let is_empty = patch.as_object().is_none_or(serde_json::Map::is_empty);
    Ok((!is_empty).then_some(patch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::manifests;

    fn manifest(text: &str) -> Manifest {
        manifests::read("app.yml", text, "default").unwrap().objects.remove(0)
    }

    const BEFORE: &str =
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, labels: {x: '1', z: '1'}}, data: {k: '1'}}";

    fn check(present: Value, text: &str, expected: Option<Value>) {
        let patch = change(&manifest(text), present).unwrap().map(|mut patch| {
            if let Some(metadata) = patch.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.remove("annotations");
            }
            patch
        });
        assert_eq!(patch, expected);
    }

    fn present() -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "1"},
            "metadata": {"name": "a", "namespace": "default", "uid": "u", "labels": {"x": "1", "z": "1", "other": "1"},
                "annotations": {LAST_APPLIED: note(&manifest(BEFORE).written)}}})
    }

    #[test]
    fn what_is_the_same_is_not_changed() {
        check(present(), BEFORE, None);
    }

    #[test]
    fn what_is_no_longer_written_goes_and_what_others_added_stays() {
        let after = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, labels: {x: '2'}}, data: {k: '1'}}";
        check(present(), after, Some(json!({"metadata": {"labels": {"x": "2", "z": null}}})));
    }

    #[test]
    fn what_others_changed_is_changed_back() {
        let mut drifted = present();
        drifted["data"]["k"] = "9".into();
        check(drifted, BEFORE, Some(json!({"data": {"k": "1"}})));
    }

    #[test]
    fn the_note_is_the_object_on_one_line() {
        let text = note(&manifest(BEFORE).written);
        assert_eq!(
            text,
            "{\"apiVersion\":\"v1\",\"data\":{\"k\":\"1\"},\"kind\":\"ConfigMap\",\"metadata\":{\"annotations\":{},\"labels\":{\"x\":\"1\",\"z\":\"1\"},\"name\":\"a\",\"namespace\":\"default\"}}\n"
        );
    }
}
