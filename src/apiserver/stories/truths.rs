//! What holds whatever happens.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::harness::{World, object_of, pod, pod_key};
use crate::api::kind::Kind;
use crate::api::object::Object;
use crate::apiserver::protocol::{DeleteOptions, Operation, Part, Scope, WatchEvent};
use crate::apiserver::status::Reason;
use crate::engine::time::SimDuration;

#[derive(Clone, Debug)]
enum Step {
    Create(u8),
    Label(u8, u8),
    Delete(u8),
    Bind(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..4u8).prop_map(Step::Create),
        (0..4u8, 0..3u8).prop_map(|(name, value)| Step::Label(name, value)),
        (0..4u8).prop_map(Step::Delete),
        (0..4u8).prop_map(Step::Bind),
    ];
    prop::collection::vec(step, 1..25)
}

fn versions(objects: impl IntoIterator<Item = Object>) -> BTreeMap<String, u64> {
    objects.into_iter().map(|object| (object.meta().name.to_string(), object.meta().revision())).collect()
}

fn carry_out(world: &mut World, server: u32, step: &Step) {
    let name = |number: &u8| format!("pod-{number}");
    let operation = match step {
        Step::Create(number) => Operation::Create { object: pod(&name(number)), dry_run: false },
        Step::Label(number, value) => {
            let patch = json!({"metadata": {"labels": {"tier": value.to_string()}}});
            let patch = crate::apiserver::protocol::Patch::Merge(std::rc::Rc::new(patch));
            Operation::Patch { key: pod_key(&name(number)), patch, part: Part::Main, dry_run: false }
        }
        Step::Delete(number) => {
            let options = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
            Operation::Delete { key: pod_key(&name(number)), options }
        }
        Step::Bind(number) => {
            Operation::Bind { key: pod_key(&name(number)), uid: Default::default(), node: "node-1".into() }
        }
    };
    let id = world.send(server, operation);
    // Refusals are part of the game.
    let _ = world.wait(id);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_watch_replayed_on_its_list_gives_the_next_list(steps in steps()) {
        let mut world = World::with_servers(2);
        let watches = [world.watch(1, Scope::all(Kind::Pod), None), world.watch(2, Scope::all(Kind::Pod), None)];
        let mut replicas = [BTreeMap::new(), BTreeMap::new()];
        for (number, step) in steps.iter().enumerate() {
            carry_out(&mut world, 1 + number as u32 % 2, step);
        }
        world.run_for(SimDuration::from_secs(1));
        let (objects, _) = world.list(Kind::Pod);
        let truth = versions(objects);
        for (watch, replica) in watches.into_iter().zip(&mut replicas) {
            let mut last = 0;
            for event in world.seen(watch) {
                let revision = match &event {
                    WatchEvent::Added(object) => {
                        prop_assert!(replica.insert(object.meta().name.to_string(), object.meta().revision()).is_none());
                        object.meta().revision()
                    }
                    WatchEvent::Modified(object) => {
                        prop_assert!(replica.insert(object.meta().name.to_string(), object.meta().revision()).is_some());
                        object.meta().revision()
                    }
                    WatchEvent::Deleted { object, revision } => {
                        prop_assert!(replica.remove(object.meta().name.as_str()).is_some());
                        *revision
                    }
                    WatchEvent::Bookmark { .. } => continue,
                    WatchEvent::Error(status) => return Err(TestCaseError::fail(status.to_string())),
                };
                prop_assert!(revision > last, "events come in the order of their revisions");
                last = revision;
            }
            prop_assert_eq!(&*replica, &truth);
        }
    }

    #[test]
    fn no_increment_is_lost_between_two_servers(rounds in 1..12usize) {
        let mut world = World::with_servers(2);
        world.create(pod("counter"));
        let mut succeeded = 0;
        for _ in 0..rounds {
            let read = world.get(&pod_key("counter")).expect("the pod");
            let count = |object: &Object| object.meta().annotations.get("n").map_or(0, |n| n.parse::<u32>().expect("a number"));
            let increment = |by: u32| {
                let mut object = read.clone();
                let annotations = object.meta().annotations.with("n", (count(&read) + by).to_string());
                object.meta_mut().annotations = annotations;
                Operation::Update { object, part: Part::Main, dry_run: false }
            };
            let both = [world.send(1, increment(1)), world.send(2, increment(1))];
            for id in both {
                match world.wait(id) {
                    Ok(_) => succeeded += 1,
                    Err(status) => prop_assert_eq!(status.reason, Reason::Conflict),
                }
            }
            let now = count(&world.get(&pod_key("counter")).expect("the pod"));
            prop_assert_eq!(now, succeeded, "each success counts once");
        }
        prop_assert_eq!(succeeded as usize, rounds, "one of two wins each round");
    }
}

#[test]
fn every_acknowledged_write_is_reported_once_with_both_versions() {
    let mut world = World::new();
    world.writes.clear();
    let created = world.create(pod("web"));
    let bound = world.bind(&created, "node-1");
    assert!(bound.is_ok());
    let marked = object_of(world.delete(&pod_key("web"), DeleteOptions::default()));
    assert!(marked.meta().is_deleting());
    let options = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
    assert!(world.delete(&pod_key("web"), options).is_ok());
    let told: Vec<(&str, bool, bool)> =
        world.writes.iter().map(|write| (write.verb, write.old.is_some(), write.new.is_some())).collect();
    assert_eq!(
        told,
        [
            ("create", false, true),
            ("bind", true, true),
            ("delete", true, true),
            ("delete", true, true),
            ("delete", true, false),
        ]
    );
    assert!(world.writes.windows(2).all(|pair| pair[0].revision < pair[1].revision));
}
