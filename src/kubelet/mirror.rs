//! Static pods: pods that come from files of the node, and their mirrors in the API.
//!
//! Follows the kubelet's file source (`applyDefaults`) and its mirror client: the API is told of a static pod through a mirror
//! that the kubelet creates and whose status it writes. Whoever deletes the mirror deletes nothing but that: the kubelet makes
//! another one.

use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;

use crate::api::instance_id::digest;
use crate::api::meta::{Common, Meta, ObjectKey, OwnerReference, Uid};
use crate::api::name::Name;
use crate::api::object::Resource;
use crate::api::pod::{Pod, PodPhase, PodSpec, PodStatus};
use crate::api::time;
use crate::apiserver::protocol::{DeleteOptions, Operation};
use crate::runtime::interface::PodNumber;

use super::agent::{Kubelet, NodeContext};
use super::shared::{Purpose, Shared};
use super::worker::Worker;

/// The annotations by which static pods and mirrors are known.
const HASH: Name = Name::of("kubernetes.io/config.hash");
const MIRROR: Name = Name::of("kubernetes.io/config.mirror");
const SEEN: Name = Name::of("kubernetes.io/config.seen");
const SOURCE: Name = Name::of("kubernetes.io/config.source");

/// What is known of a static pod's mirror.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    /// The mirror, if the API has one.
    pub pod: Option<Rc<Pod>>,
    /// It is being created or deleted.
    pub under_way: bool,
    /// The file is gone: so must the pod be, and the mirror after it.
    pub removed: bool,
}

/// True if a pod of the API is the mirror of a static one.
pub fn is_mirror(pod: &Pod) -> bool {
    pod.meta.annotations.get(&MIRROR).is_some()
}

/// The pod that a file of a node describes: named after the node, bound to it, not to be evicted (kubelet/config, `applyDefaults`).
fn static_pod(file: &Pod, shared: &Shared, seen: String) -> Pod {
    let node = shared.settings.node.name.clone();
    let name = Name::from(format!("{}-{node}", file.meta.name));
    let hash = digest(&format!("{node}/{}/{}/{:?}", file.meta.namespace, name, file.spec.full))[..32].to_owned();
    let mut full = file.spec.full.clone();
    let toleration = core::Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..core::Toleration::default()
    };
    full.tolerations.get_or_insert_default().push(toleration);
    let annotations = file.meta.annotations.with(HASH, hash.clone()).with(SEEN, seen).with(SOURCE, "file");
    let meta = Meta {
        name,
        uid: Uid::parse(&hash).unwrap_or_default(),
        common: Common {
            namespace: file.meta.namespace.clone(),
            labels: file.meta.labels.clone(),
            annotations,
            ..Common::default()
        }
        .into(),
        ..Meta::default()
    };
    let spec = Rc::new(PodSpec { full, ..PodSpec::clone(&file.spec) });
    let status = PodStatus { phase: PodPhase::Pending, ..PodStatus::default() };
    Pod { meta, spec, node: Some(node), token_volume: None, only_node: None, status }
}

/// The mirror of a static pod: a copy that belongs to the node.
fn mirror_of(pod: &Pod, node: Uid) -> Pod {
    let hash = pod.meta.annotations.get(&HASH).cloned().unwrap_or_default();
    let owner = OwnerReference {
        api_version: Name::of("v1"),
        kind: Name::of("Node"),
        name: pod.node.clone().unwrap_or_default(),
        uid: node,
        controller: true,
        block_owner_deletion: false,
    };
    let meta = Meta {
        name: pod.meta.name.clone(),
        common: Common {
            namespace: pod.meta.namespace.clone(),
            labels: pod.meta.labels.clone(),
            annotations: pod.meta.annotations.with(MIRROR, hash),
            owners: [owner].into(),
            ..Common::default()
        }
        .into(),
        ..Meta::default()
    };
    let status = PodStatus { phase: PodPhase::Pending, ..PodStatus::default() };
    Pod { meta, status, ..pod.clone() }
}

impl Kubelet {
    /// A file appeared in the folder of static pods.
    pub(super) fn static_added(&mut self, file: &Pod, ctx: &mut dyn NodeContext) {
        let nanos =
            self.shared.settings.epoch.0.saturating_add(i64::try_from(ctx.now().as_nanos()).unwrap_or(i64::MAX));
        let seen = time::micros_to_text(nanos.div_euclid(1000)).unwrap_or_default();
        let pod = static_pod(file, &self.shared, seen);
        if self.number_of(pod.meta.uid).is_none() {
            self.has_static = true;
            self.pod_added(Rc::new(pod), ctx);
            self.reconcile_mirrors(ctx);
        }
    }

    /// A file of the folder of static pods is gone.
    pub(super) fn static_removed(&mut self, name: &str, ctx: &mut dyn NodeContext) {
        let name = format!("{name}-{}", self.shared.settings.node.name);
        let found = self.workers.values().find(|worker| worker.mirror().is_some() && worker.pod.meta.name == *name);
        let Some(number) = found.map(|worker| worker.number) else { return };
        self.with(number, ctx, |worker, shared, ctx| {
            if let Some(mirror) = worker.mirror_mut() {
                mirror.removed = true;
                let gone = mirror.pod.is_none() && !mirror.under_way;
                worker.gone = gone;
            }
            worker.begin_to_end(shared, ctx);
        });
    }

    /// The static pod whose mirror a pod of the API is.
    fn mirrored(&self, mirror: &Pod) -> Option<PodNumber> {
        let is_it = |worker: &&Worker| {
            worker.mirror().is_some()
                && worker.pod.meta.name == mirror.meta.name
                && worker.pod.meta.namespace == mirror.meta.namespace
        };
        self.workers.values().map(Box::as_ref).find(is_it).map(|worker| worker.number)
    }

    /// The watch brought a version of a mirror. One that belongs to nothing, or is to go, is deleted.
    pub(super) fn mirror_changed(&mut self, mirror: Rc<Pod>, ctx: &mut dyn NodeContext) {
        let Some(number) = self.mirrored(&mirror) else {
            let key =
                ObjectKey { kind: Pod::KIND, namespace: mirror.meta.namespace.clone(), name: mirror.meta.name.clone() };
            return self.delete_mirror(None, key, mirror.meta.uid, ctx);
        };
        let Some(worker) = self.workers.get_mut(&number) else { return };
        let own = worker.pod.meta.annotations.get(&HASH) == mirror.meta.annotations.get(&MIRROR);
        let (uid, ends) = (mirror.meta.uid, mirror.meta.is_deleting() || !own);
        let key = worker.key();
        worker.hold_again();
        let stale = worker.written.as_ref().is_some_and(|written| mirror.meta.revision() < written.meta.revision());
        let Some(known) = worker.mirror_mut() else { return };
        let is_new = known.pod.as_ref().is_none_or(|known| known.meta.uid != uid);
        known.pod = Some(mirror);
        if is_new {
            known.under_way = false;
        }
        if !stale || is_new {
            worker.written = None;
        }
        worker.missing = false;
        // What a new mirror does not know is told at the next recheck.
        if let Some(held) = worker.held.as_mut().filter(|_| is_new) {
            held.dirty = true;
        }
        if is_new && !ends {
            self.shared.recheck(number, ctx);
        }
        if ends {
            self.delete_mirror(Some(number), key, uid, ctx);
        }
    }

    /// A mirror is gone from the API: another one is made, unless the file is gone too.
    pub(super) fn mirror_gone(&mut self, mirror: &Pod, ctx: &mut dyn NodeContext) {
        let Some(number) = self.mirrored(mirror) else { return };
        self.with(number, ctx, |worker, _, ctx| {
            worker.hold_again();
            let status = worker.status().clone();
            let Some(known) = worker.mirror_mut() else { return };
            (known.pod, known.under_way) = (None, false);
            let removed = known.removed;
            worker.written = None;
            worker.gone = removed;
            if !removed && worker.held.is_none() {
                worker.hold_back(status, ctx);
            }
        });
        self.reconcile_mirrors(ctx);
    }

    /// Creates the mirrors that are missing, once the API knows the node (`tryReconcileMirrorPods`).
    pub(super) fn reconcile_mirrors(&mut self, ctx: &mut dyn NodeContext) {
        let Some(node) = self.node.in_api().map(|node| node.meta.uid).filter(|_| self.has_static) else { return };
        for worker in self.workers.values_mut() {
            let wanted = |mirror: &&mut Mirror| mirror.pod.is_none() && !mirror.under_way && !mirror.removed;
            let missing = worker.mirror_mut().filter(wanted).map(|mirror| mirror.under_way = true);
            if missing.is_some() {
                let object = mirror_of(&worker.pod, node).boxed();
                let purpose = Purpose::CreateMirror(worker.number);
                self.shared.request(purpose, Operation::Create { object, dry_run: false }, ctx);
            }
        }
    }

    /// A mirror could not be created: it is tried again at the next recheck of statuses.
    pub(super) fn mirror_failed(&mut self, number: PodNumber, ctx: &mut dyn NodeContext) {
        if let Some(mirror) = self.workers.get_mut(&number).and_then(|worker| worker.mirror_mut()) {
            mirror.under_way = false;
            self.shared.recheck(number, ctx);
        }
    }

    fn delete_mirror(&mut self, number: Option<PodNumber>, key: ObjectKey, uid: Uid, ctx: &mut dyn NodeContext) {
        if let Some(mirror) = number.and_then(|number| self.workers.get_mut(&number)?.mirror_mut()) {
            if mirror.under_way {
                return;
            }
            mirror.under_way = true;
        }
        let options = DeleteOptions { grace_seconds: Some(0), uid: Some(uid), ..DeleteOptions::default() };
        self.shared.request(Purpose::DeleteMirror, Operation::Delete { key, options }, ctx);
    }
}
