//! Recordings of a real control plane, played again: a Deployment of ten that is updated, broken, undone and deleted (`a`), and
//! StatefulSets that are scaled, updated in parts, broken and undone (`c`, from `tests/scenarios/timeline-c.yml`), a node that is
//! lost and returns (`d`), and Services over pods that come and go (`h`).
//!
//! The commands are typed at the recorded moments and the run begins at such a date that seconds change when they did in
//! the recording: what waits for whole seconds then waits as long. The run is left in `timeline-a.jsonl` among the
//! temporary files of the build, in the format of the recordings, to be compared with other tools as well.

mod support;
#[path = "support/tale.rs"]
mod tale;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::rc::Rc;

use kubesim::api::kind::Kind;
use kubesim::api::meta::{Epoch, ObjectKey};
use kubesim::cluster::Cluster;
use kubesim::cluster::news::{News, Write};
use kubesim::cluster::options::{ClusterOptions, KubeletKind};
use kubesim::engine::time::{SimDuration, SimTime};
use kubesim::report::changes::flatten;
use kubesim::report::sketch::Sketcher;
use kubesim::report::writes;
use kubesim::scenario::plan::{Command, Rollout};
use kubesim::scenario::{Observer, Scenario};

use serde_json::{Value, json};
use support::{Bed, Typed};
use tale::Tale;

/// The date of the recording's beginning: 2026-11-20T18:32:16.110013489Z.
const BEGINNING: i64 = 1_795_199_536_110_013_489;
/// How long the cluster is up before that.
const BEFORE: SimDuration = SimDuration::from_secs(60);

/// Whatever chance does, the same is told.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=8;

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

fn recording(name: &str) -> Vec<Value> {
    let file = format!("{}/tests/golden/timelines/{name}/timeline.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(file).expect("the recording is there");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// The commands, each with the milliseconds at which the API server got its request: a real kubectl needs about a tenth of
/// a second to start. The Deployment comes a tenth later than recorded: the recorded machine was busy and bound its ten pods
/// over that time, and most of them became ready in the next second of the clock, as all do here.
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
        (880, apply(DEPLOYMENT)),
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
    let initial =
        before.values().filter_map(|write| write.new.as_ref()).map(|object| writes::initial(SimTime::ZERO, object));
    let sketcher = Sketcher::default();
    let changes = bed.writes.iter().filter(|write| write.at >= start).filter_map(|write| {
        let mut line = writes::line(write, &sketcher)?;
        line["t"] = json!(write.at.since(start).as_millis());
        Some(line)
    });
    let actions = recording.iter().filter(|line| line.get("action").is_some()).cloned();
    let mut lines: Vec<Value> = initial.chain(changes).chain(actions).collect();
    lines.sort_by_key(|line| line["t"].as_u64());
    lines
}

/// What must be the same: each field of a workload with all its values and their milliseconds; of pods, how many of each
/// ReplicaSet were created, ready and gone, and when.
type Story = BTreeMap<(String, &'static str), Vec<(u64, Value)>>;

const FIELDS: [&str; 6] = [
    "spec.replicas",
    "metadata.annotations.'deployment.kubernetes.io/revision'",
    "status.conditions[Available].status",
    "status.conditions[Available].reason",
    "status.conditions[Progressing].status",
    "status.conditions[Progressing].reason",
];

/// The story that lines tell up to the deletion of the namespace. ReplicaSets are known by the order of their creation.
fn story(lines: &[Value]) -> Story {
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let end = lines.iter().find(|line| text(line, "action").starts_with("kubectl delete namespace"));
    let end = end.and_then(|line| line["t"].as_u64()).expect("the namespace is deleted");
    // Lines of different kinds may be out of order by milliseconds; their revisions tell the true order.
    let mut changes: Vec<&Value> =
        lines.iter().filter(|line| line["ns"] == "a" && line["t"].as_u64() < Some(end)).collect();
    changes.sort_by_key(|line| text(line, "rv").parse::<u64>().expect("a revision"));
    let (mut story, mut sets) = (Story::new(), Vec::<String>::new());
    for line in changes {
        let (event, name, at) = (text(line, "ev"), text(line, "name"), line["t"].as_u64().expect("a time"));
        let new = |field: &str| match line.get("obj") {
            Some(whole) => flatten(whole).get(field).map(|value| (*value).clone()),
            None => line["changes"].get(field).map(|pair| pair[1].clone()),
        };
        match line["kind"].as_str() {
            Some("Pod") => {
                let set = name.rsplit_once('-').map(|(set, _)| set).expect("a name of a ReplicaSet's pod");
                let place = sets.iter().position(|known| known == set).expect("its ReplicaSet came before");
                let ready = new("status.conditions[Ready].status") == Some(json!("True"));
                let counted = match event.as_str() {
                    "ADDED" => "created",
                    "DELETED" => "gone",
                    _ if ready => "ready",
                    _ => continue,
                };
                let counts = story.entry((format!("pods of web#{}", place + 1), counted)).or_default();
                counts.push((at, json!(counts.len() + 1)));
            }
            Some("ReplicaSet" | "Deployment") => {
                if line["kind"] == "ReplicaSet" && event == "ADDED" {
                    sets.push(name.clone());
                }
                let place = sets.iter().position(|known| *known == name);
                let label = place.map_or(name, |place| format!("web#{}", place + 1));
                for field in FIELDS {
                    let Some(value) = new(field) else { continue };
                    let values = story.entry((label.clone(), field)).or_default();
                    if values.last().is_none_or(|(_, last)| *last != value) {
                        values.push((at, value));
                    }
                }
            }
            _ => {}
        }
    }
    story
}

#[test]
fn the_recorded_deployment_does_here_what_it_did_there() {
    let recording = recording("a");
    let bed = play(7);
    let lines = lines(&bed, &recording);
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/timeline-a.jsonl"), text).expect("the run can be left");

    let (real, ours) = (story(&recording), story(&lines));
    assert_eq!(real.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>());
    let mut compared = 0;
    for (key, real) in &real {
        let ours = &ours[key];
        let values = |of: &[(u64, Value)]| of.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>();
        assert_eq!(values(real), values(ours), "{key:?}");
        for ((real, value), (ours, _)) in real.iter().zip(ours) {
            assert!(real.abs_diff(*ours) <= 500, "{key:?} {value} at {ours} ms, in the recording at {real} ms");
            compared += 1;
        }
    }
    assert!(compared > 100, "only {compared} moments were compared");
    // The real namespace controller asks for some sixty kinds of objects in each of its two passes, here there are fewer.
    let gone = bed.writes.iter().find(|write| write.key.kind == Kind::Namespace && write.new.is_none());
    let gone = gone.expect("the namespace is gone").at.since(moment(0)).as_millis();
    assert!(gone.abs_diff(165_600) <= 1_000, "the namespace is gone at {gone} ms, in the recording at 165600 ms");
}

/// The lines of a scenario's run in the format of the recordings, from a time on, which becomes zero.
struct Lines {
    sketcher: Sketcher,
    start: SimTime,
    before: BTreeMap<ObjectKey, Rc<Write>>,
    lines: Vec<Value>,
}

impl Observer for Lines {
    fn news(&mut self, _cluster: &Cluster, news: &News) {
        let News::Write(write) = news else { return };
        if write.at < self.start {
            self.before.insert(write.key.clone(), Rc::clone(write));
        } else if let Some(mut line) = writes::line(write, &self.sketcher) {
            line["t"] = json!(write.at.since(self.start).as_millis());
            self.lines.push(line);
        }
    }
}

/// Runs a scenario of `tests/scenarios` whose recording begins a minute after it.
fn play_scenario(name: &str, seed: u64) -> Vec<Value> {
    let file = format!("{}/tests/scenarios/{name}.yml", env!("CARGO_MANIFEST_DIR"));
    let scenario = Scenario::load(Path::new(&file)).unwrap_or_else(|problems| panic!("{}", problems[0]));
    let mut lines =
        Lines { sketcher: Sketcher::default(), start: moment(0), before: BTreeMap::new(), lines: Vec::new() };
    let (outcome, _) = scenario.start(seed, false).finish(&mut lines);
    assert!(outcome.is_success(), "{}", outcome.ending);
    let initial = lines.before.values().filter_map(|write| write.new.as_ref());
    initial.map(|object| writes::initial(SimTime::ZERO, object)).chain(lines.lines).collect()
}

/// What StatefulSets and their pods did up to a time: by object or set, each thing with its milliseconds. Revisions are known by
/// the order of their creation.
fn stateful_story(lines: &[Value], end: u64) -> Tale {
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let is_told = |line: &&Value| line["ns"] == "c" && line.get("ev").is_some() && line["t"].as_u64() < Some(end);
    let mut changes: Vec<&Value> = lines.iter().filter(is_told).collect();
    changes.sort_by_key(|line| text(line, "rv").parse::<u64>().expect("a revision"));
    let (mut story, mut revisions) = (Tale::new(), Vec::<String>::new());
    for line in changes {
        let (event, name, at) = (text(line, "ev"), text(line, "name"), line["t"].as_u64().expect("a time"));
        let new = |field: &str| match line.get("obj") {
            Some(whole) => flatten(whole).get(field).map(|value| (*value).clone()),
            None => line["changes"].get(field).map(|pair| pair[1].clone()),
        };
        let mut tell = |what: &str, news: String| story.entry(what.to_owned()).or_default().push((at, news));
        match line["kind"].as_str() {
            Some("Pod") => {
                let set = format!("pods of {}", name.split('-').next().unwrap_or_default());
                // A parallel set's pods come at once, in any order: each has its own story.
                let set = if name.starts_with("db") { set } else { format!("pod {name}") };
                let ready = new("status.conditions[Ready].status") == Some(json!("True"));
                let is_marked = new("metadata.deletionTimestamp").is_some_and(|date| !date.is_null());
                match event.as_str() {
                    "ADDED" => {
                        tell(&set, format!("{name} created with {}", line["obj"]["spec"]["containers"][0]["image"]))
                    }
                    "DELETED" => tell(&set, format!("{name} gone")),
                    _ if ready => tell(&set, format!("{name} ready")),
                    // The second mark ends the grace.
                    _ if is_marked && new("metadata.deletionGracePeriodSeconds") == Some(json!(30)) => {
                        tell(&set, format!("{name} going"));
                    }
                    _ => {}
                }
            }
            Some("ControllerRevision") => {
                if event == "ADDED" {
                    revisions.push(name.clone());
                }
                let place = revisions.iter().position(|known| *known == name).map_or(0, |place| place + 1);
                if let Some(number) = new("revision") {
                    tell("revisions", format!("{place}. revision is number {number}"));
                }
            }
            Some("StatefulSet") => {
                for field in ["status.currentRevision", "status.updateRevision"] {
                    let Some(revision) = new(field) else { continue };
                    let place = revisions.iter().position(|known| revision == **known).expect("it was created before");
                    tell(&format!("{name} {field}"), format!("revision {}", place + 1));
                }
            }
            Some("Event") if line["obj"]["involvedObject"]["kind"] == "StatefulSet" => {
                let about = line["obj"]["involvedObject"]["name"].as_str().unwrap_or_default();
                let what = format!("{} {}", line["obj"]["reason"], line["obj"]["message"]);
                // Those of a parallel set come in any order, and each at its time.
                let order = if about == "db" { String::new() } else { format!(" {}", line["obj"]["message"]) };
                tell(&format!("events of {about}{order}"), what);
            }
            _ => {}
        }
    }
    story
}

#[test]
fn the_recorded_stateful_sets_do_here_what_they_did_there() {
    let recording = recording("c");
    // From the deletion of the set on, the garbage collector's workers race.
    let is_end =
        |line: &&Value| line["action"].as_str().is_some_and(|action| action.starts_with("kubectl delete sts/db"));
    let end = recording.iter().find(is_end).and_then(|line| line["t"].as_u64()).expect("the set is deleted");
    let real = stateful_story(&recording, end);
    for seed in SEEDS {
        let compared = tale::assert_same(&real, &stateful_story(&play_scenario("timeline-c", seed), end), 500);
        assert!(compared > 100, "only {compared} moments were compared with seed {seed}");
    }
}

/// Plays a scenario beside its recording; both are told from the creation of the namespace to its deletion.
fn assert_told_alike(name: &str, tolerance: u64, seed: u64) -> usize {
    let recording = recording(name);
    let actions = recording.iter().filter(|line| line.get("action").is_some()).cloned();
    let ours: Vec<Value> = play_scenario(&format!("timeline-{name}"), seed).into_iter().chain(actions).collect();
    let ((real, real_totals), (ours, our_totals)) = (tale::tale(&recording, name), tale::tale(&ours, name));
    tale::assert_settled_alike(&real_totals, &our_totals);
    tale::assert_same(&real, &ours, tolerance)
}

#[test]
fn a_lost_node_is_marked_emptied_and_taken_back_as_it_was_there() {
    for seed in SEEDS {
        // The recording's machine was late with the first pods by a second.
        let compared = assert_told_alike("d", 1_500, seed);
        assert!(compared > 200, "only {compared} moments were compared");
    }
}

#[test]
fn services_follow_their_pods_as_they_did_there() {
    for seed in [1, 7] {
        // With a hundred pods more, the recording's machine was late with everything by up to 1.2 s.
        let compared = assert_told_alike("h", 1_500, seed);
        assert!(compared > 800, "only {compared} moments were compared with seed {seed}");
    }
}
