//! Stories of kubelets in a whole cluster: what a node does when there is too little of something, when what a pod needs is
//! missing, and with pods that come from its own files.

mod support;

use std::rc::Rc;

use kubesim::api::event::Event;
use kubesim::api::name::Name;
use kubesim::api::node::Node;
use kubesim::api::object::Object;
use kubesim::api::pod::{ContainerState, Pod, PodConditionType, PodPhase};
use kubesim::api::storage::{PersistentVolume, PersistentVolumeClaim};
use kubesim::cluster::options::{ClusterOptions, KubeletKind};
use kubesim::engine::time::SimDuration;
use kubesim::kubelet::Configuration;
use kubesim::kubelet::thresholds::{Level, Signal, Threshold};
use kubesim::runtime::model::{ExitModel, HookModel, ImageModel, ImageModels, StopModel, Usage};
use kubesim::runtime::size::Size;
use kubesim::runtime::span::{Span, Spread};
use support::{Bed, options, read};

/// One node of 4 GiB with these images.
fn one_node(models: Vec<(&str, ImageModel)>) -> ClusterOptions {
    let mut options = options(1, KubeletKind::Real);
    options.nodes[0].capacity.memory = 4 << 30;
    options.nodes[0].images = models.iter().map(|(name, _)| (*name).to_owned()).collect();
    options.images = ImageModels::new(models.into_iter().map(|(name, model)| (name.to_owned(), model)).collect());
    options
}

fn steps(steps: &[(u64, u64)]) -> Vec<Usage<Size>> {
    let step = |(second, mebibytes): &(u64, u64)| Usage {
        from: Span(SimDuration::from_secs(*second)),
        amount: Size(mebibytes << 20),
    };
    steps.iter().map(step).collect()
}

/// A program that SIGTERM ends: a pod of such containers has failed, one whose containers end with 0 would have succeeded.
fn ends_with_143() -> ImageModel {
    ImageModel { stop: StopModel { code: 143, ..StopModel::default() }, ..ImageModel::default() }
}

fn memory(usage: &[(u64, u64)]) -> ImageModel {
    ImageModel { memory: steps(usage), ..ends_with_143() }
}

/// A pod of one container.
fn pod(name: &str, spec: &str, container: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{{spec} containers: [{{name: c, {container}}}]}}}}\n---\n"
    )
}

/// Events about a pod, oldest first, as `reason: message`.
fn events(bed: &Bed, pod: &str) -> Vec<String> {
    let mut events: Vec<&Rc<Event>> =
        bed.all::<Event>().into_iter().filter(|event| event.involved.name == *pod).collect();
    events.sort_by_key(|event| event.meta.revision());
    events.iter().map(|event| format!("{}: {}", event.class.reason, event.message)).collect()
}

fn status(bed: &Bed, name: &str) -> (PodPhase, Option<String>, Option<String>) {
    let pod = bed.get::<Pod>("default", name).expect("the pod is there");
    let text = |text: Option<&str>| text.map(str::to_owned);
    (pod.status.phase, text(pod.status.why.reason()), text(pod.status.why.message()))
}

#[test]
fn a_node_that_runs_out_of_memory_evicts_who_is_furthest_above_his_request() {
    let models = vec![
        ("steady:1", memory(&[(0, 1500)])),
        ("modest:1", memory(&[(0, 600)])),
        ("leak:1", memory(&[(0, 200), (20, 900), (40, 1600)])),
    ];
    let mut options = one_node(models);
    let level = |text: &str| Level::parse(text).expect("a level");
    options.nodes[0].configuration.thresholds = vec![Threshold::hard(Signal::MemoryAvailable, level("500Mi"))];
    let mut bed = Bed::ready(options, 3);
    let requests = |memory: &str| format!("resources: {{requests: {{memory: {memory}}}}}");
    bed.apply(&pod("steady", "", &format!("image: \"steady:1\", {}", requests("2Gi"))));
    bed.apply(&pod("modest", "", &format!("image: \"modest:1\", {}", requests("500Mi"))));
    bed.apply(&pod("leak", "", "image: \"leak:1\""));
    bed.until("the leak is evicted", 80, |bed| status(bed, "leak").0 == PodPhase::Failed);
    let (_, reason, message) = status(&bed, "leak");
    assert_eq!(reason.as_deref(), Some("Evicted"));
    let expected = "The node was low on resource: memory. Threshold quantity: 500Mi, available: 396Mi. Container c was using 1600Mi, request is 0, has larger consumption of memory. ";
    assert_eq!(message.as_deref(), Some(expected));
    let leak = bed.get::<Pod>("default", "leak").expect("it stays");
    let disruption = leak.status.condition(&PodConditionType::DisruptionTarget).expect("a disruption");
    assert_eq!(disruption.why.reason(), Some("TerminationByKubelet"));
    assert!(events(&bed, "leak").contains(&format!("Evicted: {expected}")));
    assert!(events(&bed, "node-0").contains(&"EvictionThresholdMet: Attempting to reclaim memory".to_owned()));
    bed.until("the node says so", 15, |bed| {
        let node = bed.get::<Node>("", "node-0").expect("the node");
        node.condition("MemoryPressure").is_some_and(|one| one.reason == "KubeletHasInsufficientMemory")
            && node.taints.iter().any(|taint| taint.key == "node.kubernetes.io/memory-pressure")
    });
    bed.run(60);
    for survivor in ["steady", "modest"] {
        assert_eq!(status(&bed, survivor).0, PodPhase::Running, "{survivor}");
    }
    let relief = bed.until("the pressure is over", 330, |bed| {
        let node = bed.get::<Node>("", "node-0").expect("the node");
        node.condition("MemoryPressure").is_some_and(|one| one.reason == "KubeletHasSufficientMemory")
    });
    assert!((220.0..260.0).contains(&relief), "five minutes after it was last seen: {relief}");
}

#[test]
fn a_soft_threshold_waits_for_its_grace() {
    let mut options = one_node(vec![("leak:1", memory(&[(0, 3000)]))]);
    let level = |text: &str| Level::parse(text).expect("a level");
    let soft =
        Threshold { grace: SimDuration::from_secs(60), ..Threshold::hard(Signal::MemoryAvailable, level("2Gi")) };
    options.nodes[0].configuration =
        Configuration { thresholds: vec![soft], longest_eviction_grace: 20, ..Configuration::default() };
    let mut bed = Bed::ready(options, 3);
    bed.apply(&pod("leak", "", "image: \"leak:1\""));
    let took = bed.until("it is evicted", 120, |bed| {
        bed.get::<Pod>("default", "leak").is_some_and(|pod| pod.status.phase == PodPhase::Failed)
    });
    assert!((60.0..85.0).contains(&took), "{took}");
}

#[test]
fn the_kernel_kills_the_container_that_can_best_be_spared() {
    let models = vec![("guarded:1", memory(&[(0, 2000)])), ("burst:1", memory(&[(0, 1000), (10, 2500)]))];
    let mut options = one_node(models);
    options.nodes[0].configuration.thresholds = Vec::new();
    let mut bed = Bed::ready(options, 5);
    let all = "resources: {requests: {cpu: 100m, memory: 2500Mi}, limits: {cpu: 100m, memory: 2500Mi}}";
    bed.apply(&pod("guarded", "", &format!("image: \"guarded:1\", {all}")));
    bed.apply(&pod("burst", "", "image: \"burst:1\", resources: {requests: {memory: 100Mi}}"));
    bed.run(25);
    let ended = |bed: &Bed, name: &str| {
        let pod = bed.get::<Pod>("default", name).expect("the pod");
        let container = &pod.status.containers[0];
        let last = match &container.state {
            ContainerState::Terminated(ended) => Some(ended.clone()),
            _ => container.last_state.clone(),
        };
        last.map(|ended| (ended.exit_code, ended.reason.to_string()))
    };
    assert_eq!(ended(&bed, "burst"), Some((137, "OOMKilled".to_owned())));
    assert_eq!(ended(&bed, "guarded"), None);
    let told = events(&bed, "node-0");
    assert!(
        told.iter().any(|event| event.starts_with("SystemOOM: System OOM encountered, victim process: ")),
        "{told:?}"
    );
}

#[test]
fn a_pod_that_fills_its_volume_beyond_the_limit_is_evicted_without_a_condition() {
    let mut model = ends_with_143();
    model.volumes.insert("d".to_owned(), steps(&[(4, 30)]));
    let mut bed = Bed::ready(one_node(vec![("writer:1", model)]), 7);
    let volume = "volumes: [{name: d, emptyDir: {sizeLimit: 20Mi}}],";
    bed.apply(&pod("p", volume, "image: \"writer:1\", volumeMounts: [{name: d, mountPath: /d}]"));
    let took = bed.until("it is evicted", 250, |bed| {
        bed.get::<Pod>("default", "p").is_some_and(|pod| pod.status.phase == PodPhase::Failed)
    });
    // Volumes are first measured within a minute and then after one to two each time, limits looked at every ten seconds.
    assert!((4.0..195.0).contains(&took), "{took}");
    let message = "Usage of EmptyDir volume \"d\" exceeds the limit \"20Mi\". ";
    assert_eq!(status(&bed, "p"), (PodPhase::Failed, Some("Evicted".to_owned()), Some(message.to_owned())));
    let pod = bed.get::<Pod>("default", "p").expect("it stays");
    assert!(pod.status.condition(&PodConditionType::DisruptionTarget).is_none());
}

#[test]
fn images_that_nobody_uses_are_collected_when_the_disk_is_full() {
    let sized = |gibibytes: u64| ImageModel { size: Size(gibibytes << 30), ..ImageModel::default() };
    let mut options = one_node(vec![("old:1", sized(3)), ("older:1", sized(2)), ("app:1", sized(1))]);
    options.images = ImageModels::new(
        [("old", 3), ("older", 2), ("app", 1), ("new", 3)].map(|(name, size)| (name.to_owned(), sized(size))).to_vec(),
    );
    options.nodes[0].capacity.ephemeral_storage = 10 << 30;
    options.nodes[0].configuration.thresholds = Vec::new();
    options.nodes[0].pull_bytes_per_second = 1 << 30;
    let mut bed = Bed::ready(options, 2);
    bed.apply(&pod("app", "", "image: \"app:1\""));
    bed.apply(&pod("new", "", "image: \"new:1\""));
    bed.run(320);
    let node = bed.cluster.nodes()[0].runtime();
    // 9 of 10 GiB are used, 8 may be: one of the two unused images is enough.
    assert!(node.image("app:1").is_some() && node.image("new:1").is_some());
    let left = ["old:1", "older:1"].iter().filter(|name| node.image(name).is_some()).count();
    assert_eq!(left, 1);
}

#[test]
fn pods_that_were_bound_to_a_full_node_are_rejected() {
    let mut options = one_node(vec![("app:1", ImageModel::default())]);
    options.nodes[0].capacity.pods = 2;
    let mut bed = Bed::ready(options, 9);
    // The kubelet reads its pods a second after it began: those that are there by then come in the order of their creation.
    bed.run(2);
    let bound = "nodeName: node-0,";
    bed.apply(&pod("large", bound, "image: \"app:1\", resources: {requests: {cpu: 5}}"));
    bed.apply(&pod("wide", bound, "image: \"app:1\", resources: {requests: {memory: 5Gi}}"));
    bed.apply(&pod("elsewhere", "nodeName: node-0, nodeSelector: {disk: ssd},", "image: \"app:1\""));
    bed.apply(&pod("one", bound, "image: \"app:1\""));
    bed.apply(&pod("two", bound, "image: \"app:1\""));
    bed.run(3);
    bed.apply(&pod("three", bound, "image: \"app:1\""));
    bed.run(5);
    let full = |what: &str, wanted: i64, used: i64, capacity: i64| {
        format!("Node didn't have enough resource: {what}, requested: {wanted}, used: {used}, capacity: {capacity}")
    };
    let memory = (4i64 << 30) - (100 << 20);
    for (name, reason, message) in [
        ("large", "OutOfcpu", full("cpu", 5000, 0, 4000)),
        ("wide", "OutOfmemory", full("memory", 5 << 30, 0, memory)),
        (
            "elsewhere",
            "NodeAffinity",
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector".to_owned(),
        ),
        ("three", "OutOfpods", full("pods", 1, 2, 2)),
    ] {
        let rejected = format!("Pod was rejected: {message}");
        assert_eq!(status(&bed, name), (PodPhase::Failed, Some(reason.to_owned()), Some(rejected)));
        assert_eq!(events(&bed, name).last(), Some(&format!("{reason}: {message}")));
        let pod = bed.get::<Pod>("default", name).expect("it stays");
        assert!(pod.status.containers.is_empty() && pod.status.started().is_some());
    }
}

#[test]
fn a_missing_config_map_is_looked_for_with_growing_pauses() {
    let mut bed = Bed::ready(one_node(vec![("app:1", ImageModel::default())]), 4);
    let volume = "volumes: [{name: v, configMap: {name: cm1}}],";
    bed.apply(&pod("p", volume, "image: \"app:1\", volumeMounts: [{name: v, mountPath: /v}]"));
    bed.run(40);
    let failed = "FailedMount: MountVolume.SetUp failed for volume \"v\" : configmap \"cm1\" not found";
    assert_eq!(events(&bed, "p").last().map(String::as_str), Some(failed));
    let failures: Vec<f64> = bed
        .writes
        .iter()
        .filter(|write| matches!(&write.new, Some(kubesim::api::object::Object::Event(event)) if event.class.reason == "FailedMount"))
        .map(|write| support::as_seconds(write.at))
        .collect();
    let pauses: Vec<f64> = failures.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (pause, expected) in pauses.iter().zip([0.5, 1.0, 2.0, 4.0, 8.0, 16.0]) {
        assert!((expected..expected + 0.3).contains(pause), "{pauses:?}");
    }
    assert_eq!(status(&bed, "p").0, PodPhase::Pending);
    bed.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: cm1}, data: {key: value}}");
    // The next try is 32 s after the last one, that 64 s after the first.
    let found = bed.until("it runs", 60, |bed| status(bed, "p").0 == PodPhase::Running);
    assert!((15.0..35.0).contains(&found), "{found}");
}

#[test]
fn an_environment_that_is_missing_keeps_a_container_from_being_made() {
    let mut bed = Bed::ready(one_node(vec![("app:1", ImageModel::default())]), 4);
    let env = "env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]";
    bed.apply(&pod("p", "", &format!("image: \"app:1\", {env}")));
    bed.run(30);
    assert!(events(&bed, "p").contains(&"Failed: Error: secret \"s\" not found".to_owned()), "{:?}", events(&bed, "p"));
    let waiting = |bed: &Bed| {
        let pod = bed.get::<Pod>("default", "p").expect("the pod");
        matches!(&pod.status.containers[0].state, ContainerState::Waiting { reason, .. } if reason == "CreateContainerConfigError")
    };
    assert!(waiting(&bed));
    bed.apply("{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {k: v}, data: {k: dg==}}");
    let found = bed.until("it runs", 40, |bed| status(bed, "p").0 == PodPhase::Running);
    assert!(found < 18.0, "{found}");
}

#[test]
fn a_hook_that_outlasts_the_grace_fails_and_the_container_is_killed() {
    let slow = HookModel { takes: Spread::millis(60_000), error: None };
    let deaf = StopModel { ignores_term: true, ..StopModel::default() };
    let model = ImageModel { pre_stop: slow, stop: deaf, ..ImageModel::default() };
    let mut bed = Bed::ready(one_node(vec![("app:1", model)]), 4);
    let hook = "lifecycle: {preStop: {exec: {command: [sleep, \"60\"]}}}";
    bed.apply(&pod("p", "terminationGracePeriodSeconds: 5,", &format!("image: \"app:1\", {hook}")));
    bed.run(5);
    bed.delete(support::pod("default", "p")).expect("it is deleted");
    let took = bed.until("it is gone", 20, |bed| bed.get::<Pod>("default", "p").is_none());
    assert!((7.0..8.5).contains(&took), "five seconds of grace, two more after TERM: {took}");
    assert!(events(&bed, "p").contains(&"FailedPreStopHook: PreStopHook failed".to_owned()));
}

#[test]
fn a_container_starts_again_as_its_own_rules_say() {
    let ends = |codes: &[i32]| ImageModel {
        exit: Some(ExitModel {
            after: Spread::millis(1_000),
            codes: codes.to_vec(),
            out_of_memory: false,
            cpu_bound: false,
        }),
        ..ImageModel::default()
    };
    let mut bed = Bed::ready(one_node(vec![("flaky:1", ends(&[42, 7]))]), 4);
    let rules =
        "restartPolicy: Never, restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]";
    bed.apply(&pod("p", "restartPolicy: Never,", &format!("image: \"flaky:1\", {rules}")));
    bed.until("it has failed", 30, |bed| status(bed, "p").0 == PodPhase::Failed);
    let pod = bed.get::<Pod>("default", "p").expect("it stays");
    assert_eq!(pod.status.containers[0].restart_count, 1, "42 is started again, 7 is not");
}

#[test]
fn a_static_pod_outlives_its_mirror_and_goes_with_its_file() {
    let mut bed = Bed::ready(one_node(vec![("app:1", ImageModel::default())]), 6);
    let manifests = read("default", &pod("proxy", "terminationGracePeriodSeconds: 2,", "image: \"app:1\""));
    let file = manifests[0].object.get::<Pod>().expect("a pod").clone();
    bed.cluster.add_static_pod("node-0", file).expect("the node is there");
    bed.until("its mirror runs", 10, |bed| {
        bed.get::<Pod>("default", "proxy-node-0").is_some_and(|pod| pod.status.phase == PodPhase::Running)
    });
    let mirror = bed.get::<Pod>("default", "proxy-node-0").expect("a mirror").clone();
    assert!(mirror.meta.annotations.get("kubernetes.io/config.mirror").is_some());
    assert_eq!(mirror.meta.owners.first().map(|owner| owner.kind.to_string()), Some("Node".to_owned()));
    let containers = bed.cluster.nodes()[0].runtime().running();
    bed.delete(support::pod("default", "proxy-node-0")).expect("the mirror is deleted");
    bed.until("there is another mirror", 2, |bed| {
        bed.get::<Pod>("default", "proxy-node-0").is_some_and(|pod| pod.meta.uid != mirror.meta.uid)
    });
    bed.until("its status follows with the next pass", 11, |bed| {
        bed.get::<Pod>("default", "proxy-node-0").is_some_and(|pod| pod.status.phase == PodPhase::Running)
    });
    assert_eq!(bed.cluster.nodes()[0].runtime().running(), containers, "the container ran on");
    bed.cluster.remove_static_pod("node-0", "proxy").expect("the file was there");
    bed.until("the mirror is gone", 8, |bed| bed.get::<Pod>("default", "proxy-node-0").is_none());
    assert_eq!(bed.cluster.nodes()[0].runtime().running(), 0);
    let mut versions = bed.writes.iter().filter_map(|write| match &write.new {
        Some(Object::Pod(pod)) if pod.meta.name == "proxy-node-0" => Some(pod),
        _ => None,
    });
    assert!(versions.all(|mirror| !mirror.is_terminal()), "a static pod never has a terminal phase");
}

#[test]
fn a_volume_tells_of_everything_that_its_sources_lack() {
    let mut bed = Bed::ready(one_node(vec![("app:1", ImageModel::default())]), 4);
    bed.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: cm}, data: {key: value}}");
    let item = "items: [{key: other, path: x}]";
    for (name, volume) in [
        ("key", format!("configMap: {{name: cm, {item}}}")),
        ("both", format!("projected: {{sources: [{{configMap: {{name: cm, {item}}}}}, {{secret: {{name: s}}}}]}}")),
    ] {
        let mount = "image: \"app:1\", volumeMounts: [{name: v, mountPath: /v}]";
        bed.apply(&pod(name, &format!("volumes: [{{name: v, {volume}}}],"), mount));
    }
    bed.run(2);
    let lacks = "configmap references non-existent config key: other";
    let told = |what: &str| format!("FailedMount: MountVolume.SetUp failed for volume \"v\" : {what}");
    assert_eq!(events(&bed, "key").last(), Some(&told(lacks)));
    assert_eq!(events(&bed, "both").last(), Some(&told(&format!("[{lacks}, secret \"s\" not found]"))));
}

#[test]
fn a_pod_is_resized_in_place_or_waits_for_room() {
    use kubesim::apiserver::protocol::{Answer, Operation, Part, Patch};
    let mut bed = Bed::ready(one_node(vec![("app:1", ImageModel::default())]), 8);
    let cpu = |amount: &str| format!("resources: {{requests: {{cpu: {amount}}}}}");
    bed.apply(&pod("small", "", &format!("image: \"app:1\", {}", cpu("1"))));
    bed.apply(&pod("other", "terminationGracePeriodSeconds: 1,", &format!("image: \"app:1\", {}", cpu("2"))));
    bed.run(5);
    let resize = |bed: &mut Bed, cpu: &str| {
        let patch =
            serde_json::json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}});
        let key = support::pod("default", "small");
        bed.request(Operation::Patch { key, patch: Patch::Strategic(patch.into()), part: Part::Resize, dry_run: false })
    };
    let Ok(Answer::Object(asked)) = resize(&mut bed, "1500m") else { panic!("it may be resized") };
    let held = |pod: serde_json::Value| {
        let container = &pod["status"]["containerStatuses"][0];
        let all = [
            &container["allocatedResources"],
            &container["resources"]["requests"],
            &pod["status"]["resources"]["requests"],
        ];
        all.map(|amounts| amounts["cpu"].as_str().map(str::to_owned).unwrap_or_default())
    };
    assert_eq!(held(asked.to_json()), ["1", "1", "1"], "nothing is told to be there because it was asked for");
    bed.run(5);
    let now = bed.get::<Pod>("default", "small").expect("the pod").clone();
    assert_eq!(held(Object::Pod(now).to_json()), ["1500m", "1500m", "1500m"]);
    let told = events(&bed, "small");
    let summary =
        "{\"containers\":[{\"name\":\"c\",\"resources\":{\"requests\":{\"cpu\":\"1500m\"}}}],\"generation\":2}";
    assert!(told.contains(&format!("ResizeStarted: Pod resize started: {summary}")), "{told:?}");
    assert!(told.contains(&format!("ResizeCompleted: Pod resize completed: {summary}")), "{told:?}");
    let small = bed.get::<Pod>("default", "small").expect("the pod");
    assert_eq!((small.meta.generation, small.status.containers[0].restart_count), (2, 0));
    assert_eq!(small.resized().map(|held| held.requests.milli_cpu), Some(1500));
    // Beside the other pod there is no room for three: the resize waits until that is gone.
    assert!(resize(&mut bed, "3").is_ok());
    bed.run(3);
    let pending = |bed: &Bed| {
        let pod = bed.get::<Pod>("default", "small").expect("the pod");
        let pending = pod.status.condition(&PodConditionType::Other(Name::of("PodResizePending")));
        pending.and_then(|one| one.why.reason().map(str::to_owned))
    };
    assert_eq!(pending(&bed).as_deref(), Some("Deferred"));
    bed.delete(support::pod("default", "other")).expect("it is deleted");
    bed.until("there is room", 10, |bed| pending(bed).is_none());
    // More than the node has is refused.
    let refused = support::refusal(resize(&mut bed, "5"));
    assert!(
        refused
            .message
            .contains("node didn't have enough allocatable resources: cpu, requested: 5000, allocatable: 4000")
    );
}

/// A class whose volumes are made with a binding mode, and a pod on it with an ephemeral volume `v`.
fn pod_with_ephemeral(name: &str, mode: &str, more: &str) -> String {
    let class = format!(
        "{{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {{name: fast}}, provisioner: disks.example.com, volumeBindingMode: {mode}}}\n---\n"
    );
    let asks = "accessModes: [ReadWriteOnce], storageClassName: fast, resources: {requests: {storage: 1Gi}}";
    let volume = format!("ephemeral: {{volumeClaimTemplate: {{metadata: {{labels: {{of: x}}}}, spec: {{{asks}}}}}}}");
    let mount = "image: \"app:1\", volumeMounts: [{name: v, mountPath: /v}]";
    class + &pod(name, &format!("{more} volumes: [{{name: v, {volume}}}],"), mount)
}

#[test]
fn an_ephemeral_volume_is_claimed_made_and_mounted_and_goes_with_its_pod() {
    for mode in ["Immediate", "WaitForFirstConsumer"] {
        let mut bed = Bed::ready(one_node(vec![("app:1", ImageModel::default())]), 4);
        bed.apply(&pod_with_ephemeral("p", mode, "terminationGracePeriodSeconds: 1,"));
        bed.until("it runs", 20, |bed| status(bed, "p").0 == PodPhase::Running);
        let claim = bed.get::<PersistentVolumeClaim>("default", "p-v").expect("a claim").clone();
        assert_eq!(
            (claim.phase(), claim.meta.labels.get("of").map(|of| of.to_string())),
            ("Bound", Some("x".to_owned()))
        );
        assert_eq!(claim.meta.controller().map(|owner| owner.name.to_string()), Some("p".to_owned()));
        assert_eq!(bed.all::<PersistentVolume>().len(), 1);
        assert!(!events(&bed, "p").iter().any(|event| event.starts_with("FailedMount")), "{:?}", events(&bed, "p"));
        bed.delete(support::pod("default", "p")).expect("it is deleted");
        bed.until("nothing is left", 20, |bed| {
            bed.pods().is_empty()
                && bed.all::<PersistentVolumeClaim>().is_empty()
                && bed.all::<PersistentVolume>().is_empty()
        });
    }
}

#[test]
fn a_pod_that_nobody_scheduled_waits_on_its_node_for_its_claim() {
    let mut bed = Bed::ready(one_node(vec![("app:1", ImageModel::default())]), 4);
    bed.apply(&pod_with_ephemeral("p", "WaitForFirstConsumer", "nodeName: node-0,"));
    bed.run(50);
    assert_eq!(status(&bed, "p").0, PodPhase::Pending);
    let why = "error processing PVC default/p-v: PVC is not bound";
    let failed = format!(
        "FailedMount: Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], failed to process volumes=[v]: {why}"
    );
    let is_it = |event: &&&Rc<Event>| event.class.reason == "FailedMount" && event.involved.name == "p";
    assert_eq!(events(&bed, "p").last(), Some(&failed));
    let told = bed.all::<Event>().iter().find(is_it).map_or(0, |event| event.occurrence().count);
    assert!((3..=5).contains(&told), "every ten to sixteen seconds: {told}");
    bed.apply("{apiVersion: v1, kind: PersistentVolume, metadata: {name: disk}, spec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, storageClassName: fast, claimRef: {namespace: default, name: p-v}, hostPath: {path: /d}}}");
    let found = bed.until("it runs", 40, |bed| status(bed, "p").0 == PodPhase::Running);
    assert!(found < 33.0, "at the next look after the claim was bound: {found}");
}
