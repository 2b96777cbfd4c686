//! What the answers to an autoscaler's questions come to: replicas, conditions, events, status. Pure functions.

use std::rc::Rc;

use k8s_openapi::api::autoscaling::v2::{
    self as autoscaling, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus,
    MetricIdentifier, MetricSpec, MetricStatus, MetricTarget, MetricValueStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::api::autoscaling::HorizontalPodAutoscaler;
use crate::api::convert::to_time;
use crate::api::event::{EventType, ObjectReference};
use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::api::quantity::{Format, Quantity};
use crate::api::selector::Selector;
use crate::apiserver::metrics::{Measures, MetricsQuery, PodMetrics};
use crate::apiserver::protocol::Answer;
use crate::client::plan::{EventNote, Outcome};
use crate::client::view::Now;

use super::calculator::{self, Proposal, Sample, Samples, Situation, Tolerances};
use super::pace::{History, Wish};
use super::{Scale, Settings};
use crate::controllers::owner;

/// The status of an autoscaler as it takes shape, and the events on the way.
#[derive(Clone)]
pub struct Draft {
    status: HorizontalPodAutoscalerStatus,
    /// Recorded before the status is written.
    pub events: Vec<EventNote>,
    /// Recorded after that.
    pub late: Vec<EventNote>,
    regarding: ObjectReference,
    now: Now,
}

impl Draft {
    /// Begins with the status that there is.
    pub fn of(autoscaler: &HorizontalPodAutoscaler, now: Now) -> Draft {
        Draft {
            status: autoscaler.content.status.clone().unwrap_or_default(),
            events: Vec::new(),
            late: Vec::new(),
            regarding: owner::reference(autoscaler),
            now,
        }
    }

    /// Time has passed.
    pub fn at(&mut self, now: Now) {
        self.now = now;
    }

    /// Sets a condition (`setConditionInList`).
    pub fn set(&mut self, kind: &str, holds: bool, reason: &str, message: &str) {
        let status = if holds { "True" } else { "False" };
        let conditions = self.status.conditions.get_or_insert_default();
        let place = conditions.iter().position(|condition| condition.type_ == kind).unwrap_or_else(|| {
            conditions.push(HorizontalPodAutoscalerCondition { type_: kind.to_owned(), ..Default::default() });
            conditions.len() - 1
        });
        let condition = &mut conditions[place];
        if condition.status != status {
            condition.last_transition_time = Some(to_time(self.now.timestamp()));
        }
        condition.status = status.to_owned();
        condition.reason = Some(reason.to_owned());
        condition.message = Some(message.to_owned());
    }

    /// Something has failed.
    pub fn record(&mut self, reason: &'static str, message: String) {
        let event = self.event(EventType::Warning, reason, message);
        self.events.push(event);
    }

    /// Something was done.
    pub fn note(&mut self, reason: &'static str, message: String) {
        let event = self.event(EventType::Normal, reason, message);
        self.events.push(event);
    }

    /// An event about the autoscaler.
    pub fn event(&self, kind: EventType, reason: &'static str, message: String) -> EventNote {
        EventNote { regarding: self.regarding.clone(), kind, reason: Name::of(reason), message }
    }

    /// Says how many replicas there are and how many there shall be; without the latter as before (`setStatus`).
    pub fn count(&mut self, current: i32, desired: Option<i32>, rescaled: bool) {
        self.status.current_replicas = Some(current);
        if let Some(desired) = desired {
            self.status.desired_replicas = desired;
        }
        if rescaled {
            self.status.last_scale_time = Some(to_time(self.now.timestamp()));
        }
        self.status.observed_generation = None;
    }

    /// The autoscaler with the new status; none if that is the old one.
    pub fn changed(&self, autoscaler: &HorizontalPodAutoscaler) -> Option<HorizontalPodAutoscaler> {
        if autoscaler.content.status.as_ref() == Some(&self.status) {
            return None;
        }
        let mut content = (*autoscaler.content).clone();
        content.status = Some(self.status.clone());
        Some(HorizontalPodAutoscaler { meta: autoscaler.meta.clone(), content: Rc::new(content) })
    }
}

/// The pods of the target; or why they cannot be told: an event's reason, its message and that of the condition.
pub type Selected<'a> = Result<&'a Rc<[Rc<Pod>]>, &'a (&'static str, String, String)>;

/// What is known when it is to be decided.
pub struct Facts<'a> {
    /// The autoscaler's namespace.
    pub namespace: &'a Name,
    /// What is wanted.
    pub spec: &'a HorizontalPodAutoscalerSpec,
    /// The target's scale.
    pub scale: &'a Scale,
    /// The target's pods, if they were looked for.
    pub pods: Option<Selected<'a>>,
    /// The answers to [`queries`].
    pub answers: &'a [Outcome],
    /// The controller's options.
    pub settings: &'a Settings,
    /// The present.
    pub now: Now,
}

/// What is decided.
pub struct Decision {
    /// The status so far.
    pub draft: Draft,
    /// How many replicas there shall be, if that is to be changed.
    pub rescale: Option<i32>,
    /// Why.
    pub reason: String,
}

fn min_replicas(spec: &HorizontalPodAutoscalerSpec) -> i32 {
    spec.min_replicas.unwrap_or(1)
}

/// True if metrics say how many replicas there are to be: neither is scaling off nor are there too many or too few.
pub fn needs_metrics(spec: &HorizontalPodAutoscalerSpec, current: i32) -> bool {
    current != 0 && (min_replicas(spec)..=spec.max_replicas).contains(&current)
}

/// What is asked of the metrics APIs, one question for each measure.
pub fn queries(spec: &HorizontalPodAutoscalerSpec) -> Vec<MetricsQuery> {
    let query = |metric: &MetricSpec| match (&metric.pods, &metric.object, &metric.external) {
        (Some(pods), ..) => MetricsQuery::Pods { metric: Name::from(&pods.metric.name) },
        (_, Some(object), _) => MetricsQuery::Object {
            kind: Name::from(&object.described_object.kind),
            name: Name::from(&object.described_object.name),
            metric: Name::from(&object.metric.name),
        },
        (.., Some(external)) => {
            // An absent selector selects everything here.
            let selector = external.metric.selector.as_ref();
            let selector = selector.map_or_else(|| Ok(Selector::everything()), |it| Selector::compile(Some(it)));
            let selector = Rc::new(selector.unwrap_or_else(|_| Selector::nothing()));
            MetricsQuery::External { metric: Name::from(&external.metric.name), selector }
        }
        _ => MetricsQuery::Resources,
    };
    spec.metrics.iter().flatten().map(query).collect()
}

/// Decides (`reconcileAutoscaler`).
pub fn decide(mut draft: Draft, facts: &Facts<'_>, history: &mut History) -> Decision {
    let (spec, current) = (facts.spec, facts.scale.desired);
    let (min, max) = (min_replicas(spec), spec.max_replicas);
    history.begin(current, facts.now.at);
    let decided = |draft, rescale, reason: &str| Decision { draft, rescale, reason: reason.to_owned() };
    if current == 0 {
        let why = "scaling is disabled since the replica count of the target is zero";
        draft.set("ScalingActive", false, "ScalingDisabled", why);
        draft.status.current_metrics = None;
        draft.count(current, Some(current), false);
        return decided(draft, None, "");
    }
    if !needs_metrics(spec, current) {
        draft.status.current_metrics = None;
        return match current > max {
            true => decided(draft, Some(max), "Current number of replicas above Spec.MaxReplicas"),
            false => decided(draft, Some(min), "Current number of replicas below Spec.MinReplicas"),
        };
    }
    let (wanted, name) = match measure(&mut draft, facts) {
        Ok(found) => found,
        Err(why) => {
            draft.count(current, None, false);
            let event = draft.event(EventType::Warning, "FailedComputeMetricsReplicas", why);
            draft.late.push(event);
            return decided(draft, None, "");
        }
    };
    let reason = match wanted.max(0) {
        wanted if wanted > current => format!("{name} above target"),
        wanted if wanted < current => "All metrics below target".to_owned(),
        _ => String::new(),
    };
    let wish = Wish { current, desired: wanted.max(0), min, max };
    let window = facts.settings.downscale_stabilization_seconds;
    let paced = history.pace(wish, spec.behavior.as_ref(), window, facts.now.at);
    draft.set("AbleToScale", true, paced.able.0, paced.able.1);
    let (limited, (why, message)) = paced.limited;
    draft.set("ScalingLimited", limited, why, message);
    let rescale = (paced.replicas != current).then_some(paced.replicas);
    if rescale.is_none() {
        draft.count(current, Some(current), false);
    }
    Decision { draft, rescale, reason }
}

/// Why a measure says nothing.
struct Failure {
    /// The reason of an event and of the condition.
    reason: &'static str,
    /// What they say.
    why: String,
    /// What the sync fails with.
    error: String,
}

/// The most replicas that a measure asks for, and which measure that is (`computeReplicasForMetrics`).
fn measure(draft: &mut Draft, facts: &Facts<'_>) -> Result<(i32, String), String> {
    let pods = match facts.pods {
        Some(Ok(pods)) => pods,
        Some(Err((reason, message, condition))) => {
            draft.status.current_metrics = None;
            draft.record(reason, message.clone());
            let of_condition = if *reason == "SelectorRequired" { "InvalidSelector" } else { reason };
            draft.set("ScalingActive", false, of_condition, condition);
            return Err(message.clone());
        }
        None => return Err("no pods returned by selector while calculating replica count".to_owned()),
    };
    let metrics = facts.spec.metrics.as_deref().unwrap_or_default();
    let situation = Situation {
        pods,
        current: facts.scale.desired,
        tolerances: tolerances(facts),
        cpu_initialization: facts.settings.cpu_initialization_period,
        initial_readiness_delay: facts.settings.initial_readiness_delay,
        now: facts.now,
    };
    let (mut best, mut statuses): (Option<(i32, String)>, Vec<MetricStatus>) = (None, Vec::new());
    let (mut failed, mut first) = (0, None);
    for (place, metric) in metrics.iter().enumerate() {
        let answer = facts.answers.get(place);
        match of_metric(metric, &situation, facts, answer) {
            Ok((replicas, name, status)) => {
                statuses.push(status);
                if best.as_ref().is_none_or(|(most, _)| *most == 0 || replicas > *most) {
                    best = Some((replicas, name));
                }
            }
            Err(failure) => {
                statuses.push(MetricStatus::default());
                draft.record(failure.reason, failure.why.clone());
                failed += 1;
                first.get_or_insert(failure);
            }
        }
    }
    draft.status.current_metrics = (!statuses.is_empty()).then_some(statuses);
    let (replicas, name) = best.unwrap_or_default();
    if let Some(failure) = first
        && (failed >= metrics.len() || replicas < facts.scale.desired)
    {
        let message = format!("the HPA was unable to compute the replica count: {}", failure.why);
        draft.set("ScalingActive", false, failure.reason, &message);
        let total = metrics.len();
        return Err(format!("invalid metrics ({failed} invalid out of {total}), first error is: {}", failure.error));
    }
    let message = format!("the HPA was able to successfully calculate a replica count from {name}");
    draft.set("ScalingActive", true, "ValidMetricFound", &message);
    Ok((replicas, name))
}

/// The controller's tolerance or the autoscaler's own (`tolerancesForHpa`).
fn tolerances(facts: &Facts<'_>) -> Tolerances {
    let general = f64::from(facts.settings.tolerance_milli) / 1000.0;
    let behavior = facts.spec.behavior.as_ref();
    let own = |rules: Option<&autoscaling::HPAScalingRules>| {
        let amount = Quantity::of(rules?.tolerance.as_ref()?).ok()?;
        Some(amount.milli_value() as f64 * 0.001)
    };
    Tolerances {
        down: own(behavior.and_then(|behavior| behavior.scale_down.as_ref())).unwrap_or(general),
        up: own(behavior.and_then(|behavior| behavior.scale_up.as_ref())).unwrap_or(general),
    }
}

type Found = Result<(i32, String, MetricStatus), Failure>;

/// What one measure asks for (`computeReplicasForMetric`).
fn of_metric(metric: &MetricSpec, situation: &Situation<'_>, facts: &Facts<'_>, answer: Option<&Outcome>) -> Found {
    if let Some(source) = &metric.object {
        return of_object(source, situation, facts, answer);
    }
    if let Some(source) = &metric.external {
        return of_external(source, situation, facts, answer);
    }
    if let Some(source) = &metric.pods {
        let name = &source.metric.name;
        let failed = |error: String| Failure {
            reason: "FailedGetPodsMetric",
            error: format!("failed to get pods metric value: {error}"),
            why: error,
        };
        let target = milli(&source.target.average_value);
        let samples = custom(answer).map_err(|error| failed(format!("unable to get metric {name}: {error}")))?;
        let Proposal { replicas, usage, .. } =
            calculator::by_average(situation, samples, "", target).map_err(failed)?;
        let current = MetricValueStatus { average_value: Some(text(usage, Format::DecimalSi)), ..Default::default() };
        let status = autoscaling::PodsMetricStatus { current, metric: source.metric.clone() };
        let status = MetricStatus { type_: "Pods".to_owned(), pods: Some(status), ..MetricStatus::default() };
        return Ok((replicas, format!("pods metric {name}"), status));
    }
    if let Some(source) = &metric.container_resource {
        let (resource, container) = (&source.name, &source.container);
        let (replicas, name, current) =
            of_resource(resource, container, &source.target, situation, answer).map_err(|why| Failure {
                reason: "FailedGetContainerResourceMetric",
                error: format!("failed to get {container} container metric value: {why}"),
                why,
            })?;
        let (container, resource) = (container.clone(), resource.clone());
        let status = autoscaling::ContainerResourceMetricStatus { container, current, name: resource };
        let type_ = "ContainerResource".to_owned();
        return Ok((
            replicas,
            name,
            MetricStatus { type_, container_resource: Some(status), ..MetricStatus::default() },
        ));
    }
    let Some(source) = &metric.resource else {
        let why = format!("unknown metric source type \"{}\"", metric.type_);
        return Err(Failure { reason: "InvalidMetricSourceType", error: why.clone(), why });
    };
    let (replicas, name, current) =
        of_resource(&source.name, "", &source.target, situation, answer).map_err(|why| Failure {
            reason: "FailedGetResourceMetric",
            error: format!("failed to get {} resource metric value: {why}", source.name),
            why,
        })?;
    let status = autoscaling::ResourceMetricStatus { current, name: source.name.clone() };
    Ok((
        replicas,
        name,
        MetricStatus { type_: "Resource".to_owned(), resource: Some(status), ..MetricStatus::default() },
    ))
}

/// `computeStatusForResourceMetricGeneric`.
fn of_resource(
    resource: &str,
    container: &str,
    target: &MetricTarget,
    situation: &Situation<'_>,
    answer: Option<&Outcome>,
) -> Result<(i32, String, MetricValueStatus), String> {
    let format = if resource == "memory" { Format::BinarySi } else { Format::DecimalSi };
    let samples = used(answer, resource, container)
        .map_err(|error| format!("unable to get metrics for resource {resource}: {error}"));
    if let Some(wanted) = &target.average_value {
        let wanted = milli(&Some(wanted.clone()));
        let proposal = samples.and_then(|samples| calculator::by_average(situation, samples, resource, wanted));
        let proposal = proposal.map_err(|error| format!("failed to get {resource} usage: {error}"))?;
        let current = MetricValueStatus { average_value: Some(text(proposal.usage, format)), ..Default::default() };
        return Ok((proposal.replicas, format!("{resource} resource"), current));
    }
    let Some(share) = target.average_utilization else {
        return Err(
            "invalid resource metric source: neither an average utilization target nor an average value (usage) \
                    target was set"
                .to_owned(),
        );
    };
    let proposal =
        samples.and_then(|samples| calculator::by_utilization(situation, samples, resource, container, share));
    let proposal = proposal.map_err(|error| format!("failed to get {resource} utilization: {error}"))?;
    let of = if container.is_empty() { "" } else { "container " };
    let current = MetricValueStatus {
        average_utilization: proposal.utilization,
        average_value: Some(text(proposal.usage, format)),
        ..Default::default()
    };
    Ok((proposal.replicas, format!("{resource} {of}resource utilization (percentage of request)"), current))
}

/// `computeStatusForObjectMetric`.
fn of_object(
    source: &autoscaling::ObjectMetricSource,
    situation: &Situation<'_>,
    facts: &Facts<'_>,
    answer: Option<&Outcome>,
) -> Found {
    let (metric, object) = (&source.metric, &source.described_object);
    let by_value = source.target.type_ == "Value" && source.target.value.is_some();
    let failed = |why: String| {
        let error = match by_value {
            true => why.clone(),
            false => format!("failed to get {} object metric: {why}", metric.name),
        };
        Failure { reason: "FailedGetObjectMetric", why, error: format!("failed to get object metric value: {error}") }
    };
    let found = values(answer).map_err(|error| {
        let error = format!("unable to fetch metrics from custom metrics API: {error}");
        // The original names the object where its message has room for the error, and the error last.
        let (metric, namespace) = (&metric.name, facts.namespace);
        failed(format!("unable to get metric {metric}: {} on {namespace} {}/{error}", object.kind, object.name))
    })?;
    let usage = found.first().copied().unwrap_or(0);
    let (replicas, current, name) = if by_value {
        let ratio = usage as f64 / milli(&source.target.value) as f64;
        let replicas = calculator::by_ratio(situation, ratio).map_err(failed)?;
        let current = MetricValueStatus { value: Some(text(usage, Format::DecimalSi)), ..Default::default() };
        (replicas, current, format!("{} metric {}", object.kind, metric.name))
    } else {
        let target = milli(&source.target.average_value);
        let (replicas, each) = calculator::by_share(situation, facts.scale.current, usage, target);
        let current = MetricValueStatus { average_value: Some(text(each, Format::DecimalSi)), ..Default::default() };
        (replicas, current, external_name(metric))
    };
    let status = autoscaling::ObjectMetricStatus { current, described_object: object.clone(), metric: metric.clone() };
    Ok((replicas, name, MetricStatus { type_: "Object".to_owned(), object: Some(status), ..MetricStatus::default() }))
}

/// `computeStatusForExternalMetric`.
fn of_external(
    source: &autoscaling::ExternalMetricSource,
    situation: &Situation<'_>,
    facts: &Facts<'_>,
    answer: Option<&Outcome>,
) -> Found {
    let metric = &source.metric;
    let by_share = source.target.average_value.is_some();
    let failed = |why: String| {
        let error = match by_share {
            true => format!("failed to get {} external metric: {why}", metric.name),
            false => format!("failed to get external metric {}: {why}", metric.name),
        };
        let error = format!("failed to get {} external metric value: {error}", metric.name);
        Failure { reason: "FailedGetExternalMetric", why, error }
    };
    let found = values(answer).map_err(|error| format!("unable to fetch metrics from external metrics API: {error}"));
    let found = found.and_then(|found| match found.is_empty() {
        true => Err("no metrics returned from external metrics API".to_owned()),
        false => Ok(found),
    });
    let found = found.map_err(|error| {
        let namespace = facts.namespace;
        let selector = go_selector(metric.selector.as_ref());
        failed(format!("unable to get external metric {namespace}/{}/{selector}: {error}", metric.name))
    })?;
    let usage = found.iter().fold(0i64, |sum, value| sum.saturating_add(*value));
    let (replicas, current) = if by_share {
        let target = milli(&source.target.average_value);
        let (replicas, each) = calculator::by_share(situation, facts.scale.current, usage, target);
        let current = MetricValueStatus { average_value: Some(text(each, Format::DecimalSi)), ..Default::default() };
        (replicas, current)
    } else {
        let ratio = usage as f64 / milli(&source.target.value) as f64;
        let replicas = calculator::by_ratio(situation, ratio).map_err(failed)?;
        (replicas, MetricValueStatus { value: Some(text(usage, Format::DecimalSi)), ..Default::default() })
    };
    let status = autoscaling::ExternalMetricStatus { current, metric: metric.clone() };
    let status = MetricStatus { type_: "External".to_owned(), external: Some(status), ..MetricStatus::default() };
    Ok((replicas, external_name(metric), status))
}

fn external_name(metric: &MetricIdentifier) -> String {
    format!("external metric {}({})", metric.name, go_selector(metric.selector.as_ref()))
}

/// A label selector as Go prints it.
fn go_selector(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return "nil".to_owned() };
    let labels: String =
        selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}: {value},")).collect();
    let expressions: String = selector
        .match_expressions
        .iter()
        .flatten()
        .map(|it| {
            let values = it.values.as_deref().unwrap_or_default().join(" ");
            format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", it.key, it.operator)
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

fn milli(amount: &Option<Text>) -> i64 {
    amount.as_ref().and_then(|text| Quantity::of(text).ok()).map_or(0, Quantity::milli_value)
}

fn text(milli: i64, format: Format) -> Text {
    Quantity::from_milli(milli, format).to_text()
}

/// What a metrics API answered; or why it did not.
fn measures(answer: Option<&Outcome>) -> Result<&Measures, String> {
    match answer {
        Some(Ok(Answer::Metrics(measures))) => Ok(measures),
        Some(Err(status)) => Err(status.message.clone()),
        _ => Err("the server could not find the requested resource".to_owned()),
    }
}

fn values(answer: Option<&Outcome>) -> Result<Vec<i64>, String> {
    match measures(answer)? {
        Measures::Values(values) => Ok(values.clone()),
        Measures::Pods(_) => Ok(Vec::new()),
    }
}

/// What pods use of a resource, one of their containers or all of them (`GetResourceMetric`).
fn used(answer: Option<&Outcome>, resource: &str, container: &str) -> Result<Samples, String> {
    let measures =
        measures(answer).map_err(|error| format!("unable to fetch metrics from resource metrics API: {error}"))?;
    let Measures::Pods(pods) = measures else { return Err("no metrics returned from resource metrics API".to_owned()) };
    if pods.is_empty() {
        return Err("no metrics returned from resource metrics API".to_owned());
    }
    let of = |pod: &PodMetrics| {
        let mut counted = pod.containers.iter().filter(|it| container.is_empty() || it.name == container).peekable();
        counted.peek()?;
        let amount = |it: &crate::apiserver::metrics::ContainerMetrics| match resource {
            "cpu" => Some(it.milli_cpu),
            "memory" => Some(it.memory.saturating_mul(1000)),
            _ => None,
        };
        let value = counted.map(amount).sum::<Option<i64>>()?;
        Some((pod.pod.clone(), Sample { timestamp: pod.timestamp, window: pod.window, value }))
    };
    Ok(pods.iter().filter_map(of).collect())
}

/// A measure of pods (`GetRawMetric`).
fn custom(answer: Option<&Outcome>) -> Result<Samples, String> {
    let measures =
        measures(answer).map_err(|error| format!("unable to fetch metrics from custom metrics API: {error}"))?;
    match measures {
        Measures::Pods(pods) if !pods.is_empty() => {
            let of = |pod: &PodMetrics| {
                (pod.pod.clone(), Sample { timestamp: pod.timestamp, window: pod.window, value: pod.value })
            };
            Ok(pods.iter().map(of).collect())
        }
        _ => Err("no metrics returned from custom metrics API".to_owned()),
    }
}
