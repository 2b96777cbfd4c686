//! DefaultTolerationSeconds: a pod that says nothing stays 300 s on a node that is not ready or not reachable
//! (kubernetes, plugin/pkg/admission/defaulttolerationseconds).

use k8s_openapi::api::core::v1::Toleration;

use crate::api::pod::{Pod, PodSpec};

use super::{Facts, Plugin, Refusal};

/// The taints for which a toleration is added, in the order in which the real plugin adds them.
const KEYS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
/// `--default-not-ready-toleration-seconds` and `--default-unreachable-toleration-seconds`.
const SECONDS: i64 = 300;

/// The plugin.
pub struct DefaultTolerationSeconds;

impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn admit_spec(&self, _pod: &Pod, _facts: Facts<'_>, spec: &mut PodSpec) -> Result<(), Refusal> {
        let given = spec.full.tolerations.get_or_insert_with(Vec::new);
        let tolerates = |given: &[Toleration], key: &str| {
            given.iter().any(|toleration| {
                let effect = toleration.effect.as_deref().unwrap_or_default();
                let tolerated = toleration.key.as_deref().unwrap_or_default();
                (tolerated == key || tolerated.is_empty()) && (effect == "NoExecute" || effect.is_empty())
            })
        };
        let missing = KEYS.map(|key| (key, tolerates(given, key)));
        for (key, _) in missing.into_iter().filter(|(_, tolerated)| !tolerated) {
            given.push(Toleration {
                key: Some(key.to_owned()),
                operator: Some("Exists".to_owned()),
                effect: Some("NoExecute".to_owned()),
                toleration_seconds: Some(SECONDS),
                value: None,
            });
        }
        Ok(())
    }
}
