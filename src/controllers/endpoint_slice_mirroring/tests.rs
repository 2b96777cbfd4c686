//! Stories of Endpoints and their mirrors.

use serde_json::{Value, json};

use super::*;
use crate::api::meta::{Labels, Uid};
use crate::apiserver::status::{Reason, Status};
use crate::controllers::testing::{self, Server};

fn key() -> ObjectKey {
    ObjectKey::new(Kind::Endpoints, "default", "db")
}

/// Endpoints `db` with some subsets.
fn put(server: &mut Server, subsets: Value) {
    let metadata = json!({"name": "db", "namespace": "default", "uid": Uid(77).to_string(),
        "labels": {"team": "a"}, "annotations": {"note": "mine", "kubectl.kubernetes.io/last-applied-configuration": "{}"}});
    let json = json!({"metadata": metadata, "subsets": subsets});
    server.put(Object::from_json(Kind::Endpoints, json).expect("Endpoints"));
}

fn subset(addresses: &[&str], port: i32) -> Value {
    let addresses: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    json!({"addresses": addresses, "ports": [{"name": "sql", "port": port, "protocol": "TCP"}]})
}

/// A Service `db` without selector, and a controller.
fn story() -> (Server, MirroringController) {
    let mut server = Server::at(100);
    let service = Service { selector: None, ..testing::service("db", "db", 5432) };
    server.put(Object::Service(Rc::new(service)));
    (server, MirroringController::new(&Config::default()))
}

/// Tells the controller of what happened, and lets it look at the Endpoints.
fn look(server: &mut Server, controller: &MirroringController) -> Again {
    server.tell(controller);
    let again = server.reconcile(controller, &key());
    server.tell(controller);
    again
}

/// All slices: family, port, and addresses.
fn slices(server: &Server) -> Vec<(String, Option<i32>, Vec<String>)> {
    let mut slices: Vec<_> = server.all::<EndpointSlice>();
    slices.sort_by(|left, right| (&left.address_type, &left.ports).cmp(&(&right.address_type, &right.ports)));
    let shown = slices.iter().map(|slice| {
        let addresses = slice.endpoints.iter().flat_map(|endpoint| endpoint.addresses.iter().map(String::from));
        (String::from(&slice.address_type), slice.ports.first().and_then(|port| port.port), addresses.collect())
    });
    shown.collect()
}

fn shown(family: &str, port: i32, addresses: &[&str]) -> (String, Option<i32>, Vec<String>) {
    (family.to_owned(), Some(port), addresses.iter().map(|ip| (*ip).to_owned()).collect())
}

#[test]
fn endpoints_without_selector_have_a_slice_for_each_family_and_group_of_ports() {
    let (mut server, controller) = story();
    put(&mut server, json!([subset(&["192.0.2.2", "192.0.2.1", "2001:db8::1"], 5432), subset(&["192.0.2.9"], 80)]));
    assert_eq!(look(&mut server, &controller), Again::OnChange);
    let expected = [
        shown("IPv4", 80, &["192.0.2.9"]),
        shown("IPv4", 5432, &["192.0.2.1", "192.0.2.2"]),
        shown("IPv6", 5432, &["2001:db8::1"]),
    ];
    assert_eq!(slices(&server), expected);
    let slice = server.all::<EndpointSlice>()[0].clone();
    let label = |key: &str| slice.meta.labels.get(key).map(|value| value.to_string()).unwrap_or_default();
    assert_eq!([label("team"), label(&SERVICE_NAME), label(&MANAGED_BY)], ["a", "db", &*CONTROLLER]);
    assert_eq!(slice.meta.generate_name.as_deref(), Some("db-"));
    assert_eq!(slice.meta.annotations, Labels::NONE.with("note", "mine"));
    let owner = slice.meta.controller().expect("an owner");
    assert_eq!((owner.kind.as_str(), owner.api_version.as_str(), owner.uid.0), ("Endpoints", "v1", 77));
    assert_eq!((slice.endpoints[0].ready, slice.endpoints[0].serving), (Some(true), None));

    let writes = server.writes.len();
    assert_eq!(look(&mut server, &controller), Again::OnChange);
    assert_eq!(server.writes.len(), writes, "nothing changed");
}

#[test]
fn a_slice_is_written_over_when_its_endpoints_change_and_used_again_for_other_ports() {
    let (mut server, controller) = story();
    put(&mut server, json!([subset(&["192.0.2.1"], 5432)]));
    look(&mut server, &controller);
    let name = server.all::<EndpointSlice>()[0].meta.name.clone();
    let not_ready = json!([{"notReadyAddresses": [{"ip": "192.0.2.1"}], "ports": [{"name": "sql", "port": 5432}]}]);
    for (subsets, port, ready) in [(not_ready, 5432, false), (json!([subset(&["192.0.2.1"], 9999)]), 9999, true)] {
        put(&mut server, subsets);
        look(&mut server, &controller);
        let slice = server.all::<EndpointSlice>()[0].clone();
        assert_eq!((&slice.meta.name, slice.endpoints[0].ready), (&name, Some(ready)));
        assert_eq!(slices(&server), [shown("IPv4", port, &["192.0.2.1"])]);
    }
    assert_eq!(server.writes.iter().filter(|write| write.starts_with("update")).count(), 2);
    put(&mut server, json!([]));
    look(&mut server, &controller);
    assert!(slices(&server).is_empty());
}

#[test]
fn mirrors_go_when_the_endpoints_are_to_be_mirrored_no_longer() {
    let changes: [fn(&mut Server); 5] = [
        |server| server.edit::<Endpoints>("default", "db", |it| it.meta.labels = it.meta.labels.with(SKIP, "true")),
        |server| {
            server.edit::<Endpoints>("default", "db", |it| it.meta.annotations = it.meta.annotations.with(LEADER, ""))
        },
        |server| server.vanish(&key()),
        |server| server.vanish(&ObjectKey::new(Kind::Service, "default", "db")),
        |server| server.put(Object::Service(Rc::new(testing::service("db", "db", 5432)))),
    ];
    for change in changes {
        let (mut server, controller) = story();
        put(&mut server, json!([subset(&["192.0.2.1"], 5432)]));
        look(&mut server, &controller);
        assert_eq!(server.all::<EndpointSlice>().len(), 1);
        change(&mut server);
        assert_eq!(look(&mut server, &controller), Again::OnChange);
        assert!(server.all::<EndpointSlice>().is_empty());
    }
}

#[test]
fn only_what_may_make_a_difference_is_looked_at() {
    let (mut server, controller) = story();
    put(&mut server, json!([subset(&["192.0.2.1"], 5432)]));
    look(&mut server, &controller);
    let queued = |change: Change<'_>, server: &Server| {
        let mut keys = Vec::new();
        controller.on_change(change, &server.cache.view(), &mut |key, _| keys.push(key));
        keys
    };
    let slice = server.all::<EndpointSlice>()[0].clone();
    let own = Object::EndpointSlice(slice.clone());
    assert!(queued(Change::Added(&own), &server).is_empty(), "it was written here");
    let mut changed = (*slice).clone();
    changed.meta.generation += 1;
    let changed = Object::EndpointSlice(Rc::new(changed));
    assert_eq!(queued(Change::Updated { old: &own, new: &changed }, &server), [key()]);
    let with = Object::Service(Rc::new(testing::service("db", "db", 5432)));
    let without = Object::Service(Rc::new(Service { selector: None, ..testing::service("db", "db", 5432) }));
    assert!(queued(Change::Added(&with), &server).is_empty());
    assert!(queued(Change::Updated { old: &with, new: &with }, &server).is_empty());
    assert_eq!(queued(Change::Updated { old: &with, new: &without }, &server), [key()]);
    assert_eq!(queued(Change::Deleted(&own), &server), [key()], "somebody else deleted it");
}

#[test]
fn of_a_large_subset_only_so_many_addresses_are_mirrored() {
    let mut server = story().0;
    let controller = MirroringController::new(&Config { mirroring_max_endpoints_per_subset: 2, ..Config::default() });
    put(&mut server, json!([subset(&["192.0.2.1", "192.0.2.2", "192.0.2.3"], 5432)]));
    look(&mut server, &controller);
    assert_eq!(slices(&server), [shown("IPv4", 5432, &["192.0.2.1", "192.0.2.2"])]);
    let told = "TooManyAddressesToMirror A max of 2 addresses can be mirrored to EndpointSlices per Endpoints subset. 1 addresses were skipped";
    assert_eq!(server.events, [told]);
}

#[test]
fn a_cache_that_is_behind_and_a_write_that_is_refused_are_tried_again() {
    let (mut server, controller) = story();
    put(&mut server, json!([subset(&["192.0.2.1"], 5432)]));
    server.refuse = Some((Kind::EndpointSlice, Status::new(Reason::Forbidden, "no")));
    let refused = "failed to create EndpointSlice for Endpoints default/db: no";
    assert_eq!(look(&mut server, &controller), Again::BackOff(refused.to_owned()));
    server.refuse = None;
    server.reconcile(&controller, &key());
    let slice = server.all::<EndpointSlice>()[0].clone();
    server.cache.remove(&owner::key_of(&*slice));
    let stale = "EndpointSlice informer cache is out of date";
    assert_eq!(server.reconcile(&controller, &key()), Again::BackOff(stale.to_owned()));
}
