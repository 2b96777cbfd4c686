//! What a DaemonSet's pods are made of, and their creation and deletion.

use std::rc::Rc;

use k8s_openapi::api::core::v1::{PodSpec as FullSpec, Toleration};

use crate::api::event::{EventType, ObjectReference};
use crate::api::kind::Kind;
use crate::api::meta::{Common, Labels, Meta, ObjectKey};
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::{Pod, PodSpec, PodStatus};
use crate::api::revision::ControllerRevision;
use crate::api::workload::DaemonSet;
use crate::apiserver::protocol::{DeleteOptions, Operation};
use crate::apiserver::status::Reason;
use crate::client::plan::{EventNote, Outcome, Request, Step};

use super::super::history::REVISION_LABEL;
use super::super::owner;
use super::super::script::{Halt, Script};
use super::rolling::{self, GENERATION_LABEL};

/// The taints that every pod of a DaemonSet tolerates, with their effects (`AddOrUpdateDaemonPodTolerations`): trouble of the
/// node must not take away what looks after it.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
/// The same for those in the node's own network.
const TOLERATED_BY_HOST_NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// The tolerations that a DaemonSet's pods have: those of its template and those that all have.
pub(super) fn tolerations(template: &FullSpec) -> Vec<Toleration> {
    let mut all = template.tolerations.clone().unwrap_or_default();
    let of_host_network = (template.host_network == Some(true)).then_some(TOLERATED_BY_HOST_NETWORK);
    for (key, effect) in TOLERATED.into_iter().chain(of_host_network) {
        let added = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        let is_same = |other: &&mut Toleration| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            text(&other.key) == key
                && text(&other.effect) == effect
                && text(&other.operator) == "Exists"
                && text(&other.value).is_empty()
        };
        match all.iter_mut().find(is_same) {
            Some(present) => *present = added,
            None => all.push(added),
        }
    }
    all
}

/// What all pods of a revision share.
pub(super) struct Template {
    labels: Labels,
    annotations: Labels,
    spec: Rc<PodSpec>,
}

impl Template {
    /// Made once for each revision and kept with it.
    pub fn of(set: &DaemonSet, revision: &ControllerRevision, hash: &Name) -> Self {
        let mut labels = set.template.labels.with(REVISION_LABEL, hash.clone());
        if let Some(generation) = rolling::template_generation(set) {
            labels = labels.with(GENERATION_LABEL, generation.clone());
        }
        let spec = match revision.template() {
            Some(kept) => kept.for_pods.get_or_init(|| spec(&set.template.spec)).clone(),
            None => spec(&set.template.spec),
        };
        Template { labels, annotations: set.template.annotations.clone(), spec }
    }

    /// A pod for a node, to be named by the server.
    fn pod(&self, set: &DaemonSet, node: &Name) -> Pod {
        let meta = Meta {
            common: Common {
                generate_name: Some(Name::from(format!("{}-", set.meta.name))),
                namespace: set.meta.namespace.clone(),
                labels: self.labels.clone(),
                annotations: self.annotations.clone(),
                owners: [owner::controller_reference(set)].into(),
                finalizers: set.template.finalizers().into(),
                ..Common::default()
            }
            .into(),
            ..Meta::default()
        };
        let (spec, only_node) = (self.spec.clone(), Some(Box::new(node.clone())));
        Pod { meta, spec, node: set.template.node(), only_node, token_volume: None, status: PodStatus::default() }
    }
}

/// The template's specification with the tolerations, and without node and required node affinity: its place is taken by the
/// term that names the node, which stands beside it.
fn spec(template: &Rc<PodSpec>) -> Rc<PodSpec> {
    let mut spec = PodSpec::clone(template);
    spec.full.node_name = None;
    spec.full.tolerations = Some(tolerations(&spec.full));
    if let Some(affinity) = &mut spec.full.affinity {
        if let Some(node) = &mut affinity.node_affinity {
            node.required_during_scheduling_ignored_during_execution = None;
            if node.preferred_during_scheduling_ignored_during_execution.is_none() {
                affinity.node_affinity = None;
            }
        }
        if *affinity == Default::default() {
            spec.full.affinity = None;
        }
    }
    Rc::new(spec)
}

/// Creates and deletes pods, at most a burst of each (`syncNodes`); true if there were any.
pub(super) fn sync(
    script: &mut Script<'_>,
    set: &DaemonSet,
    template: &Template,
    create: &[Name],
    delete: &[Rc<Pod>],
    burst: usize,
) -> Result<bool, Halt> {
    let (create, delete) = (&create[..create.len().min(burst)], &delete[..delete.len().min(burst)]);
    if create.is_empty() && delete.is_empty() {
        return Ok(false);
    }
    let deletions = delete.iter().map(|pod| pod.meta.uid).collect();
    script.push(Step::Expect { creations: create.len() as u32, deletions });
    let about = owner::reference(set);
    let mut failures: Vec<String> = Vec::new();
    if !create.is_empty() {
        let outcomes = script.step(|| {
            let request = |node: &Name| Request {
                operation: Operation::Create { object: Object::Pod(Rc::new(template.pod(set, node))), dry_run: false },
                tolerate: &[],
                on_success: Some(note(&about, EventType::Normal, "SuccessfulCreate", "Created pod: {name}".to_owned())),
                on_failure: Some(note(
                    &about,
                    EventType::Warning,
                    "FailedCreate",
                    "Error creating: {error}".to_owned(),
                )),
            };
            Step::SlowStart(create.iter().map(request).collect())
        })?;
        note_failures(&outcomes, &mut failures, |status| !status.is_namespace_terminating());
    }
    if !delete.is_empty() {
        let outcomes = script.step(|| Step::Parallel(delete.iter().map(|pod| deletion(&about, pod)).collect()))?;
        note_failures(&outcomes, &mut failures, |status| status.reason != Reason::NotFound);
    }
    match failures.as_slice() {
        [] => Ok(true),
        [failure] => Err(Halt::Failed(failure.clone())),
        failures => Err(Halt::Failed(format!("[{}]", failures.join(", ")))),
    }
}

fn deletion(about: &ObjectReference, pod: &Pod) -> Request {
    let name = &pod.meta.name;
    let key = ObjectKey { kind: Kind::Pod, namespace: pod.meta.namespace.clone(), name: name.clone() };
    Request {
        operation: Operation::Delete { key, options: DeleteOptions::default() },
        tolerate: &[Reason::NotFound],
        on_success: Some(note(about, EventType::Normal, "SuccessfulDelete", format!("Deleted pod: {name}"))),
        on_failure: Some(note(about, EventType::Warning, "FailedDelete", "Error deleting: {error}".to_owned())),
    }
}

/// Each failure's text once.
fn note_failures(
    outcomes: &[Outcome],
    failures: &mut Vec<String>,
    counts: impl Fn(&crate::apiserver::status::Status) -> bool,
) {
    for status in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).filter(|status| counts(status)) {
        if !failures.contains(&status.message) {
            failures.push(status.message.clone());
        }
    }
}

fn note(about: &ObjectReference, kind: EventType, reason: &'static str, message: String) -> Box<EventNote> {
    Box::new(EventNote { regarding: about.clone(), kind, reason: Name::of(reason), message })
}
