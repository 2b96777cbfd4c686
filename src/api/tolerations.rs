//! Which taints a pod tolerates (component-helpers, scheduling/corev1: `TolerationsTolerateTaint`).

use k8s_openapi::api::core::v1::Toleration;

use crate::api::node::{Taint, TaintEffect};
use crate::api::pod::PodSpec;

/// What `spec.unschedulable` is to tolerations, which may name it as a taint.
pub const UNSCHEDULABLE: Taint = Taint {
    key: crate::api::name::Name::of("node.kubernetes.io/unschedulable"),
    value: crate::api::name::Name::EMPTY,
    effect: TaintEffect::NoSchedule,
    time_added: None,
};

/// The tolerations of a pod specification.
pub fn of(spec: &PodSpec) -> &[Toleration] {
    spec.full.tolerations.as_deref().unwrap_or(&[])
}

/// True if one of the tolerations tolerates the taint.
pub fn tolerate(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| tolerates(toleration, taint))
}

/// True if no taint that keeps pods away is left untolerated.
pub fn tolerate_hard_taints(tolerations: &[Toleration], taints: &[Taint]) -> bool {
    let hard = |taint: &&Taint| matches!(taint.effect, TaintEffect::NoSchedule | TaintEffect::NoExecute);
    taints.iter().filter(hard).all(|taint| tolerate(tolerations, taint))
}

/// The comparisons `Lt` and `Gt` are behind a gate that is off in 1.36, and then tolerate nothing.
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let wanted = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if !wanted.is_empty() && wanted != effect(taint.effect) || !key.is_empty() && key != taint.key.as_str() {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => toleration.value.as_deref().unwrap_or_default() == taint.value.as_str(),
        "Exists" => true,
        _ => false,
    }
}

fn effect(effect: TaintEffect) -> &'static str {
    match effect {
        TaintEffect::NoSchedule => "NoSchedule",
        TaintEffect::PreferNoSchedule => "PreferNoSchedule",
        TaintEffect::NoExecute => "NoExecute",
    }
}
