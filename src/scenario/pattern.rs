//! Names with `*` in them: which machine or object they mean.

use crate::api::meta::ObjectKey;
use crate::cluster::truth::Truth;

use super::plan::Command;

/// The command with every name that has a `*` in it replaced by that of the first object that there is of such a name.
pub fn resolve(command: Command, truth: &Truth) -> Result<Command, String> {
    let key = |key: ObjectKey| find(&key, truth);
    Ok(match command {
        Command::Delete { keys, wait, grace_seconds, propagation } => {
            let keys = keys.into_iter().map(key).collect::<Result<_, _>>()?;
            Command::Delete { keys, wait, grace_seconds, propagation }
        }
        Command::Scale { key: of, replicas } => Command::Scale { key: key(of)?, replicas },
        Command::SetImage { key: of, images } => Command::SetImage { key: key(of)?, images },
        Command::Patch { key: of, kind, patch, part } => Command::Patch { key: key(of)?, kind, patch, part },
        Command::Mark { key: of, mark, set } => Command::Mark { key: key(of)?, mark, set },
        other => other,
    })
}

/// The first object, by name, that a key with a `*` in its name means.
pub fn find(key: &ObjectKey, truth: &Truth) -> Result<ObjectKey, String> {
    if !key.name.contains('*') {
        return Ok(key.clone());
    }
    let found = truth.list(key.kind).map(|object| object.key());
    let first = found.into_iter().find(|known| known.namespace == key.namespace && matches(&key.name, &known.name));
    first.ok_or_else(|| format!("there is no {} \"{}\"", key.kind.row().singular, key.name))
}

/// Whether a pattern, in which `*` stands for any text, means a name.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => match name.strip_prefix(start) {
            None => false,
            Some(name) => {
                name.char_indices().map(|(at, _)| at).chain([name.len()]).any(|at| matches(rest, &name[at..]))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, expected) in [
            ("etcd-*", "etcd-0", true),
            ("*", "", true),
            ("*-1", "node-1", true),
            ("n*e-*", "node-12", true),
            ("node-1", "node-12", false),
            ("etcd-*", "node-1", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
