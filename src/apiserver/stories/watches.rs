//! Lists and watches.

use std::rc::Rc;

use serde_json::json;

use super::harness::{World, failure, object, pod, pod_key};
use crate::api::kind::Kind;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::selector::Selector;
use crate::apiserver::protocol::{Answer, DeleteOptions, FieldTest, ListRevision, Operation, Scope};
use crate::engine::time::SimDuration;

fn on_node(node: &str) -> Scope {
    let test = FieldTest { field: Name::of("spec.nodeName"), value: Name::new(node), equal: true };
    Scope { fields: vec![test], ..Scope::all(Kind::Pod) }
}

#[test]
fn a_watch_begins_with_what_is_there_and_goes_on() {
    let mut world = World::new();
    world.create(pod("a"));
    let watch = world.watch(1, Scope::all(Kind::Pod), None);
    let zero = world.watch(1, Scope::all(Kind::Pod), Some(0));
    world.create(pod("b"));
    assert!(world.merge(&pod_key("a"), json!({"metadata": {"labels": {"x": "y"}}})).is_ok());
    assert!(world.delete(&pod_key("b"), DeleteOptions::default()).is_ok());
    let told = ["ADDED a", "ADDED b", "MODIFIED a", "MODIFIED b", "DELETED b"];
    assert_eq!(world.told(watch), told);
    assert_eq!(world.told(zero), told);
}

#[test]
fn a_watch_resumes_after_a_revision_without_gap_or_repetition() {
    let mut world = World::new();
    world.create(pod("a"));
    let (_, revision) = world.list(Kind::Pod);
    world.create(pod("b"));
    let watch = world.watch(1, Scope::all(Kind::Pod), Some(revision));
    world.create(pod("c"));
    assert_eq!(world.told(watch), ["ADDED b", "ADDED c"]);
}

#[test]
fn kubelets_see_only_pods_of_their_node() {
    let mut world = World::new();
    let (one, two) = (world.watch(1, on_node("node-1"), None), world.watch(1, on_node("node-2"), None));
    let unbound = world.watch(1, on_node(""), None);
    let created = world.create(pod("web"));
    assert!(world.bind(&created, "node-1").is_ok());
    assert!(world.merge(&pod_key("web"), json!({"metadata": {"labels": {"x": "y"}}})).is_ok());
    assert_eq!(world.told(one), ["ADDED web", "MODIFIED web"]);
    assert_eq!(world.told(two), [""; 0]);
    assert_eq!(world.told(unbound), ["ADDED web", "DELETED web"]);
}

#[test]
fn an_object_that_begins_to_match_is_added_and_one_that_ceases_is_deleted() {
    let mut world = World::new();
    let selector = Selector::parse("tier=front").expect("a selector");
    let watch = world.watch(1, Scope { labels: Some(Rc::new(selector)), ..Scope::all(Kind::Pod) }, None);
    world.create(pod("web"));
    for tier in [json!("front"), json!("front"), json!("back"), json!(null)] {
        assert!(world.merge(&pod_key("web"), json!({"metadata": {"labels": {"tier": tier}}})).is_ok());
    }
    assert_eq!(world.told(watch), ["ADDED web", "DELETED web"]);
}

#[test]
fn a_watch_from_long_ago_is_told_to_list_anew() {
    let mut world = World::new();
    world.create(pod("web"));
    // This server knows only what came after its own list.
    world.start_server(2);
    world.run_for(SimDuration::from_secs(1));
    let watch = world.watch(2, Scope::all(Kind::Pod), Some(1));
    let told = world.told(watch);
    assert!(told.len() == 1 && told[0].starts_with("ERROR 410 too old resource version: 1 ("), "{told:?}");
}

#[test]
fn an_unknown_field_is_no_selector() {
    let mut world = World::new();
    let test = FieldTest { field: Name::of("spec.color"), value: Name::of("red"), equal: true };
    let scope = Scope { fields: vec![test], ..Scope::all(Kind::Pod) };
    let list = Operation::List { scope, limit: 0, continue_token: None, at: ListRevision::Latest };
    assert_eq!(failure(world.ask(list)), "400 field label not supported: spec.color");
}

fn page(world: &mut World, limit: u32, token: Option<String>) -> (Vec<String>, u64, Option<String>, Option<u64>) {
    let scope = Scope::all(Kind::Pod);
    let list = Operation::List { scope, limit, continue_token: token, at: ListRevision::Latest };
    match world.ask(list) {
        Ok(Answer::List { items, revision, continue_token, remaining }) => {
            let names = items.iter().map(|pod| pod.meta().name.to_string()).collect();
            (names, revision, continue_token, remaining)
        }
        other => panic!("not a page: {other:?}"),
    }
}

#[test]
fn pages_show_one_state_whatever_happens_between_them() {
    let mut world = World::new();
    for name in ["a", "b", "c", "d", "e"] {
        world.create(pod(name));
    }
    let (first, revision, token, remaining) = page(&mut world, 2, None);
    assert_eq!((first, remaining), (vec!["a".to_owned(), "b".to_owned()], Some(3)));
    world.create(pod("bb"));
    assert!(world.delete(&pod_key("d"), DeleteOptions::default()).is_ok());
    let (second, same, token, remaining) = page(&mut world, 2, token);
    assert_eq!((second, same, remaining), (vec!["c".to_owned(), "d".to_owned()], revision, Some(1)));
    let (third, _, token, remaining) = page(&mut world, 2, token);
    assert_eq!((third, token, remaining), (vec!["e".to_owned()], None, None));
}

#[test]
fn history_that_no_server_may_ask_for_is_given_back() {
    let exactly = |world: &mut World, revision| {
        let at = ListRevision::Exact(revision);
        match world.ask(Operation::List { scope: Scope::all(Kind::Pod), limit: 0, continue_token: None, at }) {
            Ok(Answer::List { items, .. }) => items.iter().map(|pod| pod.meta().name.to_string()).collect(),
            other => vec![failure(other)],
        }
    };
    let write = |world: &mut World, from: u32| {
        for count in from..from + 200 {
            assert!(world.merge(&pod_key("a"), json!({"metadata": {"labels": {"count": count.to_string()}}})).is_ok());
        }
    };
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.create(pod(name));
    }
    let (_, revision, token, _) = page(&mut world, 2, None);
    assert!(world.delete(&pod_key("c"), DeleteOptions::default()).is_ok());
    write(&mut world, 0);
    assert_eq!(exactly(&mut world, revision), ["a", "b", "c"], "a list may go on there");
    assert_eq!(page(&mut world, 2, token).0, ["c"], "and it does");
    world.run_for(SimDuration::from_secs(601));
    let of_late = world.create(pod("d")).meta().revision();
    assert_eq!(exactly(&mut world, of_late), ["a", "b", "d"], "nothing has come after it yet");
    write(&mut world, 200);
    let too_old = "410 The resourceVersion for the provided list is too old.";
    assert_eq!(exactly(&mut world, of_late), [too_old], "long before it is compacted");
}

#[test]
fn a_page_of_forgotten_history_is_expired() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.create(pod(name));
    }
    let (_, _, token, _) = page(&mut world, 2, None);
    for _ in 0..3 {
        world.run_for(SimDuration::from_secs(300));
        let name = format!("later-{}", world.now.as_millis());
        world.create(pod(&name));
    }
    let list =
        Operation::List { scope: Scope::all(Kind::Pod), limit: 2, continue_token: token, at: ListRevision::Latest };
    let failed = failure(world.ask(list));
    assert!(failed.starts_with("410 The provided continue parameter is too old"), "{failed}");
}

fn event(name: &str) -> Object {
    object(
        Kind::Event,
        json!({
            "metadata": {"name": name, "namespace": "default"}, "type": "Normal", "reason": "Started", "message": "x",
            "involvedObject": {"kind": "Pod", "namespace": "default", "name": "web"}, "count": 1,
            "source": {"component": "kubelet"},
        }),
    )
}

#[test]
fn a_watch_of_events_runs_on_etcd_itself() {
    let mut world = World::new();
    let first = world.create(event("one"));
    let all = world.watch(1, Scope::all(Kind::Event), None);
    assert_eq!(world.told(all), ["ADDED one"], "what is there comes first");
    world.create(event("two"));
    assert!(world.merge(&first.key(), json!({"count": 2})).is_ok());
    assert!(world.delete(&first.key(), DeleteOptions::default()).is_ok());
    assert_eq!(world.told(all), ["ADDED two", "MODIFIED one", "DELETED one"]);
    let scope = Scope { namespace: Some("kube-system".into()), ..Scope::all(Kind::Event) };
    let elsewhere = world.watch(1, scope, Some(first.meta().revision()));
    let since = world.watch(1, Scope::all(Kind::Event), Some(first.meta().revision()));
    assert_eq!(world.told(elsewhere), Vec::<String>::new());
    assert_eq!(world.told(since), ["ADDED two", "MODIFIED one", "DELETED one"], "what came after is told at once");
    for _ in 0..3 {
        world.run_for(SimDuration::from_secs(300));
        world.create(event(&format!("later-{}", world.now.as_millis())));
    }
    let told = world.told(all);
    assert_eq!(told.len(), 3, "it goes on: {told:?}");
    let late = world.watch(1, Scope::all(Kind::Event), Some(first.meta().revision()));
    assert_eq!(world.told(late), ["ERROR 410 The resourceVersion for the provided watch is too old."]);
}

#[test]
fn a_list_by_name_reads_one_key() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.create(pod(name));
    }
    let named = |name: &str, namespace: Option<&str>, at| {
        let field = FieldTest { field: Name::of("metadata.name"), value: name.into(), equal: true };
        let scope = Scope { namespace: namespace.map(Name::from), fields: vec![field], ..Scope::all(Kind::Pod) };
        Operation::List { scope, limit: 0, continue_token: None, at }
    };
    for at in [ListRevision::Latest, ListRevision::Any] {
        for (name, namespace, expected) in [
            ("b", Some("default"), vec!["b"]),
            ("b", None, vec!["b"]),
            ("b", Some("kube-system"), vec![]),
            ("d", Some("default"), vec![]),
        ] {
            let Ok(Answer::List { items, .. }) = world.ask(named(name, namespace, at)) else { panic!("it is a list") };
            let found: Vec<&str> = items.iter().map(|object| object.meta().name.as_str()).collect();
            assert_eq!(found, expected, "{name} in {namespace:?} at {at:?}");
        }
    }
}

#[test]
fn events_go_when_their_lease_does() {
    let mut world = World::new();
    world.create(event("one"));
    world.create(event("two"));
    world.run_for(SimDuration::from_secs(3500));
    assert_eq!(world.list(Kind::Event).0.len(), 2);
    world.run_for(SimDuration::from_secs(200));
    assert_eq!(world.list(Kind::Event).0.len(), 0);
}
