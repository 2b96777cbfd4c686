//! Sandboxes: the pods that there are, their addresses and what they bear.

use std::net::IpAddr;
use std::rc::Rc;

use crate::engine::random::Stream;

use super::super::addresses::Addresses;
use super::super::interface::{Event, Exit, ExitReason, PodIdentity, PodNumber, SandboxId};
use super::{Due, RuntimeContext, SimulatedRuntime};

impl SimulatedRuntime {
    /// True if a sandbox of the pod is up.
    pub(super) fn has_sandbox(&self, pod: PodNumber) -> bool {
        let first = SandboxId { pod, attempt: 0 };
        self.sandboxes.range(first..).take_while(|(id, _)| id.pod == pod).any(|(_, sandbox)| sandbox.ready)
    }

    /// The load that a pod bears, in thousandths of a unit.
    pub(super) fn load_of(&self, pod: PodNumber) -> u64 {
        let first = SandboxId { pod, attempt: 0 };
        let sandboxes = self.sandboxes.range(first..).take_while(|(id, _)| id.pod == pod);
        sandboxes.last().map_or(0, |(_, sandbox)| sandbox.load)
    }

    /// Who a pod number stands for.
    pub(in crate::runtime) fn pod_of(&self, pod: PodNumber) -> Option<&Rc<PodIdentity>> {
        let first = SandboxId { pod, attempt: 0 };
        let sandbox = self.sandboxes.range(first..).next().filter(|(sandbox, _)| sandbox.pod == pod);
        sandbox.map(|(_, sandbox)| &sandbox.pod)
    }

    pub(super) fn sandbox_ready(&mut self, id: SandboxId, host_network: bool, ctx: &mut dyn RuntimeContext) {
        let Some(sandbox) = self.sandboxes.get_mut(&id) else { return };
        if !host_network {
            let Some(address) = self.addresses.as_mut().and_then(Addresses::take) else {
                let why = match self.addresses {
                    Some(_) => "no IP addresses available in range set",
                    None => "cni plugin not initialized",
                };
                let message = format!("rpc error: code = Unknown desc = failed to setup network for sandbox: {why}");
                self.sandboxes.remove(&id);
                ctx.emit(Event::SandboxFailed { sandbox: id, message });
                return;
            };
            sandbox.address = Some(IpAddr::V4(address));
        }
        sandbox.ready = true;
        ctx.emit(Event::SandboxReady { sandbox: id, address: sandbox.address });
    }

    pub(super) fn stop_sandbox(&mut self, id: SandboxId, ctx: &mut dyn RuntimeContext) {
        self.kill_all(id.pod, ctx);
        // One that is still being made will not come up.
        self.due.retain(|_, due| !matches!(due, Due::SandboxReady(making, _) if *making == id));
        let Some(sandbox) = self.sandboxes.get_mut(&id).filter(|sandbox| sandbox.ready) else {
            ctx.emit(Event::SandboxStopped { sandbox: id });
            return;
        };
        sandbox.ready = false;
        let pod = sandbox.pod.clone();
        let takes = self.settings.stop_sandbox.0.sample(&mut self.pod_stream(&pod, "stop sandbox", id.attempt));
        self.later(takes, Due::SandboxStopped(id), ctx);
    }

    /// Ends all containers of a pod at once, as the removal of their sandbox does.
    pub(super) fn kill_all(&mut self, pod: PodNumber, ctx: &mut dyn RuntimeContext) {
        let exit = Exit { code: 137, reason: ExitReason::Error, at: ctx.now() };
        self.ids_of(pod).into_iter().for_each(|id| self.kill(id, exit, ctx));
    }

    /// Takes a sandbox from the network.
    pub(super) fn disconnect(&mut self, id: SandboxId) {
        let Some(sandbox) = self.sandboxes.get_mut(&id) else { return };
        sandbox.ready = false;
        if let (Some(IpAddr::V4(address)), Some(addresses)) = (sandbox.address.take(), &mut self.addresses) {
            addresses.release(address);
        }
    }

    pub(super) fn address_of(&self, pod: PodNumber) -> Option<IpAddr> {
        let first = SandboxId { pod, attempt: 0 };
        let mut sandboxes = self.sandboxes.range(first..).take_while(|(id, _)| id.pod == pod);
        sandboxes.find_map(|(_, sandbox)| sandbox.address).or(self.settings.address)
    }

    /// The stream of a pod for a purpose.
    pub(super) fn pod_stream(&self, pod: &PodIdentity, purpose: &str, attempt: u32) -> Stream {
        let mut digits = itoa::Buffer::new();
        self.settings.seed.stream_of(&[&pod.namespace, "/", &pod.name], &[purpose, " ", digits.format(attempt)])
    }
}
