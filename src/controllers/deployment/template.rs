//! Pod templates: when two are the same, and the hash that names a ReplicaSet.

use std::rc::Rc;

use crate::api::name::Name;
use crate::api::pod::PodTemplate;

/// The label that tells the pods of one ReplicaSet from those of another.
pub const HASH_LABEL: Name = Name::of("pod-template-hash");

/// True if both templates make the same pods, the hash label aside (deployment/util, `EqualIgnoreHash`).
pub fn same(left: &PodTemplate, right: &PodTemplate) -> bool {
    let labels = |template: &PodTemplate| {
        let hashless = template.labels.pairs().iter().filter(|(key, _)| *key != HASH_LABEL);
        hashless.cloned().collect::<Vec<_>>()
    };
    left.annotations == right.annotations
        && left.other == right.other
        && (left.labels.same(&right.labels) || labels(left) == labels(right))
        && (Rc::ptr_eq(&left.spec, &right.spec) || left.spec.full == right.spec.full)
}

/// The template without the hash label.
pub fn without_hash(template: &PodTemplate) -> PodTemplate {
    PodTemplate { labels: template.labels.without(&HASH_LABEL), ..template.clone() }
}

/// A hash of the template and the number of collisions so far, in letters and digits that spell no bad words.
///
/// The real one hashes a Go-specific dump of the template (`ComputeHash`); this one the template's JSON,
/// by the same function (FNV-1a, 32 bits), so the values differ from those of a real cluster.
pub fn hash(template: &PodTemplate, collision_count: Option<i32>) -> String {
    let mut hash = 0x811c_9dc5;
    for pairs in [template.labels.pairs(), template.annotations.pairs()] {
        for (key, value) in pairs {
            hash = fold(fold(hash, key.as_bytes()), b"=");
            hash = fold(fold(hash, value.as_bytes()), b"\n");
        }
        hash = fold(hash, b"\0");
    }
    if let Some(other) = &template.other {
        hash = fold(hash, &serde_json::to_vec(&**other).unwrap_or_default());
    }
    // A specification that cannot be serialized does not exist; its hash would be that of an empty one.
    hash = fold(hash, &serde_json::to_vec(&template.spec.full).unwrap_or_default());
    if let Some(count) = collision_count {
        hash = fold(fold(hash, &count.to_le_bytes()), &[0; 4]);
    }
    safe_encode(&hash.to_string())
}

fn fold(hash: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Replaces each character by one of 27 without vowels and without digits that look like them
/// (apimachinery, `SafeEncodeString`).
pub fn safe_encode(text: &str) -> String {
    const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    text.bytes().map(|byte| char::from(SAFE[usize::from(byte) % SAFE.len()])).collect()
}

/// The name of the ReplicaSet for a hash, cut so that it stays a valid name (`generateReplicaSetName`).
pub fn replica_set_name(deployment: &str, hash: &str) -> String {
    const MAX_NAME_LENGTH: usize = 253;
    let room = MAX_NAME_LENGTH.saturating_sub(hash.len() + 1);
    let cut = if room > 0 { deployment.get(..room).unwrap_or(deployment) } else { deployment };
    format!("{cut}-{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing;

    #[test]
    fn hashes_are_spelled_with_safe_characters_only() {
        // From apimachinery: the digits 0 to 9 are the bytes 48 to 57.
        assert_eq!(safe_encode("0123456789"), "456789bcdf");
    }

    #[test]
    fn the_hash_follows_the_template_and_the_collision_count() {
        let template = testing::template("app", "img:v1");
        let other = testing::template("app", "img:v2");
        let first = hash(&template, None);
        assert_eq!(first, hash(&template, None));
        assert_ne!(first, hash(&other, None));
        assert_ne!(first, hash(&template, Some(1)));
        assert_ne!(hash(&template, Some(1)), hash(&template, Some(2)));
    }

    #[test]
    fn templates_are_the_same_whatever_their_hash_label() {
        let template = testing::template("app", "img:v1");
        let mut hashed = template.clone();
        hashed.labels = hashed.labels.with(HASH_LABEL, "abc");
        assert!(same(&template, &hashed));
        assert!(same(&template, &without_hash(&hashed)));
        assert!(!same(&template, &testing::template("app", "img:v2")));
        let mut annotated = template.clone();
        annotated.annotations = annotated.annotations.with("restarted", "now");
        assert!(!same(&template, &annotated));
    }

    #[test]
    fn long_names_are_cut() {
        let name = replica_set_name(&"x".repeat(253), "abcde");
        assert_eq!(name.len(), 253);
        assert!(name.ends_with("x-abcde"));
        assert_eq!(replica_set_name("web", "abcde"), "web-abcde");
    }
}
