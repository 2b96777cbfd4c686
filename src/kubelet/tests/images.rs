//! Images that must be pulled, are missing or cannot be had: recording k5b.

use crate::api::name::Name;
use crate::api::pod::PullPolicy;
use crate::api::pod::RestartPolicy::Always;
use crate::api::pod::{Container, PodSpec};
use crate::runtime::model::{ImageModel, PullModel, StopModel};
use crate::runtime::simulated::RuntimeInput;
use crate::runtime::size::Size;
use crate::runtime::span::Spread;

use super::check::check_first;
use super::harness::{Happens, World, container, spec};

const K5B: &str = include_str!("../../../tests/golden/kubelet/k5b/kubelet-writes.txt");

fn world(parallel: u32) -> World {
    let deaf =
        || ImageModel { stop: StopModel { ignores_term: true, ..StopModel::default() }, ..ImageModel::default() };
    let pulled = |bytes| ImageModel {
        size: Size(bytes),
        pull: PullModel { latency: Spread::millis(100), ..PullModel::default() },
        ..deaf()
    };
    let missing = |number: u32| {
        let error = format!(
            "failed to do request: Head \"http://localhost:5999/v2/nosuch/manifests/{number}\": dial tcp 127.0.0.1:5999: connect: connection refused"
        );
        // The pull of the second took so long on the recording's machine that the kubelet saw the pod's other container meanwhile.
        let latency = Spread::millis(if number == 2 { 1_200 } else { 10 });
        let pull = PullModel { error: Some(error), failures: None, latency };
        ImageModel { pull, ..deaf() }
    };
    let models = vec![
        ("localhost/ks/busybox:3", deaf()),
        ("127.0.0.1:24496/ks/one:1", pulled(2_130_674)),
        ("127.0.0.1:24497/ks/two:1", pulled(1_997_554)),
        ("localhost:5999/nosuch:1", missing(1)),
        ("localhost:5999/nosuch:2", missing(2)),
        ("localhost:5999/nosuch:4", missing(4)),
    ];
    let world = World::new(models, |settings, runtime| {
        settings.configuration.parallel_pulls = parallel;
        runtime.bytes_per_second = 700_000;
    });
    world.with_images(&["localhost/ks/busybox:3"])
}

fn one(image: &str, grace: i64) -> PodSpec {
    spec(Always, grace, vec![container("c", image)])
}

#[test]
fn pulls_go_one_after_the_other_and_say_how_long_they_waited() {
    let mut world = world(1);
    world.create("pull2", one("127.0.0.1:24497/ks/two:1", 1));
    world.run(500);
    world.create("pull1", one("127.0.0.1:24496/ks/one:1", 1));
    world.run(10_000);
    for pod in ["pull1", "pull2"] {
        assert_eq!(check_first(&world, K5B, pod, 3, 1), 0);
    }
    let pulled: Vec<String> =
        ["pull1", "pull2"].iter().flat_map(|pod| world.lines(pod, &["EVENT Normal Pulled"])).collect();
    let first = "EVENT Normal Pulled: Successfully pulled image \"127.0.0.1:24497/ks/two:1\" in 2.953s (2.953s including waiting). Image size: 1997554 bytes.";
    assert!(pulled.contains(&first.to_owned()), "{pulled:?}");
    let second = pulled.iter().find(|line| line.contains("one:1")).expect("pulled");
    assert!(second.contains("in 3.143s (") && !second.contains("(3.143s including"), "{second}");
}

#[test]
fn pulls_side_by_side_share_the_bandwidth() {
    let mut world = world(0);
    world.create("pull2", one("127.0.0.1:24497/ks/two:1", 1));
    world.create("pull1", one("127.0.0.1:24496/ks/one:1", 1));
    world.run(10_000);
    let pulled: Vec<String> =
        ["pull1", "pull2"].iter().flat_map(|pod| world.lines(pod, &["EVENT Normal Pulled"])).collect();
    assert_eq!(pulled.len(), 2);
    assert!(pulled.iter().all(|line| line.contains(" in 5.") || line.contains(" in 6.")), "{pulled:?}");
}

#[test]
fn an_image_that_cannot_be_had_backs_off_and_its_state_lags_behind_the_events() {
    let mut world = world(1);
    let containers = vec![container("good", "localhost/ks/busybox:3"), container("bad", "localhost:5999/nosuch:2")];
    world.create("mixed", spec(Always, 1, containers));
    world.run(100_000);
    assert_eq!(check_first(&world, K5B, "mixed", 6, 11), 0);
    let tries = world.times("mixed", "Failed to pull image");
    let pauses: Vec<u64> = tries.windows(2).map(|pair| (pair[1] - pair[0]) / 1000).collect();
    assert!((10..=17).contains(&pauses[0]) && (20..=32).contains(&pauses[1]), "{pauses:?}");
    assert_eq!(format!("{:?}", world.pod("mixed").status.phase), "Pending", "one container never ran");
}

#[test]
fn an_image_mended_in_place_is_used_at_once() {
    let mut world = world(1);
    world.create("nosuch", one("localhost:5999/nosuch:1", 1));
    world.run(9_000);
    world.change("nosuch", |pod| {
        let mut spec = PodSpec::clone(&pod.spec);
        spec.containers[0].image = Name::of("localhost/ks/busybox:3");
        pod.spec = spec.into();
        pod.meta.generation = 2;
    });
    world.run(3_000);
    assert_eq!(check_first(&world, K5B, "nosuch", 5, 8), 0);
}

#[test]
fn an_image_that_must_not_be_pulled_is_waited_for() {
    let mut world = world(1);
    let container = Container { pull_policy: PullPolicy::Never, ..container("c", "localhost/ks/absent:9") };
    world.create("never", spec(Always, 1, vec![container]));
    world.run(12_000);
    world
        .queue
        .schedule(world.queue.now(), Happens::Runtime(RuntimeInput::AddImage(Name::of("localhost/ks/absent:9"))));
    world.run(30_000);
    check_first(&world, K5B, "never", 4, 2);
    let tries = world.times("never", "is not present with pull policy of Never");
    assert!(tries.windows(2).skip(1).all(|pair| (10_000..16_100).contains(&(pair[1] - pair[0]))), "{tries:?}");
}

#[test]
fn a_pod_deleted_before_its_container_ran_has_failed() {
    let mut world = world(1);
    world.create("delpull", one("localhost:5999/nosuch:4", 30));
    world.run(8_000);
    world.delete("delpull", 30);
    world.run(5_000);
    assert!(!world.exists("delpull"));
    assert_eq!(check_first(&world, K5B, "delpull", usize::MAX, 5), 0);
}

#[test]
fn a_name_that_names_no_image_is_refused_every_time() {
    let mut world = world(1);
    world.create("p", one("registry/App:1", 1));
    world.run(40_000);
    assert_eq!(world.lines("p", &["PATCH"]).len(), 3);
    assert!(world.lines("p", &["EVENT Warning InspectFailed"])[0].contains("invalid reference format"));
}

#[test]
fn containers_of_one_pod_share_the_back_off_of_their_image() {
    let mut world = world(1);
    world.create(
        "p",
        spec(Always, 1, vec![container("a", "localhost:5999/nosuch:1"), container("b", "localhost:5999/nosuch:1")]),
    );
    world.run(2_000);
    assert_eq!(world.lines("p", &["EVENT Normal Pulling"]).len(), 1, "{:#?}", world.lines("p", &["EVENT"]));
    assert!(!world.lines("p", &["EVENT Normal BackOff"]).is_empty());
}
