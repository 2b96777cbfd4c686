//! A recording of a real control plane, played again: a Deployment of ten that is updated, broken, undone and deleted.
//!
//! The commands are typed at the recorded moments and the run begins at such a date that seconds change when they did in
//! the recording: what waits for whole seconds then waits as long. The run is left in `timeline-a.jsonl` among the
//! temporary files of the build, in the format of the recordings, to be compared with other tools as well.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::rc::Rc;

use kubesim::api::kind::Kind;
use kubesim::api::meta::{Epoch, ObjectKey};
use kubesim::cluster::news::Write;
use kubesim::cluster::options::{ClusterOptions, KubeletKind};
use kubesim::engine::time::{SimDuration, SimTime};
use kubesim::report::writes;
use kubesim::scenario::plan::{Command, Rollout};
use serde_json::{Value, json};
use support::{Bed, Typed};

/// The date of the recording's beginning: 2026-11-20T18:32:16.110013489Z.
const BEGINNING: i64 = 1_795_199_536_110_013_489;
/// How long the cluster is up before that.
const BEFORE: SimDuration = SimDuration::from_secs(60);

const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 10
  minReadySeconds: 10
  progressDeadlineSeconds: 60
  selector: {matchLabels: {app: web}}
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 1}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: app, image: "fake/app:v1", resources: {requests: {cpu: 100m, memory: 64Mi}}}
"#;

fn recording() -> Vec<Value> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/timelines/a/timeline.jsonl"));
    let text = text.expect("the recording is there");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// The commands, each with the milliseconds at which the API server got its request: a real kubectl needs about a tenth of
/// a second to start.
fn commands() -> Vec<(u64, Command)> {
    let web = support::deployment("a", "web");
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";
    let apply = |text: &str| Command::Apply { manifests: support::read("a", text), is_patient: false };
    let image = |image: &str| {
        let images = vec![("app".to_owned(), image.to_owned())];
        Command::SetImage { key: web.clone(), images }
    };
    vec![
        (330, apply(namespace)),
        (755, apply(DEPLOYMENT)),
        (12_035, image("fake/app:v2")),
        (67_410, image("fake/never-ready:v3")),
        (131_345, Command::Rollout { key: web.clone(), verb: Rollout::Undo(0) }),
        (154_850, support::delete_command(ObjectKey::new(Kind::Namespace, "", "a"), None, true)),
    ]
}

fn moment(millis: u64) -> SimTime {
    SimTime::ZERO + BEFORE + SimDuration::from_millis(millis)
}

/// Plays the recording's commands.
fn play(seed: u64) -> Bed {
    let options = ClusterOptions {
        epoch: Epoch(BEGINNING - BEFORE.as_nanos() as i64),
        etcd_members: 1,
        images: support::stand_in_images(),
        ..support::options(10, KubeletKind::StandIn)
    };
    let mut bed = Bed::ready(options, seed);
    for (at, command) in commands() {
        bed.run_to(moment(at));
        let mut typed = Typed::new(command);
        loop {
            if let Some(done) = typed.go_on(&mut bed) {
                done.expect("the command succeeds");
                break;
            }
            bed.step(typed.alarm().unwrap_or(moment(200_000)));
        }
    }
    bed.run_to(moment(166_615));
    bed
}

/// The run in the format of the recording, with the recording's own lines of what was typed.
fn lines(bed: &Bed, recording: &[Value]) -> Vec<Value> {
    let start = moment(0);
    let mut before: BTreeMap<ObjectKey, Rc<Write>> = BTreeMap::new();
    for write in bed.writes.iter().filter(|write| write.at < start) {
        before.insert(write.key.clone(), Rc::clone(write));
    }
    let initial = before.values().filter_map(|write| write.new.as_ref()).map(writes::initial);
    let changes = bed.writes.iter().filter(|write| write.at >= start).filter_map(|write| {
        let mut line = writes::line(write)?;
        line["t"] = json!(write.at.since(start).as_millis());
        Some(line)
    });
    let actions = recording.iter().filter(|line| line.get("action").is_some()).cloned();
    let mut lines: Vec<Value> = initial.chain(changes).chain(actions).collect();
    lines.sort_by_key(|line| line["t"].as_u64());
    lines
}

#[test]
fn the_recorded_deployment_does_here_what_it_did_there() {
    let recording = recording();
    let bed = play(7);
    let lines = lines(&bed, &recording);
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/timeline-a.jsonl"), text).expect("the run can be left");
}
