//! `kubectl rollout` for StatefulSets: undo, restart and status.

use std::rc::Rc;

use crate::api::meta::ObjectKey;
use crate::api::revision::ControllerRevision;
use crate::api::stateful::StatefulSet;
use crate::controllers::deployment::kubectl::Undo;
use crate::controllers::stateful_set::kubectl;

use super::super::plan::Rollout;
use super::{Done, Shell, controlled, from_server, printed_name, status};

pub(super) async fn rollout(shell: &Shell, key: &ObjectKey, verb: Rollout) -> Done {
    let object = shell.get(key).await?;
    let set = object.get::<StatefulSet>().ok_or_else(|| format!("error: {} is no StatefulSet", printed_name(key)))?;
    let unsupported = |what: &str| Err(format!("error: {} {what} is not supported", printed_name(key)));
    let (operation, word) = match verb {
        Rollout::Status(timeout) => return status::follow(shell, key, Rc::clone(set), timeout, stage).await,
        Rollout::Pause => return unsupported("pausing"),
        Rollout::Resume => return unsupported("resuming"),
        Rollout::Restart => (kubectl::restart(set, shell.date()), "restarted"),
        Rollout::Undo(revision) => {
            let revisions = revisions(shell, set).await?;
            match kubectl::undo(set, &revisions, revision).map_err(|why| format!("error: {why}"))? {
                Undo::Patch(operation) => (*operation, "rolled back"),
                Undo::Skipped(why) => {
                    shell.print(format!("{} {why}", printed_name(key)));
                    return Ok(());
                }
            }
        }
    };
    shell.send(operation).await.map_err(from_server)?;
    shell.print(format!("{} {word}", printed_name(key)));
    Ok(())
}

/// The revisions that a set controls.
async fn revisions(shell: &Shell, set: &StatefulSet) -> Result<Vec<Rc<ControllerRevision>>, String> {
    controlled(shell, &set.meta, &set.selector).await
}

/// The line that tells how far a rollout has come, and whether it is complete (kubectl, polymorphichelpers: `StatefulSetStatusViewer`).
fn stage(set: &StatefulSet) -> Result<(String, bool), String> {
    kubectl::status(set).map_err(|why| format!("error: {why}"))
}
