//! Volumes behind claims: a pass waits until the claims of its pod are bound, and the volumes that they name belong to them.
//!
//! Follows the volume manager's populator (`processPodVolumes`, `createVolumeSpec`, `getPVCExtractPV`, `getPVSpec`) and the pass that
//! waits for it (`WaitForAttachAndMount`): of what is wrong with a claim the pass hears when it next looks, fails with an event, and
//! comes again later. Attaching and mounting take no time of their own. Where volumes take no time at all claims are not looked at.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1 as core;

use crate::api::event::EventType;
use crate::api::kind::Kind;
use crate::api::meta::{ObjectKey, Uid};
use crate::api::name::Name;
use crate::api::object::Resource;
use crate::api::pod::Pod;
use crate::api::pod_claims::{PodClaim, check_is_for, claim_of};
use crate::api::storage::{PersistentVolume, PersistentVolumeClaim};
use crate::apiserver::protocol::{Answer, Operation};
use crate::client::delivery::Failure;
use crate::engine::process::TimerId;
use crate::engine::time::{SimDuration, SimTime};

use super::agent::NodeContext;
use super::shared::{Purpose, Shared};
use super::sources::{RECONCILE, RECONCILE_AFTER, is_device, is_mounted, is_used};
use super::tokens::Timer;
use super::worker::{Job, Worker};

/// The finalizer of claims that are protected: one that has lost it is about to go (volume/util, `PVCProtectionFinalizer`).
const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// The volumes of a pod behind claims.
#[derive(Clone, Debug)]
pub struct Claims {
    volumes: Vec<ClaimVolume>,
    /// The populator is going to look at the pod.
    timer: Option<TimerId>,
    /// Claims of which an answer is awaited.
    awaited: usize,
    /// When the reconciler mounts what was found in order.
    mounted_at: SimTime,
}

/// A volume behind a claim.
#[derive(Clone, Debug)]
struct ClaimVolume {
    name: Name,
    claim: Name,
    state: State,
}

/// What is known of a claim and its volume.
#[derive(Clone, Debug)]
enum State {
    /// Nothing yet.
    Unread,
    /// The claim is bound to a volume.
    Bound { claim: Uid, volume: Name },
    /// The volume can be mounted.
    InOrder,
    /// It cannot, and why.
    Wrong(String),
}

impl Claims {
    /// The claims behind the volumes that a pod's containers use; none if there are none.
    fn of(pod: &Pod) -> Option<Claims> {
        let used = pod.spec.full.volumes.iter().flatten().filter(|volume| is_used(&pod.spec, volume));
        let volume = |volume: &core::Volume| {
            let claim = claim_of(pod, volume)?.name;
            Some(ClaimVolume { name: Name::from(&volume.name), claim, state: State::Unread })
        };
        let volumes: Vec<_> = used.filter_map(volume).collect();
        (!volumes.is_empty()).then_some(Claims { volumes, timer: None, awaited: 0, mounted_at: SimTime::ZERO })
    }

    /// True if all volumes are mounted at a time.
    fn are_mounted(&self, now: SimTime) -> bool {
        self.mounted_at <= now && self.volumes.iter().all(|volume| matches!(volume.state, State::InOrder))
    }

    /// True if all claims were looked at, and something is wrong with one.
    fn are_wrong(&self) -> bool {
        self.awaited == 0 && self.volumes.iter().any(|volume| matches!(volume.state, State::Wrong(_)))
    }

    /// The names of volumes that are not mounted at a time.
    fn unmounted(&self, now: SimTime) -> impl Iterator<Item = &Name> {
        let is_mounted = move |volume: &&ClaimVolume| matches!(volume.state, State::InOrder) && self.mounted_at <= now;
        self.volumes.iter().filter(move |volume| !is_mounted(volume)).map(|volume| &volume.name)
    }
}

impl Worker {
    /// Sees to it that the claims behind the pod's volumes are looked at when the populator next does; nothing if all are in order.
    pub fn begin_to_claim(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        if shared.settings.timings.volumes == SimDuration::ZERO {
            return;
        }
        if self.claims().is_none() {
            let Some(claims) = Claims::of(&self.pod) else { return };
            self.rare_mut().claims = Some(Box::new(claims));
        }
        let after = ctx.now() + SimDuration::from_nanos(1);
        let (number, began) = (self.number, shared.began);
        let Some(claims) = self.claims_mut() else { return };
        if claims.are_mounted(ctx.now()) || claims.timer.is_some() || claims.awaited > 0 {
            return;
        }
        claims.timer = Some(ctx.set_timer(after.next_tick(began, RECONCILE), Timer::Claims(number).token()));
    }

    /// True if all volumes behind claims are mounted.
    pub fn claims_mounted(&self, now: SimTime) -> bool {
        self.claims().is_none_or(|claims| claims.are_mounted(now))
    }

    /// When the volumes behind claims are mounted, as far as is known.
    pub fn claims_mounted_at(&self) -> SimTime {
        self.claims().map_or(SimTime::ZERO, |claims| claims.mounted_at)
    }

    /// Looks at the pod's claims.
    pub fn read_claims(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let (number, namespace) = (self.number, self.pod.meta.namespace.clone());
        let Some(claims) = self.claims_mut() else { return };
        (claims.timer, claims.awaited) = (None, claims.volumes.len());
        for (place, volume) in claims.volumes.iter_mut().enumerate() {
            volume.state = State::Unread;
            let (namespace, name) = (namespace.clone(), volume.claim.clone());
            let key = ObjectKey { kind: Kind::PersistentVolumeClaim, namespace, name };
            let purpose = Purpose::Claim { pod: number, volume: place as u16 };
            shared.request(purpose, Operation::Get { key }, ctx);
        }
    }

    /// A claim was read, or the volume that it names, or is not there.
    pub fn claim_read(
        &mut self,
        place: u16,
        result: &Result<Answer, Failure>,
        shared: &mut Shared,
        ctx: &mut dyn NodeContext,
    ) {
        let Some(known) = self.claims().and_then(|claims| claims.volumes.get(usize::from(place))) else { return };
        let at = format!("{}/{}", self.pod.meta.namespace, known.claim);
        let state = match &known.state {
            State::Unread => self.check_claim(&known.name, &at, result),
            State::Bound { claim, volume } => self.check_volume(&known.name, &at, *claim, volume, result),
            State::InOrder | State::Wrong(_) => return,
        };
        let (number, began) = (self.number, shared.began);
        let Some(claims) = self.claims_mut() else { return };
        if let State::Bound { volume, .. } = &state {
            let key = ObjectKey { kind: Kind::PersistentVolume, namespace: Name::EMPTY, name: volume.clone() };
            shared.request(Purpose::Claim { pod: number, volume: place }, Operation::Get { key }, ctx);
        } else {
            claims.awaited = claims.awaited.saturating_sub(1);
        }
        claims.volumes[usize::from(place)].state = state;
        if claims.awaited > 0 {
            return;
        }
        let after = ctx.now() + SimDuration::from_nanos(1);
        claims.mounted_at = after.next_tick(began + RECONCILE_AFTER, RECONCILE);
        if claims.are_wrong() {
            self.look_again_at_volumes(ctx.now(), shared, ctx);
        } else {
            self.volumes_mounted(shared, ctx);
        }
    }

    /// What a claim says: the volume that it is bound to, or why it is of no use.
    fn check_claim(&self, name: &str, at: &str, result: &Result<Answer, Failure>) -> State {
        let wrong = |why: String| State::Wrong(format!("error processing PVC {at}: {why}"));
        let claim = match result {
            Ok(Answer::Object(object)) => PersistentVolumeClaim::of(object),
            Ok(_) => None,
            Err(failure) => {
                let why = failure.clone().into_status().message;
                return wrong(format!("failed to fetch PVC from API server: {why}"));
            }
        };
        let Some(claim) = claim else { return wrong("failed to fetch PVC from API server: <nil>".to_owned()) };
        if claim.meta.is_deleting() && !claim.meta.finalizers().iter().any(|finalizer| *finalizer == *PROTECTION) {
            return wrong("PVC is being deleted".to_owned());
        }
        if claim.phase() != "Bound" {
            return wrong("PVC is not bound".to_owned());
        }
        if claim.volume().is_empty() {
            return wrong("PVC has empty pvc.Spec.VolumeName".to_owned());
        }
        let used = self.volume_of_pod(name).and_then(|volume| claim_of(&self.pod, volume));
        if used.is_some_and(|PodClaim { is_ephemeral, .. }| is_ephemeral)
            && let Err(why) = check_is_for(&self.pod, claim)
        {
            return State::Wrong(why);
        }
        State::Bound { claim: claim.meta.uid, volume: Name::from(claim.volume()) }
    }

    /// What a claim's volume says: it must belong to the claim, and be used as what it is.
    fn check_volume(&self, name: &str, at: &str, claim: Uid, volume: &str, result: &Result<Answer, Failure>) -> State {
        let wrong = |why: String| State::Wrong(format!("error processing PVC {at}: {why}"));
        let found = match result {
            Ok(Answer::Object(object)) => PersistentVolume::of(object),
            Ok(_) => None,
            Err(failure) => {
                let why = failure.clone().into_status().message;
                return wrong(format!("failed to fetch PV {volume} from API server: {why}"));
            }
        };
        let Some(found) = found else { return wrong(format!("failed to fetch PV {volume} from API server: <nil>")) };
        let Some(owner) = found.claim() else {
            return wrong(format!(
                "found PV object {volume} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
            ));
        };
        if found.claim_uid() != Some(claim) {
            let owner = owner.uid.as_deref().unwrap_or_default();
            return wrong(format!(
                "found PV object {volume} but its pv.Spec.ClaimRef.UID {owner} does not point to claim.UID {claim}"
            ));
        }
        let mode = found.spec().and_then(|spec| spec.volume_mode.as_deref()).unwrap_or("Filesystem");
        let Some(own) = self.volume_of_pod(name) else { return State::InOrder };
        let misused =
            |how: &str| State::Wrong(format!("volume {name} has volumeMode {mode}, but is specified in {how}"));
        match mode {
            "Filesystem" if is_device(&self.pod.spec, own) => misused("volumeDevices"),
            "Block" if is_mounted(&self.pod.spec, own) => misused("volumeMounts"),
            _ => State::InOrder,
        }
    }

    fn volume_of_pod(&self, name: &str) -> Option<&core::Volume> {
        self.pod.spec.full.volumes.iter().flatten().find(|volume| volume.name == name)
    }

    /// Says by an event why the pass that waits for volumes fails, if it is because of a claim. What was wrong is forgotten: the next
    /// pass looks at the claims anew.
    pub fn tell_of_wrong_claims(&mut self, shared: &mut Shared, now: SimTime) {
        let Some(claims) = self.claims().filter(|claims| claims.are_wrong()) else { return };
        let of_api = self.api_volumes().into_iter().flat_map(|volumes| volumes.unmounted());
        let unmounted: BTreeSet<&str> = claims.unmounted(now).chain(of_api).map(Name::as_str).collect();
        let (mut failed, mut wrong) = (BTreeSet::new(), BTreeSet::new());
        for volume in &claims.volumes {
            if let State::Wrong(why) = &volume.state {
                failed.insert(volume.name.as_str());
                wrong.insert(why.as_str());
            }
        }
        let listed = |names: BTreeSet<&str>, between: &str| names.into_iter().collect::<Vec<_>>().join(between);
        let message = format!(
            "Unable to attach or mount volumes: unmounted volumes=[{}], unattached volumes=[], \
             failed to process volumes=[{}]: {}",
            listed(unmounted, " "),
            listed(failed, " "),
            listed(wrong, "; ")
        );
        shared.record(self, None, EventType::Warning, "FailedMount", message);
        for volume in self.claims_mut().into_iter().flat_map(|claims| &mut claims.volumes) {
            volume.state = State::Unread;
        }
    }

    /// The claims of the pod are of no interest any more.
    pub fn forget_claims(&mut self, ctx: &mut dyn NodeContext) {
        let claims = self.rare.as_mut().and_then(|rare| rare.claims.take());
        if let Some(timer) = claims.and_then(|claims| claims.timer) {
            ctx.cancel_timer(timer);
        }
    }

    /// A pass that waits for volumes looks again at the first of its polls after a moment.
    pub fn look_again_at_volumes(&mut self, after: SimTime, shared: &Shared, ctx: &mut dyn NodeContext) {
        let Job::Mounting { begun, timer } = self.job else { return };
        ctx.cancel_timer(timer);
        let period = shared.settings.timings.volumes.max(SimDuration::from_millis(1));
        let at = Worker::next_poll(begun, after.max(ctx.now()), period);
        let timer = ctx.set_timer(at, Timer::Job(self.number).token());
        self.job = Job::Mounting { begun, timer };
    }
}
