//! Plain pods from beginning to end: recording k1q.

use crate::api::object::Object;
use crate::api::pod::RestartPolicy::Always;
use crate::runtime::model::{ImageModel, StopModel};
use crate::runtime::span::Spread;

use super::check::check;
use super::harness::{World, container, spec};

const K1Q: &str = include_str!("../../../tests/golden/kubelet/k1q/kubelet-writes.txt");

/// The behaviours of recording k1q, told apart by image.
fn world() -> World {
    let stops = |seconds: u64, code: i32| ImageModel {
        stop: StopModel { takes: Spread::millis(seconds * 1000 + 100), code, ..StopModel::default() },
        ..ImageModel::default()
    };
    let deaf = ImageModel { stop: StopModel { ignores_term: true, ..StopModel::default() }, ..ImageModel::default() };
    let models = vec![("traps-2s", stops(2, 0)), ("deaf", deaf), ("traps", stops(0, 0)), ("traps-4s", stops(4, 3))];
    World::new(models, |_, _| {}).with_images(&["traps-2s", "deaf", "traps", "traps-4s"])
}

#[test]
fn plain_pods_are_written_about_as_by_a_real_kubelet() {
    let mut world = world();
    world.create("handler", spec(Always, 30, vec![container("c", "traps-2s")]));
    world.create("nohandler", spec(Always, 5, vec![container("c", "deaf")]));
    world.create("two", spec(Always, 8, vec![container("a", "traps"), container("b", "traps-4s")]));
    world.run(6_000);
    for (pod, grace) in [("handler", 30), ("nohandler", 5), ("two", 8)] {
        world.delete(pod, grace);
        world.run(8_000);
        assert!(!world.exists(pod), "{pod} is gone");
    }
    world.create("nohandler", spec(Always, 20, vec![container("c", "deaf")]));
    world.run(3_000);
    world.delete("nohandler", 20);
    world.run(3_000);
    world.delete("nohandler", 2);
    world.run(16_000);
    assert!(world.exists("nohandler"), "a shortened grace has no effect");
    world.run(4_000);
    assert!(!world.exists("nohandler"));
    for pod in ["handler", "nohandler", "two"] {
        assert_eq!(check(&world, K1Q, pod), 0, "no two writes of {pod} were one");
    }
    assert_eq!(world.runtime.running(), 0);
}

#[test]
fn an_idle_machine_runs_a_pod_in_six_tenths_of_a_second() {
    let mut world = world();
    world.create("p", spec(Always, 30, vec![container("c", "traps")]));
    world.run(3_000);
    let writes = world.times("p", "PATCH");
    assert_eq!(writes.len(), 3);
    let since: Vec<u64> = writes.iter().map(|at| at - 5_000).collect();
    assert!((10..=40).contains(&since[0]), "first status after {} ms", since[0]);
    assert!((400..=700).contains(&since[1]), "sandbox after {} ms", since[1]);
    assert!((500..=1000).contains(&since[2]), "running after {} ms", since[2]);
}

#[test]
fn a_running_pod_takes_little_memory() {
    use std::mem::size_of;
    let worker = size_of::<crate::kubelet::worker::Worker>();
    let container = size_of::<crate::kubelet::worker::Record>();
    let instance = size_of::<crate::runtime::instance::Instance>();
    assert!(worker + container + instance <= 430, "worker {worker}, container {container}, instance {instance}");
    let mut world = world();
    world.create("p", spec(Always, 30, vec![super::harness::container("c", "traps")]));
    world.run(5_000);
    let kubelet = world.kubelet.as_ref().expect("it runs");
    assert!(kubelet.unwritten() == 0, "no second copy of a status that the API has");
}

#[test]
fn a_simple_pod_costs_few_timers() {
    let mut world = world();
    world.run_to(20_000);
    let before = world.timers;
    world.create("p", spec(Always, 30, vec![container("c", "traps")]));
    world.run(5_000);
    // Sandbox, create and start in the runtime; volumes, three status writes and at most one relist in the kubelet.
    assert!(world.timers - before <= 8, "{}", world.timers - before);
}

#[test]
fn statuses_of_containers_come_by_name_and_messages_by_specification() {
    let mut world = world();
    world.create("two", spec(Always, 8, vec![container("b", "traps"), container("a", "traps")]));
    world.run(500);
    let unready = "containers with unready status: [b a]";
    assert!(world.lines("two", &["PATCH"])[0].contains(unready), "{:?}", world.lines("two", &["PATCH"]));
    world.run(5_000);
    let names: Vec<String> = world.pod("two").status.containers.iter().map(|one| one.name.to_string()).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(world.pod("two").status.is_ready());
}

#[test]
fn statuses_of_containers_say_from_the_first_what_is_mounted() {
    let mut world = world();
    let mut mounts = spec(Always, 30, vec![container("c", "traps")]);
    mounts.full = serde_json::from_value(serde_json::json!({
        "containers": [{"name": "c", "image": "traps", "volumeMounts": [{"name": "d", "mountPath": "/d", "readOnly": true}]}],
        "volumes": [{"name": "d", "emptyDir": {}}]
    }))
    .expect("a specification");
    world.create("p", mounts);
    let told = |world: &World| {
        let status = &Object::Pod(world.pod("p")).to_json()["status"]["containerStatuses"][0];
        (status["state"].to_string(), status["volumeMounts"].to_string())
    };
    while world.pod("p").status.containers.is_empty() {
        world.run(100);
    }
    let mounted = concat!(
        r#"[{"mountPath":"/d","name":"d","readOnly":true,"recursiveReadOnly":"Disabled"},"#,
        r#"{"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount","name":"kube-api-access-abcde","#,
        r#""readOnly":true,"recursiveReadOnly":"Disabled"}]"#
    );
    assert_eq!(told(&world), (r#"{"waiting":{"reason":"ContainerCreating"}}"#.to_owned(), mounted.to_owned()));
    world.run(5_000);
    assert!(told(&world).0.contains("running") && told(&world).1 == mounted, "{:?}", told(&world));
}
