//! What tells the pods of a StatefulSet apart: ordinals, names, labels, hostnames.

use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;

use crate::api::meta::{Common, Meta};
use crate::api::name::Name;
use crate::api::pod::{OWN_NAME, Pod, PodSpec, PodStatus};
use crate::api::revision::ControllerRevision;
use crate::api::stateful::StatefulSet;

use super::super::history::REVISION_LABEL;
use super::super::owner;

/// The label of a pod with its own name.
pub const POD_NAME_LABEL: Name = Name::of("statefulset.kubernetes.io/pod-name");

/// The label of a pod with its ordinal.
pub const POD_INDEX_LABEL: Name = Name::of("apps.kubernetes.io/pod-index");

/// How many pods of a parallel set one sync makes at most.
const MOST_NEW: usize = 100_000;

/// The name of the set and the ordinal that a pod's name says; none if it says neither. An ordinal that is too large is -1.
pub fn parent_and_ordinal(pod: &str) -> Option<(&str, i32)> {
    let (parent, digits) = pod.rsplit_once('-')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| (parent, digits.parse().unwrap_or(-1)))
}

/// The ordinal of a pod; -1 if it has none.
pub fn ordinal(pod: &Meta) -> i32 {
    parent_and_ordinal(&pod.name).map_or(-1, |(_, ordinal)| ordinal)
}

/// The place of an ordinal among those that the set is to have; none if it is not to be.
pub fn place(set: &StatefulSet, ordinal: i32) -> Option<usize> {
    let place = usize::try_from(i64::from(ordinal) - i64::from(set.first_ordinal())).ok()?;
    (place < set.size()).then_some(place)
}

/// How many places, from the first one on, a sync needs to look at if pods hold these, whatever number of replicas somebody has asked
/// for: in order nothing is done beyond the first pod that is missing, and in parallel the next sync goes on.
pub fn places(set: &StatefulSet, held: impl Iterator<Item = usize>) -> usize {
    let held = held.max().map_or(0, |last| last + 1);
    set.size().min(held + if set.spec.is_parallel { MOST_NEW } else { 1 })
}

/// The name of a pod.
pub fn pod_name(set: &StatefulSet, ordinal: i32) -> Name {
    Name::from(format!("{}-{ordinal}", set.meta.name))
}

/// The same; the pod that has the ordinal has the name too, unless it writes the ordinal in another way.
pub fn name_at(set: &StatefulSet, ordinal: i32, pod: Option<&Rc<Pod>>) -> Name {
    let name = pod.map(|pod| &pod.meta.name);
    let digits = |name: &Name| name.get(set.meta.name.len() + 1..).map(str::len);
    let is_plain = |name: &&Name| digits(name) == Some(ordinal.checked_ilog10().unwrap_or(0) as usize + 1);
    name.filter(is_plain).cloned().unwrap_or_else(|| pod_name(set, ordinal))
}

/// The name of the claim that a pod has of one of the set's claim templates.
pub fn claim_name(template: &core::PersistentVolumeClaim, pod: &str) -> String {
    format!("{}-{pod}", template.metadata.name.as_deref().unwrap_or_default())
}

/// The revision that a pod was made of, as its label says.
pub fn revision_of(pod: &Meta) -> Option<&Name> {
    pod.labels.get(&REVISION_LABEL)
}

/// True if the pod says of itself who it is (`identityMatches`).
pub fn is_labelled(pod: &Meta) -> bool {
    pod.labels.get(&POD_NAME_LABEL) == Some(&pod.name)
}

/// The metadata with the labels that say who the pod is (`updateIdentity`).
pub fn labelled(meta: &Meta) -> Meta {
    let labels = meta.labels.with(POD_NAME_LABEL, meta.name.clone());
    let mut labelled = meta.clone();
    labelled.labels = labels.with(POD_INDEX_LABEL, ordinal(meta).to_string());
    labelled
}

/// True if the pod has a volume for each of its claims (`storageMatches`).
pub fn has_volumes(set: &StatefulSet, pod: &Pod) -> bool {
    set.spec.claim_templates.iter().all(|template| {
        let (name, claim) = (template.metadata.name.as_deref(), claim_name(template, &pod.meta.name));
        pod.spec.full.volumes.iter().flatten().any(|volume| {
            Some(volume.name.as_str()) == name
                && volume.persistent_volume_claim.as_ref().is_some_and(|source| source.claim_name == claim)
        })
    })
}

/// A pod of a revision (`newStatefulSetPod`); none if the revision keeps no template. All pods of a revision share their
/// specification unless they have claims of their own.
pub fn new_pod(set: &StatefulSet, revision: &ControllerRevision, ordinal: i32) -> Option<Pod> {
    let kept = revision.template()?;
    let shared = kept.for_pods.get_or_init(|| Rc::new(spec_for_pods(set, &kept.template.spec)));
    let name = pod_name(set, ordinal);
    let spec =
        if set.spec.claim_templates.is_empty() { shared.clone() } else { Rc::new(with_volumes(set, shared, &name)) };
    let meta = Meta {
        name,
        common: Common {
            generate_name: Some(Name::from(format!("{}-", set.meta.name))),
            namespace: set.meta.namespace.clone(),
            labels: kept.template.labels.with(REVISION_LABEL, revision.meta.name.clone()),
            annotations: kept.template.annotations.clone(),
            owners: [owner::controller_reference(set)].into(),
            finalizers: kept.template.finalizers().into(),
            ..Common::default()
        }
        .into(),
        ..Meta::default()
    };
    Some(Pod {
        meta: labelled(&meta),
        spec,
        node: kept.template.node(),
        only_node: None,
        token_volume: None,
        status: PodStatus::default(),
    })
}

/// The template's specification with the network identity: the pod's own name within the set's service.
fn spec_for_pods(set: &StatefulSet, template: &PodSpec) -> PodSpec {
    let mut spec = PodSpec { merged: Default::default(), ..template.clone() };
    spec.full.node_name = None;
    spec.full.hostname = Some(OWN_NAME.to_owned());
    let service = &set.spec.service_name;
    spec.full.subdomain = (!service.is_empty()).then(|| String::from(service));
    spec
}

/// A specification with the volumes of a pod's claims in front of its other ones (`updateStorage`).
pub fn with_volumes(set: &StatefulSet, spec: &PodSpec, pod: &str) -> PodSpec {
    let mut spec = PodSpec { merged: Default::default(), ..spec.clone() };
    let of_claim = |template: &core::PersistentVolumeClaim| core::Volume {
        name: template.metadata.name.clone().unwrap_or_default(),
        persistent_volume_claim: Some(core::PersistentVolumeClaimVolumeSource {
            claim_name: claim_name(template, pod),
            read_only: None,
        }),
        ..core::Volume::default()
    };
    let mut volumes: Vec<_> = set.spec.claim_templates.iter().map(of_claim).collect();
    let own = volumes.len();
    for volume in spec.full.volumes.take().into_iter().flatten() {
        if volumes[..own].iter().all(|claimed| claimed.name != volume.name) {
            volumes.push(volume);
        }
    }
    spec.full.volumes = Some(volumes);
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::revision::RevisionData;
    use crate::controllers::testing::{ready_pod, stateful_set};

    #[test]
    fn a_pod_of_a_template_that_names_a_node_is_there_from_the_beginning() {
        let mut set = stateful_set("db", 1);
        let spec = &mut Rc::make_mut(&mut set.template).spec;
        Rc::make_mut(spec).full.node_name = Some("node-7".to_owned());
        let data = Rc::new(RevisionData::of(set.template.clone()));
        let pod = new_pod(&set, &ControllerRevision { meta: Meta::default(), revision: 1, data }, 0).expect("a pod");
        assert_eq!((pod.node.as_deref(), &pod.spec.full.node_name), (Some("node-7"), &None));
    }

    #[test]
    fn a_name_says_the_set_and_the_ordinal() {
        assert_eq!(parent_and_ordinal("db-12"), Some(("db", 12)));
        assert_eq!(parent_and_ordinal("my-db-0"), Some(("my-db", 0)));
        assert_eq!(parent_and_ordinal("db-99999999999"), Some(("db", -1)));
        for name in ["db", "db-", "db-a1", "db-1a"] {
            assert_eq!(parent_and_ordinal(name), None, "{name}");
        }
    }

    #[test]
    fn a_place_has_the_name_of_its_pod_unless_that_writes_the_ordinal_in_another_way() {
        let set = stateful_set("db", 12);
        let named = |pod: &str, ordinal: i32| name_at(&set, ordinal, Some(&Rc::new(ready_pod(pod, 0))));
        assert_eq!([named("db-0", 0), named("db-11", 11), named("db-011", 11)], ["db-0", "db-11", "db-11"]);
        assert_eq!(name_at(&set, 7, None), "db-7");
    }
}
