//! What is set aside for the pods of a node: the sum that an admission compares with what there is, kept as pods come and go.

use crate::api::pod::PodSpec;
use crate::api::resources::Resources;

use super::shared::Shared;
use super::worker::Worker;

/// What pods have together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Taken {
    /// What they request.
    pub requests: Resources,
    /// How many they are.
    pub pods: i64,
}

impl Taken {
    /// What these pods have.
    pub fn by<'a>(pods: impl Iterator<Item = &'a PodSpec>) -> Self {
        let mut taken = Taken::default();
        pods.for_each(|spec| taken.add(spec));
        taken
    }

    /// A pod more.
    pub fn add(&mut self, spec: &PodSpec) {
        self.requests += &spec.requests;
        self.pods += 1;
    }

    /// The same without one of the pods. None if an amount has reached the largest that there is, from which nothing can be taken.
    pub fn without(mut self, spec: &PodSpec) -> Option<Self> {
        let Resources { milli_cpu, memory, ephemeral_storage, scalars, .. } = &self.requests;
        let amounts =
            [milli_cpu, memory, ephemeral_storage].into_iter().chain(scalars.iter().map(|(_, amount)| amount));
        if amounts.into_iter().any(|amount| *amount == i64::MAX) {
            return None;
        }
        self.requests -= &spec.requests;
        self.pods -= 1;
        Some(self)
    }
}

impl Shared {
    /// A pod is here whose containers could run.
    pub fn take_room(&mut self, worker: &Worker) {
        if let Some(taken) = &mut self.taken {
            taken.add(worker.allocated());
        }
    }

    /// Containers of a pod cannot run any more.
    pub fn give_room_back(&mut self, worker: &Worker) {
        self.taken = self.taken.take().and_then(|taken| taken.without(worker.allocated()));
    }

    /// What is set aside for a pod may be something else now.
    pub fn room_changed(&mut self) {
        self.taken = None;
    }
}

#[cfg(test)]
impl super::agent::Kubelet {
    /// What is known to be set aside, and what a look at all pods finds.
    pub fn room(&self) -> (Option<&Taken>, Taken) {
        let active = self.workers.values().filter(|worker| worker.could_have_running_containers());
        (self.shared.taken.as_ref(), Taken::by(active.map(|worker| worker.allocated().as_ref())))
    }
}
