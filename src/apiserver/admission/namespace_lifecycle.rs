//! NamespaceLifecycle: no content in a namespace that is missing or going, and some namespaces never go
//! (apiserver, admission/plugin/namespace/lifecycle).

use std::collections::BTreeMap;

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::plain::Namespace;
use crate::engine::time::{SimDuration, SimTime};

use super::{Attributes, Facts, Plugin, Refusal, Verb};
use crate::apiserver::status::Status;

/// Namespaces that may not be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];
/// How long a creation waits for the cache to show its namespace (`missingNamespaceWait`).
const MISSING_WAIT: SimDuration = SimDuration::from_millis(50);
/// How long after the deletion of a namespace this server distrusts its cache (`forceLiveLookupTTL`).
const DISTRUST: SimDuration = SimDuration::from_secs(30);

/// The plugin, with the namespaces whose deletion this server was recently asked for.
#[derive(Default)]
pub struct NamespaceLifecycle {
    deleted: BTreeMap<Name, SimTime>,
}

impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn check(&mut self, attributes: Attributes<'_>, facts: Facts<'_>) -> Result<(), Refusal> {
        let key = attributes.key;
        if key.kind == Kind::Namespace {
            if attributes.verb != Verb::Delete {
                return Ok(());
            }
            if IMMORTAL.contains(&key.name.as_str()) {
                return Err(Status::forbidden(key.kind, &key.name, "this namespace may not be deleted").into());
            }
            self.deleted.retain(|_, until| *until > facts.now);
            self.deleted.insert(key.name.clone(), facts.now + DISTRUST);
            return Ok(());
        }
        if key.namespace.is_empty() || attributes.verb == Verb::Delete {
            return Ok(());
        }
        let namespace = self.find(attributes, facts)?;
        if attributes.verb == Verb::Create && namespace.terminating {
            return Err(terminating(key));
        }
        Ok(())
    }
}

impl NamespaceLifecycle {
    fn find<'a>(&self, attributes: Attributes<'_>, facts: Facts<'a>) -> Result<&'a Namespace, Refusal> {
        let name = &attributes.key.namespace;
        let cached = facts.cached::<Namespace>(&Name::EMPTY, name);
        let distrusted = !self.deleted.is_empty() && self.deleted.get(name).is_some_and(|until| *until > facts.now);
        if let Some(cached) = cached.filter(|cached| cached.terminating || !distrusted) {
            return Ok(cached);
        }
        match facts.looked_up::<Namespace>(&Name::EMPTY, name) {
            Some(Some(found)) => Ok(found),
            Some(None) => Err(Status::not_found(Kind::Namespace, name).into()),
            None => {
                let wait = cached.is_none() && attributes.verb == Verb::Create;
                let after = if wait { MISSING_WAIT } else { SimDuration::ZERO };
                Err(Refusal::LookUp { key: ObjectKey::new(Kind::Namespace, Name::EMPTY, name.clone()), after })
            }
        }
    }
}

fn terminating(key: &ObjectKey) -> Refusal {
    let namespace = &key.namespace;
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut status = Status::forbidden(key.kind, &key.name, why);
    if let Some(details) = &mut status.details {
        let cause = format!("namespace {namespace} is being terminated");
        details.causes.push(("NamespaceTerminating".to_owned(), cause, "metadata.namespace".to_owned()));
    }
    status.into()
}
