//! The node's lease: found or made, and renewed.

use crate::api::kind::Kind;
use crate::api::meta::{ObjectKey, OwnerReference};
use crate::api::name::Name;
use crate::api::node::Lease;
use crate::api::object::{Object, Resource};
use crate::apiserver::heartbeats::PROMPT;
use crate::apiserver::protocol::{Answer, Operation, Part, new_meta};
use crate::apiserver::status::Reason;
use crate::client::delivery::Failure;
use crate::engine::time::SimDuration;

use super::super::agent::NodeContext;
use super::super::shared::{Purpose, Shared};
use super::super::tokens::Timer;
use super::NodeAgent;

/// The namespace of leases of nodes.
const LEASE_NAMESPACE: Name = Name::of("kube-node-lease");
/// How often a lease is updated before it is read anew (component-helpers, lease controller: `maxUpdateRetries`).
const LEASE_TRIES: u32 = 5;
/// The longest wait between two tries to read it (`maxBackoff`).
const LONGEST_LEASE_WAIT: SimDuration = SimDuration::from_secs(7);

/// How far a renewal of the lease has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Renewal {
    /// Something has failed: what is to be done next follows from that, and the period begins when this is over.
    is_late: bool,
    /// Updates that were tried since the lease was read.
    tries: u32,
    /// The lease was read anew because no update came through.
    is_second: bool,
    /// The last wait for the next try to read it.
    wait: SimDuration,
}

impl Default for Renewal {
    fn default() -> Self {
        Renewal { is_late: false, tries: 0, is_second: false, wait: SimDuration::from_millis(100) }
    }
}

impl NodeAgent {
    /// The search for a lease was answered: one that is there is renewed at once, a new one is made after a period.
    pub fn lease_found(&mut self, result: Result<Answer, Failure>, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        match result {
            Ok(Answer::Object(object)) => {
                self.lease = Lease::of(&object).cloned();
                if self.lease_timer.is_none() && !self.renewal.is_late {
                    self.renew_next_time(shared, ctx);
                }
                self.update_lease(shared, ctx);
                return;
            }
            // A lease belongs to its node: without one in the API none is made (`SetNodeOwnerFunc`).
            Err(failure) if failure.reason() == Some(Reason::NotFound) => {
                self.lease = None;
                let operation = Operation::Get { key: shared.node_key() };
                shared.heartbeat(Purpose::LeaseOwner, operation, ctx);
            }
            _ => return self.look_for_lease_later(ctx),
        }
        if self.lease_timer.is_none() && !self.renewal.is_late {
            self.renew_after(shared.settings.timings.lease, ctx);
        }
    }

    /// The search for the node to which a new lease is to belong was answered. If there is none, it is tried again after a period.
    pub fn lease_owner_found(
        &mut self,
        result: Result<Answer, Failure>,
        shared: &mut Shared,
        ctx: &mut dyn NodeContext,
    ) {
        let Ok(Answer::Object(Object::Node(node))) = result else { return self.renewal_over(shared, ctx) };
        if self.silent || self.lease.is_some() {
            return self.renewal_over(shared, ctx);
        }
        (self.lease_sent, self.lease_is_prompt) = (ctx.now(), false);
        let name = shared.settings.node.name.clone();
        let owner = OwnerReference {
            api_version: Name::of("v1"),
            kind: Name::of("Node"),
            name: name.clone(),
            uid: node.meta.uid,
            controller: false,
            block_owner_deletion: false,
        };
        let mut meta = new_meta(LEASE_NAMESPACE, name.clone());
        meta.owners = [owner].into();
        let lease = Lease {
            meta,
            holder: Some(name),
            duration_seconds: Some(shared.settings.timings.lease_seconds),
            acquire_time: None,
            renew_time: Some(shared.settings.local_epoch(ctx.now()).micro_time(ctx.now())),
            transitions: None,
        };
        let operation = Operation::Create { object: lease.boxed(), dry_run: false };
        shared.heartbeat(Purpose::RenewLease, operation, ctx);
    }

    fn renew_after(&mut self, delay: SimDuration, ctx: &mut dyn NodeContext) {
        if let Some(timer) = self.lease_timer.take() {
            ctx.cancel_timer(timer);
        }
        self.lease_timer = Some(ctx.set_timer(ctx.now() + delay, Timer::Lease.token()));
    }

    /// Renews after the period and up to 4 percent more (component-helpers, lease controller: `JitterUntil`).
    fn renew_next_time(&mut self, shared: &Shared, ctx: &mut dyn NodeContext) {
        let timings = &shared.settings.timings;
        let jitter = self.lease_stream.between(0, timings.lease.as_nanos() / 25);
        let period = shared.settings.clock.span(timings.lease + SimDuration::from_nanos(jitter));
        self.renew_after(period, ctx);
    }

    /// The lease's time has come.
    pub fn lease_due(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        self.lease_timer = None;
        if self.renewal.is_late && !self.silent {
            return self.look_for_lease(shared, ctx);
        }
        self.renewal = Renewal::default();
        self.renew_next_time(shared, ctx);
        if !self.silent {
            self.renew_lease(shared, ctx);
        }
    }

    /// Renews the lease, or looks for it if none is known (component-helpers, lease controller: `sync`).
    fn renew_lease(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let Some(lease) = &self.lease else { return self.look_for_lease(shared, ctx) };
        let (now, heartbeats) = (ctx.now(), &shared.settings.heartbeats);
        let date = shared.settings.local_epoch(now).micro_time(now);
        if self.lease_is_prompt && heartbeats.note(&shared.settings.node.name, lease.meta.revision(), date, now) {
            return;
        }
        self.update_lease(shared, ctx);
    }

    /// Writes the lease that is known with a new date, unless that was tried too often.
    fn update_lease(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        if self.renewal.tries >= LEASE_TRIES {
            return self.renewal_failed(shared, ctx);
        }
        let Some(lease) = &self.lease else { return self.look_for_lease(shared, ctx) };
        if self.silent {
            return self.renewal_over(shared, ctx);
        }
        self.renewal.tries += 1;
        (self.lease_sent, self.lease_is_prompt) = (ctx.now(), false);
        let mut lease = Lease::clone(lease);
        lease.renew_time = Some(shared.settings.local_epoch(ctx.now()).micro_time(ctx.now()));
        let operation = Operation::Update { object: lease.boxed(), part: Part::Main, dry_run: false };
        shared.heartbeat(Purpose::RenewLease, operation, ctx);
    }

    fn look_for_lease(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let operation = Operation::Get { key: lease_key(shared) };
        shared.heartbeat(Purpose::GetLease, operation, ctx);
    }

    /// Looks for the lease again after a while that doubles (lease controller: `backoffEnsureLease`).
    fn look_for_lease_later(&mut self, ctx: &mut dyn NodeContext) {
        self.renewal.is_late = true;
        self.renewal.wait = (self.renewal.wait * 2).min(LONGEST_LEASE_WAIT);
        self.renew_after(self.renewal.wait, ctx);
    }

    /// No update came through: the lease is read anew, and all is tried once more; then it is left for the next time.
    fn renewal_failed(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        if std::mem::replace(&mut self.renewal.is_second, true) {
            return self.renewal_over(shared, ctx);
        }
        self.renewal.tries = 0;
        self.renewal.wait = Renewal::default().wait;
        self.look_for_lease(shared, ctx);
    }

    /// The next renewal is a period after the end of one that met with failures.
    fn renewal_over(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        if std::mem::take(&mut self.renewal).is_late {
            self.renew_next_time(shared, ctx);
        }
    }

    /// The renewal was answered, or the lease was created, or not. An update that met another version than the one that is known
    /// needs that one; any other failure is answered with the next try, at once (lease controller: `retryUpdateLease`).
    pub fn lease_renewed(&mut self, result: Result<Answer, Failure>, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let failure = match result {
            Ok(Answer::Object(Object::Lease(lease))) => {
                self.lease = Some(lease);
                self.lease_is_prompt = ctx.now().since(self.lease_sent) <= PROMPT;
                return self.renewal_over(shared, ctx);
            }
            Ok(_) => return,
            Err(failure) => failure,
        };
        if let Some(timer) = self.lease_timer.take() {
            ctx.cancel_timer(timer);
        }
        self.renewal.is_late = true;
        if self.lease.is_none() {
            self.look_for_lease_later(ctx);
        } else if failure.reason() == Some(Reason::Conflict) {
            self.renewal.wait = Renewal::default().wait;
            self.look_for_lease(shared, ctx);
        } else {
            self.update_lease(shared, ctx);
        }
    }
}

pub(super) fn lease_key(shared: &Shared) -> ObjectKey {
    ObjectKey { kind: Kind::Lease, namespace: LEASE_NAMESPACE, name: shared.settings.node.name.clone() }
}
