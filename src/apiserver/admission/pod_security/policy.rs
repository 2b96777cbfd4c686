//! What the labels of a namespace ask for (pod-security-admission, api/helpers.go).

use std::fmt;

use crate::api::meta::Labels;
use crate::api::validation::error::{FieldError, Path};

/// The newest version that a check names; later ones are the same (`maxVersion` of the registry).
const NEWEST: u32 = 35;
const LEVELS: [&str; 3] = ["privileged", "baseline", "restricted"];
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
const ENFORCE_VERSION: &str = "pod-security.kubernetes.io/enforce-version";
/// In the order in which they are looked at; every second one is a version.
const LABELS: [&str; 6] = [
    ENFORCE,
    ENFORCE_VERSION,
    "pod-security.kubernetes.io/audit",
    "pod-security.kubernetes.io/audit-version",
    "pod-security.kubernetes.io/warn",
    "pod-security.kubernetes.io/warn-version",
];

/// What pods must keep to. That they may do anything is no policy at all.
pub struct Policy {
    /// True for the stricter of the two levels.
    pub restricted: bool,
    /// The minor version of Kubernetes 1 whose rules apply, as far as there are such.
    pub minor: u32,
    /// As the label says it.
    version: String,
}

impl Policy {
    /// What is enforced in a namespace with these labels.
    pub fn enforced(labels: &Labels) -> Option<Policy> {
        let level = if labels.is_empty() { None } else { labels.get(ENFORCE) }?;
        if level.as_str() == "privileged" {
            return None;
        }
        let minor = labels.get(ENFORCE_VERSION).and_then(|version| minor(version));
        Some(Policy {
            // What cannot be understood is taken for the strictest.
            restricted: level.as_str() != "baseline",
            minor: minor.map_or(NEWEST, |minor| minor.min(NEWEST)),
            version: minor.map_or_else(|| "latest".to_owned(), |minor| format!("v1.{minor}")),
        })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", if self.restricted { "restricted" } else { "baseline" }, self.version)
    }
}

/// What is wrong with the labels.
pub fn errors(labels: &Labels) -> Vec<FieldError> {
    if labels.is_empty() {
        return Vec::new();
    }
    let (metadata, mut errors) = (Path::Root.child("metadata"), Vec::new());
    let path = metadata.child("labels");
    for (place, label) in LABELS.into_iter().enumerate() {
        let Some(value) = labels.get(label) else { continue };
        let is_version = place % 2 == 1;
        let fits =
            if is_version { *value == "latest" || minor(value).is_some() } else { LEVELS.contains(&value.as_str()) };
        if !fits {
            let must =
                if is_version { "\"latest\" or \"v1.x\"".to_owned() } else { format!("one of {}", LEVELS.join(", ")) };
            errors.push(FieldError::invalid(&path.key(label), value.as_str(), format!("must be {must}")));
        }
    }
    errors
}

/// The x of `v1.x`; none for anything else (`^v1\.([0-9]|[1-9][0-9]*)$`).
fn minor(version: &str) -> Option<u32> {
    let digits = version.strip_prefix("v1.")?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'));
    if plain { digits.parse().ok() } else { None }
}
