//! What the containers of a node use together, worked out when somebody asks, and what the kernel does when the node's memory
//! runs out.
//!
//! Containers whose models say nothing of memory, disk and processes cost nothing: only those are looked at that do.

use crate::api::name::Name;
use crate::engine::time::SimTime;

use super::instance::amount_at;
use super::interface::{ContainerId, ContainerUsage, Exit, ExitReason, NodeUsage, PodUsage};
use super::simulated::{RuntimeContext, SimulatedRuntime};

impl SimulatedRuntime {
    /// What is used of the node now, of volumes at another time.
    pub fn node_usage(&self, now: SimTime, volumes_at: SimTime) -> NodeUsage {
        let images = self.images().iter().fold(0u64, |sum, image| sum.saturating_add(image.size));
        let mut usage = NodeUsage { images, disk: images, ..NodeUsage::default() };
        for (id, instance) in self.users() {
            let model = &instance.model;
            let container = ContainerUsage {
                index: id.index,
                memory: instance.memory(now),
                disk: self.disk(id, now),
                processes: instance.amount(&model.processes, now).copied().unwrap_or(0),
            };
            let volumes: Vec<(Name, u64)> =
                model.volumes.keys().map(|volume| (Name::from(volume), self.volume(id, volume, volumes_at))).collect();
            usage.memory = usage.memory.saturating_add(container.memory);
            usage.processes = usage.processes.saturating_add(container.processes);
            usage.disk =
                volumes.iter().fold(usage.disk.saturating_add(container.disk), |sum, one| sum.saturating_add(one.1));
            let changes = [
                instance.next_change(&model.memory, now),
                instance.next_change(&model.disk, now),
                instance.next_change(&model.processes, now),
            ];
            usage.next_change = usage.next_change.into_iter().chain(changes.into_iter().flatten()).min();
            let volume_changes = model.volumes.values().filter_map(|steps| instance.next_change(steps, volumes_at));
            usage.next_volume_change = usage.next_volume_change.into_iter().chain(volume_changes).min();
            usage.add(id, container, volumes);
        }
        usage
    }

    /// What a container's writable layer and logs take: as much as when it ended, once it has.
    fn disk(&self, id: ContainerId, now: SimTime) -> u64 {
        let Some(instance) = self.instance(id) else { return 0 };
        let time = instance.exit.map_or(now, |exit| exit.at.min(now));
        instance.started.and_then(|started| amount_at(&instance.model.disk, started, time)).map_or(0, |size| size.0)
    }

    /// What a container has written into a volume.
    fn volume(&self, id: ContainerId, volume: &str, at: SimTime) -> u64 {
        let Some(instance) = self.instance(id) else { return 0 };
        let steps = instance.model.volumes.get(volume).map_or(&[][..], |steps| steps.as_slice());
        let time = instance.exit.map_or(at, |exit| exit.at.min(at));
        instance.started.and_then(|started| amount_at(steps, started, time)).map_or(0, |size| size.0)
    }

    /// What a container uses has changed, or will at other times than was known: the kernel's next kill for want of memory is worked out.
    pub(super) fn watch_memory(&mut self, ctx: &mut dyn RuntimeContext) {
        if self.users().next().is_none() {
            return self.no_memory_timer(ctx);
        }
        let Some(capacity) = self.memory_capacity() else { return };
        let mut next = Some(ctx.now());
        while let Some(time) = next {
            let used = self.users().fold(0u64, |sum, (_, instance)| sum.saturating_add(instance.memory(time)));
            if used > capacity {
                break;
            }
            let changes = self.users().filter_map(|(_, instance)| instance.next_change(&instance.model.memory, time));
            next = changes.min();
        }
        match next {
            Some(at) => self.memory_timer(at, ctx),
            None => self.no_memory_timer(ctx),
        }
    }

    /// The node has no memory left: the kernel kills the container with the largest score until there is (mm/oom_kill,
    /// `oom_badness`: its share of the node's memory in thousandths, and its adjustment), and never one below zero.
    pub(super) fn out_of_memory(&mut self, ctx: &mut dyn RuntimeContext) {
        let Some(capacity) = self.memory_capacity() else { return };
        let now = ctx.now();
        loop {
            let used = self.users().fold(0u64, |sum, (_, instance)| sum.saturating_add(instance.memory(now)));
            if used <= capacity {
                break;
            }
            let score = |memory: u64, adjustment: i32| {
                i128::from(memory) * 1000 + i128::from(adjustment) * i128::from(capacity)
            };
            let running = self.users().filter(|(_, instance)| instance.is_running() && instance.memory(now) > 0);
            let scored = running.map(|(id, instance)| {
                (
                    score(instance.memory(now), instance.oom_score_adjustment),
                    instance.memory(now),
                    std::cmp::Reverse(id),
                )
            });
            let Some((_, _, std::cmp::Reverse(victim))) = scored.max() else { break };
            self.kill(victim, Exit { code: 137, reason: ExitReason::OomKilled, at: now }, ctx);
        }
        self.watch_memory(ctx);
    }
}

impl NodeUsage {
    /// Adds what a container uses; containers come by id.
    fn add(&mut self, id: ContainerId, container: ContainerUsage, volumes: Vec<(Name, u64)>) {
        match self.pods.last_mut().filter(|last| last.pod == id.pod) {
            Some(pod) => {
                match pod.containers.last_mut().filter(|last| last.index == id.index) {
                    // An earlier instance of the container: only its disk counts.
                    Some(last) => {
                        let disk = last.disk.saturating_add(container.disk);
                        *last = ContainerUsage { disk, ..container };
                    }
                    None => pod.containers.push(container),
                }
                for (name, bytes) in volumes {
                    match pod.volumes.iter_mut().find(|(known, _)| *known == name) {
                        Some(known) => known.1 = known.1.max(bytes),
                        None => pod.volumes.push((name, bytes)),
                    }
                }
            }
            None => self.pods.push(PodUsage { pod: id.pod, containers: vec![container], volumes }),
        }
    }
}
