//! EndpointSlices as a whole: what a look at a Service leads to.

use super::*;
use crate::client::plan::Request;
use crate::controllers::testing::{self, Server};

fn key() -> ObjectKey {
    ObjectKey::new(Kind::Service, "default", "web")
}

fn server(pods: u8) -> (Server, EndpointSliceController) {
    let mut server = Server::at(100);
    server.put(Object::Service(Rc::new(testing::service("web", "web", 8080))));
    server.put(Object::Node(Rc::new(testing::node("node-1"))));
    for number in 0..pods {
        server.put(Object::Pod(Rc::new(testing::endpoint_pod("web", number))));
    }
    (server, EndpointSliceController::new(&Config::default()))
}

fn sizes(server: &Server) -> Vec<usize> {
    let mut sizes: Vec<_> = server.all::<EndpointSlice>().iter().map(|slice| slice.endpoints.len()).collect();
    sizes.sort();
    sizes
}

#[test]
fn a_service_without_pods_has_an_empty_slice_that_is_filled_later() {
    let (mut server, controller) = server(0);
    server.reconcile(&controller, &key());
    let slice = server.all::<EndpointSlice>()[0].clone();
    assert_eq!((slice.endpoints.len(), slice.ports.len()), (0, 0));
    assert_eq!(slice.meta.generate_name.as_deref(), Some("web-"));
    assert_eq!(slice.meta.labels.get(&SERVICE_NAME).map(|it| it.as_str()), Some("web"));
    server.reconcile(&controller, &key());
    assert_eq!(server.writes.len(), 1, "the placeholder stays");
    server.put(Object::Pod(Rc::new(testing::endpoint_pod("web", 1))));
    server.reconcile(&controller, &key());
    let filled = server.all::<EndpointSlice>()[0].clone();
    assert_eq!(filled.meta.name, slice.meta.name, "the same slice is used again");
    assert_eq!(filled.ports[0].port, Some(8080));
}

#[test]
fn conditions_follow_readiness_and_deletion() {
    let (mut server, controller) = server(3);
    server.edit::<Pod>("default", "web-1", |pod| pod.status.conditions = [].into());
    let delete =
        Operation::Delete { key: ObjectKey::new(Kind::Pod, "default", "web-2"), options: DeleteOptions::default() };
    server.apply(&delete).expect("deleted");
    server.reconcile(&controller, &key());
    let conditions = |server: &Server| {
        let mut endpoints = server.all::<EndpointSlice>()[0].endpoints.clone();
        endpoints.sort_by(|left, right| {
            left.target.as_ref().map(|it| &it.name).cmp(&right.target.as_ref().map(|it| &it.name))
        });
        endpoints.iter().map(|it| (it.ready, it.serving, it.terminating)).collect::<Vec<_>>()
    };
    let (yes, no) = (Some(true), Some(false));
    assert_eq!(conditions(&server), [(yes, yes, no), (no, no, no), (no, yes, yes)]);
    server.edit::<Service>("default", "web", |service| {
        Rc::make_mut(&mut service.spec).publish_not_ready_addresses = Some(true);
    });
    server.reconcile(&controller, &key());
    assert_eq!(conditions(&server), [(yes, yes, no), (yes, no, no), (yes, yes, yes)]);
}

#[test]
fn a_hundred_endpoints_fill_a_slice_and_emptied_slices_go() {
    let (mut server, controller) = server(120);
    server.reconcile(&controller, &key());
    assert_eq!(sizes(&server), [20, 100]);
    // Recording "h": scaled from 120 to 90, slices are not merged; an empty one is deleted.
    for number in 0..30 {
        server.vanish(&ObjectKey::new(Kind::Pod, "default", format!("web-{number}")));
    }
    server.reconcile(&controller, &key());
    assert_eq!(sizes(&server).iter().sum::<usize>(), 90);
    for number in 30..118 {
        server.vanish(&ObjectKey::new(Kind::Pod, "default", format!("web-{number}")));
    }
    server.reconcile(&controller, &key());
    assert_eq!(sizes(&server).iter().sum::<usize>(), 2);
    assert!(sizes(&server).iter().all(|size| *size > 0));
}

#[test]
fn new_endpoints_go_into_the_slice_that_they_fill_best() {
    let (mut server, controller) = server(120);
    server.reconcile(&controller, &key());
    for number in 120..130 {
        server.put(Object::Pod(Rc::new(testing::endpoint_pod("web", number))));
    }
    let before = server.writes.len();
    server.reconcile(&controller, &key());
    assert_eq!(sizes(&server), [30, 100]);
    assert_eq!(server.writes.len(), before + 1);
}

#[test]
fn another_target_port_rewrites_the_slices() {
    let (mut server, controller) = server(2);
    server.reconcile(&controller, &key());
    let name = server.all::<EndpointSlice>()[0].meta.name.clone();
    server.edit::<Service>("default", "web", |service| *service = testing::service_like(service, 9090));
    server.reconcile(&controller, &key());
    let slices = server.all::<EndpointSlice>();
    assert_eq!(slices.len(), 1);
    assert_eq!((slices[0].ports[0].port, &slices[0].meta.name), (Some(9090), &name));
}

#[test]
fn a_cache_that_does_not_show_the_last_write_is_waited_for() {
    let (mut server, controller) = server(1);
    server.reconcile(&controller, &key());
    let old = server.all::<EndpointSlice>()[0].clone();
    server.vanish(&owner::key_of(&*old));
    let again = server.reconcile(&controller, &key());
    assert_eq!(again, Again::BackOff("EndpointSlice informer cache is out of date".to_owned()));
}

#[test]
fn pods_of_missing_nodes_are_left_out_and_reported() {
    let (mut server, controller) = server(2);
    server.edit::<Pod>("default", "web-0", |pod| pod.node = Some("gone".into()));
    let again = server.reconcile(&controller, &key());
    assert!(
        matches!(again, Again::BackOff(why) if why.contains("skipping Pod web-0 for Service default/web: Node gone Not Found"))
    );
    assert_eq!(sizes(&server), [1]);
    assert!(server.events[0].starts_with("FailedToUpdateEndpointSlices"));
}

#[test]
fn the_trigger_time_is_that_of_the_earliest_change_and_only_of_news() {
    let (mut server, controller) = server(1);
    let date = |server: &Server| {
        server.all::<EndpointSlice>()[0]
            .meta
            .annotations
            .get(&service_pods::LAST_CHANGE_TRIGGER_TIME)
            .map(|it| it.to_string())
    };
    server.reconcile(&controller, &key());
    assert_eq!(date(&server).as_deref(), Some("1970-01-01T00:00:00Z"), "a new Service's creation");
    server.put(Object::Pod(Rc::new(testing::endpoint_pod("web", 5))));
    server.reconcile(&controller, &key());
    assert_eq!(date(&server).as_deref(), Some("1970-01-01T00:00:50Z"));
    server.edit::<Pod>("default", "web-5", |pod| pod.status.pod_ip = "10.9.9.9".parse().ok());
    server.reconcile(&controller, &key());
    assert_eq!(date(&server), None);
}

#[test]
fn creations_come_before_updates_and_deletions() {
    let (server, controller) = server(250);
    let plan = controller.reconcile(&server.cache.view(), &key(), server.now());
    assert_eq!(operations(&plan).len(), 3);
    assert!(operations(&plan).iter().all(|request| matches!(request.operation, Operation::Create { .. })));
}

fn operations(plan: &Plan) -> Vec<&Request> {
    plan.steps.iter().filter_map(|step| if let Step::Request(request) = step { Some(request) } else { None }).collect()
}

#[test]
fn a_service_that_prefers_close_endpoints_says_whom_they_are_for() {
    let (mut server, controller) = server(2);
    server.edit::<Node>("", "node-1", |node| {
        node.meta.labels = node.meta.labels.with(Name::of(ZONE), "a");
    });
    server.edit::<Pod>("default", "web-1", |pod| pod.status.conditions = [].into());
    let mut look = |distribution: Option<&str>| {
        server.edit::<Service>("default", "web", |service| {
            Rc::make_mut(&mut service.spec).traffic_distribution = distribution.map(str::to_owned);
        });
        server.reconcile(&controller, &key());
        let slice = server.all::<EndpointSlice>()[0].clone();
        let hints = slice.endpoints.iter().map(|endpoint| {
            let hints = endpoint.hints.as_deref().cloned().unwrap_or_default();
            (endpoint.ready == Some(true), hints.zones.join(","), hints.nodes.join(","))
        });
        let mut hints: Vec<_> = hints.collect();
        hints.sort();
        hints
    };
    let expected =
        |zone: &str, node: &str| vec![(false, String::new(), String::new()), (true, zone.to_owned(), node.to_owned())];
    assert_eq!(look(None), expected("", ""));
    assert_eq!(look(Some("PreferClose")), expected("a", ""));
    assert_eq!(look(Some("PreferSameNode")), expected("a", "node-1"));
    assert_eq!(look(Some("PreferSameZone")), expected("a", ""));
    assert_eq!(look(None), expected("", ""));
}
