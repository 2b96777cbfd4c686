//! Probes: recording k4q.

use crate::api::name::Name;
use crate::api::pod::RestartPolicy::Always;
use crate::api::pod::{ConditionStatus, Container, Handler, PodCondition, PodConditionType, Probe, Why};
use crate::runtime::model::{ExitModel, GrpcModel, Health, ImageModel, ProbeFailure, StopModel};
use crate::runtime::span::Spread;

use super::check::check_first;
use super::harness::{EPOCH, World, container, probe, spec};

const K4Q: &str = include_str!("../../../tests/golden/kubelet/k4q/kubelet-writes.txt");

/// Not passing at first, then turning at these seconds after the start.
fn turns(seconds: &[u64], failure: ProbeFailure) -> Health {
    let turns = seconds.iter().map(|second| Spread::millis(second * 1000)).collect();
    Health { passing: false, turns, failure, ..Health::default() }
}

fn exec(command: &str) -> Handler {
    Handler::Exec(command.split(' ').map(str::to_owned).collect::<Vec<_>>().into())
}

/// The images of the recording: none of them traps SIGTERM.
fn world() -> World {
    let deaf =
        || ImageModel { stop: StopModel { ignores_term: true, ..StopModel::default() }, ..ImageModel::default() };
    let no_file = ProbeFailure::Output("cat: can't open '/run/l': No such file or directory\n".to_owned());
    let dies = |failure| Health { passing: true, ..turns(&[20], failure) };
    let refused = ProbeFailure::Refused;
    let models = vec![
        ("ready", ImageModel { readiness: turns(&[5, 25, 40], ProbeFailure::Refused), ..deaf() }),
        ("live", ImageModel { liveness: dies(no_file), ..deaf() }),
        (
            "start",
            ImageModel { startup: turns(&[7], refused.clone()), readiness: turns(&[11], refused.clone()), ..deaf() },
        ),
        ("startfail", ImageModel { startup: Health::never(), ..deaf() }),
        (
            "tcp",
            ImageModel { readiness: turns(&[4, 14], refused.clone()), liveness: turns(&[4, 14], refused), ..deaf() },
        ),
        ("slow", ImageModel { readiness: Health { failure: ProbeFailure::Hangs, ..Health::never() }, ..deaf() }),
        ("deaf", deaf()),
    ];
    let images: Vec<&str> = models.iter().map(|(name, _)| *name).collect();
    let mut world = World::new(models, |_, _| {}).with_images(&images);
    // A kubelet that has been up for longer than any period lets no probe sleep first.
    world.run(20_000);
    world
}

fn with_readiness(image: &str, readiness: Probe) -> Container {
    Container { readiness: Some(readiness), ..container("c", image) }
}

#[test]
fn readiness_follows_the_probe_and_failures_count_only_at_the_threshold() {
    let mut world = world();
    world.create("ready", spec(Always, 2, vec![with_readiness("ready", probe(exec("test"), 2))]));
    world.run(60_000);
    check_first(&world, K4Q, "ready", 4, 5);
    let ready = world.times("ready", "Ready=True/None ContainersReady");
    let unready =
        world.times("ready", "Ready=False/ContainersNotReady<containers with unready status: [c]> ContainersReady");
    let started = world.times("ready", "phase=\"Running\"")[0];
    assert_eq!((ready.len(), unready.len()), (2, 2), "{ready:?} {unready:?}");
    assert!((5_000..7_100).contains(&(ready[0] - started)), "{started} {ready:?}");
    // Three failures, two seconds apart, after 25 s.
    assert!((29_000..31_200).contains(&(unready[1] - started)), "{started} {unready:?}");
    assert!((40_000..42_200).contains(&(ready[1] - started)), "{started} {ready:?}");
}

#[test]
fn the_first_readiness_probe_comes_with_the_running_status() {
    let mut world = world();
    world.create("ready", spec(Always, 2, vec![with_readiness("ready", probe(exec("test"), 10))]));
    world.run(3_000);
    let running = world.times("ready", "phase=\"Running\"")[0];
    let probed = world.times("ready", "Readiness probe failed")[0];
    assert!(probed.abs_diff(running) < 60, "running at {running}, probed by {probed}");
}

#[test]
fn a_container_that_fails_its_liveness_probe_is_killed_and_started_in_one_pass() {
    let mut world = world();
    let liveness = Probe { failure_threshold: 3, ..probe(exec("cat /run/l"), 2) };
    let container = Container { liveness: Some(liveness), ..container("c", "live") };
    world.create("live", spec(Always, 4, vec![container]));
    world.run(40_000);
    check_first(&world, K4Q, "live", 4, 7);
    let killed = world.times("live", "Killing: Container c failed liveness probe, will be restarted")[0];
    let restarted = world.times("live", "running rc=1")[0];
    assert!((4_000..4_600).contains(&(restarted - killed)), "the grace of 4 s: {killed} {restarted}");
    assert!(world.times("live", "cont c[terminated").is_empty(), "no terminated state is ever written");
}

#[test]
fn startup_comes_first_and_then_asks_for_readiness_at_once() {
    let mut world = world();
    let container = Container {
        startup: Some(Probe { failure_threshold: 5, ..probe(exec("test"), 3) }),
        readiness: Some(probe(exec("test"), 2)),
        ..container("c", "start")
    };
    world.create("start", spec(Always, 2, vec![container]));
    world.run(16_000);
    check_first(&world, K4Q, "start", 5, 3);
    let started = world.times("start", "running rc=0 rdy=False st=True")[0];
    let asked = world.times("start", "Readiness probe failed")[0];
    assert!(asked.abs_diff(started) < 60, "started {started}, asked {asked}");
}

#[test]
fn a_failing_startup_probe_restarts_with_the_back_off_of_the_instance_before() {
    let mut world = world();
    let startup = Probe { failure_threshold: 3, ..probe(exec("test"), 2) };
    world.create(
        "startfail",
        spec(Always, 2, vec![Container { startup: Some(startup), ..container("c", "startfail") }]),
    );
    world.run(60_000);
    check_first(&world, K4Q, "startfail", 5, 11);
    let restarts = world.times("startfail", "cont c[running");
    let pauses: Vec<u64> = restarts.windows(2).map(|pair| (pair[1] - pair[0]) / 1000).collect();
    assert!(pauses[0] <= 9 && pauses[1] <= 9, "twice at once: {pauses:?}");
    assert!(pauses[2] >= 16, "then the back-off counts from the instance before: {pauses:?}");
}

#[test]
fn tcp_probes_find_a_closed_port() {
    let mut world = world();
    let tcp = Handler::TcpSocket { port: 8080 };
    let container = Container {
        readiness: Some(probe(tcp.clone(), 2)),
        liveness: Some(Probe { initial_delay_seconds: 8, failure_threshold: 2, ..probe(tcp, 3) }),
        ..container("c", "tcp")
    };
    world.create("tcp", spec(Always, 2, vec![container]));
    world.run(40_000);
    check_first(&world, K4Q, "tcp", 6, 3);
    let refused = world.lines("tcp", &["EVENT Warning Unhealthy: Liveness"]);
    assert_eq!(
        refused,
        ["EVENT Warning Unhealthy: Liveness probe failed: dial tcp 10.244.0.2:8080: connect: connection refused"]
    );
}

#[test]
fn a_probe_without_an_answer_fails_after_its_timeout() {
    let mut world = world();
    world.create("slowprobe", spec(Always, 2, vec![with_readiness("slow", probe(exec("sleep 5"), 4))]));
    world.run(20_000);
    check_first(&world, K4Q, "slowprobe", 3, 6);
}

#[test]
fn a_readiness_gate_keeps_a_pod_unready_until_somebody_opens_it() {
    let mut world = world();
    let mut spec = spec(Always, 2, vec![container("c", "deaf")]);
    let gate = k8s_openapi::api::core::v1::PodReadinessGate { condition_type: "ex/gate".to_owned() };
    spec.full.readiness_gates = Some(vec![gate]);
    world.create("gate", spec);
    world.run(5_000);
    let now = EPOCH.timestamp(world.queue.now());
    world.change("gate", |pod| {
        pod.status.conditions.push(PodCondition {
            kind: PodConditionType::Other(Name::of("ex/gate")),
            status: ConditionStatus::True,
            why: Why::NONE,
            last_transition: now,
            observed_generation: 0,
        });
    });
    world.run(1_500);
    assert_eq!(check_first(&world, K4Q, "gate", 4, 3), 0);
}

#[test]
fn readiness_is_asked_for_while_a_pod_ends_and_liveness_is_not() {
    let mut world = world();
    let container = Container {
        readiness: Some(probe(exec("test"), 1)),
        liveness: Some(probe(exec("test"), 1)),
        ..container("c", "live")
    };
    world.create("p", spec(Always, 30, vec![container]));
    world.run(15_000);
    world.delete("p", 20);
    world.run(15_000);
    assert!(world.times("p", "Liveness probe failed").is_empty());
    assert!(world.exists("p"));
    world.run(8_000);
    assert!(!world.exists("p"));
}

#[test]
fn grpc_probes_tell_what_the_health_service_says() {
    let says = |failure: ProbeFailure| ImageModel {
        readiness: Health { failure, ..Health::never() },
        ..ImageModel::default()
    };
    let with = |grpc: GrpcModel| ImageModel { grpc: Some(grpc), ..ImageModel::default() };
    let models = vec![
        ("serving", with(GrpcModel { services: Some(vec!["shop.Cart".to_owned()]), ..GrpcModel::default() })),
        ("draining", says(ProbeFailure::Status(503))),
        ("unknown", says(ProbeFailure::Grpc("UNKNOWN".to_owned()))),
        ("closed", says(ProbeFailure::Refused)),
        ("plain", with(GrpcModel { implemented: false, services: None })),
        ("other", with(GrpcModel { services: Some(Vec::new()), ..GrpcModel::default() })),
        (
            "slow",
            ImageModel {
                readiness: Health { latency: Spread::millis(1500), ..Health::default() },
                ..ImageModel::default()
            },
        ),
    ];
    let images: Vec<&str> = models.iter().map(|(name, _)| *name).collect();
    let mut world = World::new(models, |_, _| {}).with_images(&images);
    let grpc = || Handler::Grpc { port: 8080, service: Name::of("shop.Cart") };
    for image in &images {
        world.create(image, spec(Always, 2, vec![with_readiness(image, probe(grpc(), 5))]));
    }
    world.run(8_000);
    let outcome = |pod: &str| {
        let failed = "EVENT Warning Unhealthy: Readiness probe failed: ";
        world.lines(pod, &[failed]).first().map(|line| line.trim_start_matches(failed).to_owned())
    };
    assert_eq!(outcome("serving"), None);
    for (pod, words) in [
        ("draining", "service unhealthy (responded with \"NOT_SERVING\")"),
        ("unknown", "service unhealthy (responded with \"UNKNOWN\")"),
        (
            "plain",
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown service grpc.health.v1.Health",
        ),
        ("other", "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service"),
        ("slow", "timeout: health rpc did not complete within 1s"),
    ] {
        assert_eq!(outcome(pod).as_deref(), Some(words), "{pod}");
    }
    let closed = outcome("closed").expect("nothing listens");
    let words = ("timeout: failed to connect service \"10.244.0.", ":8080\" within 1s: context deadline exceeded");
    assert!(closed.starts_with(words.0) && closed.ends_with(words.1), "{closed}");
    let running = world.times("closed", "phase=\"Running\"")[0];
    let failed = world.times("closed", "Readiness probe failed")[0];
    assert!((900..1_100).contains(&(failed - running)), "the client tries until its time is over: {running} {failed}");
}

#[test]
fn a_first_readiness_probe_that_fails_is_followed_by_another_at_the_next_relist() {
    let mut world = world();
    world.create("ready", spec(Always, 2, vec![with_readiness("ready", probe(exec("test"), 2))]));
    world.run(6_000);
    let failed = world.times("ready", "Readiness probe failed");
    let pauses: Vec<u64> = failed.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // The worker that meets a new container counts it as not ready, and that alone has the pod synced once more; from that probe
    // on the period counts.
    assert!((1..1_020).contains(&pauses[0]) && (1_980..2_020).contains(&pauses[1]), "{pauses:?}");
}

#[test]
fn probes_that_find_a_crashed_container_have_its_back_off_shown_at_once() {
    let exit = ExitModel { after: Spread::millis(5_000), codes: vec![1], out_of_memory: false, cpu_bound: false };
    let models = vec![("crash", ImageModel { exit: Some(exit), ..ImageModel::default() })];
    let mut world = World::new(models, |_, _| {}).with_images(&["crash"]);
    world.run(20_000);
    world.create("plain", spec(Always, 2, vec![container("c", "crash")]));
    let readiness = with_readiness("crash", probe(exec("test"), 2));
    world.create("probed", spec(Always, 2, vec![readiness]));
    world.run(40_000);
    let shown = |pod: &str| {
        let ended = world.times(pod, "cont c[terminated:Error(1) rc=1")[0];
        world.times(pod, "waiting:CrashLoopBackOff")[0] - ended
    };
    assert!((10_000..16_000).contains(&shown("plain")), "only when the back-off is over: {}", shown("plain"));
    assert!(shown("probed") < 3_100, "at the first relist after the next tick: {}", shown("probed"));
    let backing_off = |pod: &str| world.times(pod, "Back-off restarting failed container").len();
    assert!(backing_off("probed") > backing_off("plain"), "each look tells of the back-off again");
}

#[test]
fn probes_of_a_kubelet_that_has_just_begun_sleep_for_a_part_of_their_period() {
    let mut world = World::new(vec![("deaf", ImageModel::default())], |_, _| {}).with_images(&["deaf"]);
    world.run(1_000);
    for number in 0..8 {
        world.create(&format!("p{number}"), spec(Always, 2, vec![with_readiness("deaf", probe(exec("test"), 20))]));
    }
    world.run(30_000);
    let delay = |number: u32| {
        let pod = format!("p{number}");
        world.times(&pod, "Ready=True/None")[0].saturating_sub(world.times(&pod, "phase=\"Running\"")[0])
    };
    let delays: Vec<u64> = (0..8).map(delay).collect();
    assert!(delays.iter().all(|delay| *delay < 20_100), "{delays:?}");
    assert!(delays.iter().any(|delay| *delay > 8_000) && delays.iter().any(|delay| *delay < 14_000), "{delays:?}");
}

#[test]
fn after_a_restart_of_the_kubelet_a_pod_that_was_called_not_ready_is_asked_first() {
    let mut world = World::new(vec![("deaf", ImageModel::default())], |_, _| {}).with_images(&["deaf"]);
    world.run(20_000);
    for pod in ["asked", "lost", "known"] {
        let readiness = (pod != "lost").then(|| probe(exec("test"), 2));
        world.create(pod, spec(Always, 2, vec![Container { readiness, ..container("c", "deaf") }]));
    }
    world.run(20_000);
    world.stop_kubelet();
    for pod in ["asked", "lost"] {
        world.change(pod, |pod| {
            let ready = pod.status.conditions.iter_mut().find(|condition| condition.kind == PodConditionType::Ready);
            ready.expect("it was ready").status = ConditionStatus::False;
        });
    }
    world.run(5_000);
    let from = world.queue.now().as_millis();
    world.start_kubelet();
    world.run(10_000);
    let after = |pod: &str, text: &str| world.times(pod, text).into_iter().filter(|at| *at >= from).collect::<Vec<_>>();
    let (unready, ready) = (after("asked", "rdy=False"), after("asked", "Ready=True/None ContainersReady=True"));
    assert_eq!((unready.len(), ready.len()), (1, 1), "{:?}", world.lines("asked", &["PATCH"]));
    assert!(ready[0] > unready[0] && ready[0] - unready[0] < 2_100, "{unready:?} {ready:?}");
    assert_eq!(after("lost", "PATCH Ready=True").len(), 1, "{:?}", world.lines("lost", &["PATCH"]));
    assert!(after("known", "PATCH").is_empty(), "{:?}", world.lines("known", &["PATCH"]));
}

#[test]
fn a_container_that_started_before_counts_as_started_until_its_startup_probe_ticks() {
    let failing = Health { passing: true, turns: vec![Spread::millis(10_000)], ..Health::default() };
    let mut world = World::new(vec![("dying", ImageModel { liveness: failing, ..ImageModel::default() })], |_, _| {})
        .with_images(&["dying"]);
    world.run(20_000);
    let container = Container {
        startup: Some(probe(exec("test"), 3)),
        liveness: Some(Probe { failure_threshold: 1, ..probe(exec("test"), 3) }),
        ..container("c", "dying")
    };
    world.create("p", spec(Always, 2, vec![container]));
    world.run(30_000);
    let again: Vec<String> =
        world.lines("p", &["PATCH"]).into_iter().filter(|line| line.contains("running rc=1")).collect();
    let started = |line: &String| line.contains("st=True");
    // The tick takes the word back, the pass that follows says that it is not ready, and the next tick asks.
    let all: Vec<bool> = again.iter().map(started).collect();
    assert_eq!(all[..4], [true, false, false, true], "{again:#?}");
}
