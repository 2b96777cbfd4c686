//! `kubectl rollout status`: waits for a rollout, of whatever kind.

use std::rc::Rc;

use crate::api::meta::ObjectKey;
use crate::api::object::Resource;
use crate::engine::time::SimDuration;

use super::{Done, Shell};

/// Prints how far a rollout has come, now and after each change, until it is complete or the time is up. `line` says what
/// is printed of a version, and whether that is the last line (kubectl, cmd/rollout: `RolloutStatusOptions`).
pub(super) async fn follow<R: Resource>(
    shell: &Shell,
    key: &ObjectKey,
    first: Rc<R>,
    timeout: Option<SimDuration>,
    line: impl Fn(&R) -> Result<(String, bool), String>,
) -> Done {
    let until = timeout.map(|timeout| shell.now() + timeout);
    shell.watch(key);
    let mut present = first;
    loop {
        let (text, is_last) = line(&present)?;
        shell.print(text);
        if is_last {
            return Ok(());
        }
        let Some(change) = shell.next_change(key, until).await else {
            return Err("error: timed out waiting for the condition".to_owned());
        };
        let changed = change.as_ref().and_then(R::of).cloned();
        present = changed.ok_or("error: object has been deleted")?;
    }
}
