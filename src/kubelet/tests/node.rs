//! The node itself: registration, heartbeats, restarts, crashes, outages, and pods that may not run.

use crate::api::kind::Kind;
use crate::api::name::Name;
use crate::api::node::Lease;
use crate::api::object::{Object, Resource};
use crate::api::pod::RestartPolicy::{Always, Never, OnFailure};
use crate::api::pod::{ConditionStatus, Container, Handler, HostPort, PodConditionType, PodPhase};
use crate::api::resources::Resources;
use crate::kubelet::{Command, KubeletInput, KubeletProfile, KubeletTimings};
use crate::runtime::model::{ExitModel, Health, HookModel, ImageModel, StopModel};
use crate::runtime::simulated::RuntimeInput;
use crate::runtime::span::Spread;

use super::check::check;
use super::harness::{Happens, World, container, init, probe, spec};

const K1Q: &str = include_str!("../../../tests/golden/kubelet/k1q/kubelet-writes.txt");

fn world() -> World {
    let ends = |after: u64| ImageModel {
        exit: Some(ExitModel { after: Spread::millis(after), codes: vec![3], out_of_memory: false, cpu_bound: false }),
        ..ImageModel::default()
    };
    let quick =
        ImageModel { stop: StopModel { takes: Spread::millis(100), ..StopModel::default() }, ..ImageModel::default() };
    World::new(vec![("ends-at-20s", ends(20_000)), ("quick", quick)], |_, _| {}).with_images(&[
        "ends-at-20s",
        "quick",
        "localhost/ks/busybox:3",
    ])
}

#[test]
fn a_node_registers_not_ready_and_is_ready_50_ms_later() {
    let mut world = world();
    world.run_to(40_000);
    let writes = world.lines("kn1", &["CREATE", "UPDATE", "PATCH"]);
    assert_eq!(
        writes,
        ["CREATE nodes", "PATCH nodes/status Ready=True", "CREATE leases", "UPDATE leases", "UPDATE leases",]
    );
    let leases = world.times("kn1", "leases");
    assert!((10_000..10_100).contains(&leases[0]), "the first lease after 10 s: {leases:?}");
    assert!(leases.windows(2).all(|pair| (10_000..=10_401).contains(&(pair[1] - pair[0]))), "{leases:?}");
    let ready = world.times("kn1", "nodes/status")[0] - world.times("kn1", "CREATE nodes")[0];
    assert!((50..60).contains(&ready), "{ready}");
    let events = world.lines("kn1", &["EVENT"]);
    let first = [
        "EVENT Normal Starting: Starting kubelet.",
        "EVENT Warning InvalidDiskCapacity: invalid capacity 0 on image filesystem",
    ];
    assert_eq!(events[..2], first);
    assert_eq!(events.last().map(String::as_str), Some("EVENT Normal NodeReady: Node kn1 status is now: NodeReady"));
}

#[test]
fn an_idle_node_with_running_pods_costs_its_lease_and_a_report_every_five_minutes() {
    let mut world = world();
    for number in 0..20 {
        world.create(&format!("p{number}"), spec(Always, 30, vec![container("c", "quick")]));
    }
    world.run_to(60_000);
    assert_eq!(world.runtime.running(), 20);
    let (before, lines) = (world.handled, world.api.lines.len());
    world.run_to(60_000 + 600_000);
    let writes: Vec<&str> = world.api.lines[lines..].iter().map(|line| line.text.as_str()).collect();
    let leases = writes.iter().filter(|text| **text == "UPDATE leases").count();
    assert!((57..=60).contains(&leases), "{leases}");
    assert!(writes.iter().all(|text| text.ends_with("leases") || text.starts_with("PATCH nodes/status")), "{writes:?}");
    // A timer and an answer for every write.
    assert!(world.handled - before <= 2 * writes.len() as u64 + 2, "{}", world.handled - before);
}

#[test]
fn a_new_image_is_in_the_status_at_the_next_look() {
    let mut world = world();
    world.run_to(25_000);
    let before = world.times("kn1", "nodes/status").len();
    world.queue.schedule(world.queue.now(), Happens::Runtime(RuntimeInput::AddImage(Name::of("late:1"))));
    world.run_to(31_000);
    assert_eq!(world.times("kn1", "nodes/status")[before..].iter().map(|at| at / 1000).collect::<Vec<_>>(), [30]);
}

#[test]
fn a_node_that_was_called_lost_says_that_it_is_ready_at_the_next_look() {
    let mut world = world();
    world.run_to(62_000);
    let before = world.times("kn1", "nodes/status").len();
    let told = world.lines("kn1", &["EVENT"]).len();
    world.change_node(|node| {
        for condition in &mut node.status.conditions {
            condition.status = ConditionStatus::Unknown;
        }
    });
    world.run_to(90_000);
    let writes = world.times("kn1", "nodes/status");
    assert_eq!(writes[before..].iter().map(|at| at / 1000).collect::<Vec<_>>(), [70]);
    // What the node controller said is contradicted condition by condition, Ready last; the texts are known, so they are counted up.
    let again = world.lines("kn1", &["EVENT"]).split_off(told);
    let counts = [4, 4, 4, 2];
    let reasons = ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID", "NodeReady"];
    let expected = counts.iter().zip(reasons);
    let expected =
        expected.map(|(count, reason)| format!("EVENT-PATCH count={count} Node kn1 status is now: {reason}"));
    assert_eq!(again, expected.collect::<Vec<_>>());
}

#[test]
fn a_node_that_is_cordoned_tells_so_at_the_next_look_and_writes_no_status_for_it() {
    let mut world = world();
    world.run_to(62_000);
    let statuses = world.times("kn1", "nodes/status").len();
    world.change_node(|node| node.unschedulable = true);
    world.run_to(72_000);
    world.change_node(|node| node.unschedulable = false);
    world.run_to(90_000);
    let told = |reason: &str| -> Vec<u64> {
        let text = format!("EVENT Normal {reason}: Node kn1 status is now: {reason}");
        world.times("kn1", &text).iter().map(|at| at / 1000).collect()
    };
    assert_eq!((told("NodeNotSchedulable"), told("NodeSchedulable")), (vec![70], vec![80]));
    assert_eq!(world.times("kn1", "nodes/status").len(), statuses);
}

#[test]
fn heartbeats_stop_and_resume_on_command() {
    let mut world = world();
    world.run_to(35_000);
    world.tell(KubeletInput::Command(Command::StopHeartbeats));
    world.run_to(95_000);
    let silent = world.times("kn1", "leases").iter().filter(|at| **at > 35_000).count();
    assert_eq!(silent, 0);
    world.tell(KubeletInput::Command(Command::ResumeHeartbeats));
    world.run_to(110_000);
    assert!(world.times("kn1", "leases").last().is_some_and(|at| *at > 95_000));
}

#[test]
fn a_renewal_that_fails_is_tried_five_times_at_once_and_then_as_soon_as_the_lease_can_be_read() {
    let mut world = world();
    world.run_to(35_000);
    let last = *world.times("kn1", "leases").last().expect("it was renewed");
    world.api.fails_leases = true;
    world.run_to(80_000);
    let failed = std::mem::take(&mut world.api.failed);
    let updates: Vec<u64> = failed.iter().take_while(|(_, verb)| *verb == "update").map(|(at, _)| *at).collect();
    assert_eq!(updates.len(), 5, "{failed:?}");
    assert!((10_000..=10_400).contains(&(updates[0] - last)), "{failed:?}");
    assert!(updates[4] - updates[0] < 50, "{failed:?}");
    assert!(failed[5..].iter().all(|(_, verb)| *verb == "get"), "{failed:?}");
    let waits: Vec<u64> = failed[5..].windows(2).map(|pair| (pair[1].0 - pair[0].0) / 100).collect();
    assert_eq!(waits[..7], [2, 4, 8, 16, 32, 64, 70], "{failed:?}");
    assert!(waits[7..].iter().all(|wait| *wait == 70), "{failed:?}");

    world.api.fails_leases = false;
    world.run_to(130_000);
    let times: Vec<u64> = world.times("kn1", "leases").into_iter().filter(|at| *at > 80_000).collect();
    assert!(times[0] - failed.last().expect("it was asked for").0 <= 7_050, "{times:?} after {failed:?}");
    assert!(times.windows(2).all(|pair| (10_000..=10_450).contains(&(pair[1] - pair[0]))), "{times:?}");
}

#[test]
fn containers_run_on_while_the_kubelet_is_down_and_are_found_again() {
    let mut world = world();
    let ready = Container { readiness: Some(probe(Handler::TcpSocket { port: 80 }, 5)), ..container("c", "quick") };
    world.create("stays", spec(Always, 30, vec![ready]));
    world.create("ends", spec(Always, 30, vec![container("c", "ends-at-20s")]));
    world.create("never", spec(Never, 30, vec![container("c", "ends-at-20s")]));
    world.create("deleted", spec(Always, 30, vec![container("c", "quick")]));
    world.create("gone", spec(Always, 30, vec![container("c", "quick")]));
    world.run_to(15_000);
    assert!(world.pod("stays").status.is_ready());
    world.stop_kubelet();
    world.delete("deleted", 30);
    world.delete("gone", 0);
    world.run_to(60_000);
    assert_eq!(world.runtime.running(), 3, "what did not end by itself");
    let lines = world.api.lines.len();
    world.start_kubelet();
    world.run_to(75_000);
    let since: Vec<(&str, &str)> =
        world.api.lines[lines..].iter().map(|line| (line.pod.as_str(), line.text.as_str())).collect();
    let of = |pod: &str| -> Vec<&str> { since.iter().filter(|line| line.0 == pod).map(|line| line.1).collect() };
    assert_eq!(of("kn1").first(), Some(&"EVENT Normal Starting: Starting kubelet."));
    assert!(of("stays").is_empty(), "a restart of the kubelet changes no readiness: {:?}", of("stays"));
    assert!(of("ends").iter().any(|text| text.contains("running rc=1")), "{:?}", of("ends"));
    assert_eq!(world.pod("never").status.phase, PodPhase::Failed);
    let ended = world.pod("never").status.containers[0].clone();
    assert!(format!("{:?}", ended.state).contains("exit_code: 3"), "the exit during the outage is known: {ended:?}");
    assert!(!world.exists("deleted"), "a pod deleted meanwhile is ended now");
    assert_eq!(world.runtime.running(), 2, "nothing of deleted pods is left");
}

#[test]
fn a_machine_that_crashed_gets_new_sandboxes_and_counts_restarts() {
    let mut world = world();
    world.create("p", spec(Always, 30, vec![container("c", "quick")]));
    world.run_to(15_000);
    let address = world.pod("p").status.pod_ip;
    world.stop_kubelet();
    world.queue.schedule(world.queue.now(), Happens::Runtime(RuntimeInput::MachineRestarted));
    world.run_to(30_000);
    assert_eq!(world.runtime.running(), 0);
    world.start_kubelet();
    world.run_to(45_000);
    assert_eq!(world.runtime.running(), 1);
    let status = &world.pod("p").status;
    assert!(status.is_ready());
    assert_eq!(status.containers[0].restart_count, 1);
    assert_eq!(status.containers[0].last_state.as_ref().map(|last| last.exit_code), Some(255));
    assert!(status.pod_ip.is_some() && status.pod_ip != address, "a new sandbox has a new address");
    let changed = "EVENT Normal SandboxChanged: Pod sandbox changed, it will be killed and re-created.";
    assert_eq!(world.lines("p", &["EVENT Normal SandboxChanged"]), [changed]);
}

#[test]
fn init_containers_run_again_in_a_new_sandbox() {
    let done = ImageModel {
        exit: Some(ExitModel { after: Spread::millis(500), codes: vec![0], out_of_memory: false, cpu_bound: false }),
        ..ImageModel::default()
    };
    let mut world = World::new(vec![("done", done)], |_, _| {}).with_images(&["done", "quick"]);
    world.create("p", spec(Always, 30, vec![init("i", "done"), container("c", "quick")]));
    world.run_to(15_000);
    assert!(world.pod("p").status.is_ready());
    world.stop_kubelet();
    world.queue.schedule(world.queue.now(), Happens::Runtime(RuntimeInput::MachineRestarted));
    world.run_to(20_000);
    world.start_kubelet();
    world.run_to(35_000);
    let status = &world.pod("p").status;
    assert!(status.is_ready());
    let counts = (status.init_containers[0].restart_count, status.containers[0].restart_count);
    assert_eq!(counts, (1, 1));
}

#[test]
fn what_others_write_into_a_status_is_written_back_at_the_next_recheck() {
    let mut world = world();
    world.create("p", spec(Always, 30, vec![container("c", "quick")]));
    world.run_to(12_000);
    world.change("p", |pod| {
        for condition in pod.status.conditions.iter_mut() {
            if condition.kind == PodConditionType::Ready {
                condition.status = ConditionStatus::False;
            }
        }
    });
    world.run_to(19_000);
    assert!(!world.pod("p").status.is_ready());
    world.run_to(21_000);
    assert!(world.pod("p").status.is_ready());
}

#[test]
fn a_write_that_no_server_answered_is_made_again() {
    let mut world = world();
    world.api.down = true;
    world.create("p", spec(Always, 30, vec![container("c", "quick")]));
    world.run(3_000);
    assert_eq!(world.runtime.running(), 1, "a pod that was seen is started whether or not its status can be written");
    assert!(world.lines("p", &["PATCH"]).is_empty());
    world.api.down = false;
    world.queue.schedule(
        world.queue.now(),
        Happens::Kubelet(
            KubeletInput::Process(crate::engine::process::Input::ConnectionLost { peer: super::harness::API }),
            0,
        ),
    );
    world.run(30_000);
    assert!(world.pod("p").status.is_ready());
}

#[test]
fn a_pod_deleted_by_force_is_stopped_all_the_same() {
    let mut world = world();
    world.create("hello", spec(Always, 5, vec![container("c", "quick")]));
    world.run(3_000);
    world.delete("hello", 0);
    world.run(3_000);
    assert_eq!(world.runtime.running(), 0);
    assert_eq!(check(&world, K1Q, "hello"), 0);
    assert_eq!(world.kubelet.as_ref().map(|kubelet| kubelet.pods().count()), Some(0), "nothing of it is left");
}

#[test]
fn a_pod_that_does_not_fit_is_rejected_in_one_write() {
    let mut world = world();
    let sized = |milli_cpu: i64| {
        let mut spec = spec(Always, 30, vec![container("c", "quick")]);
        spec.requests = Resources { milli_cpu, ..Resources::default() };
        spec.host_ports = vec![HostPort { ip: Name::EMPTY, protocol: Name::of("TCP"), port: 80 }];
        spec
    };
    world.create("first", sized(3000));
    world.create("second", sized(1001));
    world.create("third", sized(10));
    let mut selective = spec(Always, 30, vec![container("c", "quick")]);
    selective.full.node_selector = Some([("disk".to_owned(), "ssd".to_owned())].into());
    world.create("fourth", selective);
    world.run(3_000);
    assert_eq!(world.runtime.running(), 1);
    assert_eq!(
        world.lines("second", &["PATCH", "EVENT"]),
        [
            "EVENT Warning OutOfcpu: Node didn't have enough resource: cpu, requested: 1001, used: 3000, capacity: 4000",
            "PATCH observedGeneration=1 phase=\"Failed\" startTime",
        ]
    );
    let second = world.pod("second").status.clone();
    assert!(second.conditions.is_empty(), "what the scheduler said goes with the rest: {:?}", second.conditions);
    assert!(
        second
            .why
            .message()
            .is_some_and(|message| message.starts_with("Pod was rejected: Node didn't have enough resource: cpu"))
    );
    assert_eq!(world.pod("third").status.why.reason(), Some("NodePorts"));
    assert_eq!(world.pod("fourth").status.why.reason(), Some("NodeAffinity"));
    world.delete("second", 30);
    world.run(12_000);
    assert!(!world.exists("second"), "a rejected pod is deleted from the API when somebody deletes it");
}

#[test]
fn room_that_a_deleted_pod_leaves_is_there_for_the_next_one() {
    let mut world = world();
    let sized = || {
        let mut spec = spec(Always, 30, vec![container("c", "quick")]);
        spec.requests = Resources { milli_cpu: 3000, ..Resources::default() };
        spec
    };
    world.create("first", sized());
    world.run(3_000);
    world.delete("first", 30);
    while world.exists("first") {
        world.run(1);
    }
    world.create("second", sized());
    world.run(3_000);
    assert!(world.pod("second").status.is_ready());
}

#[test]
fn hooks_run_before_the_next_container_and_inside_the_grace() {
    let hook =
        |millis: u64, error: Option<&str>| HookModel { takes: Spread::millis(millis), error: error.map(str::to_owned) };
    let deaf = StopModel { ignores_term: true, ..StopModel::default() };
    let models = vec![
        (
            "slow-hooks",
            ImageModel {
                post_start: hook(4_000, None),
                pre_stop: hook(3_000, None),
                stop: deaf.clone(),
                ..ImageModel::default()
            },
        ),
        ("bad-start", ImageModel { post_start: hook(500, Some("exit 1")), ..ImageModel::default() }),
        ("long-stop", ImageModel { pre_stop: hook(60_000, None), stop: deaf, ..ImageModel::default() }),
    ];
    let mut world = World::new(models, |_, _| {}).with_images(&["slow-hooks", "bad-start", "long-stop"]);
    let hooked = |name: &str, image: &str| Container {
        post_start: (image != "long-stop").then(|| Handler::Exec(std::rc::Rc::from([String::from("x")]))),
        pre_stop: (image != "bad-start").then(|| Handler::Exec(std::rc::Rc::from([String::from("x")]))),
        ..container(name, image)
    };
    world.create("p", spec(Always, 10, vec![hooked("a", "slow-hooks"), hooked("b", "slow-hooks")]));
    world.create("bad", spec(Always, 10, vec![hooked("c", "bad-start")]));
    world.create("long", spec(Always, 4, vec![hooked("c", "long-stop")]));
    world.run(12_000);
    let started = world.times("p", "Started");
    assert!((4_000..4_300).contains(&(started[1] - started[0])), "postStart holds back the next: {started:?}");
    assert_eq!(
        world.lines("bad", &["EVENT Warning FailedPostStartHook"]),
        ["EVENT Warning FailedPostStartHook: PostStartHook failed"]
    );
    assert_eq!(world.lines("bad", &["EVENT Normal Killing"]), ["EVENT Normal Killing: FailedPostStartHook"]);
    assert!(world.lines("bad", &["PATCH"]).iter().any(|line| line.contains("waiting:PostStartHookError")));
    for pod in ["p", "long"] {
        let grace = if pod == "p" { 10 } else { 4 };
        let from = world.queue.now().as_millis();
        world.delete(pod, grace);
        world.run(20_000);
        assert!(!world.exists(pod));
        let ended = world.times(pod, "cont").last().map(|at| at - from);
        // p: 3 s of the hook and the 7 s that are left; long: the hook takes all of the 4 s, and 2 s are the least.
        let expected = if pod == "p" { 10_000..10_600 } else { 6_000..6_600 };
        assert!(ended.is_some_and(|ended| expected.contains(&ended)), "{pod}: {ended:?}");
    }
}

#[test]
fn a_hook_that_sleeps_does_not_see_that_its_container_ends() {
    let ends = ExitModel { after: Spread::millis(5_000), codes: vec![0], out_of_memory: false, cpu_bound: false };
    let model = ImageModel { exit: Some(ends), ..ImageModel::default() };
    let mut world = World::new(vec![("ends", model)], |_, _| {}).with_images(&["ends"]);
    let pre_stop = Some(Handler::Sleep { seconds: 8 });
    world.create("p", spec(Never, 30, vec![Container { pre_stop, ..container("c", "ends") }]));
    world.run(3_000);
    let from = world.queue.now().as_millis();
    world.delete("p", 30);
    world.run(15_000);
    assert!(!world.exists("p") && world.lines("p", &["EVENT Warning"]).is_empty());
    let ended = world.times("p", "phase=").last().map(|at| at - from);
    assert!(ended.is_some_and(|ended| (8_000..8_300).contains(&ended)), "{ended:?}");
}

#[test]
fn a_sandbox_that_fails_while_its_pod_ends_is_no_failure() {
    let mut world = World::new(vec![("quick", ImageModel::default())], |_, runtime| {
        runtime.pod_range = None;
        runtime.create_sandbox = Spread::millis(2_000);
    })
    .with_images(&["quick"]);
    for pod in ["stays", "ends"] {
        world.create(pod, spec(Always, 30, vec![container("c", "quick")]));
    }
    world.run(1_000);
    world.delete("ends", 30);
    world.run(6_000);
    assert_eq!(world.lines("stays", &["EVENT Warning FailedCreatePodSandBox"]).len(), 1);
    assert!(world.lines("ends", &["EVENT Warning"]).is_empty() && !world.exists("ends"));
}

/// A world with the stand-in kubelet of the recordings.
fn stand_in(images: Vec<(&str, ImageModel)>) -> World {
    World::new(images, |settings, runtime| {
        settings.profile = KubeletProfile::stand_in();
        settings.timings = KubeletTimings::stand_in();
        runtime.all_images_present = true;
        runtime.create_sandbox = Spread::millis(0);
        runtime.stop_sandbox = Spread::millis(0);
        runtime.restarts_at_once = true;
    })
}

/// An image whose container runs for a second and ends with a code.
fn ends_after_a_second(code: i32) -> ImageModel {
    let after = Spread::millis(1000);
    ImageModel {
        create: Spread::millis(0),
        start: Spread::millis(1000),
        exit: Some(ExitModel { after, codes: vec![code], out_of_memory: false, cpu_bound: false }),
        ..ImageModel::default()
    }
}

#[test]
fn the_stand_in_tells_of_a_containers_end_and_what_follows_in_one_write() {
    let mut world = stand_in(vec![("*", ends_after_a_second(1))]);
    world.run_to(1_000);
    world.create("once", spec(Never, 30, vec![container("app", "fake/fail")]));
    world.create("again", spec(OnFailure, 30, vec![container("app", "fake/fail")]));
    world.run(40_000);
    let once = world.lines("once", &["PATCH"]);
    assert_eq!(once.len(), 3, "{once:#?}");
    assert!(once[2].contains("PodFailed") && once[2].contains("phase=\"Failed\""), "{}", once[2]);
    // The first restart comes at once and without a start delay, the others at the very end of 10 s and 20 s.
    let again = world.lines("again", &["PATCH"]);
    let states =
        ["waiting:ContainerCreating rc=0", "running rc=0", "running rc=1", "waiting:CrashLoopBackOff", "running rc=2"];
    let states = states.into_iter().chain(["waiting:CrashLoopBackOff", "running rc=3", "waiting:CrashLoopBackOff"]);
    for (line, state) in again.iter().zip(states.clone()) {
        assert!(line.contains(state), "{state}: {line}");
    }
    assert_eq!(again.len(), states.count());
    let times = world.times("again", "PATCH");
    assert_eq!(times.iter().map(|at| at / 1000).collect::<Vec<_>>(), [1, 2, 3, 4, 14, 15, 35, 36]);
    assert!(times.iter().all(|at| at % 1000 < 20), "{times:?}");
}

#[test]
fn a_stand_in_that_begins_anew_knows_images_as_before_and_lists_none() {
    let mut world = stand_in(vec![("*", ImageModel::default())]);
    world.run_to(1_000);
    world.create("p", spec(Always, 30, vec![container("app", "fake/app")]));
    world.run(5_000);
    let written = world.lines("p", &["PATCH"]).len();
    world.stop_kubelet();
    world.run(5_000);
    world.start_kubelet();
    world.run(20_000);
    assert_eq!(world.lines("p", &["PATCH"]).len(), written);
    assert_eq!(world.pod("p").status.containers[0].image_id, "fake://fake/app");
    world.change_node(|node| assert!(node.status.images.is_empty()));
}

#[test]
fn the_stand_in_writes_three_times_and_deletes() {
    let slow = ImageModel {
        create: Spread::millis(0),
        start: Spread::millis(1000),
        stop: StopModel { takes: Spread::millis(100), ..StopModel::default() },
        ..ImageModel::default()
    };
    let never = ImageModel { readiness: Health::never(), ..slow.clone() };
    let mut world = stand_in(vec![("fake/never-ready*", never), ("*", slow)]);
    world.run_to(1_000);
    world.create("p", spec(Always, 30, vec![container("app", "fake/app:v1")]));
    world.run(5_000);
    world.delete("p", 30);
    world.run(5_000);
    assert!(world.lines("p", &["EVENT"]).is_empty());
    assert_eq!(
        world.lines("p", &["PATCH", "DELETE"]),
        [
            "PATCH PodReadyToStartContainers=False Initialized=True Ready=False/ContainersNotReady<containers with unready status: [app]> ContainersReady=False/ContainersNotReady<containers with unready status: [app]> condObsGen=1 cont app[waiting:ContainerCreating rc=0 rdy=False st=False] hostIP hostIPs observedGeneration=1 startTime",
            "PATCH PodReadyToStartContainers=True Ready=True/None ContainersReady=True/None cont app[running rc=0 rdy=True st=True] phase=\"Running\" podIP podIPs",
            "PATCH PodReadyToStartContainers=False Initialized=-/PodCompleted Ready=False/PodCompleted ContainersReady=False/PodCompleted condObsGen=2 cont app[terminated:Completed(0) rc=0 rdy=False st=False] observedGeneration=2 phase=\"Succeeded\"",
            "DELETE",
        ]
    );
    let at: Vec<u64> = world.times("p", "PATCH").into_iter().chain(world.times("p", "DELETE")).collect();
    assert!((1000..1010).contains(&(at[1] - at[0])), "{at:?}");
    assert!((100..110).contains(&(at[2] - 6_000)) && at[3] - at[2] < 5, "{at:?}");
}

#[test]
fn a_container_above_its_memory_limit_is_killed_by_the_kernel() {
    let grows = ImageModel {
        memory: vec![crate::runtime::model::Usage {
            from: "3s".parse().expect("a duration"),
            amount: "200Mi".parse().expect("a size"),
        }],
        ..ImageModel::default()
    };
    let mut world = World::new(vec![("grows", grows)], |_, _| {}).with_images(&["grows"]);
    let limits = Resources { memory: 100 << 20, ..Resources::default() };
    world.create("p", spec(Never, 30, vec![Container { limits, ..container("c", "grows") }]));
    world.run(10_000);
    assert!(world.lines("p", &["PATCH"]).iter().any(|line| line.contains("terminated:OOMKilled(137)")));
}

#[test]
fn the_lease_names_its_holder_and_forty_seconds() {
    let mut world = world();
    world.run_to(15_000);
    let lease = world.api.others.values().find_map(|object| match object {
        Object::Lease(lease) => Some(Lease::clone(lease)),
        _ => None,
    });
    let lease = lease.expect("there is a lease");
    assert_eq!((lease.holder.as_deref(), lease.duration_seconds), (Some("kn1"), Some(40)));
    assert_eq!((lease.meta().namespace.as_str(), lease.meta().name.as_str()), ("kube-node-lease", "kn1"));
    let owner = &lease.meta().owners()[0];
    let node = world.api.others.values().find(|object| matches!(object, Object::Node(_))).expect("it is registered");
    assert_eq!((owner.api_version.as_str(), owner.kind.as_str(), owner.name.as_str()), ("v1", "Node", "kn1"));
    assert_eq!((owner.uid, owner.controller), (node.meta().uid, false));
}

#[test]
fn no_lease_is_made_for_a_node_that_is_not_there() {
    let mut world = world();
    world.run_to(15_000);
    // Somebody deletes the node, and the garbage collector its lease with it.
    world.api.others.retain(|(kind, ..), _| !matches!(kind, Kind::Node | Kind::Lease));
    world.run_to(60_000);
    let creations = world.lines("kn1", &["CREATE leases"]);
    assert_eq!(creations.len(), 1, "{:?}", world.lines("kn1", &["CREATE", "UPDATE"]));
}
