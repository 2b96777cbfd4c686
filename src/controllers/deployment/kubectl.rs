//! What `kubectl rollout` does on the client's side: undo, history, restart, pause and resume.
//!
//! Pure: they read a Deployment and its ReplicaSets and return the request's operation or the text that kubectl prints.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value, json};

use crate::api::kind::Kind;
use crate::api::meta::{Labels, Meta, ObjectKey, Timestamp};
use crate::api::name::Name;
use crate::api::workload::{Deployment, ReplicaSet};
use crate::apiserver::protocol::{Operation, Part, Patch};

use super::{revision, template};

/// Why a rollout was begun: the annotation that `kubectl rollout history` shows.
pub const CHANGE_CAUSE: Name = Name::of("kubernetes.io/change-cause");
/// When a restart was asked for: the annotation that makes the pod template another one.
pub const RESTARTED_AT: Name = Name::of("kubectl.kubernetes.io/restartedAt");

/// What `kubectl rollout undo` comes to.
#[derive(Debug)]
pub enum Undo {
    /// A patch to be sent.
    Patch(Box<Operation>),
    /// Nothing to do; what kubectl prints after the Deployment's name.
    Skipped(String),
}

/// `kubectl rollout undo --to-revision`: the patch that puts a revision's template and annotations back. Revision zero stands
/// for the one before the newest. `sets` are the ReplicaSets that the Deployment controls. An error is kubectl's text.
pub fn undo(deployment: &Deployment, sets: &[Rc<ReplicaSet>], revision: i64) -> Result<Undo, String> {
    let target = find_revision(deployment, sets, revision)?;
    if deployment.spec.paused {
        let why =
            "you cannot rollback a paused deployment; resume it first with 'kubectl rollout resume' and try again";
        return Err(why.to_owned());
    }
    if template::same(&target.template, &deployment.spec.template) {
        return Ok(Undo::Skipped(format!("skipped rollback (current template already matches revision {revision})")));
    }
    let annotations = annotations_after_undo(&deployment.meta, &target.meta);
    let patch = json!([
        {"op": "replace", "path": "/spec/template", "value": template_json(&template::without_hash(&target.template))},
        {"op": "replace", "path": "/metadata/annotations", "value": labels_json(&annotations)},
    ]);
    Ok(Undo::Patch(Box::new(patch_of(deployment, Patch::Json(Rc::new(patch))))))
}

/// One line of `kubectl rollout history`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revision {
    /// The revision.
    pub number: i64,
    /// Why it was made, if somebody said so.
    pub change_cause: Option<Name>,
    /// The ReplicaSet that holds it.
    pub replica_set: Name,
}

/// The revisions that can be rolled back to, oldest first (`kubectl rollout history`).
pub fn history(sets: &[Rc<ReplicaSet>]) -> Vec<Revision> {
    let numbered = sets.iter().filter_map(|set| {
        let number = revision::revision(&set.meta)?;
        let change_cause = set.meta.annotations.get(&CHANGE_CAUSE).filter(|cause| !cause.is_empty()).cloned();
        Some((number, Revision { number, change_cause, replica_set: set.meta.name.clone() }))
    });
    numbered.collect::<BTreeMap<_, _>>().into_values().collect()
}

/// `kubectl rollout restart`: annotates the pod template with the present date, so that it is another one.
/// An error is kubectl's text.
pub fn restart(deployment: &Deployment, now: Timestamp) -> Result<Operation, String> {
    if deployment.spec.paused {
        return Err("can't restart paused deployment (run rollout resume first)".to_owned());
    }
    let date = jiff::Timestamp::from_second(now.0).map_or_else(|_| now.0.to_string(), |date| date.to_string());
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT.as_str(): date}}}}});
    Ok(patch_of(deployment, Patch::Strategic(Rc::new(patch))))
}

/// `kubectl rollout pause`. An error is kubectl's text.
pub fn pause(deployment: &Deployment) -> Result<Operation, String> {
    if deployment.spec.paused {
        return Err("is already paused".to_owned());
    }
    let patch = json!({"spec": {"paused": true}});
    Ok(patch_of(deployment, Patch::Strategic(Rc::new(patch))))
}

/// `kubectl rollout resume`. An error is kubectl's text.
pub fn resume(deployment: &Deployment) -> Result<Operation, String> {
    if !deployment.spec.paused {
        return Err("is not paused".to_owned());
    }
    let patch = json!({"spec": {"paused": null}});
    Ok(patch_of(deployment, Patch::Strategic(Rc::new(patch))))
}

/// The Deployment's annotations after going back to a ReplicaSet: those of the ReplicaSet, but the Deployment's own revision,
/// sizes and last applied configuration (kubectl, polymorphichelpers; deployment/util, `SetDeploymentAnnotationsTo`).
pub fn annotations_after_undo(deployment: &Meta, set: &Meta) -> Labels {
    let kept = deployment.annotations.pairs().iter().filter(|(key, _)| revision::is_skipped(key));
    let restored = set.annotations.pairs().iter().filter(|(key, _)| !revision::is_skipped(key));
    kept.chain(restored).cloned().collect()
}

fn find_revision<'a>(
    deployment: &Deployment,
    sets: &'a [Rc<ReplicaSet>],
    revision: i64,
) -> Result<&'a Rc<ReplicaSet>, String> {
    let mut numbered: Vec<_> = sets.iter().filter_map(|set| Some((revision::revision(&set.meta)?, set))).collect();
    if revision != 0 {
        let found = numbered.into_iter().find(|(number, _)| *number == revision && revision > 0);
        return found
            .map(|(_, set)| set)
            .ok_or_else(|| format!("unable to find specified revision {revision} in history"));
    }
    numbered.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    let previous = numbered.get(1).map(|(_, set)| *set);
    previous.ok_or_else(|| format!("no rollout history found for deployment \"{}\"", deployment.meta.name))
}

fn patch_of(deployment: &Deployment, patch: Patch) -> Operation {
    let key = ObjectKey::new(Kind::Deployment, deployment.meta.namespace.clone(), deployment.meta.name.clone());
    Operation::Patch { key, patch, part: Part::Main, dry_run: false }
}

fn labels_json(labels: &Labels) -> Value {
    let pairs = labels.pairs().iter().map(|(key, value)| (key.to_string(), Value::from(value.as_str())));
    Value::Object(pairs.collect())
}

fn template_json(template: &crate::api::pod::PodTemplate) -> Value {
    let mut metadata = Map::new();
    for (field, labels) in [("labels", &template.labels), ("annotations", &template.annotations)] {
        if !labels.is_empty() {
            metadata.insert(field.to_owned(), labels_json(labels));
        }
    }
    // A specification always has a JSON form.
    let spec = serde_json::to_value(&template.spec.full).unwrap_or_default();
    json!({"metadata": metadata, "spec": spec})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing;

    fn numbered(deployment: &Deployment, number: u32, image: &str) -> Rc<ReplicaSet> {
        let mut set = testing::replica_set(deployment, number, 0);
        set.meta.annotations = set.meta.annotations.with(revision::REVISION, number.to_string());
        let mut of = testing::template("web", image);
        of.labels = of.labels.with(template::HASH_LABEL, number.to_string());
        set.template = Rc::new(of);
        Rc::new(set)
    }

    #[test]
    fn undo_puts_the_template_before_the_newest_back() {
        let mut deployment = testing::deployment("web", 3);
        deployment.spec.template = Rc::new(testing::template("web", "img:v3"));
        deployment.meta.annotations = deployment.meta.annotations.with(revision::REVISION, "3").with("team", "blue");
        let sets = [
            numbered(&deployment, 3, "img:v3"),
            numbered(&deployment, 1, "img:v1"),
            numbered(&deployment, 2, "img:v2"),
        ];
        let Ok(Undo::Patch(operation)) = undo(&deployment, &sets, 0) else { panic!("no patch") };
        let Operation::Patch { patch: Patch::Json(patch), .. } = *operation else { panic!("another patch") };
        assert_eq!(patch[0]["value"]["spec"]["containers"][0]["image"], "img:v2");
        assert_eq!(patch[0]["value"]["metadata"]["labels"], json!({"app": "web"}));
        assert_eq!(patch[1]["value"], json!({"deployment.kubernetes.io/revision": "3"}));
    }

    #[test]
    fn undo_says_why_it_cannot() {
        let mut deployment = testing::deployment("web", 3);
        let sets = [numbered(&deployment, 1, "img:v1")];
        let refusal = |deployment: &Deployment, sets: &[Rc<ReplicaSet>], to| match undo(deployment, sets, to) {
            Err(why) | Ok(Undo::Skipped(why)) => why,
            Ok(Undo::Patch(_)) => "a patch".to_owned(),
        };
        assert_eq!(refusal(&deployment, &sets, 0), "no rollout history found for deployment \"web\"");
        assert_eq!(refusal(&deployment, &sets, 7), "unable to find specified revision 7 in history");
        assert_eq!(refusal(&deployment, &sets, 1), "skipped rollback (current template already matches revision 1)");
        deployment.spec.paused = true;
        assert!(refusal(&deployment, &sets, 1).starts_with("you cannot rollback a paused deployment"));
        assert!(restart(&deployment, Timestamp(0)).is_err());
        assert!(pause(&deployment).is_err());
        assert!(resume(&deployment).is_ok());
    }

    #[test]
    fn history_is_sorted_by_number() {
        let deployment = testing::deployment("web", 3);
        let sets = [numbered(&deployment, 4, "b"), numbered(&deployment, 1, "a"), numbered(&deployment, 10, "c")];
        let numbers: Vec<_> = history(&sets).iter().map(|revision| revision.number).collect();
        assert_eq!(numbers, [1, 4, 10]);
    }
}
