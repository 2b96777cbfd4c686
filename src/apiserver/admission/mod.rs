//! Admission: what the server adds to objects and refuses before they are stored, one plugin per file.
//!
//! - `namespace_lifecycle`: no content in namespaces that are missing or going
//! - `limit_ranger`: what containers get who do not ask, and how much they may ask for
//! - `service_account`: every pod has an account and its token
//! - `mountable_secrets`: which Secrets a pod may use under its account
//! - `taint_nodes`: new nodes take no pods before they are ready
//! - `pod_security`: what pods may do that their namespaces say something about
//! - `priority`: priority classes become numbers
//! - `default_tolerations`: pods stay five minutes on a node that is lost
//! - `default_storage_class`: claims that name no class get the default one
//! - `storage_protection`: claims and volumes carry a finalizer while they are in use
//! - `claim_resize`: which claims may grow
//! - `runtime_class`: what the runtime of a pod adds to it
//! - `pod_topology_labels`: a bound pod carries the zone and region of its node
//! - `pod_resize`: no pod is resized beyond its node
//! - `specs`: a pod template's specification is admitted once for all its pods
//! - `offline`: what admission makes of pods where no cluster runs
//!
//! Quotas are checked last of all and may have to wait for writes of their own: the server does that (`quota`).
//!
//! Plugins see the server's watch caches. What they need and do not find there is looked up in etcd by the server, which
//! then asks them again; they never wait themselves.

mod claim_resize;
mod default_storage_class;
mod default_tolerations;
mod limit_ranger;
mod mountable_secrets;
mod namespace_lifecycle;
mod offline;
mod pod_resize;
mod pod_security;
mod pod_topology_labels;
mod priority;
mod runtime_class;
mod service_account;
mod specs;
mod storage_protection;
mod taint_nodes;

use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::meta::{Labels, ObjectKey};
use crate::api::name::Name;
use crate::api::object::{Object, Resource};
use crate::api::pod::{Pod, PodSpec};
use crate::engine::random::Stream;
use crate::engine::time::{SimDuration, SimTime};

use self::pod_topology_labels::PodTopologyLabels;
use super::cache::WatchCache;
use super::status::Status;

pub use namespace_lifecycle::NamespaceLifecycle;
pub use offline::PodFacts;
pub use service_account::Accounts;
pub use specs::Specs;

/// What happens to the object (`admission.Operation`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// It is created.
    Create,
    /// It is replaced or patched.
    Update,
    /// It is deleted.
    Delete,
}

/// What a plugin is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// What happens.
    pub verb: Verb,
    /// To which object.
    pub key: &'a ObjectKey,
    /// True if only the status or another subresource is concerned.
    pub subresource: bool,
    /// True if that is the resize subresource of a pod.
    pub resize: bool,
}

/// What plugins can know.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    caches: &'a [WatchCache],
    /// What was read from etcd for this request because the caches did not have it.
    looked_up: &'a [(ObjectKey, Option<Object>)],
    /// The present.
    pub now: SimTime,
}

/// Why a plugin does not let an object pass.
#[derive(Debug)]
pub enum Refusal {
    /// It is refused.
    Status(Box<Status>),
    /// The server must look this object up in etcd after a while and ask again.
    LookUp {
        /// The object.
        key: ObjectKey,
        /// How long to wait first.
        after: SimDuration,
    },
}

/// One admission plugin.
pub trait Plugin {
    /// What the real one is called, as in `--enable-admission-plugins`.
    fn name(&self) -> &'static str;

    /// Refuses the request as such.
    fn check(&mut self, _attributes: Attributes<'_>, _facts: Facts<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    /// Changes an object that is created or replaced; of pods everything but the shared specification.
    fn admit(&self, _: Attributes<'_>, _: Facts<'_>, _object: &mut Object, _: &mut Stream) -> Result<(), Refusal> {
        Ok(())
    }

    /// A number for everything outside the specification that [`Plugin::admit_spec`] depends on.
    fn spec_facts(&self, _pod: &Pod, _facts: Facts<'_>) -> Result<u64, Refusal> {
        Ok(0)
    }

    /// Changes the specification of a pod that is created. Called once for all pods that share it and the facts.
    fn admit_spec(&self, _pod: &Pod, _facts: Facts<'_>, _spec: &mut PodSpec) -> Result<(), Refusal> {
        Ok(())
    }

    /// What a pod is told in an annotation of what [`Plugin::admit_spec`] does to it. Called as seldom.
    fn annotation(&self, _pod: &Pod, _facts: Facts<'_>) -> Option<(Name, Name)> {
        None
    }

    /// Refuses an object that is otherwise ready to be stored; `old` is what it replaces.
    fn validate(
        &self,
        _: Attributes<'_>,
        _: Facts<'_>,
        _object: &Object,
        _old: Option<&Object>,
    ) -> Result<(), Refusal> {
        Ok(())
    }
}

/// All plugins in the order of the real server (kubeapiserver/options/plugins.go), and the specifications admitted.
pub struct Chain {
    plugins: Vec<Box<dyn Plugin>>,
    specs: Specs,
    topology_labels: PodTopologyLabels,
    tokens: Stream,
}

impl Chain {
    /// The default plugins. `tokens` draws the letters of token volumes.
    pub fn new(accounts: Accounts, tokens: Stream) -> Chain {
        let plugins: Vec<Box<dyn Plugin>> = vec![
            Box::new(NamespaceLifecycle::default()),
            Box::new(limit_ranger::LimitRanger),
            Box::new(service_account::ServiceAccount { accounts }),
            Box::new(taint_nodes::TaintNodesByCondition),
            Box::new(pod_security::PodSecurity),
            Box::new(priority::Priority),
            Box::new(default_tolerations::DefaultTolerationSeconds),
            Box::new(default_storage_class::DefaultStorageClass),
            Box::new(storage_protection::StorageObjectInUseProtection),
            Box::new(claim_resize::PersistentVolumeClaimResize),
            Box::new(runtime_class::RuntimeClass),
        ];
        Chain { plugins, specs: Specs::default(), topology_labels: PodTopologyLabels::default(), tokens }
    }

    /// Forgets what a restart forgets.
    pub fn restart(&mut self) {
        (self.specs, self.topology_labels) = (Specs::default(), PodTopologyLabels::default());
    }

    /// Lets a request pass or refuses it as such.
    pub fn check(&mut self, attributes: Attributes<'_>, facts: Facts<'_>) -> Result<(), Refusal> {
        self.plugins.iter_mut().try_for_each(|plugin| plugin.check(attributes, facts))
    }

    /// Admits an object that is about to be created.
    pub fn create(&mut self, key: &ObjectKey, facts: Facts<'_>, object: &mut Object) -> Result<(), Refusal> {
        let attributes = Attributes { verb: Verb::Create, key, subresource: false, resize: false };
        self.check(attributes, facts)?;
        if let Object::Pod(pod) = object {
            let (spec, annotations) = self.specs.admit(&self.plugins, pod, facts)?;
            let pod = Rc::make_mut(pod);
            pod.spec = spec;
            for (key, value) in annotations.pairs() {
                pod.meta.annotations = pod.meta.annotations.with(key.clone(), value.clone());
            }
        }
        let Chain { plugins, tokens, .. } = self;
        plugins.iter().try_for_each(|plugin| plugin.admit(attributes, facts, object, tokens))
    }

    /// Refuses an object that is otherwise ready to be stored; `old` is what it replaces.
    pub fn validate(
        &self,
        attributes: Attributes<'_>,
        facts: Facts<'_>,
        object: &Object,
        old: Option<&Object>,
    ) -> Result<(), Refusal> {
        self.plugins.iter().try_for_each(|plugin| plugin.validate(attributes, facts, object, old))
    }

    /// Lets a resized pod pass, or refuses it.
    pub fn check_resize(&self, object: &Object, facts: Facts<'_>) -> Result<(), Box<Status>> {
        object.get::<Pod>().map_or(Ok(()), |pod| pod_resize::check(pod, facts))
    }

    /// The labels of a pod that is bound to a node, out of those that it has.
    pub fn labels_when_bound(&self, before: &Labels, node: &Name, facts: Facts<'_>) -> Labels {
        self.topology_labels.when_bound(before, node, facts)
    }
}

impl<'a> Facts<'a> {
    /// What the caches show, and what was looked up for this request.
    pub fn new(caches: &'a [WatchCache], looked_up: &'a [(ObjectKey, Option<Object>)], now: SimTime) -> Facts<'a> {
        Facts { caches, looked_up, now }
    }

    /// An object as the cache knows it.
    pub fn cached<R: Resource>(&self, namespace: &Name, name: &Name) -> Option<&'a Rc<R>> {
        let key = ObjectKey { kind: R::KIND, namespace: namespace.clone(), name: name.clone() };
        R::of(self.caches[R::KIND as usize].get(&key)?)
    }

    /// What etcd said about an object when it was asked last; none if it was not asked.
    pub fn looked_up<R: Resource>(&self, namespace: &Name, name: &Name) -> Option<Option<&'a Rc<R>>> {
        self.answers::<R>(namespace, name).next_back()
    }

    /// How often etcd was asked about an object.
    pub fn times_looked_up<R: Resource>(&self, namespace: &Name, name: &Name) -> usize {
        self.answers::<R>(namespace, name).count()
    }

    fn answers<R: Resource>(
        &self,
        namespace: &Name,
        name: &Name,
    ) -> impl DoubleEndedIterator<Item = Option<&'a Rc<R>>> {
        let meant = |key: &ObjectKey| key.kind == R::KIND && key.namespace == *namespace && key.name == *name;
        let asked = self.looked_up.iter().filter(move |(key, _)| meant(key));
        asked.map(|(_, object)| object.as_ref().and_then(R::of))
    }

    /// The quotas or limit ranges of a namespace that the cache knows, by name.
    pub fn in_namespace<R: Resource>(&self, namespace: &Name) -> impl Iterator<Item = &'a Rc<R>> + use<'a, R> {
        self.caches[R::KIND as usize].filed(namespace).filter_map(R::of)
    }

    /// All objects of a kind that the cache knows, in no order.
    pub fn all<R: Resource>(&self) -> impl Iterator<Item = &'a Rc<R>> {
        self.caches[R::KIND as usize].unordered().filter_map(R::of)
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Refusal::Status(Box::new(status))
    }
}

impl From<Box<Status>> for Refusal {
    fn from(status: Box<Status>) -> Self {
        Refusal::Status(status)
    }
}

/// `pods "x" is forbidden: ...`; an object whose name is still to be made is called by its prefix (admission: `NewForbidden`).
fn forbidden(kind: Kind, meta_name: &Name, generate: Option<&Name>, why: impl std::fmt::Display) -> Refusal {
    let name = if meta_name.is_empty() { generate.unwrap_or(meta_name) } else { meta_name };
    Status::forbidden(kind, name, why).into()
}
