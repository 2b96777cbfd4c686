//! `kubectl rollout` for StatefulSets: undo, restart and status.

use std::rc::Rc;

use crate::api::meta::ObjectKey;
use crate::api::object::Object;
use crate::api::revision::ControllerRevision;
use crate::api::stateful::StatefulSet;
use crate::controllers::deployment::kubectl::Undo;
use crate::controllers::stateful_set::kubectl;
use crate::engine::time::SimDuration;

use super::super::plan::Rollout;
use super::{Done, Shell, controlled, from_server, printed_name};

pub(super) async fn rollout(shell: &Shell, key: &ObjectKey, verb: Rollout) -> Done {
    let object = shell.get(key).await?;
    let set = object.get::<StatefulSet>().ok_or_else(|| format!("error: {} is no StatefulSet", printed_name(key)))?;
    let unsupported = |what: &str| Err(format!("error: {} {what} is not supported", printed_name(key)));
    let (operation, word) = match verb {
        Rollout::Status(timeout) => return status(shell, key, Rc::clone(set), timeout).await,
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

/// Waits for a rollout and prints each stage once (kubectl, polymorphichelpers: StatefulSetStatusViewer).
async fn status(shell: &Shell, key: &ObjectKey, first: Rc<StatefulSet>, timeout: Option<SimDuration>) -> Done {
    let until = timeout.map(|timeout| shell.now() + timeout);
    shell.watch(key);
    let mut present = first;
    loop {
        let (line, is_complete) = kubectl::status(&present).map_err(|why| format!("error: {why}"))?;
        shell.print(line);
        if is_complete {
            return Ok(());
        }
        present = match shell.next_change(key, until).await {
            Some(Some(Object::StatefulSet(set))) => set,
            Some(_) => return Err("error: object has been deleted".to_owned()),
            None => return Err("error: timed out waiting for the condition".to_owned()),
        };
    }
}
