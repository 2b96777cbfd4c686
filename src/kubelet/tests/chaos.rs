//! Whatever happens to kubelet, machine and API: in the end every pod runs or is gone, and nothing is left behind.

use proptest::prelude::*;

use crate::api::pod::RestartPolicy::{Always, Never, OnFailure};
use crate::api::pod::{Container, Handler, PodSpec, RestartPolicy};
use crate::api::resources::Resources;
use crate::engine::process::Input;
use crate::kubelet::KubeletInput;
use crate::kubelet::agent::Kubelet;
use crate::runtime::model::{CrashModel, ExitModel, Health, HookModel, ImageModel, PullModel, StopModel};
use crate::runtime::simulated::RuntimeInput;
use crate::runtime::span::Spread;

use super::harness::{API, Happens, World, container, init, probe, sidecar, spec};

#[derive(Clone, Copy, Debug)]
enum Step {
    Create(u8),
    Delete(u8, u8),
    Force(u8),
    RestartKubelet(u16),
    RestartMachine(u16),
    ApiDown(u16),
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..8u8).prop_map(Step::Create),
        2 => (any::<u8>(), 1..20u8).prop_map(|(pod, grace)| Step::Delete(pod, grace)),
        1 => any::<u8>().prop_map(Step::Force),
        1 => (1..5_000u16).prop_map(Step::RestartKubelet),
        1 => (1..5_000u16).prop_map(Step::RestartMachine),
        1 => (1..15_000u16).prop_map(Step::ApiDown),
        4 => (1..6_000u16).prop_map(Step::Wait),
    ]
}

fn models() -> Vec<(&'static str, ImageModel)> {
    let ends = |after: u64, codes: Vec<i32>| ImageModel {
        exit: Some(ExitModel { after: Spread::millis(after), codes, out_of_memory: false, cpu_bound: false }),
        ..ImageModel::default()
    };
    let hook = |millis: u64| HookModel { takes: Spread::millis(millis), error: None };
    vec![
        ("ends", ends(1_500, vec![1, 0])),
        (
            "crashes",
            ImageModel {
                crash: Some(CrashModel { out_of: 1, chances: 2, after: Spread::millis(700), code: 9 }),
                ..ImageModel::default()
            },
        ),
        (
            "deaf",
            ImageModel { stop: StopModel { ignores_term: true, ..StopModel::default() }, ..ImageModel::default() },
        ),
        (
            "flaps",
            ImageModel {
                readiness: Health { turns: vec![Spread::millis(2_000), Spread::millis(9_000)], ..Health::default() },
                liveness: Health { turns: vec![Spread::millis(20_000)], ..Health::default() },
                ..ImageModel::default()
            },
        ),
        (
            "fails-to-pull",
            ImageModel {
                pull: PullModel { error: Some("no".to_owned()), failures: Some(2), ..PullModel::default() },
                ..ImageModel::default()
            },
        ),
        ("hooks", ImageModel { post_start: hook(800), pre_stop: hook(1_200), ..ImageModel::default() }),
        ("no-start", ImageModel { start_error: Some("no such binary".to_owned()), ..ImageModel::default() }),
    ]
}

fn containers(kind: u8) -> (RestartPolicy, Vec<Container>) {
    let exec = || Handler::Exec(std::rc::Rc::from([String::from("x")]));
    let probed = Container {
        readiness: Some(probe(exec(), 2)),
        liveness: Some(probe(exec(), 3)),
        startup: Some(probe(exec(), 1)),
        ..container("c", "flaps")
    };
    let hooked = Container { post_start: Some(exec()), pre_stop: Some(exec()), ..container("c", "hooks") };
    match kind {
        0 => (Always, vec![container("c", "server")]),
        1 => (OnFailure, vec![init("i", "ends"), container("c", "ends")]),
        2 => (Always, vec![container("a", "crashes"), container("b", "deaf")]),
        3 => (Always, vec![sidecar("s", "crashes"), probed]),
        4 => (Always, vec![container("c", "fails-to-pull")]),
        5 => (Always, vec![hooked, container("d", "server")]),
        6 => (Never, vec![sidecar("s", "deaf"), container("c", "ends")]),
        _ => (Always, vec![container("c", "no-start")]),
    }
}

struct Chaos {
    world: World,
    pods: Vec<String>,
    plain: Vec<String>,
}

impl Chaos {
    fn take(&mut self, step: Step) {
        let world = &mut self.world;
        match step {
            Step::Create(kind) => {
                let name = format!("p{}", self.pods.len());
                let (policy, containers) = containers(kind);
                let requests = Resources { milli_cpu: 1 + i64::from(kind), ..Resources::default() };
                world.create(&name, PodSpec { requests, ..spec(policy, 5, containers) });
                if kind == 0 {
                    self.plain.push(name.clone());
                }
                self.pods.push(name);
            }
            Step::Delete(pod, grace) => {
                let name = self.pods.get(usize::from(pod) % self.pods.len().max(1)).filter(|name| world.exists(name));
                if let Some(name) = name {
                    world.delete(name, i64::from(grace));
                }
            }
            Step::Force(pod) => {
                let name = self.pods.get(usize::from(pod) % self.pods.len().max(1)).filter(|name| world.exists(name));
                if let Some(name) = name {
                    world.delete(name, 0);
                }
            }
            Step::RestartKubelet(down) => {
                world.stop_kubelet();
                world.run(u64::from(down));
                world.start_kubelet();
            }
            Step::RestartMachine(down) => {
                world.stop_kubelet();
                world.queue.schedule(world.queue.now(), Happens::Runtime(RuntimeInput::MachineRestarted));
                world.run(u64::from(down));
                world.start_kubelet();
            }
            Step::ApiDown(down) => {
                world.api.down = true;
                world.lose_connection();
                world.run(u64::from(down));
                world.api.down = false;
                world.lose_connection();
            }
            Step::Wait(wait) => world.run(u64::from(wait)),
        }
    }
}

impl World {
    fn lose_connection(&mut self) {
        self.api.watches.clear();
        self.tell(KubeletInput::Process(Input::ConnectionLost { peer: API }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn in_the_end_every_pod_runs_or_is_gone(steps in prop::collection::vec(step(), 1..40)) {
        let mut chaos = Chaos { world: World::new(models(), |_, _| {}), pods: Vec::new(), plain: Vec::new() };
        chaos.world.run(2_000);
        for step in steps {
            chaos.take(step);
            if let Some((Some(known), found)) = chaos.world.kubelet.as_ref().map(Kubelet::room) {
                prop_assert_eq!(known, &found, "what is set aside");
            }
        }
        chaos.world.run(120_000);
        let Chaos { mut world, pods, plain } = chaos;
        for name in plain.iter().filter(|name| world.exists(name)) {
            let pod = world.pod(name);
            prop_assert!(!pod.meta.is_deleting(), "{name} is still ending: {:?}", pod.status);
            prop_assert!(pod.status.is_ready(), "{name} does not run: {:?}", pod.status);
        }
        for name in &pods {
            if world.exists(name) {
                world.delete(name, 1);
            }
        }
        world.run(60_000);
        let left: Vec<&String> = pods.iter().filter(|name| world.exists(name)).collect();
        prop_assert!(left.is_empty(), "{left:?} are still there");
        prop_assert_eq!(world.runtime.running(), 0);
        prop_assert_eq!(world.runtime.sandboxes(), 0);
        prop_assert_eq!(world.kubelet.as_ref().map(|kubelet| kubelet.pods().count()), Some(0));
    }
}
