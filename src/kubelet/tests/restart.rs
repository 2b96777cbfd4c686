//! What a kubelet does that begins anew while its node's containers run.

use std::rc::Rc;

use crate::api::meta::Labels;
use crate::api::object::Object;
use crate::api::pod::RestartPolicy::Always;
use crate::api::pod::{ConditionStatus, Container, Handler, PodPhase, PodSpec};
use crate::api::resources::Resources;
use crate::engine::time::SimDuration;
use crate::runtime::model::{HookModel, ImageModel, StopModel};
use crate::runtime::simulated::RuntimeInput;
use crate::runtime::span::Spread;

use super::harness::{Happens, World, container, spec};

fn world() -> World {
    let quick =
        ImageModel { stop: StopModel { takes: Spread::millis(100), ..StopModel::default() }, ..ImageModel::default() };
    World::new(vec![("quick", quick)], |settings, _| {
        settings.timings.pod_source = SimDuration::from_secs(1);
        settings.node.labels = [("disk", "ssd")].into_iter().map(|(key, value)| (key.into(), value.into())).collect();
    })
    .with_images(&["quick"])
}

fn selective() -> PodSpec {
    let mut selective = spec(Always, 30, vec![container("c", "quick")]);
    selective.full.node_selector = Some([("disk".to_owned(), "ssd".to_owned())].into());
    selective
}

#[test]
fn the_node_is_ready_again_before_its_pods_are() {
    let mut world = world();
    world.run_to(5_000);
    world.create("p", spec(Always, 30, vec![container("c", "quick")]));
    world.run_to(20_000);
    world.stop_kubelet();
    let not_ready = |status: &mut ConditionStatus| *status = ConditionStatus::False;
    world.change_node(|node| node.status.conditions.iter_mut().for_each(|one| not_ready(&mut one.status)));
    world.change("p", |pod| pod.status.conditions.iter_mut().for_each(|one| not_ready(&mut one.status)));
    world.run_to(60_000);
    world.start_kubelet();
    world.run_to(70_000);
    let since = world.api.lines.iter().filter(|line| line.at.as_millis() >= 60_000 && !line.text.starts_with("EVENT"));
    let since: Vec<(u64, &str)> = since.map(|line| (line.at.as_millis() - 60_000, &line.text[..])).collect();
    let at = |text: &str| since.iter().find(|(_, line)| line.contains(text)).map(|(at, _)| *at);
    let (lease, node, pod) = (at("leases"), at("nodes/status Ready=True"), at("Initialized=True"));
    assert!(lease < node && node < pod && pod.is_some_and(|at| (1_000..1_100).contains(&at)), "{since:#?}");
}

#[test]
fn a_pod_for_which_the_node_is_no_longer_right_is_rejected_and_what_runs_of_it_is_stopped() {
    let mut world = world();
    world.run_to(5_000);
    world.create("p", selective());
    world.create("stays", spec(Always, 30, vec![container("c", "quick")]));
    world.run_to(20_000);
    assert!(world.pod("p").status.is_ready());
    let began = world.pod("p").status.start_time;
    // Nothing happens while the kubelet that admitted it is there.
    world.change_node(|node| node.meta.labels = Labels::NONE);
    world.run_to(30_000);
    assert!(world.pod("p").status.is_ready());
    world.stop_kubelet();
    world.run_to(33_000);
    world.start_kubelet();
    world.run_to(40_000);
    let status = &world.pod("p").status;
    assert_eq!((status.phase, status.why.reason()), (PodPhase::Failed, Some("NodeAffinity")));
    assert!(status.containers.is_empty() && status.conditions.is_empty() && status.pod_ip.is_none(), "{status:?}");
    assert_eq!(status.start_time, began);
    assert_eq!(world.runtime.running(), 1, "only the other one runs");
    assert!(world.pod("stays").status.is_ready());
    let killing = world.api.others.values().filter_map(|object| match object {
        Object::Event(event) if event.class.reason == "Killing" => Some(event.class.field_path.to_string()),
        _ => None,
    });
    assert_eq!(killing.collect::<Vec<_>>(), ["implicitly required container c"]);
}

#[test]
fn a_pod_whose_sandbox_is_gone_has_no_address_until_there_is_another() {
    let mut world = world();
    world.run_to(5_000);
    world.create("p", spec(Always, 30, vec![container("c", "quick")]));
    world.run_to(20_000);
    world.stop_kubelet();
    world.queue.schedule(world.queue.now(), Happens::Runtime(RuntimeInput::MachineRestarted));
    world.run_to(30_000);
    let lines = world.api.lines.len();
    world.start_kubelet();
    world.run_to(40_000);
    let writes: Vec<&str> = world.api.lines[lines..]
        .iter()
        .filter(|line| line.pod == "p" && line.text.starts_with("PATCH"))
        .map(|line| &line.text[..])
        .collect();
    assert!(writes[0].contains("podIP") && !writes[0].contains("running"), "it is taken back: {writes:#?}");
    assert!(world.pod("p").status.pod_ip.is_some());
}

#[test]
fn a_pod_that_had_ended_is_told_of_once_more_and_without_its_address() {
    let mut world = world();
    world.run_to(5_000);
    let mut limited = spec(Always, 2, vec![container("c", "quick")]);
    limited.full.active_deadline_seconds = Some(3);
    world.create("p", limited);
    world.run_to(20_000);
    assert!(world.pod("p").status.phase == PodPhase::Failed && world.pod("p").status.pod_ip.is_some());
    world.stop_kubelet();
    world.run_to(25_000);
    let lines = world.api.lines.len();
    world.start_kubelet();
    world.run_to(40_000);
    let told = world.api.lines[lines..].iter().filter(|line| line.pod == "p").map(|line| &line.text[..]);
    let expected = [
        "EVENT Normal DeadlineExceeded: Pod was active on the node longer than the specified deadline",
        "PATCH podIP podIPs",
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

#[test]
fn a_pod_whose_resize_waits_is_admitted_with_what_it_has() {
    let mut world = world();
    world.run_to(5_000);
    let sized = |milli_cpu: i64| {
        let requests = Resources { milli_cpu, ..Resources::default() };
        let sized = Container { requests: requests.clone(), ..container("c", "quick") };
        PodSpec { requests, ..spec(Always, 30, vec![sized]) }
    };
    world.create("other", sized(3_000));
    world.create("p", sized(1_000));
    world.run_to(15_000);
    world.change("p", |pod| {
        pod.spec = Rc::new(sized(2_000));
        pod.meta.generation += 1;
    });
    world.run_to(20_000);
    let waits = |world: &World| {
        world.pod("p").status.conditions.iter().any(|one| format!("{:?}", one.kind).contains("PodResizePending"))
    };
    assert!(waits(&world), "{:?}", world.pod("p").status.conditions);
    world.stop_kubelet();
    world.run_to(25_000);
    world.start_kubelet();
    world.run_to(35_000);
    assert!(waits(&world) && world.pod("p").status.is_ready(), "{:?}", world.pod("p").status);
    assert_eq!(world.lines("p", &["EVENT Warning"]).len(), 1, "{:?}", world.lines("p", &["EVENT Warning"]));
    // Room for it is there when the other one ends.
    world.delete("other", 30);
    world.run_to(45_000);
    assert!(!waits(&world) && world.pod("p").status.is_ready(), "{:?}", world.pod("p").status);
}

#[test]
fn hooks_of_a_pod_that_is_gone_from_the_api_are_run_and_their_failure_is_told() {
    let hook =
        |millis, error: Option<&str>| HookModel { takes: Spread::millis(millis), error: error.map(str::to_owned) };
    let models = vec![
        ("fails", ImageModel { pre_stop: hook(300, Some("exit 1")), ..ImageModel::default() }),
        ("takes-long", ImageModel { pre_stop: hook(60_000, None), ..ImageModel::default() }),
        ("well", ImageModel { pre_stop: hook(300, None), ..ImageModel::default() }),
    ];
    let images: Vec<&str> = models.iter().map(|(name, _)| *name).collect();
    let mut world = World::new(models, |_, _| {}).with_images(&images);
    let exec = || Some(Handler::Exec(Rc::from([String::from("x")])));
    for image in &images {
        world.create(image, spec(Always, 30, vec![Container { pre_stop: exec(), ..container("c", image) }]));
    }
    let sleeping = Some(Handler::Sleep { seconds: 60 });
    world.create("sleeps", spec(Always, 30, vec![Container { pre_stop: sleeping, ..container("c", "well") }]));
    world.run_to(10_000);
    assert_eq!(world.runtime.running(), 4);
    world.stop_kubelet();
    for pod in ["fails", "takes-long", "well", "sleeps"] {
        world.delete(pod, 0);
    }
    world.run_to(15_000);
    world.start_kubelet();
    world.run_to(30_000);
    assert_eq!(world.runtime.running(), 0);
    // A hook that goes on when its time is over fails with its container.
    for (pod, failures) in [("fails", 1), ("takes-long", 1), ("well", 0), ("sleeps", 0)] {
        let events = world.lines(pod, &["EVENT Warning FailedPreStopHook: PreStopHook failed"]);
        assert_eq!(events.len(), failures, "{pod}: {events:?}");
        assert_eq!(world.lines(pod, &["EVENT Normal Killing: Stopping container c"]).len(), 1, "{pod}");
    }
}
