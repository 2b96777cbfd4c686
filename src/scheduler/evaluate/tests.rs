//! Rare courses of a decision: what plugins fail with, and what is said where they are half turned off. The plain evaluation and the
//! algorithm must agree on all of it.

use std::rc::Rc;

use serde_json::{Value, json};

use super::Evaluation;
use crate::api::kind::Kind;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::engine::random::Seed;
use crate::scheduler::algorithm::{Algorithm, Outcome};
use crate::scheduler::cluster::Cluster;
use crate::scheduler::configuration::Configuration;
use crate::scheduler::framework::PluginSet;
use crate::scheduler::profile::{Handle, Profile, Profiles};
use crate::scheduler::registry::Registry;
use crate::scheduler::testing::{node, node_from, object, pod_from};

/// What becomes of a pod: where it goes, or why nowhere; and the plugins that rejected it.
#[derive(PartialEq, Eq, Debug)]
struct Decided {
    said: String,
    plugins: PluginSet,
}

fn profiles(plugins: &Value) -> Profiles {
    let text = json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
        "profiles": [{ "schedulerName": "default-scheduler", "plugins": plugins }],
    });
    let configuration = Configuration::read("scheduler.yml", &text.to_string(), &Registry::in_tree());
    let configuration = configuration.unwrap_or_else(|problems| panic!("{problems:?}"));
    Profiles::new(&configuration.profiles, &Registry::in_tree(), &Handle::default()).expect("profiles")
}

fn cluster(objects: &[Object]) -> Cluster {
    let mut cluster = Cluster::default();
    for object in objects {
        match object {
            Object::Node(node) => cluster.set_node(node.clone()),
            Object::Pod(pod) => cluster.see_pod(pod, pod.node.as_ref().expect("a node")),
            other => cluster.set_object(other),
        }
    }
    cluster.refresh();
    cluster
}

/// What the plain evaluation comes to.
fn evaluated(profile: &Profile, cluster: &Cluster, pod: &Rc<Pod>) -> Decided {
    let evaluation = Evaluation::new(profile, cluster, pod);
    if let Some(failure) = evaluation.failure {
        return Decided { said: format!("failed: {failure}"), plugins: PluginSet::NONE };
    }
    match evaluation.diagnosis {
        Some(mut diagnosis) => {
            diagnosis.post_filter = evaluation.preemption.map(|said| said.message).unwrap_or_default();
            Decided { said: diagnosis.message(), plugins: diagnosis.plugins }
        }
        None => {
            let best = evaluation.best.iter().map(|place| evaluation.nodes[*place].node.to_string());
            Decided { said: best.collect::<Vec<String>>().join(" or "), plugins: PluginSet::NONE }
        }
    }
}

/// What the algorithm comes to.
fn scheduled(mut algorithm: Algorithm, profile: &Profile, cluster: &Cluster, pod: &Rc<Pod>) -> Decided {
    match algorithm.schedule(profile, pod, cluster) {
        Outcome::Failed(why) => Decided { said: format!("failed: {why}"), plugins: PluginSet::NONE },
        Outcome::Node(chosen) => Decided { said: chosen.node.to_string(), plugins: PluginSet::NONE },
        Outcome::Unschedulable(diagnosis) => Decided { said: diagnosis.message(), plugins: diagnosis.plugins },
    }
}

/// Lets both decide, which must agree, and compares what is said and who rejected the pod.
fn check(plugins: &Value, objects: &[Object], pod: &Object, said: &str, rejected_by: &[&str]) {
    let (profiles, cluster) = (profiles(plugins), cluster(objects));
    let (profile, pod) = (profiles.at(0), pod.get::<Pod>().expect("a pod"));
    let decided = evaluated(profile, &cluster, pod);
    let stream = || Seed(7).stream("test", "tie-break");
    for algorithm in [Algorithm::new(100, stream()), Algorithm::plain(100, stream())] {
        let again = scheduled(algorithm, profile, &cluster, pod);
        let agrees = again == decided || decided.said.split(" or ").any(|node| again.said == node);
        assert!(agrees, "{again:?} is not {decided:?}");
    }
    assert_eq!(decided.said, said);
    let names: Vec<&str> = decided.plugins.iter().map(|place| profile.plugin(place).name()).collect();
    assert_eq!(names, rejected_by, "{said}");
}

fn two_nodes() -> [Object; 2] {
    [node("a", "4"), node("b", "4")]
}

fn a_pod(more: Value) -> Object {
    let mut spec =
        json!({ "containers": [{ "name": "app", "image": "x", "resources": { "requests": { "cpu": "1" } } }] });
    spec.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    pod_from("web", spec)
}

fn nominated(pod: Object, node: &'static str) -> Object {
    let Object::Pod(mut pod) = pod else { panic!("no pod") };
    Rc::make_mut(&mut pod).status.nominated_node = Some(Box::new(node.into()));
    Object::Pod(pod)
}

/// The affinity of a pod that may go to one node.
fn only_on(node: &str) -> Value {
    let field = json!({ "key": "metadata.name", "operator": "In", "values": [node] });
    let terms = json!({ "nodeSelectorTerms": [{ "matchFields": [field] }] });
    json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } })
}

#[test]
fn without_nodes_nobody_is_asked_and_a_nomination_is_taken_back() {
    let pod = nominated(a_pod(json!({})), "a");
    check(&json!({}), &[], &pod, "no nodes available to schedule pods", &[]);
    let mut algorithm = Algorithm::new(0, Seed(7).stream("test", "tie-break"));
    let outcome = algorithm.schedule(&Profile::standard(), pod.get::<Pod>().unwrap(), &Cluster::default());
    let Outcome::Unschedulable(diagnosis) = outcome else { panic!("{outcome:?}") };
    assert_eq!(diagnosis.nominated_node.as_deref(), Some(""));
}

#[test]
fn a_scorer_that_misses_what_pre_score_would_have_left_fails_if_there_is_anything_to_score() {
    let off = |plugin: &str| json!({ "preScore": { "disabled": [{ "name": plugin }] } });
    let failed = |plugin: &str, why: &str| {
        format!("failed: running Score plugins: plugin \"{plugin}\" failed with: {why} from cycleState: not found")
    };
    for (plugin, why) in [
        ("TaintToleration", "failed to read \"PreScoreTaintToleration\""),
        ("InterPodAffinity", "failed to read \"PreScoreInterPodAffinity\""),
        ("PodTopologySpread", "error reading \"PreScorePodTopologySpread\""),
    ] {
        check(&off(plugin), &two_nodes(), &a_pod(json!({})), &failed(plugin, why), &[]);
        check(&off(plugin), &[node("a", "4")], &a_pod(json!({})), "a", &[]);
        check(&off(plugin), &two_nodes(), &nominated(a_pod(json!({})), "b"), "b", &[]);
    }
    // Others work it out anew; what would have been skipped gives every node nothing.
    let (profiles, cluster) = (profiles(&off("NodeAffinity")), cluster(&two_nodes()));
    let pod = a_pod(json!({}));
    let evaluation = Evaluation::new(profiles.at(0), &cluster, pod.get::<Pod>().unwrap());
    let scores = evaluation.scores.iter().find(|scores| scores.name == "NodeAffinity").expect("scores");
    assert_eq!(scores.raw, [0, 0]);
}

#[test]
fn what_pre_score_cannot_read_fails_the_pod_unless_one_node_is_left() {
    let wrong = json!({ "matchExpressions": [{ "key": "app", "operator": "Like", "values": ["web"] }] });
    let soft = json!({
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": wrong,
    });
    let spread = a_pod(json!({ "topologySpreadConstraints": [soft] }));
    let why = "failed: running PreScore plugin \"PodTopologySpread\": calculating preScoreState: obtaining pod's soft \
               topology spread constraints: \"Like\" is not a valid label selector operator";
    check(&json!({}), &two_nodes(), &spread, why, &[]);
    check(&json!({}), &[node("a", "4"), node("b", "500m")], &spread, "a", &[]);
}

#[test]
fn a_filter_that_does_without_pre_filter_says_of_each_node_what_that_would_have_said() {
    let claim = object(
        Kind::PersistentVolumeClaim,
        json!({ "metadata": { "name": "data", "namespace": "default" }, "spec": { "volumeName": "gone" } }),
    );
    let volumes = json!([{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }]);
    let pod = a_pod(json!({ "volumes": volumes }));
    let only_zones = json!({
        "preFilter": { "disabled": [{ "name": "VolumeBinding" }, { "name": "VolumeZone" }] },
        "filter": { "disabled": [{ "name": "VolumeBinding" }] },
        "postFilter": { "disabled": [{ "name": "*" }] },
    });
    let objects: Vec<Object> = two_nodes().into_iter().chain([claim]).collect();
    let said = "0/2 nodes are available: 2 persistentvolume \"gone\" not found.";
    check(&only_zones, &objects, &pod, said, &["VolumeZone"]);
}

#[test]
fn of_a_final_no_before_filtering_only_its_own_plugin_hears() {
    let volumes = json!([{ "name": "data", "persistentVolumeClaim": { "claimName": "missing" } }]);
    let pod = a_pod(json!({ "affinity": only_on("a"), "volumes": volumes }));
    let said = "0/2 nodes are available: persistentvolumeclaim \"missing\" not found. not found";
    check(&json!({}), &two_nodes(), &pod, said, &["VolumeRestrictions"]);
}

#[test]
fn the_nominated_node_is_one_of_which_something_is_said_whichever_nodes_were_named() {
    let small = node_from("a", json!({}), json!({ "allocatable": { "cpu": "500m", "pods": "9" } }));
    let pod = a_pod(json!({ "affinity": only_on("a"), "preemptionPolicy": "Never" }));
    let never = "no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never.";
    let objects = [small, node("b", "4"), node("c", "4")];
    let said = format!(
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. {never}"
    );
    check(&json!({}), &objects, &pod, &said, &["NodeAffinity", "NodeResourcesFit"]);
    let said = format!(
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) didn't \
         satisfy plugin(s) [NodeAffinity]. {never}"
    );
    check(&json!({}), &objects, &nominated(pod, "b"), &said, &["NodeAffinity", "NodeResourcesFit"]);
}
