//! What kubelets report of resources in the statuses of pods and containers.

use std::collections::BTreeMap;
use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::ConvertError;
use crate::api::name::Name;
use crate::api::quantity::Quantity;
use crate::api::resize::{Actual, Amounts, Held, Reported};

/// Writes what was reported into a status whose containers are there.
pub fn to_reported(reported: &Reported, full: &mut core::PodStatus) {
    let containers = full.container_statuses.iter_mut().chain(full.init_container_statuses.iter_mut()).flatten();
    for container in containers {
        if let Some(held) = reported.containers.get(container.name.as_str()) {
            container.allocated_resources = to_amounts(&held.allocated);
            container.resources = held.actual.as_ref().map(to_actual);
        }
    }
    full.allocated_resources = to_amounts(&reported.pod.allocated);
    full.resources = reported.pod.actual.as_ref().map(to_actual);
}

/// Reads what is reported; none if nothing is.
pub fn from_reported(full: &core::PodStatus) -> Result<Option<Rc<Reported>>, ConvertError> {
    let mut reported = Reported::default();
    let lists =
        [("initContainerStatuses", &full.init_container_statuses), ("containerStatuses", &full.container_statuses)];
    for (list, containers) in lists {
        for (index, container) in containers.iter().flatten().enumerate() {
            let (allocated, actual) = (container.allocated_resources.as_ref(), container.resources.as_ref());
            if let Some(held) = from_held(&format!("status.{list}[{index}]"), allocated, actual)? {
                reported.containers.insert(Name::from(&container.name), held);
            }
        }
    }
    let pod = from_held("status", full.allocated_resources.as_ref(), full.resources.as_ref())?;
    let is_reported = pod.is_some() || !reported.containers.is_empty();
    reported.pod = pod.unwrap_or_default();
    Ok(is_reported.then(|| Rc::new(reported)))
}

fn from_held(
    path: &str,
    allocated: Option<&BTreeMap<String, Text>>,
    actual: Option<&core::ResourceRequirements>,
) -> Result<Option<Held>, ConvertError> {
    if allocated.is_none() && actual.is_none() {
        return Ok(None);
    }
    let of = |field: &str, amounts| from_amounts(&format!("{path}.{field}"), amounts);
    let actual = match actual {
        Some(actual) => Some(Actual {
            requests: of("resources.requests", actual.requests.as_ref())?,
            limits: of("resources.limits", actual.limits.as_ref())?,
        }),
        None => None,
    };
    Ok(Some(Held { allocated: of("allocatedResources", allocated)?, actual }))
}

fn to_actual(actual: &Actual) -> core::ResourceRequirements {
    core::ResourceRequirements {
        requests: to_amounts(&actual.requests),
        limits: to_amounts(&actual.limits),
        claims: None,
    }
}

fn to_amounts(amounts: &Amounts) -> Option<BTreeMap<String, Text>> {
    let amounts = amounts.iter().map(|(name, amount)| (String::from(name), amount.to_text()));
    Some(amounts.collect::<BTreeMap<_, _>>()).filter(|amounts| !amounts.is_empty())
}

fn from_amounts(path: &str, amounts: Option<&BTreeMap<String, Text>>) -> Result<Amounts, ConvertError> {
    let amount = |(name, text): (&String, &Text)| {
        let amount = Quantity::of(text).map_err(|error| {
            ConvertError::new(format!("{path}[{name}]"), format!("Invalid value: \"{}\": {error}", text.0))
        })?;
        Ok((Name::from(name), amount))
    };
    amounts.into_iter().flatten().map(amount).collect()
}
