//! What `kubectl rollout` does on the client's side for StatefulSets: undo, restart and status.
//!
//! Pure: they read a set and its revisions and return the request's operation or the text that kubectl prints.

use std::rc::Rc;

use serde_json::json;

use crate::api::convert::template_patch;
use crate::api::meta::Timestamp;
use crate::api::revision::ControllerRevision;
use crate::api::stateful::{StatefulSet, UpdateStrategy};
use crate::apiserver::protocol::{Operation, Part, Patch};

use super::super::deployment::kubectl::{RESTARTED_AT, Undo};
use super::super::{history, owner};

/// `kubectl rollout undo --to-revision`: the patch that puts a revision's template back. Revision zero stands for the one
/// before the newest. `revisions` are those that the set controls. An error is kubectl's text.
pub fn undo(set: &StatefulSet, revisions: &[Rc<ControllerRevision>], revision: i64) -> Result<Undo, String> {
    let mut sorted = revisions.to_vec();
    history::sort(&mut sorted);
    if revision == 0 && sorted.len() <= 1 {
        return Err("no last revision to roll back to".to_owned());
    }
    let target = match revision {
        0 => sorted.iter().rev().nth(1),
        number => sorted.iter().find(|it| it.revision == number),
    };
    let kept = target.and_then(|target| target.template());
    let kept = kept.ok_or_else(|| format!("unable to find specified revision {revision} in history"))?;
    if kept.template.says_the_same(&set.template) {
        return Ok(Undo::Skipped(format!("skipped rollback (current template already matches revision {revision})")));
    }
    Ok(Undo::Patch(Box::new(patch_of(set, template_patch(&kept.template)))))
}

/// `kubectl rollout restart`: annotates the pod template with the present date, so that it is another one.
pub fn restart(set: &StatefulSet, now: Timestamp) -> Operation {
    let date = jiff::Timestamp::from_second(now.0).map_or_else(|_| now.0.to_string(), |date| date.to_string());
    patch_of(set, json!({"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT.as_str(): date}}}}}))
}

/// `kubectl rollout status`: the line that it prints, and whether that is the last one. An error is kubectl's text.
pub fn status(set: &StatefulSet) -> Result<(String, bool), String> {
    let (spec, status) = (&*set.spec, &set.status);
    let UpdateStrategy::RollingUpdate(rolling) = &spec.strategy else {
        return Err("rollout status is only available for RollingUpdate strategy type".to_owned());
    };
    if status.observed_generation == 0 || set.meta.generation > status.observed_generation {
        return Ok(("Waiting for statefulset spec update to be observed...".to_owned(), false));
    }
    if status.ready_replicas < spec.replicas {
        let missing = spec.replicas - status.ready_replicas;
        return Ok((format!("Waiting for {missing} pods to be ready..."), false));
    }
    let updated = status.updated_replicas;
    Ok(match rolling {
        Some(rolling) if updated < spec.replicas - rolling.partition => {
            let wanted = spec.replicas - rolling.partition;
            let progress = format!("{updated} out of {wanted} new pods have been updated...");
            (format!("Waiting for partitioned roll out to finish: {progress}"), false)
        }
        Some(_) => (format!("partitioned roll out complete: {updated} new pods have been updated..."), true),
        None if status.update_revision != status.current_revision => {
            let at = format!("{updated} pods at revision {}...", status.update_revision);
            (format!("waiting for statefulset rolling update to complete {at}"), false)
        }
        None => {
            let at = format!("{} pods at revision {}...", status.current_replicas, status.current_revision);
            (format!("statefulset rolling update complete {at}"), true)
        }
    })
}

fn patch_of(set: &StatefulSet, patch: serde_json::Value) -> Operation {
    let patch = Patch::Strategic(Rc::new(patch));
    Operation::Patch { key: owner::key_of(set), patch, part: Part::Main, dry_run: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::meta::Labels;
    use crate::controllers::testing;

    fn revision(set: &StatefulSet, number: i64, image: &str) -> Rc<ControllerRevision> {
        Rc::new(history::new(set, &Rc::new(testing::template("db", image)), Labels::NONE, number, Some(0)))
    }

    #[test]
    fn undo_puts_the_template_before_the_newest_back_or_says_why_not() {
        let mut set = testing::stateful_set("db", 3);
        set.template = Rc::new(testing::template("db", "img:v3"));
        let revisions = [revision(&set, 3, "img:v3"), revision(&set, 1, "img:v1"), revision(&set, 2, "img:v2")];
        let Ok(Undo::Patch(operation)) = undo(&set, &revisions, 0) else { panic!("no patch") };
        let Operation::Patch { patch: Patch::Strategic(patch), .. } = *operation else { panic!("another patch") };
        assert_eq!(patch["spec"]["template"]["spec"]["containers"][0]["image"], "img:v2");
        let refusal = |revisions: &[Rc<ControllerRevision>], to| match undo(&set, revisions, to) {
            Err(why) | Ok(Undo::Skipped(why)) => why,
            Ok(Undo::Patch(_)) => "a patch".to_owned(),
        };
        assert_eq!(refusal(&revisions[..1], 0), "no last revision to roll back to");
        assert_eq!(refusal(&revisions, 7), "unable to find specified revision 7 in history");
        assert_eq!(refusal(&revisions, 3), "skipped rollback (current template already matches revision 3)");
    }

    #[test]
    fn status_tells_how_far_a_partitioned_update_is() {
        let mut set = testing::stateful_set("db", 3);
        let line = |set: &StatefulSet| status(set).map(|(line, _)| line).unwrap_or_else(|why| why);
        assert_eq!(line(&set), "Waiting for statefulset spec update to be observed...");
        set.status.observed_generation = 1;
        set.status.ready_replicas = 1;
        assert_eq!(line(&set), "Waiting for 2 pods to be ready...");
        set.status.ready_replicas = 3;
        set.status.updated_replicas = 1;
        assert_eq!(line(&set), "Waiting for partitioned roll out to finish: 1 out of 3 new pods have been updated...");
        set.status.updated_replicas = 3;
        assert_eq!(
            status(&set),
            Ok(("partitioned roll out complete: 3 new pods have been updated...".to_owned(), true))
        );
        Rc::make_mut(&mut set.spec).strategy = UpdateStrategy::OnDelete;
        assert_eq!(line(&set), "rollout status is only available for RollingUpdate strategy type");
    }
}
