//! A critical pod for which there is no room: pods of less weight end for it.

use crate::api::pod::RestartPolicy::Always;
use crate::api::pod::{PodConditionType, PodPhase, PodSpec, QosClass};
use crate::api::resources::Resources;
use crate::runtime::model::{ImageModel, StopModel};
use crate::runtime::span::Spread;

use super::harness::{World, container, spec};

const CRITICAL: i32 = 2_000_000_000;

fn world() -> World {
    let stops = |millis: u64, code: i32| ImageModel {
        stop: StopModel { takes: Spread::millis(millis), code, ..StopModel::default() },
        ..ImageModel::default()
    };
    let models = vec![("app", stops(3_000, 143)), ("quick", stops(100, 143))];
    World::new(models, |_, _| {}).with_images(&["app", "quick"])
}

fn sized(image: &str, milli_cpu: i64, qos: QosClass, priority: i32) -> PodSpec {
    let mut spec = spec(Always, 30, vec![container("c", image)]);
    spec.requests = Resources { milli_cpu, ..Resources::default() };
    (spec.qos, spec.priority) = (qos, priority);
    spec
}

#[test]
fn the_pods_that_cost_least_end_one_after_the_other_and_the_critical_one_begins() {
    let mut world = world();
    world.create("guaranteed", sized("app", 1000, QosClass::Guaranteed, 0));
    world.create("large", sized("app", 1500, QosClass::Burstable, 0));
    world.create("small", sized("app", 1000, QosClass::Burstable, 0));
    world.create("important", sized("app", 500, QosClass::Burstable, CRITICAL));
    world.run(10_000);
    world.create("critical", sized("quick", 2000, QosClass::Burstable, CRITICAL));
    world.create("late", sized("quick", 400, QosClass::Burstable, 0));
    world.run(2_000);
    assert!(world.lines("critical", &["PATCH"]).is_empty(), "it waits");
    assert!(world.lines("late", &["PATCH"]).is_empty(), "and so does who came after it");
    world.run(20_000);
    for pod in ["large", "small"] {
        let status = &world.pod(pod).status;
        assert_eq!(status.phase, PodPhase::Failed, "{pod}");
        assert_eq!(status.why.reason(), Some("Preempting"), "{pod}");
        assert_eq!(status.why.message(), Some("Preempted in order to admit critical pod"));
        let condition = status.condition(&PodConditionType::DisruptionTarget).expect("it was disrupted");
        assert_eq!(condition.why.reason(), Some("TerminationByKubelet"));
        let why = "Pod was preempted by Kubelet to accommodate a critical pod.";
        assert_eq!(condition.why.message(), Some(why));
        let events = world.lines(pod, &["EVENT Warning"]);
        assert_eq!(events, ["EVENT Warning Preempting: Preempted in order to admit critical pod"]);
    }
    let ends = |pod: &str| world.times(pod, "EVENT Warning Preempting")[0];
    // Of the two the larger one brings more of what is missing, and its end is waited for.
    assert!((3_000..3_200).contains(&(ends("small") - ends("large"))), "{} {}", ends("large"), ends("small"));
    for pod in ["guaranteed", "important", "critical", "late"] {
        assert_eq!(world.pod(pod).status.phase, PodPhase::Running, "{pod}");
    }
}

#[test]
fn a_critical_pod_for_which_nobody_can_go_is_rejected() {
    let mut world = world();
    world.create("important", sized("app", 3000, QosClass::Burstable, CRITICAL));
    world.create("small", sized("app", 500, QosClass::Burstable, 0));
    world.run(5_000);
    world.create("critical", sized("quick", 2000, QosClass::Burstable, CRITICAL));
    world.run(5_000);
    let status = &world.pod("critical").status;
    assert_eq!((status.phase, status.why.reason()), (PodPhase::Failed, Some("UnexpectedAdmissionError")));
    let why = "Pod was rejected: Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods to preempt: no set of running pods found to reclaim resources: [(res: cpu, q: 1000), ]";
    assert_eq!(status.why.message(), Some(why));
    assert_eq!(world.pod("small").status.phase, PodPhase::Running);
}

#[test]
fn a_pod_that_goes_while_it_waits_for_room_is_not_begun() {
    let mut world = world();
    world.create("victim", sized("app", 3000, QosClass::Burstable, 0));
    world.run(5_000);
    world.create("critical", sized("quick", 2000, QosClass::Burstable, CRITICAL));
    world.create("late", sized("quick", 100, QosClass::Burstable, 0));
    world.run(1_000);
    world.delete("critical", 0);
    world.run(20_000);
    assert_eq!(world.pod("victim").status.why.reason(), Some("Preempting"));
    assert_eq!(world.pod("late").status.phase, PodPhase::Running);
    assert_eq!(world.runtime.running(), 1);
}
