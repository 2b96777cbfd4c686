//! `kubectl rollout`: undo, pause, resume, restart and status.

use std::rc::Rc;

use crate::api::meta::ObjectKey;
use crate::api::workload::{Deployment, ReplicaSet};
use crate::controllers::deployment::kubectl::{self, Undo};

use super::super::plan::Rollout;
use super::{Done, Shell, controlled, from_server, printed_name, status};

pub(super) async fn rollout(shell: &Shell, key: &ObjectKey, verb: Rollout) -> Done {
    let deployment = deployment(shell, key).await?;
    let refused = |why: String| format!("error: {} {why}", printed_name(key));
    let (operation, word) = match verb {
        Rollout::Status(timeout) => return status::follow(shell, key, deployment, timeout, stage).await,
        Rollout::Pause => (kubectl::pause(&deployment).map_err(refused)?, "paused"),
        Rollout::Resume => (kubectl::resume(&deployment).map_err(refused)?, "resumed"),
        Rollout::Restart => {
            let operation = kubectl::restart(&deployment, shell.date());
            (operation.map_err(|why| format!("error: {} {why}", printed_name(key)))?, "restarted")
        }
        Rollout::Undo(revision) => {
            let sets = replica_sets(shell, &deployment).await?;
            match kubectl::undo(&deployment, &sets, revision).map_err(|why| format!("error: {why}"))? {
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

async fn deployment(shell: &Shell, key: &ObjectKey) -> Result<Rc<Deployment>, String> {
    let object = shell.get(key).await?;
    object.get::<Deployment>().cloned().ok_or_else(|| format!("error: {} is no Deployment", printed_name(key)))
}

/// The ReplicaSets that a Deployment controls.
async fn replica_sets(shell: &Shell, deployment: &Deployment) -> Result<Vec<Rc<ReplicaSet>>, String> {
    controlled(shell, &deployment.meta, &deployment.spec.selector).await
}

/// The line that tells how far a rollout has come, and whether it is complete (kubectl, polymorphichelpers: `DeploymentStatusViewer`).
fn stage(deployment: &Deployment) -> Result<(String, bool), String> {
    let (name, status, desired) = (&deployment.meta.name, &deployment.status, deployment.spec.replicas);
    if deployment.meta.generation > status.observed_generation {
        return Ok(("Waiting for deployment spec update to be observed...".to_owned(), false));
    }
    let progressing = status.conditions.iter().find(|condition| condition.kind == "Progressing");
    if progressing.is_some_and(|condition| condition.reason == "ProgressDeadlineExceeded") {
        return Err(format!("error: deployment \"{name}\" exceeded its progress deadline"));
    }
    let waiting = |what: String| Ok((format!("Waiting for deployment \"{name}\" rollout to finish: {what}..."), false));
    let updated = status.updated_replicas;
    if updated < desired {
        waiting(format!("{updated} out of {desired} new replicas have been updated"))
    } else if status.replicas > updated {
        waiting(format!("{} old replicas are pending termination", status.replicas - updated))
    } else if status.available_replicas < updated {
        waiting(format!("{} of {updated} updated replicas are available", status.available_replicas))
    } else {
        Ok((format!("deployment \"{name}\" successfully rolled out"), true))
    }
}
