//! `kubectl delete`.

use crate::api::meta::ObjectKey;
use crate::apiserver::protocol::{Answer, DeleteOptions, Operation, Propagation};

use super::{Done, Shell, from_server, resource};

pub(super) async fn delete(
    shell: &Shell,
    keys: &[ObjectKey],
    wait: bool,
    grace_seconds: Option<i64>,
    propagation: Propagation,
) -> Done {
    let mut failed: Vec<String> = Vec::new();
    let mut waiting = Vec::new();
    for key in keys {
        shell.watch(key);
        let options = DeleteOptions { grace_seconds, propagation: Some(propagation), ..DeleteOptions::default() };
        match shell.send(Operation::Delete { key: key.clone(), options }).await {
            Ok(answer) => {
                let forced = if grace_seconds == Some(0) { " force" } else { "" };
                let from = match key.namespace.as_str() {
                    "" => String::new(),
                    namespace => format!(" from {namespace} namespace"),
                };
                shell.print(format!("{} \"{}\"{forced} deleted{from}", resource(key.kind), key.name));
                let uid = match &answer {
                    Answer::Object(object) => Some(object.meta().uid),
                    _ => None,
                };
                waiting.push((key, uid));
            }
            Err(status) => failed.push(from_server(status)),
        }
    }
    for (key, uid) in waiting.into_iter().filter(|_| wait) {
        // A graceful deletion that is already over shows as one of the changes since the command began.
        loop {
            match shell.next_change(key, None).await {
                Some(Some(object)) if uid.is_none_or(|uid| object.meta().uid == uid) => {}
                _ => break,
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}
