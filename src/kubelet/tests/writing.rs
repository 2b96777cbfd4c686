//! How statuses get into the API when there are many of them, or when the API refuses some.

use crate::api::kind::Kind;
use crate::api::node::NodeCondition;
use crate::api::pod::ConditionStatus;
use crate::api::pod::RestartPolicy::Always;
use crate::engine::time::SimDuration;
use crate::runtime::model::ImageModel;
use crate::runtime::span::Spread;

use super::harness::{World, container, spec};

fn world(status_read: u64) -> World {
    World::new(vec![("quick", ImageModel::default())], |settings, runtime| {
        settings.timings.status_read = SimDuration::from_millis(status_read);
        runtime.create_sandbox = Spread::millis(100);
    })
    .with_images(&["quick"])
}

#[test]
fn a_round_writes_statuses_as_they_were_when_it_began() {
    let mut world = world(60);
    world.run_to(15_000);
    let pods: Vec<String> = (0..12).map(|number| format!("p{number}")).collect();
    for pod in &pods {
        world.create(pod, spec(Always, 30, vec![container("c", "quick")]));
    }
    world.run(5_000);
    for pod in &pods {
        let writes = world.lines(pod, &["PATCH"]);
        // The round takes longer than the sandboxes do: the last pods have one when their turn comes, and the API is told that they do not.
        assert!(writes[0].starts_with("PATCH PodReadyToStartContainers=False"), "{pod}: {writes:#?}");
        assert!(writes.last().is_some_and(|last| last.contains("phase=\"Running\"")), "{pod}: {writes:#?}");
    }
}

#[test]
fn a_write_that_was_refused_is_made_again_in_the_next_round() {
    let mut world = world(10);
    world.run_to(20_500);
    world.api.refuses_pod = Some("refused");
    world.create("refused", spec(Always, 30, vec![container("c", "quick")]));
    world.run(2_000);
    world.api.refuses_pod = None;
    assert!(world.lines("refused", &["PATCH"]).is_empty());
    world.create("other", spec(Always, 30, vec![container("c", "quick")]));
    world.run(1_000);
    assert_eq!(world.lines("refused", &["PATCH"]).len(), 1, "with the other pod, not with the recheck at 30 s");
    assert!(world.pod("refused").status.is_ready());
}

#[test]
fn reads_and_writes_of_statuses_share_one_bucket() {
    let mut world = world(1);
    world.run_to(15_000);
    for number in 0..80 {
        world.create(&format!("p{number}"), spec(Always, 30, vec![container("c", "quick")]));
    }
    world.run(10_000);
    let times: Vec<u64> = world
        .api
        .lines
        .iter()
        .filter(|line| line.text.starts_with("PATCH Pod"))
        .map(|line| line.at.as_millis())
        .collect();
    // 100 tokens at once, 50 a second from then on; one for the token of each pod's service account, and two for each write.
    let within = |seconds: u64| times.iter().filter(|at| **at < 15_000 + seconds * 1_000).count();
    assert!((30..=36).contains(&within(1)), "{}", within(1));
    assert!((55..=61).contains(&within(2)), "{}", within(2));
    assert!(times.len() > within(2), "{}", times.len());
}

#[test]
fn a_status_of_the_node_is_tried_five_times_and_then_left_for_the_next_time() {
    let mut world = world(10);
    world.run_to(25_000);
    world.api.fails_kind = Some(Kind::Node);
    world.change_node(|node| {
        let not_ready = |condition: &mut NodeCondition| condition.status = ConditionStatus::Unknown;
        node.status.conditions.iter_mut().for_each(not_ready);
    });
    world.run_to(45_000);
    let failed = std::mem::take(&mut world.api.failed);
    let times = |from: u64| {
        failed.iter().filter(|(at, _)| (from..from + 1_000).contains(at)).map(|(_, verb)| *verb).collect::<Vec<_>>()
    };
    // Of the first try only the write goes to the API; the others begin with a look at the node, which fails already.
    for from in [30_000, 40_000] {
        assert_eq!(times(from), ["patch", "get", "get", "get", "get"], "{failed:?}");
    }
    assert_eq!(failed.len(), 10, "{failed:?}");
    world.api.fails_kind = None;
    world.run_to(52_000);
    assert!(world.times("kn1", "nodes/status Ready=True").last().is_some_and(|at| (50_000..50_100).contains(at)));
}
