//! What the server gives up, gives out, and deletes by the dozen.

use std::rc::Rc;

use serde_json::{Value, json};

use super::harness::{Outcome, World, failure, object, object_of, pod, pod_key};
use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::network::Service;
use crate::api::object::Object;
use crate::apiserver::protocol::{Answer, DeleteOptions, ListRevision, Operation, Part, Scope};
use crate::engine::time::{SimDuration, SimTime};

fn seconds_since(world: &World, start: SimTime) -> u64 {
    world.now.since(start).as_millis() / 1000
}

#[test]
fn a_request_that_etcd_does_not_answer_ends_after_a_minute() {
    let mut world = World::new();
    let written = world.writes.len();
    world.hold_etcd_up();
    let start = world.now;
    let read = world.send(1, Operation::Get { key: pod_key("web") });
    world.run_for(SimDuration::from_secs(10));
    let create = world.send(1, Operation::Create { object: pod("web"), dry_run: false });
    let text = "504 Timeout: request did not complete within the allotted timeout";
    assert_eq!(failure(world.wait(read)), text);
    assert_eq!(seconds_since(&world, start), 60);
    assert_eq!(failure(world.wait(create)), text);
    assert_eq!(seconds_since(&world, start), 70);
    assert_eq!(world.writes.len(), written);
    // What etcd does all the same is done, and nobody is told twice.
    world.let_etcd_go_on();
    world.run_for(SimDuration::from_secs(1));
    let late: Vec<&str> = world.writes[written..].iter().map(|write| &*write.key.name).collect();
    assert_eq!(late, ["web"]);
    assert!(world.get(&pod_key("web")).is_some());
}

fn list_not_older_than(world: &mut World, revision: u64) -> Outcome {
    let (scope, at) = (Scope::all(Kind::Pod), ListRevision::NotOlderThan(revision));
    let id = world.send(1, Operation::List { scope, limit: 0, continue_token: None, at });
    world.wait(id)
}

#[test]
fn a_list_as_of_the_newest_revision_shows_what_was_just_written_through_another_server() {
    let mut world = World::with_servers(2);
    for number in 1..=20 {
        let map = json!({"metadata": {"name": format!("other-{number}"), "namespace": "default"}});
        let mut other = 0;
        for object in [pod(&format!("web-{number}")), object(Kind::ConfigMap, map)] {
            // The answer is there as soon as the write is; the other server may not have heard of it.
            let id = world.send(1, Operation::Create { object, dry_run: false });
            other = object_of(world.wait(id)).meta().revision();
        }
        let start = world.now;
        let at = ListRevision::Latest;
        let id = world.send(2, Operation::List { scope: Scope::all(Kind::Pod), limit: 0, continue_token: None, at });
        let Ok(Answer::List { items, revision, .. }) = world.wait(id) else { panic!("it is a list") };
        assert!(items.len() == number && revision >= other, "{} of {number} at {revision}, not {other}", items.len());
        assert!(world.now.since(start) < SimDuration::from_millis(200));
    }
}

#[test]
fn a_list_waits_for_its_watch_cache_to_show_a_revision() {
    let mut world = World::new();
    world.create(pod("web"));
    let map = json!({"metadata": {"name": "other", "namespace": "default"}});
    let other = world.create(object(Kind::ConfigMap, map)).meta().revision();
    // The pods' cache hears of writes to other kinds only when it asks.
    let start = world.now;
    match list_not_older_than(&mut world, other) {
        Ok(Answer::List { items, revision, .. }) => assert!(items.len() == 1 && revision >= other),
        other => panic!("not a list: {other:?}"),
    }
    assert!(world.now.since(start) < SimDuration::from_millis(200));
    let start = world.now;
    let Err(status) = list_not_older_than(&mut world, other + 1000) else { panic!("it is refused") };
    assert_eq!(seconds_since(&world, start), 3);
    assert_eq!(status.reason.code(), 504);
    assert_eq!(status.message, format!("Timeout: Too large resource version: {}, current: {other}", other + 1000));
    let details = status.details.expect("details");
    let cause = ("ResourceVersionTooLarge".to_owned(), "Too large resource version".to_owned(), String::new());
    assert_eq!((details.causes, details.retry_after_seconds), (vec![cause], 1));
}

#[test]
fn a_page_of_forgotten_history_comes_with_the_way_to_go_on() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.create(pod(name));
    }
    let page = |world: &mut World, token: Option<String>| {
        let (scope, at) = (Scope::all(Kind::Pod), ListRevision::Latest);
        world.ask(Operation::List { scope, limit: 1, continue_token: token, at })
    };
    let Ok(Answer::List { continue_token, .. }) = page(&mut world, None) else { panic!("a page") };
    for name in ["aa", "d", "e"] {
        world.run_for(SimDuration::from_secs(300));
        world.create(pod(name));
    }
    let Err(status) = page(&mut world, continue_token) else { panic!("the history is gone") };
    assert!(status.message.ends_with("and now may show up in the list."), "{status}");
    let mut token = status.continue_token.map(String::from);
    let mut names = Vec::new();
    while token.is_some() {
        let Ok(Answer::List { items, continue_token, .. }) = page(&mut world, token) else { panic!("a page") };
        names.extend(items.iter().map(|pod| pod.meta().name.to_string()));
        token = continue_token;
    }
    assert_eq!(names, ["aa", "b", "c", "d", "e"], "what came since shows up, too");
}

#[test]
fn a_collection_is_deleted_one_by_one_until_one_cannot_be() {
    let mut world = World::new();
    let created: Vec<Object> = ["a", "b", "c", "d"].iter().map(|name| world.create(pod(name))).collect();
    let written = world.writes.len();
    let collect = |options| Operation::DeleteCollection { scope: Scope::all(Kind::Pod), options };
    // Preconditions hold for each object, as in the real server: the second one is another incarnation.
    let options = DeleteOptions { uid: Some(created[0].meta().uid), ..DeleteOptions::default() };
    let refused = failure(world.ask(collect(options)));
    assert!(
        refused.starts_with("409 Operation cannot be fulfilled on Pod \"b\": the UID in the precondition"),
        "{refused}"
    );
    assert!(world.ask(collect(DeleteOptions::default())).is_ok());
    let gone = world.writes[written..].iter().filter(|write| write.new.is_none());
    assert_eq!(gone.map(|write| &*write.key.name).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
}

fn service(name: &str, spec: Value) -> Object {
    object(Kind::Service, json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec}))
}

fn as_service(object: &Object) -> Rc<Service> {
    object.get::<Service>().expect("a Service").clone()
}

fn node_ports(object: &Object) -> Vec<i32> {
    as_service(object).spec.ports.iter().flatten().map(|port| port.node_port.unwrap_or(0)).collect()
}

fn of_type(kind: &str, ports: Value) -> Value {
    json!({"type": kind, "selector": {"app": "web"}, "ports": ports})
}

#[test]
fn node_ports_are_given_out_of_the_upper_band_and_kept() {
    let mut world = World::new();
    let both = json!([{"name": "tcp", "port": 53}, {"name": "udp", "port": 53, "protocol": "UDP"}, {"name": "web", "port": 80}]);
    let first = world.create(service("first", of_type("NodePort", both)));
    let given = node_ports(&first);
    assert_eq!(given[0], given[1], "one port with two protocols has one node port");
    assert!(given[0] != given[2] && given.iter().all(|port| (30_086..=32_767).contains(port)), "{given:?}");
    let again =
        service("first", of_type("NodePort", json!([{"name": "web", "port": 8080}, {"name": "new", "port": 81}])));
    let updated = node_ports(&object_of(world.update(again, Part::Main)));
    assert_eq!(updated[0], given[2], "ports are known by their names");
    assert!(!given.contains(&updated[1]));
    // A type without node ports gives them back.
    let key = ObjectKey::new(Kind::Service, "default", "first");
    let plain = object_of(world.merge(&key, json!({"spec": {"type": "ClusterIP"}})));
    assert_eq!(node_ports(&plain), [0, 0]);
    let asked = service("second", of_type("NodePort", json!([{"port": 80, "nodePort": updated[0]}])));
    assert_eq!(node_ports(&world.create(asked)), [updated[0]]);
}

#[test]
fn a_node_port_belongs_to_one_service() {
    let mut world = World::new();
    let asks = |name: &str, port: i32| {
        let spec = of_type("NodePort", json!([{"port": 80, "nodePort": port}]));
        Operation::Create { object: service(name, spec), dry_run: false }
    };
    // The second request comes before any cache shows the first one's Service.
    let (first, second) = (world.send(1, asks("first", 30_000)), world.send(1, asks("second", 30_000)));
    assert_eq!(node_ports(&object_of(world.wait(first))), [30_000]);
    let taken = "422 Service \"second\" is invalid: spec.ports[0].nodePort: Invalid value: 30000: provided port is \
                 already allocated";
    assert_eq!(failure(world.wait(second)), taken);
    assert_eq!(failure(world.ask(asks("second", 30_000))), taken);
    assert_eq!(
        failure(world.ask(asks("second", 29_999))),
        "422 Service \"second\" is invalid: spec.ports[0].nodePort: Invalid value: 29999: provided port is not in the \
         valid range. The range of valid ports is 30000-32767"
    );
    let key = ObjectKey::new(Kind::Service, "default", "first");
    assert!(world.delete(&key, DeleteOptions::default()).is_ok());
    assert_eq!(node_ports(&object_of(world.ask(asks("second", 30_000)))), [30_000]);
}

#[test]
fn a_load_balancer_gets_node_ports_unless_it_wants_none() {
    let mut world = World::new();
    let mut spec = of_type("LoadBalancer", json!([{"port": 80}]));
    spec["externalTrafficPolicy"] = json!("Local");
    let local = world.create(service("local", spec.clone()));
    let check = as_service(&local).spec.health_check_node_port.unwrap_or(0);
    assert!(check >= 30_086 && check != node_ports(&local)[0]);
    spec["allocateLoadBalancerNodePorts"] = json!(false);
    let without = world.create(service("without", spec));
    assert_eq!(node_ports(&without), [0]);
    assert_ne!(as_service(&without).spec.health_check_node_port.unwrap_or(0), check);
}

/// A Service with a node port and perhaps an address that it asks for.
fn exposed(name: &str, port: i32, address: Option<&str>) -> Object {
    let spec = json!({
        "type": "NodePort", "clusterIP": address, "ports": [{"port": 80, "nodePort": port}], "selector": {"app": "web"}
    });
    object(Kind::Service, json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec}))
}

#[test]
fn of_two_servers_that_give_away_the_same_at_once_only_one_succeeds() {
    let mut world = World::with_servers(2);
    let mut ask = |first: Object, second: Object| -> Vec<String> {
        let create = |object| Operation::Create { object, dry_run: false };
        let ids = [world.send(1, create(first)), world.send(2, create(second))];
        let outcomes = ids.map(|id| world.wait(id));
        outcomes.into_iter().filter_map(Result::err).map(|status| status.to_string()).collect()
    };
    assert_eq!(
        ask(exposed("a", 30_100, None), exposed("b", 30_100, None)),
        ["Service \"b\" is invalid: spec.ports[0].nodePort: Invalid value: 30100: provided port is already allocated"]
    );
    let address = Some("10.96.7.7");
    assert_eq!(
        ask(exposed("c", 30_101, address), exposed("d", 30_102, address)),
        ["Service \"d\" is invalid: spec.clusterIPs: Invalid value: \"10.96.7.7\": failed to allocate IP 10.96.7.7: \
          provided IP is already allocated"]
    );
}

#[test]
fn servers_that_draw_the_same_port_agree_and_what_goes_is_free_again() {
    let mut world = World::with_servers(2);
    let open = |name: String| {
        let spec = json!({"type": "NodePort", "ports": [{"port": 80}], "selector": {"app": "web"}});
        object(Kind::Service, json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec}))
    };
    let create =
        |number: u32| (1 + number % 2, Operation::Create { object: open(format!("s{number}")), dry_run: false });
    let ids: Vec<u64> = (0..200).map(create).map(|(server, operation)| world.send(server, operation)).collect();
    let services: Vec<Object> = ids.into_iter().map(|id| object_of(world.wait(id))).collect();
    let mut ports: Vec<i32> = services
        .iter()
        .filter_map(|object| object.get::<Service>())
        .filter_map(|service| service.spec.ports.as_ref()?[0].node_port)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 200, "each has a port of its own");
    // What a deleted Service had may be asked for again, of either server.
    world.run_for(SimDuration::from_millis(100));
    let key = ObjectKey::new(Kind::Service, "default", "s0");
    let port = services[0].get::<Service>().and_then(|service| service.spec.ports.as_ref()?[0].node_port);
    world.delete(&key, DeleteOptions::default()).expect("it goes");
    let id = world.send(2, Operation::Create { object: exposed("again", port.unwrap_or(0), None), dry_run: false });
    assert!(world.wait(id).is_ok());
}
