//! The horizontal pod autoscaler: every 15 s it asks how much the pods of its target use, and scales the target so that
//! they use what they should (kubernetes, pkg/controller/podautoscaler).
//!
//! It asks the API server for the scale of its target and for metrics, never its cache; only the pods behind the target's selector
//! it takes from there.
//!
//! - here: one look at an autoscaler
//! - `decision`: what the answers come to, with conditions and events
//! - `calculator`: how many replicas a measure asks for
//! - `pace`: how fast replicas may follow

mod calculator;
mod decision;
mod pace;
#[cfg(test)]
mod tests;

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use k8s_openapi::api::autoscaling::v2 as autoscaling;

use crate::api::autoscaling::HorizontalPodAutoscaler;
use crate::api::event::EventType;
use crate::api::kind::{Kind, REGISTRY};
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::api::selector::Selector;
use crate::api::workload::ReplicaSet;
use crate::apiserver::metrics::MetricsQuery;
use crate::apiserver::protocol::{Answer, Operation, Part};
use crate::apiserver::status::{Reason, Status};
use crate::client::controller::{Change, Controller};
use crate::client::plan::{Again, Outcome, Plan, Step};
use crate::client::view::{Now, View};
use crate::engine::time::SimDuration;

use super::config::Config;
use super::script::{self, Halt, Script};

use decision::{Decision, Draft};
use pace::History;

/// How often the scale is written anew when another one has changed the target (client-go, retry: `DefaultRetry`).
const TRIES: usize = 5;

/// The controller's options.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `--horizontal-pod-autoscaler-sync-period`.
    pub sync_period: SimDuration,
    /// `--horizontal-pod-autoscaler-downscale-stabilization`, in seconds.
    pub downscale_stabilization_seconds: i32,
    /// `--horizontal-pod-autoscaler-tolerance` in thousandths.
    pub tolerance_milli: u32,
    /// `--horizontal-pod-autoscaler-cpu-initialization-period`.
    pub cpu_initialization_period: SimDuration,
    /// `--horizontal-pod-autoscaler-initial-readiness-delay`.
    pub initial_readiness_delay: SimDuration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            sync_period: SimDuration::from_secs(15),
            downscale_stabilization_seconds: 300,
            tolerance_milli: 100,
            cpu_initialization_period: SimDuration::from_secs(300),
            initial_readiness_delay: SimDuration::from_secs(30),
        }
    }
}

/// What the controller remembers of an autoscaler.
#[derive(Default)]
struct Remembered {
    history: History,
    /// Which pods its target selects, as of the last look.
    selector: Option<Rc<Selector>>,
}

type Memory = Rc<RefCell<BTreeMap<ObjectKey, Remembered>>>;

/// The controller of HorizontalPodAutoscalers. Its keys are autoscalers.
pub struct HorizontalController {
    workers: usize,
    settings: Rc<Settings>,
    memory: Memory,
}

impl HorizontalController {
    /// The controller with a configuration.
    pub fn new(config: &Config) -> Self {
        HorizontalController {
            workers: config.concurrent_horizontal_pod_autoscaler_syncs,
            settings: Rc::new(config.horizontal.clone()),
            memory: Memory::default(),
        }
    }
}

impl Controller for HorizontalController {
    fn name(&self) -> &'static str {
        "horizontal-pod-autoscaler"
    }

    fn workers(&self) -> usize {
        self.workers
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::HorizontalPodAutoscaler, Kind::Pod, Kind::ReplicaSet]
    }

    /// A key always waits for a period, also a new one; one that waits already keeps its time.
    fn on_change(&self, change: Change<'_>, _view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        if matches!(change.object(), Object::HorizontalPodAutoscaler(_)) && !matches!(change, Change::Deleted(_)) {
            enqueue(change.object().key(), self.settings.sync_period);
        }
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        let Some(autoscaler) = view.get::<HorizontalPodAutoscaler>(&key.namespace, &key.name).cloned() else {
            self.memory.borrow_mut().remove(key);
            return Plan::nothing();
        };
        let look = Look {
            key: key.clone(),
            autoscaler,
            settings: self.settings.clone(),
            memory: self.memory.clone(),
            pods: OnceCell::new(),
            decision: OnceCell::new(),
        };
        let again = Again::After(self.settings.sync_period);
        script::run(view, now, move |script| match look.run(script) {
            Ok(()) | Err(Halt::Failed(_)) => Ok(again.clone()),
            Err(halt) => Err(halt),
        })
    }
}

/// The pods of a selector, or why there are none: an event's reason, its message and that of the condition.
type Selection = Result<Rc<[Rc<Pod>]>, (&'static str, String, String)>;

/// One look at an autoscaler. What is found out once is kept: the code of a look runs again with each answer.
struct Look {
    key: ObjectKey,
    autoscaler: Rc<HorizontalPodAutoscaler>,
    settings: Rc<Settings>,
    memory: Memory,
    pods: OnceCell<Selection>,
    decision: OnceCell<Decision>,
}

/// The scale of a target.
pub(super) struct Scale {
    pub(super) desired: i32,
    pub(super) current: i32,
    pub(super) resource_version: u64,
    pub(super) selector: String,
}

impl Scale {
    fn of(answer: Outcome) -> Result<Scale, Box<Status>> {
        match answer? {
            Answer::Scale { desired, current, resource_version, selector } => {
                Ok(Scale { desired, current, resource_version, selector })
            }
            _ => Err(Box::new(Status::new(Reason::InternalError, "the server answered with no scale"))),
        }
    }
}

impl Look {
    fn spec(&self) -> &autoscaling::HorizontalPodAutoscalerSpec {
        &self.autoscaler.content.spec
    }

    /// `reconcileAutoscaler`.
    fn run(&self, script: &mut Script<'_>) -> Result<(), Halt> {
        let mut draft = Draft::of(&self.autoscaler, script.now());
        let target = match self.target() {
            Ok(target) => target,
            Err(why) => return self.no_scale(script, draft, why),
        };
        let scale = match Scale::of(script.ask(Operation::GetScale { key: target.clone() })?) {
            Ok(scale) => scale,
            Err(status) => return self.no_scale(script, draft, status.message),
        };
        draft.at(script.now());
        draft.set(
            "AbleToScale",
            true,
            "SucceededGetScale",
            "the HPA controller was able to get the target's current scale",
        );
        let mut answers = Vec::new();
        if decision::needs_metrics(self.spec(), scale.desired) {
            let pods = self.pods.get_or_init(|| self.select(&scale.selector, &target, &script.view()));
            if let Ok(pods) = pods {
                for query in decision::queries(self.spec()) {
                    answers.push(self.ask(script, query, pods)?);
                }
            }
        }
        let now = script.now();
        draft.at(now);
        let decision = self.decision.get_or_init(|| {
            let mut memory = self.memory.borrow_mut();
            let remembered = memory.entry(self.key.clone()).or_default();
            let pods = self.pods.get().map(Result::as_ref);
            let facts = decision::Facts {
                namespace: &self.key.namespace,
                spec: self.spec(),
                scale: &scale,
                pods,
                answers: &answers,
                settings: &self.settings,
                now,
            };
            decision::decide(draft.clone(), &facts, &mut remembered.history)
        });
        self.carry_out(script, decision, target, scale)
    }

    /// Does what was decided and says so.
    fn carry_out(
        &self,
        script: &mut Script<'_>,
        decision: &Decision,
        target: ObjectKey,
        scale: Scale,
    ) -> Result<(), Halt> {
        let mut draft = decision.draft.clone();
        draft.events.iter().for_each(|event| script.push(Step::Record(event.clone())));
        draft.events.clear();
        let Some(replicas) = decision.rescale else { return self.write(script, draft) };
        let reason = &decision.reason;
        match self.rescale(script, target, &scale, replicas)? {
            Err(status) => {
                draft.at(script.now());
                let error = status.message;
                draft.record("FailedRescale", format!("New size: {replicas}; reason: {reason}; error: {error}"));
                let why = format!("the HPA controller was unable to update the target scale: {error}");
                draft.set("AbleToScale", false, "FailedUpdateScale", &why);
                draft.count(scale.desired, None, false);
            }
            Ok(()) => {
                let now = script.now();
                draft.at(now);
                let why = format!("the HPA controller was able to update the target scale to {replicas}");
                draft.set("AbleToScale", true, "SucceededRescale", &why);
                draft.note("SuccessfulRescale", format!("New size: {replicas}; reason: {reason}"));
                let behavior = self.spec().behavior.as_ref();
                script.once(|| {
                    let mut memory = self.memory.borrow_mut();
                    let remembered = memory.entry(self.key.clone()).or_default();
                    remembered.history.made(behavior, scale.desired, replicas, now.at);
                    true
                });
                draft.count(scale.desired, Some(replicas), true);
            }
        }
        self.write(script, draft)
    }

    /// Writes the scale, anew on a newer version of the target if that has changed.
    fn rescale(
        &self,
        script: &mut Script<'_>,
        key: ObjectKey,
        scale: &Scale,
        replicas: i32,
    ) -> Result<Result<(), Box<Status>>, Halt> {
        let mut resource_version = scale.resource_version;
        for attempt in 1.. {
            let status = match script.ask(Operation::SetScale { key: key.clone(), replicas, resource_version })? {
                Ok(_) => return Ok(Ok(())),
                Err(status) => status,
            };
            if let Ok(latest) = Scale::of(script.ask(Operation::GetScale { key: key.clone() })?) {
                resource_version = latest.resource_version;
            }
            if status.reason != Reason::Conflict || attempt == TRIES {
                return Ok(Err(status));
            }
        }
        Ok(Ok(()))
    }

    /// The target has no scale.
    fn no_scale(&self, script: &mut Script<'_>, mut draft: Draft, why: String) -> Result<(), Halt> {
        draft.at(script.now());
        draft.set(
            "AbleToScale",
            false,
            "FailedGetScale",
            &format!("the HPA controller was unable to get the target's current scale: {why}"),
        );
        draft.record("FailedGetScale", why);
        self.write(script, draft)
    }

    /// Records what happened and writes the status if it has changed.
    fn write(&self, script: &mut Script<'_>, draft: Draft) -> Result<(), Halt> {
        for event in &draft.events {
            script.push(Step::Record(event.clone()));
        }
        let changed = draft.changed(&self.autoscaler).map(|changed| Object::HorizontalPodAutoscaler(Rc::new(changed)));
        if let Some(object) = changed
            && let Err(status) = script.ask(Operation::Update { object, part: Part::Status, dry_run: false })?
        {
            let event = draft.event(EventType::Warning, "FailedUpdateStatus", status.message);
            script.push(Step::Record(event));
        }
        draft.late.into_iter().for_each(|event| script.push(Step::Record(event)));
        Ok(())
    }

    /// What is to be scaled (`RESTMappings`: any served version does).
    fn target(&self) -> Result<ObjectKey, String> {
        let reference = &self.spec().scale_target_ref;
        let version = reference.api_version.as_deref().unwrap_or_default();
        let group = match version.split('/').collect::<Vec<_>>()[..] {
            [_] => "",
            [group, _] => group,
            _ => return Err(format!("unexpected GroupVersion string: {version}")),
        };
        let row = REGISTRY.iter().find(|row| row.group == group && row.name == reference.kind);
        let missing = || format!("no matches for kind \"{}\" in group \"{group}\"", reference.kind);
        let kind = row.ok_or_else(missing)?.kind;
        Ok(ObjectKey::new(kind, self.key.namespace.clone(), Name::from(&reference.name)))
    }

    fn ask(&self, script: &mut Script<'_>, query: MetricsQuery, pods: &[Rc<Pod>]) -> Result<Outcome, Halt> {
        let pods = pods.iter().map(|pod| pod.meta.name.clone()).collect();
        script.ask(Operation::Metrics { query, namespace: self.key.namespace.clone(), pods })
    }

    /// The pods that a selector selects, if no other autoscaler speaks of them; else an event's reason, its message and that of the
    /// condition (`validateAndParseSelector`).
    fn select(&self, text: &str, target: &ObjectKey, view: &View<'_>) -> Selection {
        if text.is_empty() {
            let why = "the HPA target's scale is missing a selector".to_owned();
            return Err(("SelectorRequired", "selector is required".to_owned(), why));
        }
        let selector = match Selector::parse(text) {
            Ok(selector) => Rc::new(selector),
            Err(error) => {
                let why = format!("couldn't convert selector into a corresponding internal selector object: {error}");
                return Err(("InvalidSelector", why.clone(), why));
            }
        };
        let mut memory = self.memory.borrow_mut();
        memory.entry(self.key.clone()).or_default().selector = Some(selector.clone());
        let pods: Rc<[Rc<Pod>]> = pods_of(target, &selector, view).into();
        let same_namespace = memory.iter().filter(|(key, _)| key.namespace == self.key.namespace);
        let speaks = |selector: &Selector| {
            let mut last = None;
            pods.iter().any(|pod| {
                // Most pods of a target wear the same labels.
                let labels = Some(&pod.meta.labels);
                labels != std::mem::replace(&mut last, labels) && selector.matches(&pod.meta.labels)
            })
        };
        let others: Vec<String> = same_namespace
            .filter(|(key, other)| {
                **key == self.key && !pods.is_empty() || other.selector.as_deref().is_some_and(speaks)
            })
            .map(|(key, _)| format!("{{{} {}}}", key.namespace, key.name))
            .collect();
        if others.len() > 1 {
            let why = format!("pods by selector {text} are controlled by multiple HPAs: [{}]", others.join(" "));
            return Err(("AmbiguousSelector", why.clone(), why));
        }
        Ok(pods)
    }
}

/// The pods that a target's selector selects: those that it owns, by way of ReplicaSets or not, and those that nobody owns. The
/// original looks at all pods of the namespace; pods that another owner's selector would have to share are not sought here.
fn pods_of(target: &ObjectKey, selector: &Selector, view: &View<'_>) -> Vec<Rc<Pod>> {
    let Some(owner) = view.object(target).map(|object| object.meta().uid).or_else(|| uid_of(target, selector, view))
    else {
        return view
            .list_in::<Pod>(&target.namespace)
            .filter(|pod| selector.matches(&pod.meta.labels))
            .cloned()
            .collect();
    };
    let owned = view.owned_by::<Pod>(owner);
    let sets = view.owned_by::<ReplicaSet>(owner);
    let by_sets = sets.flat_map(|set| view.owned_by::<Pod>(set.meta.uid));
    let orphans = view.orphans::<Pod>(&target.namespace);
    let all = owned.chain(by_sets).chain(orphans).filter(|pod| selector.matches(&pod.meta.labels));
    let mut pods: Vec<Rc<Pod>> = all.cloned().collect();
    pods.sort_by(|left, right| left.meta.name.cmp(&right.meta.name));
    pods
}

/// The uid of a target that the cache does not hold: that of the controller that its ReplicaSets name.
fn uid_of(target: &ObjectKey, selector: &Selector, view: &View<'_>) -> Option<crate::api::meta::Uid> {
    if target.kind != Kind::Deployment {
        return None;
    }
    let mut sets = view.list_in::<ReplicaSet>(&target.namespace);
    let set = sets.find(|set| selector.matches(&set.template.labels) && set.meta.controller().is_some())?;
    set.meta.controller().filter(|owner| owner.name == target.name).map(|owner| owner.uid)
}
