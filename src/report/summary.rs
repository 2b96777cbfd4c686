//! `summary.json`: what a run came to, as one value. Times are seconds of virtual time.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::api::name::Name;
use crate::cluster::truth::Truth;
use crate::engine::time::{SimDuration, SimTime};
use crate::scenario::outcome::{Ending, ExpectationRecord, Outcome, StepRecord};

use super::pending;
use super::pods::PodTable;
use super::record::Recorder;
use super::rollouts::{Rollout, RolloutEnd, RolloutReason};
use super::table::{duration_seconds, seconds};
use super::twins::Overlap;

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the words of the file")]
pub struct Summary {
    pub version: &'static str,
    pub scenario: String,
    pub seed: u64,
    pub digest: String,
    pub success: bool,
    pub ending: String,
    /// What the run waited for in vain, or the invariant that was broken; absent if it ended well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    pub ended_at: f64,
    pub events: u64,
    pub expectations: Vec<ExpectationSummary>,
    pub steps: Vec<StepSummary>,
    pub rollouts: Vec<RolloutSummary>,
    pub pods: PodsSummary,
    pub restarts: CountedPods,
    /// Disrupted pods by the reason of their DisruptionTarget condition.
    pub disruptions: BTreeMap<String, CountedPods>,
    pub pending: Vec<PendingSummary>,
    /// Times during which more than one pod of a name ran: the one that the API has and such as ran on out of its sight.
    pub twins: Vec<TwinsSummary>,
    pub nodes: NodesSummary,
    pub api: ApiSummary,
    pub etcd: EtcdSummary,
}

/// An expectation.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the words of the file")]
pub struct ExpectationSummary {
    pub name: String,
    pub text: String,
    pub met: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The event that decided it; none if only the end of the run did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<u64>,
}

/// A step.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the words of the file")]
pub struct StepSummary {
    pub name: String,
    pub label: String,
    pub state: String,
    pub began: Option<f64>,
    pub ended: Option<f64>,
    /// The event in which it began; 0 if it did not.
    pub cause: u64,
    pub output: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A rollout.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the words of the file")]
pub struct RolloutSummary {
    pub deployment: String,
    pub reason: &'static str,
    pub images: String,
    pub replicas: i32,
    pub result: &'static str,
    pub began: f64,
    /// When it was complete, superseded or deleted; none if the run ended first.
    pub ended: Option<f64>,
    pub duration: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_exceeded: Option<f64>,
    pub lowest_available: i32,
    pub most_replicas: i32,
    /// The event in which the write that began it was acknowledged.
    pub cause: u64,
    /// The event in which the write that ended it was acknowledged; 0 if the run ended first.
    pub end_cause: u64,
}

/// All pods of the run.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the words of the file")]
pub struct PodsSummary {
    pub created: usize,
    pub gone: usize,
    pub ready: usize,
    /// From creation to the first time ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_to_ready: Option<Quantiles>,
    /// From the wish to delete to removal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_to_go: Option<Quantiles>,
}

/// A distribution in seconds; each value is one that was seen.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs, reason = "the usual names")]
pub struct Quantiles {
    pub min: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

/// How often something happened, and to which pods most.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "the fields are the words of the file")]
pub struct CountedPods {
    pub count: u64,
    /// At most ten.
    pub pods: Vec<String>,
}

/// Pods that do not run as they should.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the words of the file")]
pub struct PendingSummary {
    pub owner: String,
    pub reason: String,
    pub message: String,
    pub count: usize,
    /// At most ten.
    pub pods: Vec<String>,
}

/// A time during which more than one pod of a name ran.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the words of the file")]
pub struct TwinsSummary {
    pub pod: String,
    pub began: f64,
    /// None if they ran to the end of the run.
    pub ended: Option<f64>,
    /// How many ran at most.
    pub most: usize,
    /// The nodes on which they ran, in the order in which the pods came.
    pub nodes: Vec<String>,
    /// The event with which it began.
    pub cause: u64,
}

/// All nodes of the run.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the words of the file")]
pub struct NodesSummary {
    pub registered: usize,
    pub removed: usize,
    /// How often a node ceased to be ready.
    pub losses: u64,
}

/// Requests to the API.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the words of the file")]
pub struct ApiSummary {
    pub writes: u64,
    /// Requests refused because the object had changed meanwhile (409 Conflict).
    pub conflicts: u64,
    pub writes_by_kind: BTreeMap<&'static str, u64>,
    pub writes_by_agent: BTreeMap<String, u64>,
}

/// The etcd members.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the words of the file")]
pub struct EtcdSummary {
    pub leader_changes: usize,
    pub leaders: Vec<LeaderSummary>,
}

/// A change of leadership.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the words of the file")]
pub struct LeaderSummary {
    pub at: f64,
    pub leader: Option<String>,
    pub term: u64,
}

/// How many pods a list names.
const SHOWN: usize = 10;

impl Summary {
    /// The summary of a run that has ended.
    pub fn new(outcome: &Outcome, recorder: &Recorder, truth: &Truth, conflicts: u64) -> Self {
        let trouble = match &outcome.ending {
            Ending::Stuck { reason } => Some(reason.clone()),
            Ending::Violated(violation) => Some(violation.to_string()),
            _ => None,
        };
        let ending = match &outcome.ending {
            Ending::Settled { .. } => "settled",
            Ending::ConditionMet => "condition met",
            Ending::TimeReached => "time reached",
            Ending::Stuck { .. } => "stuck",
            Ending::Violated(_) => "invariant broken",
        };
        Summary {
            version: env!("CARGO_PKG_VERSION"),
            scenario: outcome.scenario.clone(),
            seed: outcome.seed,
            digest: outcome.digest.to_string(),
            success: outcome.is_success(),
            ending: ending.to_owned(),
            trouble,
            ended_at: seconds(outcome.ended_at),
            events: outcome.events,
            expectations: outcome.expectations.iter().map(ExpectationSummary::new).collect(),
            steps: outcome.steps.iter().map(StepSummary::new).collect(),
            rollouts: recorder.rollouts().all().iter().map(RolloutSummary::new).collect(),
            pods: PodsSummary::new(recorder.pods()),
            restarts: restarts(recorder.pods()),
            disruptions: disruptions(recorder.pods()),
            pending: pending::groups(truth).into_iter().map(PendingSummary::new).collect(),
            twins: recorder.overlaps().all().iter().map(TwinsSummary::new).collect(),
            nodes: NodesSummary {
                registered: recorder.nodes().rows().count(),
                removed: recorder.nodes().rows().filter(|(_, row)| row.removed.is_some()).count(),
                losses: recorder.nodes().rows().map(|(_, row)| u64::from(row.losses)).sum(),
            },
            api: ApiSummary {
                writes: recorder.writes_by_kind().map(|(_, count)| count).sum(),
                conflicts,
                writes_by_kind: recorder.writes_by_kind().map(|(kind, count)| (kind.row().name, count)).collect(),
                writes_by_agent: recorder.writes_by_agent().map(|(agent, count)| (agent.to_string(), count)).collect(),
            },
            etcd: EtcdSummary::new(recorder),
        }
    }

    /// As JSON for people and programs, with a newline at the end.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a summary has only text keys and finite numbers");
        text.push('\n');
        text
    }
}

impl ExpectationSummary {
    fn new(record: &ExpectationRecord) -> Self {
        ExpectationSummary {
            name: record.name.clone(),
            text: record.text.clone(),
            met: record.is_met,
            at: record.at.map(seconds),
            object: record.object.clone(),
            why: record.why.clone(),
            cause: (record.cause.0 > 0).then_some(record.cause.0),
        }
    }
}

impl StepSummary {
    fn new(record: &StepRecord) -> Self {
        StepSummary {
            name: record.name.clone(),
            label: record.label.clone(),
            state: record.state.to_string(),
            began: record.began.map(seconds),
            ended: record.ended.map(seconds),
            cause: record.cause.0,
            output: record.output.clone(),
            error: record.error.clone(),
        }
    }
}

impl RolloutSummary {
    fn new(rollout: &Rollout) -> Self {
        let ended = rollout.ended.filter(|(_, how)| *how != RolloutEnd::Unfinished);
        RolloutSummary {
            deployment: format!("{}/{}", rollout.key.namespace, rollout.key.name),
            reason: match rollout.reason {
                RolloutReason::Created => "created",
                RolloutReason::Updated => "updated",
                RolloutReason::Scaled => "scaled",
            },
            images: rollout.images.clone(),
            replicas: rollout.replicas,
            result: rollout.result(),
            began: seconds(rollout.began),
            ended: ended.map(|(at, _)| seconds(at)),
            duration: ended.map(|(at, _)| duration_seconds(at.since(rollout.began))),
            deadline_exceeded: rollout.deadline_exceeded.map(seconds),
            lowest_available: rollout.lowest_available,
            most_replicas: rollout.most_replicas,
            cause: rollout.cause.0,
            end_cause: rollout.end_cause.0,
        }
    }
}

impl PodsSummary {
    fn new(pods: &PodTable) -> Self {
        let rows = pods.rows();
        let between = |from: Option<SimTime>, to: Option<SimTime>| Some(to?.since(from?));
        PodsSummary {
            created: rows.len(),
            gone: rows.iter().filter(|row| row.gone.is_some()).count(),
            ready: rows.iter().filter(|row| row.is_ready && row.gone.is_none()).count(),
            time_to_ready: quantiles(rows.iter().filter_map(|row| between(Some(row.created), row.ready)).collect()),
            time_to_go: quantiles(rows.iter().filter_map(|row| between(row.deleted, row.gone)).collect()),
        }
    }
}

impl PendingSummary {
    fn new(group: pending::PendingGroup) -> Self {
        PendingSummary {
            owner: group.owner,
            reason: group.reason,
            message: group.message,
            count: group.pods.len(),
            pods: group.pods.into_iter().take(SHOWN).collect(),
        }
    }
}

impl TwinsSummary {
    fn new(overlap: &Overlap) -> Self {
        TwinsSummary {
            pod: format!("{}/{}", overlap.key.namespace, overlap.key.name),
            began: seconds(overlap.began),
            ended: overlap.ended.map(seconds),
            most: overlap.most,
            nodes: overlap.nodes.iter().map(Name::to_string).collect(),
            cause: overlap.cause.0,
        }
    }
}

impl EtcdSummary {
    fn new(recorder: &Recorder) -> Self {
        let leaders = recorder.etcd().all().iter().map(|one| LeaderSummary {
            at: seconds(one.at),
            leader: one.member.map(|member| format!("etcd-{member}")),
            term: one.term,
        });
        EtcdSummary { leader_changes: recorder.etcd().changes(), leaders: leaders.collect() }
    }
}

/// Quantiles by nearest rank.
fn quantiles(mut values: Vec<SimDuration>) -> Option<Quantiles> {
    values.sort_unstable();
    let last = values.len().checked_sub(1)?;
    let rank = |percent: usize| duration_seconds(values[(values.len() * percent).div_ceil(100).max(1) - 1]);
    Some(Quantiles {
        min: duration_seconds(values[0]),
        p50: rank(50),
        p90: rank(90),
        p99: rank(99),
        max: duration_seconds(values[last]),
    })
}

fn restarts(pods: &PodTable) -> CountedPods {
    let mut restarted: Vec<_> = pods.rows().iter().filter(|row| row.restarts > 0).collect();
    restarted.sort_by_key(|row| std::cmp::Reverse(row.restarts));
    CountedPods {
        count: restarted.iter().map(|row| u64::from(row.restarts)).sum(),
        pods: restarted.iter().take(SHOWN).map(|row| format!("{}/{}", row.namespace, row.name)).collect(),
    }
}

fn disruptions(pods: &PodTable) -> BTreeMap<String, CountedPods> {
    let mut reasons: BTreeMap<String, CountedPods> = BTreeMap::new();
    for row in pods.rows() {
        let Some((_, reason)) = &row.disrupted else { continue };
        let counted = reasons.entry(reason.to_string()).or_default();
        counted.count += 1;
        if counted.pods.len() < SHOWN {
            counted.pods.push(format!("{}/{}", row.namespace, row.name));
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let seen = quantiles((1..=10).map(SimDuration::from_secs).collect()).unwrap();
        assert_eq!([seen.min, seen.p50, seen.p90, seen.p99, seen.max], [1.0, 5.0, 9.0, 10.0, 10.0]);
        assert!(quantiles(Vec::new()).is_none());
    }
}
