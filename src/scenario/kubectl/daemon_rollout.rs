//! `kubectl rollout` of DaemonSets: status, restart and undo (kubectl, polymorphichelpers).

use std::rc::Rc;

use serde_json::json;

use crate::api::convert::template_patch;
use crate::api::meta::ObjectKey;
use crate::api::revision::ControllerRevision;
use crate::api::workload::{DaemonSet, DaemonSetStrategy};
use crate::apiserver::protocol::{Part, Patch};
use crate::controllers::deployment::kubectl::RESTARTED_AT;

use super::super::plan::Rollout;
use super::change::send_patch;
use super::{Done, Shell, controlled, printed_name, status};

pub(super) async fn rollout(shell: &Shell, key: &ObjectKey, verb: Rollout) -> Done {
    let object = shell.get(key).await?;
    let set = object.get::<DaemonSet>().cloned();
    let set = set.ok_or_else(|| format!("error: {} is no DaemonSet", printed_name(key)))?;
    let (patch, word) = match verb {
        Rollout::Status(timeout) => return status::follow(shell, key, set, timeout, stage).await,
        Rollout::Pause => return Err(format!("error: {} pausing is not supported", kind_and_name(key))),
        Rollout::Resume => return Err(format!("error: {} resuming is not supported", kind_and_name(key))),
        Rollout::Restart => {
            let date = shell.date().0;
            let date = jiff::Timestamp::from_second(date).map_or_else(|_| date.to_string(), |date| date.to_string());
            let annotations = json!({RESTARTED_AT.as_str(): date});
            (json!({"spec": {"template": {"metadata": {"annotations": annotations}}}}), "restarted")
        }
        Rollout::Undo(number) => {
            let revision = find(revisions(shell, &set).await?, number)?;
            let Some(kept) = revision.template() else {
                return Err(format!("error: unable to restore revision {}", revision.revision));
            };
            if kept.template.says_the_same(&set.template) {
                let why = format!("skipped rollback (current template already matches revision {number})");
                shell.print(format!("{} {why}", printed_name(key)));
                return Ok(());
            }
            (template_patch(&kept.template), "rolled back")
        }
    };
    send_patch(shell, key, Patch::Strategic(Rc::new(patch)), Part::Main).await?;
    shell.print(format!("{} {word}", printed_name(key)));
    Ok(())
}

fn kind_and_name(key: &ObjectKey) -> String {
    format!("{} \"{}\"", key.kind.row().qualified_plural(), key.name)
}

/// The revisions that a DaemonSet controls, oldest first.
async fn revisions(shell: &Shell, set: &DaemonSet) -> Result<Vec<Rc<ControllerRevision>>, String> {
    let mut all: Vec<Rc<ControllerRevision>> = controlled(shell, &set.meta, &set.selector).await?;
    all.sort_by_key(|revision| revision.revision);
    Ok(all)
}

/// A revision by its number; zero stands for the one before the newest.
fn find(revisions: Vec<Rc<ControllerRevision>>, number: i64) -> Result<Rc<ControllerRevision>, String> {
    let found = if number == 0 {
        if revisions.len() <= 1 {
            return Err("error: no last revision to roll back to".to_owned());
        }
        revisions.get(revisions.len() - 2)
    } else {
        revisions.iter().find(|revision| revision.revision == number)
    };
    found.cloned().ok_or_else(|| format!("error: unable to find specified revision {number} in history"))
}

/// The line that tells how far a rollout has come, and whether it is complete (`DaemonSetStatusViewer`).
fn stage(set: &DaemonSet) -> Result<(String, bool), String> {
    if set.strategy == DaemonSetStrategy::OnDelete {
        return Err("error: rollout status is only available for RollingUpdate strategy type".to_owned());
    }
    let (name, status, desired) = (&set.meta.name, &set.status, set.status.desired_number_scheduled);
    if set.meta.generation > status.observed_generation {
        return Ok(("Waiting for daemon set spec update to be observed...".to_owned(), false));
    }
    let (updated, available) = (status.updated_number_scheduled, status.number_available);
    let waiting = |what: String| Ok((format!("Waiting for daemon set \"{name}\" rollout to finish: {what}..."), false));
    if updated < desired {
        waiting(format!("{updated} out of {desired} new pods have been updated"))
    } else if available < desired {
        waiting(format!("{available} of {desired} updated pods are available"))
    } else {
        Ok((format!("daemon set \"{name}\" successfully rolled out"), true))
    }
}
