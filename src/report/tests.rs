//! A small run told by hand, and everything that is reported of it.

use std::fs;
use std::path::PathBuf;
use std::rc::Rc;

use serde_json::{Value, json};

use super::explain::{self, Question};
use super::record::Recorder;
use super::screen::Screen;
use super::summary::Summary;
use crate::api::kind::Kind;
use crate::api::meta::{Epoch, ObjectKey};
use crate::api::name::Name;
use crate::api::object::Object;
use crate::cluster::news::{News, Write};
use crate::cluster::topology::{Role, Topology};
use crate::cluster::truth::Truth;
use crate::engine::digest::Digest;
use crate::engine::network::MachineId;
use crate::engine::process::{Cause, ProcessId};
use crate::engine::time::SimTime;
use crate::engine::trace::Trace;
use crate::scenario::outcome::{Ending, ExpectationRecord, Outcome, StepRecord, StepState};

const KINDS: &[&str] = &["starts", "message", "timer", "scenario", "API request", "etcd answer", "watch events"];
const OPERATOR: ProcessId = ProcessId(0);
const SERVER: ProcessId = ProcessId(1);
const KUBELET: ProcessId = ProcessId(2);
const CONTROLLERS: ProcessId = ProcessId(3);
const SCHEDULER: ProcessId = ProcessId(4);
const EPOCH: Epoch = Epoch(1_767_225_600_000_000_000);

/// What the story has told so far.
struct Story {
    recorder: Recorder,
    truth: Truth,
    trace: Trace,
    revision: u64,
}

fn millis(millis: u64) -> SimTime {
    SimTime::from_nanos(millis * 1_000_000)
}

impl Story {
    fn event(&mut self, sequence: u64, cause: u64, at: u64, process: ProcessId, kind: u16, from: ProcessId) {
        self.trace.scheduled(sequence, Cause(cause));
        self.trace.happened(
            sequence,
            millis(at),
            process,
            kind,
            [u64::from(from.0), if kind == 4 { 1 << 8 | Kind::Pod as u64 } else { 1 }],
        );
    }

    /// A request that the server receives in one event and sees acknowledged in another, both caused by `cause`.
    fn write(&mut self, sequence: u64, cause: u64, at: u64, (from, agent): (ProcessId, &'static str), new: Value) {
        self.event(sequence, cause, at - 1, SERVER, 4, from);
        self.event(sequence + 1, sequence, at, SERVER, 5, SERVER);
        let kind = Kind::of_manifest(new["apiVersion"].as_str().unwrap(), new["kind"].as_str().unwrap()).unwrap();
        let new = Object::from_json(kind, new).unwrap();
        self.revision += 1;
        new.meta().resource_version.set(self.revision);
        let key = new.key();
        self.commit(sequence + 1, at, agent, key, Some(new));
    }

    fn commit(&mut self, cause: u64, at: u64, agent: &'static str, key: ObjectKey, new: Option<Object>) {
        let old = self.truth.get(key.kind, &key.namespace, &key.name).cloned();
        let verb = if old.is_some() { "update" } else { "create" };
        let (at, agent, cause) = (millis(at), Name::of(agent), Cause(cause));
        let write = Write { at, revision: self.revision, key, old, new, agent, verb, cause };
        self.truth.apply(&write);
        self.recorder.take(at, &News::Write(Rc::new(write)));
    }
}

fn deployment(status: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "uid": "00000000-0000-4000-8000-000000000001", "generation": 1},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": "web:v1"}]}}},
        "status": status})
}

fn pod(node: Option<&str>, ready: bool) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-1", "namespace": "default", "uid": "00000000-0000-4000-8000-000000000002"},
        "spec": {"containers": [{"name": "app", "image": "web:v1"}]},
        "status": {"phase": "Pending"}});
    if let Some(node) = node {
        pod["spec"]["nodeName"] = node.into();
    }
    if ready {
        pod["status"] = json!({"phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:03Z"}],
            "containerStatuses": [{"name": "app", "image": "web:v1", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {"startedAt": "2026-01-01T00:00:03Z"}}}]});
    }
    pod
}

fn topology() -> Topology {
    let mut topology = Topology::default();
    for (machine, number) in ["operator", "control-plane-0", "node-0"].into_iter().zip(0..) {
        topology.add_machine(MachineId(number), machine);
    }
    let processes = [
        (0, "kubectl", Role::Operator),
        (1, "kube-apiserver-0", Role::ApiServer(0)),
        (2, "kubelet/node-0", Role::Kubelet(0)),
        (1, "kube-controller-manager", Role::ControllerManager),
        (1, "kube-scheduler", Role::Scheduler),
    ];
    for ((machine, process, role), number) in processes.into_iter().zip(0..) {
        topology.add_process(ProcessId(number), process, role, MachineId(machine));
    }
    topology
}

fn step() -> StepRecord {
    StepRecord {
        name: "deploy".to_owned(),
        label: "kubectl apply -f web.yml".to_owned(),
        is_labelled: true,
        state: StepState::Done,
        began: Some(millis(1000)),
        ended: Some(millis(1003)),
        cause: Cause(1),
        output: vec!["deployment.apps/web created".to_owned()],
        error: None,
        command_failed: false,
    }
}

fn outcome() -> Outcome {
    let expectation = ExpectationRecord {
        name: "one pod serves all the time".to_owned(),
        text: "always: available('web') >= 1".to_owned(),
        is_met: false,
        at: Some(millis(1002)),
        object: Some("deployment/default/web".to_owned()),
        cause: Cause(3),
        why: "it was 0".to_owned(),
    };
    Outcome {
        scenario: "story".to_owned(),
        seed: 7,
        steps: vec![step()],
        expectations: vec![expectation],
        ending: Ending::Settled { since: millis(3002) },
        ended_at: millis(13_002),
        events: 20,
        digest: Digest::default(),
    }
}

/// The operator deploys; a pod is created, bound, ready; the Deployment is available.
fn tell(recorder: Recorder) -> Story {
    let mut story = Story { recorder, truth: Truth::default(), trace: Trace::recording(KINDS), revision: 0 };
    story.recorder.begin(millis(1000), &story.truth);
    story.recorder.step_begins(&step());
    story.event(1, 0, 1000, OPERATOR, 3, OPERATOR);
    story.write(2, 1, 1002, (OPERATOR, "kubectl"), deployment(json!({})));
    story.recorder.step_ends(&step());
    story.event(4, 3, 1003, CONTROLLERS, 6, SERVER);
    story.write(5, 4, 1010, (CONTROLLERS, "kube-controller-manager/replicaset-controller"), pod(None, false));
    story.write(7, 6, 1020, (SCHEDULER, "kube-scheduler"), pod(Some("node-0"), false));
    story.event(9, 8, 1021, KUBELET, 6, SERVER);
    story.event(10, 9, 3000, KUBELET, 2, KUBELET);
    story.event(11, 1, 1500, KUBELET, 2, KUBELET);
    story.write(12, 10, 3002, (KUBELET, "kubelet/node-0"), pod(Some("node-0"), true));
    let status = json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1});
    story.write(14, 13, 3010, (CONTROLLERS, "kube-controller-manager/deployment-controller"), deployment(status));
    story.recorder.finish(millis(13_002));
    story
}

fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("kubesim-report-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    folder
}

/// Tells the story with files, and gives the folder.
fn saved(name: &str) -> PathBuf {
    let folder = scratch(name);
    let mut story = tell(Recorder::with_files(&folder, EPOCH, true).unwrap());
    assert!(!folder.exists(), "the folder appears when it is whole");
    let summary = Summary::new(&outcome(), &story.recorder, &story.truth, 4);
    story.recorder.save(&summary, &outcome(), &topology(), &mut story.trace).unwrap();
    folder
}

#[test]
fn the_files_of_a_run_tell_its_story() {
    let folder = saved("files");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    insta::assert_snapshot!("pods", read("pods.csv"));
    insta::assert_snapshot!("writes", read("writes.jsonl"));
    insta::assert_snapshot!("summary", read("summary.json").replace(env!("CARGO_PKG_VERSION"), "VERSION"));
    let trace = fs::read(folder.join("trace.pftrace")).unwrap();
    let has = |text: &str| trace.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(
        ["kubelet/node-0", "pod default/web-1", "waits for a node", "kubectl apply -f web.yml"].into_iter().all(has)
    );
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_command_that_was_expected_to_fail_and_did_is_written_as_one_that_failed() {
    let folder = scratch("expected");
    let mut story = tell(Recorder::with_files(&folder, EPOCH, false).unwrap());
    let label = "kubectl rollout status deploy/web".to_owned();
    let broken = StepRecord { label, error: Some("error: too late".to_owned()), command_failed: true, ..step() };
    story.recorder.step_begins(&broken);
    story.recorder.step_ends(&broken);
    let summary = Summary::new(&outcome(), &story.recorder, &story.truth, 4);
    story.recorder.save(&summary, &outcome(), &topology(), &mut story.trace).unwrap();
    let writes = fs::read_to_string(folder.join("writes.jsonl")).unwrap();
    assert!(writes.contains(r#"{"action":"rc=1 kubectl rollout status deploy/web""#), "{writes}");
    assert!(writes.contains(r#"{"action":"rc=0 kubectl apply -f web.yml""#), "{writes}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_screen_says_whether_it_worked() {
    let story = tell(Recorder::new());
    let summary = Summary::new(&outcome(), &story.recorder, &story.truth, 4);
    let screen = anstream::adapter::strip_str(&Screen(&summary).to_string()).to_string();
    insta::assert_snapshot!("screen", screen);
}

#[test]
fn explanations_go_from_hop_to_hop() {
    let folder = saved("explain");
    let ask = |text: &str| {
        let question = Question::parse(text).unwrap();
        explain::explain(&folder, &question, false).unwrap_or_else(|error| error.to_string())
    };
    insta::assert_snapshot!("explain_pod", ask("pod/web-1"));
    insta::assert_snapshot!("explain_deployment", ask("deploy/default/web"));
    insta::assert_snapshot!("explain_event", ask("9"));
    assert_eq!(ask("event/11"), "there is no event 11, or it led to nothing that is kept; writes.jsonl has the others");
    assert_eq!(ask("pod/wob-1"), "there was no pod \"wob-1\" in this run; there were 1, such as pod/default/web-1");
    fs::remove_dir_all(folder).unwrap();
}
