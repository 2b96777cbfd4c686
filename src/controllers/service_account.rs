//! The ServiceAccount controller: every namespace has a ServiceAccount `default`. Makes no token and no secret.

use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::plain::{Namespace, ServiceAccount};
use crate::apiserver::protocol::{Operation, new_meta};
use crate::apiserver::status::Reason;
use crate::client::controller::{Change, Controller};
use crate::client::plan::{Again, Plan, Step};
use crate::client::view::{Now, View};
use crate::engine::time::SimDuration;

use super::config::Config;
use super::{owner, script};

const DEFAULT: Name = Name::of("default");

/// The ServiceAccount controller. Its keys are namespaces.
pub struct ServiceAccountController {
    workers: usize,
}

impl ServiceAccountController {
    /// The controller with a configuration.
    pub fn new(config: &Config) -> Self {
        ServiceAccountController { workers: config.concurrent_service_account_syncs }
    }
}

impl Controller for ServiceAccountController {
    fn name(&self) -> &'static str {
        "service-account-controller"
    }

    fn workers(&self) -> usize {
        self.workers
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::Namespace, Kind::ServiceAccount]
    }

    fn on_change(&self, change: Change<'_>, _view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        match (change.object(), change) {
            (Object::Namespace(namespace), Change::Added(_) | Change::Updated { .. }) => {
                enqueue(owner::key_of(&**namespace), SimDuration::ZERO);
            }
            (Object::ServiceAccount(account), Change::Deleted(_)) => {
                let namespace = account.meta.namespace.clone();
                enqueue(ObjectKey::new(Kind::Namespace, Name::EMPTY, namespace), SimDuration::ZERO);
            }
            _ => {}
        }
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, _now: Now) -> Plan {
        let active = view.get::<Namespace>(&Name::EMPTY, &key.name).is_some_and(|namespace| !namespace.terminating);
        if !active || view.get::<ServiceAccount>(&key.name, &DEFAULT).is_some() {
            return Plan::nothing();
        }
        let account = ServiceAccount { meta: new_meta(key.name.clone(), DEFAULT), content: Rc::default() };
        let operation = Operation::Create { object: Object::ServiceAccount(Rc::new(account)), dry_run: false };
        let request = script::tolerant(operation, &[Reason::AlreadyExists]);
        Plan::nothing().step(Step::Request(request)).then(|_, outcomes, _| match outcomes.first() {
            Some(Err(status)) if status.reason == Reason::AlreadyExists || status.is_namespace_terminating() => {
                Plan::nothing()
            }
            Some(Err(status)) => Plan { again: Again::BackOff(status.message.clone()), ..Plan::default() },
            _ => Plan::nothing(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::{self, Server};
    use std::collections::BTreeSet;

    #[test]
    fn every_active_namespace_gets_its_account_and_gets_it_back() {
        let mut server = Server::at(100);
        let controllers: Vec<Box<dyn Controller>> = vec![Box::new(ServiceAccountController::new(&Config::default()))];
        server.put(Object::Namespace(Rc::new(testing::namespace("shop"))));
        server.put(Object::Namespace(Rc::new(Namespace { terminating: true, ..testing::namespace("old") })));
        server.settle(&controllers, &mut BTreeSet::new());
        assert_eq!(server.writes, ["create serviceaccount/shop/default"]);
        server.vanish(&ObjectKey::new(Kind::ServiceAccount, "shop", "default"));
        server.settle(&controllers, &mut BTreeSet::new());
        assert_eq!(server.all::<ServiceAccount>().len(), 1);
    }
}
