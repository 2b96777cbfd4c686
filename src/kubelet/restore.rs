//! Finds the pods again that an earlier kubelet left behind: containers run on while no kubelet does.

use std::collections::BTreeMap;

use crate::api::meta::Uid;
use crate::engine::time::SimTime;
use crate::runtime::interface::{Action, ContainerRecord, PodNumber, SandboxRecord, State};

use super::agent::NodeContext;
use super::relist::container_id;
use super::worker::{Instance, Sandbox, Worker};

/// What the runtime had when the kubelet began, by pod; pods that the API has take theirs out.
#[derive(Debug, Default)]
pub struct Remains {
    pods: BTreeMap<Uid, Remain>,
}

#[derive(Debug)]
struct Remain {
    sandboxes: Vec<SandboxRecord>,
    containers: Vec<ContainerRecord>,
}

impl Remains {
    /// Sorts what the runtime has by pod.
    pub fn of(state: &State) -> Self {
        let mut pods: BTreeMap<Uid, Remain> = BTreeMap::new();
        let mut owners: BTreeMap<PodNumber, Uid> = BTreeMap::new();
        for sandbox in &state.sandboxes {
            owners.insert(sandbox.sandbox.pod, sandbox.pod.uid);
            let empty = Remain { sandboxes: Vec::new(), containers: Vec::new() };
            pods.entry(sandbox.pod.uid).or_insert(empty).sandboxes.push(sandbox.clone());
        }
        for container in &state.containers {
            let owner = owners.get(&container.container.pod);
            if let Some(remain) = owner.and_then(|uid| pods.get_mut(uid)) {
                remain.containers.push(container.clone());
            }
        }
        Remains { pods }
    }

    /// The number of a pod that was here before.
    pub fn number(&self, uid: Uid) -> Option<PodNumber> {
        self.pods.get(&uid)?.sandboxes.last().map(|sandbox| sandbox.sandbox.pod)
    }

    /// Gives a pod's worker what was left of the pod.
    pub fn give_back(&mut self, worker: &mut Worker, now: SimTime) {
        let Some(remain) = self.pods.remove(&worker.pod.meta.uid) else { return };
        worker.sandbox = remain.sandboxes.iter().max_by_key(|record| record.sandbox.attempt).map(|record| Sandbox {
            id: record.sandbox,
            ready: record.ready,
            address: record.address,
        });
        let uid = worker.pod.meta.uid;
        let statuses: Vec<_> = {
            let status = &worker.pod.status;
            status.init_containers.iter().chain(status.containers.iter()).cloned().collect()
        };
        for found in remain.containers {
            let id = found.container;
            let Some(record) = worker.containers.get_mut(usize::from(id.index)) else { continue };
            if record.instance.attempt().is_some_and(|attempt| attempt > id.attempt) {
                continue;
            }
            let attempt = id.attempt;
            record.instance = match (found.started, found.exit) {
                (Some(since), None) => Instance::Running { attempt, since },
                (since, Some(exit)) => Instance::Exited { attempt, since, exit },
                (None, None) => Instance::Created { attempt },
            };
            record.attempts = record.attempts.max(attempt.saturating_add(1));
            record.image = found.image;
            record.container_id = container_id(&format!("{uid}/{}/{attempt}", id.index));
        }
        worker.watch_probes(now);
        for (index, status) in worker.indexes().zip(&statuses) {
            worker.believe(index, status);
        }
    }

    /// Ends what is left of pods that the API does not have.
    pub fn end_strays(&mut self, ctx: &mut dyn NodeContext) {
        for remain in std::mem::take(&mut self.pods).into_values() {
            for sandbox in remain.sandboxes {
                ctx.act(Action::RemoveSandbox { sandbox: sandbox.sandbox });
            }
        }
    }
}
