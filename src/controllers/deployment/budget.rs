//! How many pods a rollout may have on top, how many may be missing, and how many the new ReplicaSet may have.

use crate::api::int_or_string::IntOrString;
use crate::api::workload::{Deployment, DeploymentStrategy, ReplicaSet};

/// A number or the percentage of a total, rounded up or down; none if it is neither
/// (apimachinery, `GetScaledValueFromIntOrPercent`; exact in integers where the original divides floats).
pub fn scaled(value: &IntOrString, total: i32, round_up: bool) -> Option<i32> {
    let percent: i64 = match value {
        IntOrString::Int(number) => return Some(*number),
        IntOrString::String(text) => i64::from(text.strip_suffix('%')?.parse::<i32>().ok()?),
    };
    let hundredths = percent.checked_mul(i64::from(total))?;
    let rounded = if round_up { -(-hundredths).div_euclid(100) } else { hundredths.div_euclid(100) };
    i32::try_from(rounded).ok()
}

/// The largest number of pods on top and of missing pods (deployment/util, `ResolveFenceposts`): surge is rounded up,
/// unavailability down; if both come to nothing, one may be missing, or nothing could ever move.
/// None if one of them cannot be read, which validation does not let through.
pub fn fenceposts(max_surge: &IntOrString, max_unavailable: &IntOrString, desired: i32) -> Option<(i32, i32)> {
    let surge = scaled(max_surge, desired, true)?;
    let unavailable = scaled(max_unavailable, desired, false)?;
    Some(if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) })
}

/// How many pods may be on top (deployment/util, `MaxSurge`).
pub fn max_surge(deployment: &Deployment) -> i32 {
    match &deployment.spec.strategy {
        DeploymentStrategy::Recreate => 0,
        DeploymentStrategy::RollingUpdate { max_surge, max_unavailable } => {
            fenceposts(max_surge, max_unavailable, deployment.spec.replicas).map_or(0, |(surge, _)| surge)
        }
    }
}

/// How many pods may be missing (deployment/util, `MaxUnavailable`): never more than there are to be.
pub fn max_unavailable(deployment: &Deployment) -> i32 {
    let desired = deployment.spec.replicas;
    match &deployment.spec.strategy {
        DeploymentStrategy::RollingUpdate { max_surge, max_unavailable } if desired != 0 => {
            fenceposts(max_surge, max_unavailable, desired).map_or(0, |(_, unavailable)| unavailable.min(desired))
        }
        _ => 0,
    }
}

/// How many replicas all ReplicaSets together may want.
pub fn max_replicas(deployment: &Deployment) -> i32 {
    deployment.spec.replicas.saturating_add(max_surge(deployment))
}

/// How many replicas the new ReplicaSet should have, given its present size and the size of all together
/// (deployment/util, `NewRSNewReplicas`).
pub fn new_replicas(deployment: &Deployment, all: i32, present: i32) -> Result<i32, String> {
    let desired = deployment.spec.replicas;
    let DeploymentStrategy::RollingUpdate { max_surge, .. } = &deployment.spec.strategy else {
        return Ok(desired);
    };
    let surge = scaled(max_surge, desired, true)
        .ok_or("invalid value for IntOrString: invalid type: string is not a percentage")?;
    let most = desired.saturating_add(surge);
    if all >= most {
        return Ok(present);
    }
    Ok(present + (most - all).min(desired - present))
}

/// The sum of the sizes that ReplicaSets should have (`spec.replicas`).
pub fn wanted<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i32 {
    sets.into_iter().fold(0, |sum, set| sum.saturating_add(set.replicas))
}

/// The sum of the pods that ReplicaSets report as available.
pub fn available<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i32 {
    sets.into_iter().fold(0, |sum, set| sum.saturating_add(set.status.available_replicas))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> IntOrString {
        text.parse().map_or_else(|_| IntOrString::String(text.to_owned()), IntOrString::Int)
    }

    #[test]
    fn fenceposts_are_resolved_together() {
        // The first six rows are the examples in the comment of ResolveFenceposts.
        let table = [
            ("0%", "1%", 2, (0, 1)),
            ("0%", "1%", 1, (0, 1)),
            ("1%", "25%", 2, (1, 0)),
            ("1%", "25%", 1, (1, 0)),
            ("1%", "0%", 2, (1, 0)),
            ("1%", "0%", 1, (1, 0)),
            ("25%", "25%", 10, (3, 2)),
            ("25%", "25%", 100, (25, 25)),
            ("1", "1", 10, (1, 1)),
            ("100%", "0", 3, (3, 0)),
            ("0", "100%", 3, (0, 3)),
            ("0", "0", 3, (0, 1)),
            ("33%", "33%", 3, (1, 0)),
        ];
        for (surge, unavailable, desired, expected) in table {
            let found = fenceposts(&value(surge), &value(unavailable), desired);
            assert_eq!(found, Some(expected), "surge {surge}, unavailable {unavailable}, desired {desired}");
        }
    }

    #[test]
    fn what_is_neither_a_number_nor_a_percentage_has_no_fenceposts() {
        for text in ["", "%", "five", "5 %", "5%%", "99999999999%"] {
            assert_eq!(scaled(&IntOrString::String(text.to_owned()), 10, true), None, "{text}");
        }
        assert_eq!(scaled(&IntOrString::String("2147483647%".to_owned()), i32::MAX, true), None);
    }
}
