//! What a real kubelet wrote about plain pods, and what the kubelet of a whole cluster writes about the same pods.
//!
//! The same commands at the same times as in the recording; the scripts that its busybox containers ran are image models here.

mod support;

#[path = "support/kubelet_writes.rs"]
mod kubelet_writes;

use kubelet_writes::{Line, check, check_first};
use kubesim::api::event::Event;
use kubesim::api::object::Object;
use kubesim::cluster::news::Write;
use kubesim::cluster::options::{ClusterOptions, KubeletKind};
use kubesim::engine::time::{SimDuration, SimTime};
use kubesim::runtime::model::{ImageModel, ImageModels, StopModel};
use kubesim::runtime::span::Spread;
use support::{Bed, as_seconds, options};

const K1Q: &str = include_str!("golden/kubelet/k1q/kubelet-writes.txt");
/// How long the cluster is up before the recording begins.
const BEFORE: SimDuration = SimDuration::from_secs(20);

/// A pod of containers, each with a name and an image that stands for its script.
fn pod(name: &str, grace_seconds: u32, containers: &[(&str, &str)]) -> String {
    let containers: Vec<String> =
        containers.iter().map(|(name, image)| format!("{{name: {name}, image: \"busybox:{image}\"}}")).collect();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: {grace_seconds}\n  \
         containers: [{}]\n---\n",
        containers.join(", ")
    )
}

/// A node whose images are there and do what the scripts of the recording do.
fn one_node() -> ClusterOptions {
    let traps = |seconds: u64, code: i32| ImageModel {
        // The shell looks for signals between two sleeps of 200 ms.
        stop: StopModel { takes: Spread::millis(seconds * 1000 + 100), code, ..StopModel::default() },
        ..ImageModel::default()
    };
    let deaf = ImageModel { stop: StopModel { ignores_term: true, ..StopModel::default() }, ..ImageModel::default() };
    let models = [("traps", traps(0, 0)), ("traps-2s", traps(2, 0)), ("traps-4s", traps(4, 3)), ("deaf", deaf)];
    let mut options = options(1, KubeletKind::Real);
    options.nodes[0].images = models.iter().map(|(tag, _)| format!("busybox:{tag}")).collect();
    options.images = ImageModels::new(models.map(|(tag, model)| (format!("busybox:{tag}"), model)).to_vec());
    options
}

/// A write of a kubelet as a line of the recording; none for what the recording does not list: leases, nodes, the change
/// with which the API server begins a deletion.
fn line(write: &Write) -> Option<Line> {
    if !write.agent.starts_with("kubelet/") {
        return None;
    }
    let line = |pod: &str, text: String| Some(Line { at: write.at, pod: pod.to_owned(), text, patched: None });
    match (&write.old, &write.new) {
        (None, Some(Object::Event(event))) if event.involved.kind == "Pod" => {
            line(&event.involved.name, format!("EVENT {:?} {}: {}", event.kind, event.reason, event.message))
        }
        (Some(_), Some(Object::Event(event))) if event.involved.kind == "Pod" => {
            let Event { count, message, .. } = &**event;
            line(&event.involved.name, format!("EVENT-PATCH count={count} {message}"))
        }
        (Some(Object::Pod(old)), Some(Object::Pod(new))) if write.verb == "patch" => Some(Line {
            patched: Some(Box::new((old.status.clone(), new.status.clone()))),
            ..line(&new.meta.name, kubelet_writes::patch(&old.status, &new.status))?
        }),
        (Some(Object::Pod(old)), None) => line(&old.meta.name, "DELETE".to_owned()),
        _ => None,
    }
}

/// Plays the commands of the recording.
fn play(seed: u64) -> Bed {
    let mut bed = Bed::ready(one_node(), seed);
    let at = |bed: &mut Bed, millis: u64| bed.run_to(SimTime::ZERO + BEFORE + SimDuration::from_millis(millis));
    let delete = |bed: &mut Bed, name: &str, grace: Option<i64>| {
        let command = support::delete_command(support::pod("default", name), grace, false);
        bed.kubectl(command).expect("it is deleted");
    };
    at(&mut bed, 1_175);
    let two = pod("two", 8, &[("a", "traps"), ("b", "traps-4s")]);
    bed.apply(&(pod("handler", 30, &[("c", "traps-2s")]) + &pod("nohandler", 5, &[("c", "deaf")]) + &two));
    for (millis, name) in [(8_364, "handler"), (12_841, "nohandler"), (19_905, "two")] {
        at(&mut bed, millis);
        delete(&mut bed, name, None);
    }
    at(&mut bed, 25_978);
    bed.apply(&pod("hello", 5, &[("c", "traps")]));
    at(&mut bed, 29_456);
    delete(&mut bed, "hello", Some(0));
    at(&mut bed, 32_841);
    bed.apply(&pod("nohandler", 20, &[("c", "deaf")]));
    at(&mut bed, 36_371);
    delete(&mut bed, "nohandler", None);
    at(&mut bed, 39_679);
    delete(&mut bed, "nohandler", Some(2));
    at(&mut bed, 65_927);
    bed
}

#[test]
fn the_kubelet_of_a_whole_cluster_writes_about_plain_pods_as_a_real_one() {
    let bed = play(7);
    let lines: Vec<Line> = bed.writes.iter().filter_map(|write| line(write)).collect();
    for pod in ["handler", "nohandler", "two"] {
        assert_eq!(check(&lines, K1Q, pod), 0, "no two writes of {pod} were one");
    }
    // Of a pod that was deleted by force the last PATCH finds nothing any more (404) and so is no write.
    assert_eq!(check_first(&lines, K1Q, "hello", 3, usize::MAX), 0);
    assert_eq!(lines.iter().filter(|line| line.pod == "hello" && !line.text.starts_with("EVENT")).count(), 3);
    assert_eq!(bed.cluster.nodes()[0].runtime().running(), 0, "no container is left");

    // From the deletion to the end: two seconds of its own; killed after five; four of its own; a shortened grace has no effect.
    let ends: Vec<f64> =
        lines.iter().filter(|line| line.text == "DELETE").map(|line| as_seconds(line.at) - 20.0).collect();
    let least = [8.364 + 2.1, 12.841 + 5.0, 19.905 + 4.1, 36.371 + 20.0];
    assert_eq!(ends.len(), least.len());
    for (end, least) in ends.iter().zip(least) {
        assert!((least..least + 1.5).contains(end), "gone at {end:.3} s, should be at most 1.5 s after {least:.3} s");
    }
}
