//! The publisher of the cluster's root certificate: every namespace has a ConfigMap `kube-root-ca.crt`, which comes back when it
//! is deleted and is put right when it is changed (kube-controller-manager, pkg/controller/certificates/rootcacertpublisher).
//!
//! The simulated cluster has no keys, so the certificate is a text that only stands for one.

use std::collections::BTreeMap;
use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;

use crate::api::kind::Kind;
use crate::api::meta::{Labels, ObjectKey};
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::plain::ConfigMap;
use crate::apiserver::protocol::{Operation, Part, new_meta};
use crate::apiserver::status::Reason;
use crate::client::controller::{Change, Controller};
use crate::client::plan::{Again, Plan, Step};
use crate::client::view::{Now, View};
use crate::engine::time::SimDuration;

use super::{owner, script};

const ROOT: Name = Name::of("kube-root-ca.crt");
const DESCRIPTION: Name = Name::of("kubernetes.io/description");
const DESCRIBED_AS: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints \
                            such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
                            distributions of Kubernetes clusters.";
const CERTIFICATE: &str =
    "-----BEGIN CERTIFICATE-----\nc2ltdWxhdGVkIGNsdXN0ZXJzIGhhdmUgbm8ga2V5cw==\n-----END CERTIFICATE-----\n";

/// The publisher. Its keys are namespaces.
pub struct RootCertificatePublisher;

impl Controller for RootCertificatePublisher {
    fn name(&self) -> &'static str {
        "root-ca-cert-publisher"
    }

    fn workers(&self) -> usize {
        1
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::Namespace, Kind::ConfigMap]
    }

    fn on_change(&self, change: Change<'_>, _view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        match (change.object(), change) {
            (Object::Namespace(namespace), Change::Added(_)) => {
                enqueue(owner::key_of(&**namespace), SimDuration::ZERO);
            }
            (Object::Namespace(namespace), Change::Updated { .. }) if !namespace.terminating => {
                enqueue(owner::key_of(&**namespace), SimDuration::ZERO);
            }
            (Object::ConfigMap(map), Change::Updated { .. } | Change::Deleted(_)) if map.meta.name == ROOT => {
                let namespace = map.meta.namespace.clone();
                enqueue(ObjectKey::new(Kind::Namespace, Name::EMPTY, namespace), SimDuration::ZERO);
            }
            _ => {}
        }
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, _now: Now) -> Plan {
        let data = BTreeMap::from([("ca.crt".to_owned(), CERTIFICATE.to_owned())]);
        let Some(map) = view.get::<ConfigMap>(&key.name, &ROOT) else {
            return create(key, data);
        };
        let is_described = map.meta.annotations.get(&DESCRIPTION).is_some_and(|text| !text.is_empty());
        if is_described && map.content.data.as_ref() == Some(&data) {
            return Plan::nothing();
        }
        let mut meta = map.meta.clone();
        meta.annotations = meta.annotations.with(DESCRIPTION, Name::of(DESCRIBED_AS));
        let content = Rc::new(core::ConfigMap { data: Some(data), ..(*map.content).clone() });
        let object = Object::ConfigMap(Rc::new(ConfigMap { meta, content }));
        Plan::request(Operation::Update { object, part: Part::Main, dry_run: false })
    }
}

/// Creates the ConfigMap of a namespace. One that is gone or going gets none, and that is no failure.
fn create(key: &ObjectKey, data: BTreeMap<String, String>) -> Plan {
    let annotations = Labels::NONE.with(DESCRIPTION, Name::of(DESCRIBED_AS));
    let mut meta = new_meta(key.name.clone(), ROOT);
    meta.annotations = annotations;
    let content = Rc::new(core::ConfigMap { data: Some(data), ..core::ConfigMap::default() });
    let object = Object::ConfigMap(Rc::new(ConfigMap { meta, content }));
    let request = script::tolerant(Operation::Create { object, dry_run: false }, &[Reason::NotFound]);
    Plan::nothing().step(Step::Request(request)).then(|_, outcomes, _| match outcomes.first() {
        Some(Err(status)) if status.reason != Reason::NotFound && !status.is_namespace_terminating() => {
            Plan { again: Again::BackOff(status.message.clone()), ..Plan::default() }
        }
        _ => Plan::nothing(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::{self, Server};
    use std::collections::BTreeSet;

    #[test]
    fn every_namespace_gets_the_certificate_and_gets_it_back_whole() {
        let mut server = Server::at(100);
        let controllers: Vec<Box<dyn Controller>> = vec![Box::new(RootCertificatePublisher)];
        server.put(Object::Namespace(Rc::new(testing::namespace("shop"))));
        server.settle(&controllers, &mut BTreeSet::new());
        assert_eq!(server.writes, ["create configmap/shop/kube-root-ca.crt"]);
        let stored = server.get::<ConfigMap>("shop", "kube-root-ca.crt").expect("created");
        assert_eq!(stored.content.data.as_ref().expect("data")["ca.crt"], CERTIFICATE);

        server.edit::<ConfigMap>("shop", "kube-root-ca.crt", |map| {
            Rc::make_mut(&mut map.content).data = None;
            map.meta.annotations = Labels::NONE;
        });
        server.settle(&controllers, &mut BTreeSet::new());
        let stored = server.get::<ConfigMap>("shop", "kube-root-ca.crt").expect("still there");
        assert_eq!(stored.content.data.as_ref().expect("data")["ca.crt"], CERTIFICATE);
        assert_eq!(stored.meta.annotations.get(&DESCRIPTION).map(Name::as_str), Some(DESCRIBED_AS));

        server.vanish(&ObjectKey::new(Kind::ConfigMap, "shop", "kube-root-ca.crt"));
        server.settle(&controllers, &mut BTreeSet::new());
        assert_eq!(server.all::<ConfigMap>().len(), 1);
    }
}
