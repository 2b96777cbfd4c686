//! The disruption controller: works out how many pods of each disruption budget may go by choice, and takes back the
//! announcement of a disruption that did not happen.
//!
//! It never evicts anything: the API server does, by what is written here.
//!
//! - `scale`: how many pods there should be
//!
//! Facts: kubernetes, pkg/controller/disruption.

mod scale;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use k8s_openapi::api::policy::v1::PodDisruptionBudgetStatus;

use crate::api::event::EventType;
use crate::api::kind::Kind;
use crate::api::meta::{ObjectKey, Timestamp};
use crate::api::name::Name;
use crate::api::object::{Object, Resource};
use crate::api::pod::{ConditionStatus, Pod, PodCondition, PodConditionType, Why};
use crate::api::policy::{self, PodDisruptionBudget};
use crate::apiserver::protocol::{Operation, Part};
use crate::apiserver::status::Reason;
use crate::client::controller::{Change, Controller};
use crate::client::plan::{Again, EventNote, Plan, Step};
use crate::client::view::{Now, View};
use crate::engine::time::SimDuration;

use super::owner;
use super::time::{self, Until};
use scale::Expected;

/// How long an eviction that was granted may take until the pod is being deleted (`DeletionTimeout`), in seconds.
const DELETION_TIMEOUT_S: i64 = 120;
/// How long a pod may say that it is about to be disrupted without being deleted (`stalePodDisruptionTimeout`), in seconds.
const STALE_S: i64 = 120;
/// The reason of announcements that only the kubelet takes back (`PodReasonTerminationByKubelet`).
const BY_KUBELET: &str = "TerminationByKubelet";

/// The disruption controller. Its keys are budgets, and pods that are in several or about to be disrupted.
#[derive(Default)]
pub struct DisruptionController {
    /// What is to be told of pods: the original says it with each of their changes, the last one too.
    told: RefCell<BTreeMap<ObjectKey, Vec<EventNote>>>,
}

impl Controller for DisruptionController {
    fn name(&self) -> &'static str {
        "disruption-controller"
    }

    fn event_source(&self) -> &'static str {
        "controllermanager"
    }

    fn workers(&self) -> usize {
        1
    }

    fn watches(&self) -> &'static [Kind] {
        &[
            Kind::PodDisruptionBudget,
            Kind::Pod,
            Kind::ReplicationController,
            Kind::ReplicaSet,
            Kind::Deployment,
            Kind::StatefulSet,
        ]
    }

    fn on_change(&self, change: Change<'_>, view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        match change.object() {
            Object::PodDisruptionBudget(budget) => enqueue(owner::key_of(&**budget), SimDuration::ZERO),
            Object::Pod(pod) => {
                let mut budgets = budgets_of(view, pod);
                let (first, second) = (budgets.next(), budgets.next());
                if let Some(budget) = first {
                    enqueue(owner::key_of(&**budget), SimDuration::ZERO);
                    if second.is_some() {
                        let key = owner::key_of(&**pod);
                        self.told.borrow_mut().entry(key.clone()).or_default().push(in_several(pod, budget));
                        enqueue(key, SimDuration::ZERO);
                    }
                }
                if !matches!(change, Change::Deleted(_)) && announced_since(pod).is_some() {
                    // If the date was some time ago, the look at the pod finds out how long is left.
                    enqueue(owner::key_of(&**pod), SimDuration::ZERO);
                }
            }
            _ => {}
        }
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        if key.kind == Kind::Pod {
            let told = self.told.borrow_mut().remove(key).unwrap_or_default();
            let mut plan =
                view.get::<Pod>(&key.namespace, &key.name).map_or_else(Plan::nothing, |pod| look_at_pod(pod, now));
            plan.steps.splice(..0, told.into_iter().map(Step::Record));
            return plan;
        }
        match view.get::<PodDisruptionBudget>(&key.namespace, &key.name) {
            Some(budget) => look_at_budget(view, budget, now),
            None => Plan::nothing(),
        }
    }
}

/// The budgets that select a pod, by name.
fn budgets_of<'a>(view: &View<'a>, pod: &'a Pod) -> impl Iterator<Item = &'a Rc<PodDisruptionBudget>> + use<'a> {
    let budgets = view.list_in::<PodDisruptionBudget>(&pod.meta.namespace);
    budgets.filter(|budget| budget.selector.matches(&pod.meta.labels))
}

/// Brings a budget's status up to date (`trySync`). If it cannot be worked out, nothing is allowed (`failSafe`).
fn look_at_budget(view: &View<'_>, budget: &Rc<PodDisruptionBudget>, now: Now) -> Plan {
    let pods = view.selected_pods(&budget.meta.namespace, &budget.selector);
    let mut plan = Plan::nothing();
    if pods.is_empty() {
        plan = plan.step(note(&**budget, EventType::Normal, "NoPods", "No matching pods found".to_owned()));
    }
    let expected = match scale::expected(view, budget, &pods) {
        Ok(expected) => expected,
        Err(why) => {
            let message = format!("Failed to calculate the number of expected pods: {why}");
            let told = note(&**budget, EventType::Warning, "CalculateExpectedPodCountFailed", message);
            return plan.step(told).step(Step::request(fail_safe(budget, &why, now)));
        }
    };
    if expected.has_unmanaged {
        plan = plan.step(note(&**budget, EventType::Warning, "UnmanagedPods", scale::unmanaged_message(budget)));
    }
    let mut tally = Tally::default();
    for pod in &pods {
        if let Some(step) = tally.add(budget, pod, now) {
            plan = plan.step(step);
        }
    }
    let again = tally.recheck.map_or(Again::OnChange, |recheck| Again::After(recheck.left()));
    let status = status(budget, &expected, tally, now.timestamp());
    if budget.status() == Some(&status) {
        return Plan { again, ..plan };
    }
    let budget = Rc::clone(budget);
    plan.step(Step::request(write(&budget, status))).then(move |_, outcomes, now| match outcomes.last() {
        // A conflict is no reason to forbid everything: the newer version is on its way.
        Some(Err(status)) if status.reason == Reason::Conflict => {
            Plan { again: Again::BackOff(status.message.clone()), ..Plan::default() }
        }
        Some(Err(status)) => Plan::request(fail_safe(&budget, &status.message, now)),
        _ => Plan { again, ..Plan::default() },
    })
}

/// What is counted among a budget's pods.
#[derive(Default)]
struct Tally {
    healthy: i32,
    /// Granted evictions that have not happened yet.
    disrupted: std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// When the first of them is given up.
    recheck: Option<Until>,
}

impl Tally {
    /// Counts a pod (`countHealthyPods`, `buildDisruptedPodMap`); what is to be told of it.
    fn add(&mut self, budget: &PodDisruptionBudget, pod: &Rc<Pod>, now: Now) -> Option<Step> {
        if pod.meta.is_deleting() {
            return None;
        }
        let Some(date) = budget.disrupted_at(&pod.meta.name) else {
            self.healthy += i32::from(pod.status.is_ready());
            return None;
        };
        let end = time::until(now, Timestamp(date.0.as_second()), DELETION_TIMEOUT_S);
        if end.left() == SimDuration::ZERO {
            self.healthy += i32::from(pod.status.is_ready());
        }
        if end.is_past() {
            // The original names the budget's namespace twice.
            let namespace = &budget.meta.namespace;
            let message = format!("Pod was expected by PDB {namespace}/{namespace} to be deleted but it wasn't");
            return Some(note(&**pod, EventType::Warning, "NotDeleted", message));
        }
        self.recheck = Some(self.recheck.map_or(end, |earliest| earliest.min(end)));
        self.disrupted.insert(pod.meta.name.to_string(), date.clone());
        None
    }
}

/// The status that follows; the present one if it says the same already (`updatePdbStatus`).
fn status(
    budget: &PodDisruptionBudget,
    expected: &Expected,
    tally: Tally,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let spare = tally.healthy - expected.desired;
    // A budget without pods allows nothing: it is not to be in the way of its first pods' safety.
    let allowed = if expected.count <= 0 { 0 } else { spare.max(0) };
    let present = budget.status();
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: Some(tally.healthy),
        desired_healthy: Some(expected.desired),
        expected_pods: Some(expected.count),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!tally.disrupted.is_empty()).then_some(tally.disrupted),
        observed_generation: Some(budget.meta.generation),
        conditions: present.and_then(|status| status.conditions.clone()),
    };
    if present != Some(&status) || !budget.is_allowance_current() {
        policy::tell_allowance(&mut status, now);
    }
    status
}

fn write(budget: &PodDisruptionBudget, status: PodDisruptionBudgetStatus) -> Operation {
    Operation::Update { object: budget.with_status(status).boxed(), part: Part::Status, dry_run: false }
}

/// Forbids every disruption and says why.
fn fail_safe(budget: &PodDisruptionBudget, why: &str, now: Now) -> Operation {
    let mut status = budget.status().cloned().unwrap_or_else(policy::unseen_status);
    status.disruptions_allowed = Some(0);
    policy::tell_failure(&mut status, why, now.timestamp());
    write(budget, status)
}

/// Since when a pod has said that it is about to be disrupted, though it is not being deleted
/// (`nonTerminatingPodHasStaleDisruptionCondition`). What the kubelet announced may take any time.
fn announced_since(pod: &Pod) -> Option<Timestamp> {
    let condition = pod.status.condition(&PodConditionType::DisruptionTarget)?;
    let counts = condition.status == ConditionStatus::True && condition.why.reason() != Some(BY_KUBELET);
    (counts && pod.is_active()).then_some(condition.last_transition)
}

/// What is told of a pod in several budgets (`getPdbForPod`).
fn in_several(pod: &Pod, first: &PodDisruptionBudget) -> EventNote {
    let message = format!(
        "Pod \"{}\"/\"{}\" matches multiple PodDisruptionBudgets.  Chose \"{}\" arbitrarily.",
        pod.meta.namespace, pod.meta.name, first.meta.name
    );
    event(pod, EventType::Warning, "MultiplePodDisruptionBudgets", message)
}

/// Takes back the announcement of a disruption that did not happen (`syncStalePodDisruption`).
fn look_at_pod(pod: &Rc<Pod>, now: Now) -> Plan {
    let Some(since) = announced_since(pod) else { return Plan::nothing() };
    let left = time::until(now, since, STALE_S).left();
    if left > SimDuration::ZERO {
        return Plan::nothing().again_after(left);
    }
    let mut freed = (**pod).clone();
    if let Some(condition) =
        freed.status.conditions.iter_mut().find(|condition| condition.kind == PodConditionType::DisruptionTarget)
    {
        *condition = PodCondition {
            kind: PodConditionType::DisruptionTarget,
            status: ConditionStatus::False,
            why: Why::NONE,
            last_transition: now.timestamp(),
            observed_generation: pod.meta.generation,
        };
    }
    let operation = Operation::Update { object: freed.boxed(), part: Part::Status, dry_run: false };
    Plan::request(operation)
}

fn note<R: Resource>(about: &R, kind: EventType, reason: &'static str, message: String) -> Step {
    Step::Record(event(about, kind, reason, message))
}

fn event<R: Resource>(about: &R, kind: EventType, reason: &'static str, message: String) -> EventNote {
    EventNote { regarding: owner::reference(about), kind, reason: Name::of(reason), message }
}
