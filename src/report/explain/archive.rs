//! The files of a run, read for the questions that are asked about it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::api::kind::Kind;
use crate::engine::process::Cause;
use crate::engine::time::SimTime;

use super::super::causes::Causes;
use super::super::decisions;
use super::{ExplainError, words};

/// One write as `writes.jsonl` tells of it.
#[derive(Clone, Debug)]
pub struct WriteRecord {
    /// Milliseconds since the run began.
    pub millis: u64,
    /// The object's kind; its name as in a manifest.
    pub kind: String,
    /// The object's namespace; empty if it has none.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// Who wrote.
    pub by: String,
    /// The event in which it was acknowledged.
    pub cause: u64,
    /// What was done, in words.
    pub words: String,
    /// How much it matters for the object's fate: 0 for nothing worth a line.
    pub weight: u8,
}

impl WriteRecord {
    /// `pod/default/web-1`.
    pub fn object(&self) -> String {
        let kind = self.kind.to_ascii_lowercase();
        match self.namespace.as_str() {
            "" => format!("{kind}/{}", self.name),
            namespace => format!("{kind}/{namespace}/{}", self.name),
        }
    }
}

/// One rollout as `summary.json` tells of it.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "the fields are the words of the file")]
pub struct RolloutRecord {
    pub deployment: String,
    pub reason: String,
    pub images: String,
    pub result: String,
    pub began: f64,
    pub ended: Option<f64>,
    pub cause: u64,
    pub end_cause: u64,
}

/// The files of a run.
pub struct Archive {
    /// What led to what.
    pub causes: Causes,
    /// All writes in the order in which they were told.
    pub writes: Vec<WriteRecord>,
    /// All decisions of the scheduler in their order.
    pub decisions: Vec<decisions::Line>,
    rollouts: Vec<RolloutRecord>,
    /// Steps by the event in which they began.
    steps: BTreeMap<u64, String>,
    /// The write that came of a request, by the event in which the API server received it.
    requests: BTreeMap<u64, usize>,
}

/// A line of `writes.jsonl`.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    ev: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    ns: String,
    #[serde(default)]
    t: u64,
    #[serde(default)]
    by: String,
    #[serde(default)]
    cause: u64,
    #[serde(default)]
    changes: Map<String, Value>,
    #[serde(default)]
    obj: Value,
}

#[derive(Deserialize)]
struct SummaryFile {
    #[serde(default)]
    rollouts: Vec<RolloutRecord>,
    #[serde(default)]
    steps: Vec<StepFile>,
}

#[derive(Deserialize)]
struct StepFile {
    label: String,
    cause: u64,
}

impl Archive {
    /// Reads what a run left in a folder.
    pub fn read(folder: &Path) -> Result<Self, ExplainError> {
        let file = |name: &'static str| {
            let opened = File::open(folder.join(name)).map(BufReader::new);
            opened.map_err(|error| ExplainError::File { name, error })
        };
        let of = |name: &'static str| move |error: io::Error| ExplainError::File { name, error };
        let causes = Causes::read(file("causes.bin")?).map_err(of("causes.bin"))?;
        let summary: SummaryFile = serde_json::from_reader(file("summary.json")?)
            .map_err(|error| ExplainError::File { name: "summary.json", error: error.into() })?;
        let writes = read_writes(file("writes.jsonl")?).map_err(of("writes.jsonl"))?;
        let decisions = read_decisions(file("scheduling.jsonl")?).map_err(of("scheduling.jsonl"))?;
        let steps = summary.steps.into_iter().map(|step| (step.cause, step.label)).collect();
        let mut archive =
            Archive { causes, writes, decisions, rollouts: summary.rollouts, steps, requests: BTreeMap::new() };
        archive.find_requests();
        Ok(archive)
    }

    /// Finds the request that each write came of: the nearest event before its acknowledgement that is one, if its sender is
    /// who wrote. Where etcd has replicated several writes together, only one of them is ascribed to its own request.
    fn find_requests(&mut self) {
        for (place, write) in self.writes.iter().enumerate() {
            let mut chain = self.causes.chain(Cause(write.cause));
            let Some(request) = chain.find(|event| self.causes.kind(event) == "API request") else { continue };
            let sender = self.causes.process_name(usize::try_from(request.operands[0]).unwrap_or(usize::MAX));
            let is_sender = write.by.strip_prefix(sender).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            if is_sender {
                self.requests.entry(request.sequence).or_insert(place);
            }
        }
    }

    /// The write that came of the request which the API server received in an event.
    pub fn written(&self, event: u64) -> Option<&WriteRecord> {
        self.requests.get(&event).map(|place| &self.writes[*place])
    }

    /// The scenario's step that began in an event.
    pub fn step(&self, event: u64) -> Option<&str> {
        self.steps.get(&event).map(String::as_str)
    }

    /// When a write was acknowledged.
    pub fn time(&self, write: &WriteRecord) -> SimTime {
        let millis = SimTime::from_nanos(write.millis.saturating_mul(1_000_000));
        self.causes.get(Cause(write.cause)).map_or(millis, |event| event.time)
    }

    /// The scheduler's decisions about a pod.
    pub fn decisions_about(&self, pod: &WriteRecord) -> impl Iterator<Item = &decisions::Line> {
        let name = format!("{}/{}", pod.namespace, pod.name);
        self.decisions.iter().filter(move |decision| decision.pod == name)
    }

    /// The rollouts of a Deployment.
    pub fn rollouts_of(&self, deployment: &WriteRecord) -> impl Iterator<Item = &RolloutRecord> {
        let name = format!("{}/{}", deployment.namespace, deployment.name);
        self.rollouts.iter().filter(move |rollout| rollout.deployment == name)
    }

    /// All writes to an object.
    pub fn object(&self, kind: Kind, namespace: Option<&str>, name: &str) -> Result<Vec<&WriteRecord>, ExplainError> {
        let kind = kind.row().name;
        let of_kind = || self.writes.iter().filter(|write| write.kind == kind);
        let fits =
            |write: &&WriteRecord| write.name == name && namespace.is_none_or(|wanted| wanted == write.namespace);
        let found: Vec<&WriteRecord> = of_kind().filter(fits).collect();
        let mut namespaces: Vec<&str> = found.iter().map(|write| write.namespace.as_str()).collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        let lower = kind.to_ascii_lowercase();
        match namespaces.as_slice() {
            [_] => Ok(found),
            [] => {
                let mut known: Vec<String> = of_kind().map(WriteRecord::object).collect();
                known.sort_unstable();
                known.dedup();
                let (total, shown) = (known.len(), suggestions(&known, name));
                Err(ExplainError::Question(format!(
                    "there was no {lower} \"{name}\" in this run; there were {total}{shown}"
                )))
            }
            several => {
                let choices: Vec<String> = several.iter().map(|one| format!("{lower}/{one}/{name}")).collect();
                Err(ExplainError::Question(format!("there were several: {}", choices.join(", "))))
            }
        }
    }
}

/// Some names, those first that begin as the one that was looked for.
fn suggestions(known: &[String], wanted: &str) -> String {
    let likeness = |object: &String| {
        let name = object.rsplit('/').next().unwrap_or_default();
        name.chars().zip(wanted.chars()).take_while(|(left, right)| left == right).count()
    };
    let mut sorted: Vec<&String> = known.iter().collect();
    sorted.sort_by_key(|object| std::cmp::Reverse(likeness(object)));
    let shown: Vec<&str> = sorted.iter().take(5).map(|object| object.as_str()).collect();
    if shown.is_empty() { String::new() } else { format!(", such as {}", shown.join(", ")) }
}

fn read_decisions(from: impl BufRead) -> io::Result<Vec<decisions::Line>> {
    from.lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}

fn read_writes(from: impl BufRead) -> io::Result<Vec<WriteRecord>> {
    let mut writes = Vec::new();
    for line in from.lines() {
        let line: Line = serde_json::from_str(&line?)?;
        if line.kind.is_empty() || line.kind == "Lease" || line.cause == 0 {
            continue;
        }
        let (words, weight) = words::of_write(&line.ev, &line.kind, &line.changes, &line.obj);
        writes.push(WriteRecord {
            millis: line.t,
            kind: line.kind,
            namespace: line.ns,
            name: line.name,
            by: line.by,
            cause: line.cause,
            words,
            weight,
        });
    }
    Ok(writes)
}
