//! The eviction of a pod: disruption budgets are asked first, and one that agrees remembers it before the pod goes.
//!
//! Facts: kubernetes, pkg/registry/core/pod/storage/eviction.go. What is done to the pod itself, two writes, is `change`'s.

use k8s_openapi::api::policy::v1::PodDisruptionBudgetStatus;

use crate::api::convert::to_time;
use crate::api::kind::Kind;
use crate::api::meta::{ObjectKey, Timestamp};
use crate::api::name::Name;
use crate::api::object::{Object, Resource};
use crate::api::pod::{Pod, PodPhase};
use crate::api::policy::{self, PodDisruptionBudget};
use crate::engine::process::Context;
use crate::engine::time::SimDuration;

use super::change::Then;
use super::protocol::{DeleteOptions, ListRevision, Operation, Scope};
use super::reading::Page;
use super::server::{ApiServer, ServerMessage};
use super::status::{Details, Reason, Status};
use super::task::{Step, Task};

/// How often a write that met a conflict is tried in all (`EvictionsRetry`).
const TRIES: u8 = 20;
/// How long is waited before the next try; up to a tenth more.
const WAIT: SimDuration = SimDuration::from_millis(500);
/// More evictions than these are not granted while the controller has not seen them happen (`MaxDisruptedPodSize`).
const MOST_DISRUPTED: usize = 2000;
/// What a client is told that has to wait.
const REFUSAL: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
/// What is said of a pod in several budgets.
const SEVERAL: &str =
    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";

/// How far an eviction is.
#[derive(Debug)]
pub struct Eviction {
    stage: Stage,
    /// What the client asked for.
    options: DeleteOptions,
    /// The pod as it was when its budgets were asked.
    pod: Option<Object>,
    /// The budget that counts.
    budget: Option<Name>,
    /// How often a conflict was met.
    conflicts: u8,
}

/// What an eviction is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// To find out whether budgets matter.
    Pod,
    /// To have a budget count it.
    Budget,
    /// To do it: no budget is in its way. A conflict means that the pod may have become one that budgets protect:
    /// it is looked at again.
    Unprotected,
    /// To do it: the pod is not healthy, which the budget allows. A conflict is for the client to try again.
    Unhealthy,
    /// To do it: the budget has counted it, or there is none.
    Granted,
}

impl Eviction {
    fn of(options: &DeleteOptions) -> Eviction {
        Eviction { stage: Stage::Pod, options: options.clone(), pod: None, budget: None, conflicts: 0 }
    }

    /// True once the pod may go.
    pub fn may_go(&self) -> bool {
        !matches!(self.stage, Stage::Pod | Stage::Budget)
    }
}

impl ApiServer {
    /// Begins an eviction, or goes on with one that has waited.
    pub(super) fn evict(&mut self, mut task: Task, ctx: &mut dyn Context<ServerMessage>) {
        let Operation::Evict { key, options } = &task.operation else { return };
        let eviction = task.eviction.get_or_insert_with(|| Box::new(Eviction::of(options)));
        match (eviction.stage, &eviction.budget) {
            (Stage::Budget, Some(budget)) => {
                let key = ObjectKey::new(Kind::PodDisruptionBudget, key.namespace.clone(), budget.clone());
                self.read_present(task, &key, ctx);
            }
            _ => self.begin_change(task, ctx),
        }
    }

    /// What an eviction had to see was read: the pod, or its budget once more.
    pub(super) fn seen_for_eviction(
        &mut self,
        mut task: Task,
        present: Option<Object>,
        ctx: &mut dyn Context<ServerMessage>,
    ) {
        let Some(eviction) = task.eviction.as_mut() else { return };
        match (eviction.stage, present) {
            (Stage::Pod, Some(Object::Pod(pod))) => self.look_at_evicted(task, &pod, ctx),
            (Stage::Budget, Some(Object::PodDisruptionBudget(budget))) => self.spend(task, &budget, ctx),
            (Stage::Budget, _) => {
                let name = eviction.budget.clone().unwrap_or_default();
                let status = Status::not_found(Kind::PodDisruptionBudget, &name);
                self.finish(task, Err(Box::new(status)), ctx);
            }
            (_, _) => {
                let name = task.key().map(|key| key.name).unwrap_or_default();
                self.finish(task, Err(Box::new(Status::not_found(Kind::Pod, &name))), ctx);
            }
        }
    }

    /// A pod that does not run, or goes already, is of no budget's concern.
    fn look_at_evicted(&mut self, mut task: Task, pod: &std::rc::Rc<Pod>, ctx: &mut dyn Context<ServerMessage>) {
        let Some(eviction) = task.eviction.as_mut() else { return };
        let object = Object::Pod(pod.clone());
        eviction.pod = Some(object.clone());
        let has_ended = pod.is_terminal() || pod.meta.is_deleting();
        if has_ended || pod.status.phase == PodPhase::Pending {
            eviction.stage = Stage::Unprotected;
            let guarded = (!has_ended).then_some(object.meta().revision());
            return self.end_evicted(task, object, guarded, ctx);
        }
        let scope = Scope { namespace: Some(pod.meta.namespace.clone()), ..Scope::all(Kind::PodDisruptionBudget) };
        match Page::begin(&scope, 0, None, ListRevision::Latest) {
            Ok(page) => self.read_pages(task, page, SimDuration::ZERO, ctx),
            Err(status) => self.finish(task, Err(status), ctx),
        }
    }

    /// The budgets of the pod's namespace were read.
    pub(super) fn budgets_listed(&mut self, mut task: Task, items: &[Object], ctx: &mut dyn Context<ServerMessage>) {
        let Some(eviction) = task.eviction.as_mut() else { return };
        let Some(Object::Pod(pod)) = eviction.pod.clone() else { return };
        let mut budgets = items.iter().filter_map(Object::get::<PodDisruptionBudget>);
        let mut budgets = budgets.by_ref().filter(|budget| budget.selector.matches(&pod.meta.labels));
        match (budgets.next(), budgets.next()) {
            (Some(_), Some(_)) => {
                self.finish(task, Err(Box::new(Status::new(Reason::InternalError, SEVERAL))), ctx);
            }
            (Some(budget), None) => {
                eviction.budget = Some(budget.meta.name.clone());
                if !pod.status.is_ready() && lets_unhealthy_go(budget) {
                    eviction.stage = Stage::Unhealthy;
                    let guarded = Some(pod.meta.revision());
                    return self.end_evicted(task, Object::Pod(pod), guarded, ctx);
                }
                eviction.stage = Stage::Budget;
                self.spend(task, budget, ctx);
            }
            (None, _) => {
                eviction.stage = Stage::Granted;
                self.end_evicted(task, Object::Pod(pod), None, ctx);
            }
        }
    }

    /// Has a budget count the pod as gone, if it allows it (`checkAndDecrement`).
    fn spend(&mut self, task: Task, budget: &std::rc::Rc<PodDisruptionBudget>, ctx: &mut dyn Context<ServerMessage>) {
        let Some(pod) = task.eviction.as_ref().and_then(|eviction| eviction.pod.as_ref()) else { return };
        let now = self.config.epoch.timestamp(ctx.now());
        match count_as_disrupted(budget, &pod.meta().name, now) {
            Err(status) => self.finish(task, Err(status), ctx),
            Ok(_) if task.is_dry_run() => self.budget_spent(task, ctx),
            Ok(status) => {
                let old = Object::PodDisruptionBudget(budget.clone());
                let mut new = budget.with_status(status).boxed();
                new.meta_mut().resource_version.set(0);
                self.replace(task, old, new, Then::Evict, ctx);
            }
        }
    }

    /// The budget has counted the pod.
    pub(super) fn budget_spent(&mut self, mut task: Task, ctx: &mut dyn Context<ServerMessage>) {
        let Some(eviction) = task.eviction.as_mut() else { return };
        eviction.stage = Stage::Granted;
        if let Some(pod) = eviction.pod.clone() {
            self.end_evicted(task, pod, None, ctx);
        }
    }

    /// Lets the pod end. `guarded` is the version that it must still be unless the client named one itself.
    fn end_evicted(&mut self, mut task: Task, pod: Object, guarded: Option<u64>, ctx: &mut dyn Context<ServerMessage>) {
        if let (Operation::Evict { options, .. }, Some(revision)) = (&mut task.operation, guarded) {
            options.resource_version = options.resource_version.or(Some(revision));
        }
        self.change(task, pod, false, ctx);
    }

    /// What it was to write has changed meanwhile: it waits and looks again, or leaves that to the client.
    pub(super) fn eviction_conflict(
        &mut self,
        mut task: Task,
        status: Box<Status>,
        ctx: &mut dyn Context<ServerMessage>,
    ) {
        let Some(eviction) = task.eviction.as_mut() else { return };
        let client_names_version = eviction.options.resource_version.is_some();
        match eviction.stage {
            Stage::Unhealthy if !client_names_version => {
                let refusal = still_being_processed(eviction.budget.as_deref().unwrap_or_default());
                return self.finish(task, Err(refusal), ctx);
            }
            Stage::Unprotected if !client_names_version => eviction.stage = Stage::Pod,
            Stage::Budget => {}
            Stage::Pod | Stage::Unprotected | Stage::Unhealthy | Stage::Granted => {
                return self.finish(task, Err(status), ctx);
            }
        }
        eviction.conflicts += 1;
        if eviction.conflicts >= TRIES {
            return self.finish(task, Err(status), ctx);
        }
        let options = eviction.options.clone();
        let Some(key) = task.key() else { return };
        let wait = WAIT + SimDuration::from_nanos(self.jitter.below(WAIT.as_nanos() / 10));
        self.delay(Task { operation: Operation::Evict { key, options }, step: Step::Begin, ..task }, wait, ctx);
    }
}

/// True if a pod that is not ready may go whatever the budget allows: it says so, or what it protects is whole.
fn lets_unhealthy_go(budget: &PodDisruptionBudget) -> bool {
    let policy = budget.content.spec.as_ref().and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref());
    let (current, desired) = (budget.current_healthy(), budget.desired_healthy());
    policy == Some("AlwaysAllow") || (current >= desired && desired > 0)
}

/// The status of a budget that has granted the eviction of a pod, or why it does not.
fn count_as_disrupted(
    budget: &PodDisruptionBudget,
    pod: &Name,
    now: Timestamp,
) -> Result<PodDisruptionBudgetStatus, Box<Status>> {
    let name = &budget.meta.name;
    if budget.observed_generation() < budget.meta.generation {
        return Err(still_being_processed(name));
    }
    let forbidden = |why: &str| {
        // The registry names the resource in the singular here.
        let message = format!("poddisruptionbudget.policy \"{name}\" is forbidden: {why}");
        Box::new(Status::about(Reason::Forbidden, Kind::PodDisruptionBudget, name, message))
    };
    let allowed = budget.disruptions_allowed();
    if allowed < 0 {
        return Err(forbidden("pdb disruptions allowed is negative"));
    }
    let mut status = budget.status().cloned().unwrap_or_else(policy::unseen_status);
    if status.disrupted_pods.as_ref().is_some_and(|pods| pods.len() > MOST_DISRUPTED) {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(forbidden(why));
    }
    if allowed == 0 {
        return Err(refusal(why_none(budget), 0));
    }
    status.disruptions_allowed = Some(allowed - 1);
    if allowed == 1 {
        policy::tell_allowance(&mut status, now);
    }
    status.disrupted_pods.get_or_insert_default().insert(pod.to_string(), to_time(now));
    Ok(status)
}

/// Why a budget allows no disruption.
fn why_none(budget: &PodDisruptionBudget) -> String {
    let name = &budget.meta.name;
    let (current, desired) = (budget.current_healthy(), budget.desired_healthy());
    let told = budget.allowance().filter(|condition| condition.status == "False" && !condition.message.is_empty());
    match told {
        Some(condition) if condition.reason == policy::SYNC_FAILED => format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {}",
            condition.message
        ),
        _ if current <= desired => {
            format!("The disruption budget {name} needs {desired} healthy pods and has {current} currently")
        }
        Some(condition) => format!(
            "The disruption budget {name} does not allow evicting pods currently ({}): {}",
            condition.reason, condition.message
        ),
        None => format!("The disruption budget {name} does not allow evicting pods currently"),
    }
}

/// What is said while the controller has not looked at a budget's newest version.
fn still_being_processed(budget: &str) -> Box<Status> {
    refusal(format!("The disruption budget {budget} is still being processed by the server."), 10)
}

fn refusal(why: String, retry_after_seconds: u32) -> Box<Status> {
    let causes = vec![("DisruptionBudget".to_owned(), why, String::new())];
    let details = Details { causes, retry_after_seconds, ..Details::default() };
    Box::new(Status { details: Some(Box::new(details)), ..Status::new(Reason::TooManyRequests, REFUSAL) })
}
