//! LimitRanger: what containers get who do not ask for it, and how much they, their pods and claims may ask for
//! (kubernetes, plugin/pkg/admission/limitranger).
//!
//! Unlike the real plugin this one gives a pod that is resized nothing that it does not name, and does not ask etcd, once in 30 s for
//! each namespace, whether there is a limit range that its cache does not show yet.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{self as core, LimitRangeItem};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::{Pod, PodSpec};
use crate::api::quantity::Quantity;
use crate::api::quota::{self, Amounts, LimitRange};

use super::{Attributes, Facts, Plugin, Refusal, Verb, forbidden};

const ANNOTATION: Name = Name::of("kubernetes.io/limit-ranger");

/// The plugin.
pub struct LimitRanger;

impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    /// Tells apart the limit ranges that the namespace has.
    fn spec_facts(&self, pod: &Pod, facts: Facts<'_>) -> Result<u64, Refusal> {
        let ranges = facts.in_namespace::<LimitRange>(&pod.meta.namespace);
        Ok(ranges
            .fold(0, |sum: u64, range| sum.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(range.meta.revision())))
    }

    fn admit_spec(&self, pod: &Pod, facts: Facts<'_>, spec: &mut PodSpec) -> Result<(), Refusal> {
        for range in facts.in_namespace::<LimitRange>(&pod.meta.namespace) {
            fill_in(range, &mut spec.full);
        }
        Ok(())
    }

    fn annotation(&self, pod: &Pod, facts: Facts<'_>) -> Option<(Name, Name)> {
        let mut ranges = facts.in_namespace::<LimitRange>(&pod.meta.namespace).peekable();
        ranges.peek()?;
        let mut full = pod.spec.full.clone();
        // Each range that sets something writes the annotation anew.
        let said = ranges.map(|range| fill_in(range, &mut full)).filter(|set| !set.is_empty()).last()?;
        Some((ANNOTATION, format!("LimitRanger plugin set: {}", said.join("; ")).into()))
    }

    fn validate(
        &self,
        attributes: Attributes<'_>,
        facts: Facts<'_>,
        object: &Object,
        old: Option<&Object>,
    ) -> Result<(), Refusal> {
        let concerned = match object {
            // What containers ask for cannot change later but by a resize.
            Object::Pod(_) => attributes.resize || (attributes.verb == Verb::Create && !attributes.subresource),
            Object::PersistentVolumeClaim(_) => !attributes.subresource,
            _ => false,
        };
        if !concerned || old.is_some_and(|old| old.meta().is_deleting()) {
            return Ok(());
        }
        for range in facts.in_namespace::<LimitRange>(&object.meta().namespace) {
            let mut complaints = Vec::new();
            match object {
                Object::Pod(pod) => check_pod(range, &pod.spec.full, &mut complaints),
                Object::PersistentVolumeClaim(claim) => check_claim(range, &claim.content, &mut complaints),
                _ => {}
            }
            if !complaints.is_empty() {
                let meta = object.meta();
                let why = aggregate(complaints);
                return Err(forbidden(object.kind(), &meta.name, meta.generate_name.as_ref(), why));
            }
        }
        Ok(())
    }
}

/// Several errors as one (apimachinery, util/errors: `aggregate`).
fn aggregate(mut complaints: Vec<String>) -> String {
    let mut seen = Vec::new();
    complaints.retain(|complaint| {
        let first = !seen.contains(complaint);
        seen.push(complaint.clone());
        first
    });
    match complaints.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

fn limits(range: &LimitRange) -> impl Iterator<Item = &LimitRangeItem> {
    range.content.spec.iter().flat_map(|spec| &spec.limits)
}

/// Gives containers what they do not name; says what (`mergePodResourceRequirements`).
fn fill_in(range: &LimitRange, full: &mut core::PodSpec) -> Vec<String> {
    let mut defaults: (BTreeMap<String, Text>, BTreeMap<String, Text>) = Default::default();
    for item in limits(range).filter(|item| item.type_ == "Container") {
        defaults.0.extend(item.default_request.clone().into_iter().flatten());
        defaults.1.extend(item.default.clone().into_iter().flatten());
    }
    let mut said = Vec::new();
    let containers = full.containers.iter_mut().map(|container| ("container", container));
    let init = full.init_containers.iter_mut().flatten().map(|container| ("init container", container));
    for (role, container) in containers.chain(init) {
        let resources = container.resources.get_or_insert_default();
        for (what, list, given) in
            [("request", &mut resources.requests, &defaults.0), ("limit", &mut resources.limits, &defaults.1)]
        {
            let set = add_missing(list, given);
            if !set.is_empty() {
                said.push(format!("{} {what} for {role} {}", set.join(", "), container.name));
            }
        }
    }
    said
}

/// Adds the amounts that are not named yet; returns their names, sorted.
fn add_missing(list: &mut Option<BTreeMap<String, Text>>, given: &BTreeMap<String, Text>) -> Vec<String> {
    let is_missing = |name: &String| list.as_ref().is_none_or(|list| !list.contains_key(name));
    let missing: Vec<String> = given.keys().filter(|name| is_missing(name)).cloned().collect();
    for name in &missing {
        list.get_or_insert_default().insert(name.clone(), given[name].clone());
    }
    missing
}

/// `PodValidateLimitFunc`.
fn check_pod(range: &LimitRange, full: &core::PodSpec, complaints: &mut Vec<String>) {
    for item in limits(range) {
        match item.type_.as_str() {
            "Container" => {
                for container in full.containers.iter().chain(full.init_containers.iter().flatten()) {
                    let resources = container.resources.as_ref();
                    let requests = Amounts::of_valid(resources.and_then(|resources| resources.requests.as_ref()));
                    let limits = Amounts::of_valid(resources.and_then(|resources| resources.limits.as_ref()));
                    check(item, &requests, &limits, complaints);
                }
            }
            "Pod" => check(item, &quota::pod_requests(full), &quota::pod_limits(full), complaints),
            _ => {}
        }
    }
}

fn check(item: &LimitRangeItem, requests: &Amounts, limits: &Amounts, complaints: &mut Vec<String>) {
    let kind = &item.type_;
    for (name, enforced) in Amounts::of_valid(item.min.as_ref()).iter() {
        let usage = format!("minimum {name} usage per {kind} is {enforced}");
        complaints.extend(least(&usage, enforced, requests.get(name), limits.get(name)));
    }
    for (name, enforced) in Amounts::of_valid(item.max.as_ref()).iter() {
        let usage = format!("maximum {name} usage per {kind} is {enforced}");
        complaints.extend(most(&usage, enforced, requests.get(name), limits.get(name)));
    }
    for (name, enforced) in Amounts::of_valid(item.max_limit_request_ratio.as_ref()).iter() {
        let ratio = format!("{name} max limit to request ratio per {kind} is {enforced}");
        complaints.extend(ratio_of(&ratio, enforced, requests.get(name), limits.get(name)));
    }
}

/// `minConstraint`.
fn least(usage: &str, enforced: Quantity, request: Option<Quantity>, limit: Option<Quantity>) -> Option<String> {
    let Some(request) = request else { return Some(format!("{usage}.  No request is specified")) };
    if request < enforced {
        return Some(format!("{usage}, but request is {request}"));
    }
    let limit = limit.filter(|limit| *limit < enforced)?;
    Some(format!("{usage}, but limit is {limit}"))
}

/// `maxConstraint`.
fn most(usage: &str, enforced: Quantity, request: Option<Quantity>, limit: Option<Quantity>) -> Option<String> {
    let Some(limit) = limit else { return Some(format!("{usage}.  No limit is specified")) };
    if limit > enforced {
        return Some(format!("{usage}, but limit is {limit}"));
    }
    let request = request.filter(|request| *request > enforced)?;
    Some(format!("{usage}, but request is {request}"))
}

/// `limitRequestRatioConstraint`: floats as there, in the same order.
fn ratio_of(ratio: &str, enforced: Quantity, request: Option<Quantity>, limit: Option<Quantity>) -> Option<String> {
    /// Above this an amount is not told in thousandths (apimachinery, resource: `MaxMilliValue`).
    const MOST: i64 = i64::MAX / 1000;
    let given = |amount: Option<Quantity>| amount.filter(|amount| !amount.is_zero());
    let Some(request) = given(request) else {
        return Some(format!("{ratio}, but no request is specified or request is 0"));
    };
    let Some(limit) = given(limit) else {
        return Some(format!("{ratio}, but no limit is specified or limit is 0"));
    };
    let fine = [request, limit, enforced].iter().all(|amount| amount.value() <= MOST);
    let (request, limit) = match fine {
        true => (request.milli_value(), limit.milli_value()),
        false => (request.value(), limit.value()),
    };
    let shown = limit as f64 / request as f64;
    let (observed, largest) = match enforced.value() <= MOST {
        true => (shown * 1000.0, enforced.milli_value() as f64),
        false => (shown, enforced.value() as f64),
    };
    (observed > largest).then(|| format!("{ratio}, but provided ratio is {shown:.6}"))
}

/// `PersistentVolumeClaimValidateLimitFunc`.
fn check_claim(range: &LimitRange, claim: &core::PersistentVolumeClaim, complaints: &mut Vec<String>) {
    let requests = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    let requests = Amounts::of_valid(requests);
    for item in limits(range).filter(|item| item.type_ == "PersistentVolumeClaim") {
        let kind = &item.type_;
        for (name, enforced) in Amounts::of_valid(item.min.as_ref()).iter() {
            let usage = format!("minimum {name} usage per {kind} is {enforced}");
            complaints.extend(least(&usage, enforced, requests.get(name), None));
        }
        for (name, enforced) in Amounts::of_valid(item.max.as_ref()).iter() {
            let usage = format!("maximum {name} usage per {kind} is {enforced}");
            let complaint = match requests.get(name) {
                None => Some(format!("{usage}.  No request is specified")),
                Some(request) => (request > enforced).then(|| format!("{usage}, but request is {request}")),
            };
            complaints.extend(complaint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kind::Kind;
    use serde_json::{Value, json};
    use std::rc::Rc;

    fn range(limits: Value) -> Rc<LimitRange> {
        let value = json!({"metadata": {"name": "l"}, "spec": {"limits": limits}});
        let object = Object::from_json(Kind::LimitRange, value).expect("a limit range");
        object.get::<LimitRange>().expect("a limit range").clone()
    }

    fn spec(containers: Value) -> core::PodSpec {
        serde_json::from_value(json!({"containers": containers})).expect("a specification")
    }

    fn check(limit: Value, containers: Value, expected: &str) {
        let mut complaints = Vec::new();
        check_pod(&range(json!([limit])), &spec(containers), &mut complaints);
        assert_eq!(if complaints.is_empty() { String::new() } else { aggregate(complaints) }, expected);
    }

    fn container(requests: Value, limits: Value) -> Value {
        json!({"name": "c", "resources": {"requests": requests, "limits": limits}})
    }

    #[test]
    fn containers_are_within_the_limits() {
        let least = json!({"type": "Container", "min": {"cpu": "50m"}});
        check(least.clone(), json!([container(json!({"cpu": "50m"}), json!({}))]), "");
        check(
            least.clone(),
            json!([container(json!({"cpu": "40m"}), json!({"cpu": "100m"}))]),
            "minimum cpu usage per Container is 50m, but request is 40m",
        );
        check(
            least,
            json!([container(json!({}), json!({}))]),
            "minimum cpu usage per Container is 50m.  No request is specified",
        );
        let most = json!({"type": "Container", "max": {"memory": "1Gi", "cpu": "1"}});
        check(
            most,
            json!([container(json!({"memory": "2Gi"}), json!({"memory": "2Gi"}))]),
            "[maximum cpu usage per Container is 1.  No limit is specified, \
             maximum memory usage per Container is 1Gi, but limit is 2Gi]",
        );
        let ratio = json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "1500m"}});
        check(ratio.clone(), json!([container(json!({"cpu": "1"}), json!({"cpu": "1500m"}))]), "");
        check(
            ratio.clone(),
            json!([container(json!({"cpu": "1"}), json!({"cpu": "2"}))]),
            "cpu max limit to request ratio per Container is 1500m, but provided ratio is 2.000000",
        );
        check(
            ratio,
            json!([container(json!({}), json!({"cpu": "2"}))]),
            "cpu max limit to request ratio per Container is 1500m, but no request is specified or request is 0",
        );
    }

    #[test]
    fn a_pod_is_within_the_limits_with_all_its_containers() {
        let two = json!([
            container(json!({"cpu": "1"}), json!({"cpu": "1"})),
            container(json!({"cpu": "1"}), json!({"cpu": "1"}))
        ]);
        check(json!({"type": "Pod", "max": {"cpu": "2"}}), two.clone(), "");
        check(json!({"type": "Pod", "max": {"cpu": "1"}}), two, "maximum cpu usage per Pod is 1, but limit is 2");
    }

    #[test]
    fn a_container_gets_what_it_does_not_name_and_the_pod_is_told() {
        let range = range(json!([{
            "type": "Container", "default": {"cpu": "200m", "memory": "1Gi"},
            "defaultRequest": {"cpu": "100m", "memory": "512Mi"}
        }]));
        let mut full = spec(json!([
            {"name": "a"}, {"name": "b", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1", "memory": "1Gi"}}}
        ]));
        let said = fill_in(&range, &mut full);
        assert_eq!(
            said,
            [
                "cpu, memory request for container a",
                "cpu, memory limit for container a",
                "memory request for container b",
            ]
        );
        let resources = full.containers[1].resources.clone().expect("resources");
        let requests = Amounts::of_valid(resources.requests.as_ref());
        assert_eq!(requests.to_string(), "cpu=1,memory=512Mi");
    }
}
