//! What the containers of a node use together, worked out when somebody asks, and what the kernel does when the node's memory
//! runs out.
//!
//! Containers whose models say nothing of memory, disk and processes cost nothing: only those are looked at that do.

use crate::api::name::Name;
use crate::engine::time::SimTime;

use super::instance::amount_at;
use super::interface::{ContainerId, ContainerUsage, Event, Exit, ExitReason, NodeUsage, PodNumber, PodUsage};
use super::model::Usage;
use super::simulated::{RuntimeContext, SimulatedRuntime};
use super::size::Size;

impl SimulatedRuntime {
    /// What is used of the node now; of volumes what was used when each pod's were last measured. The disk of the node is as full as
    /// it is, whatever was measured.
    pub fn node_usage(&self, now: SimTime, volumes_at: &[(PodNumber, SimTime)]) -> NodeUsage {
        let images = self.images().iter().fold(0u64, |sum, image| sum.saturating_add(image.size));
        let mut usage = NodeUsage { images, disk: images, ..NodeUsage::default() };
        for (id, instance) in self.users() {
            let model = &instance.model;
            let container = ContainerUsage {
                index: id.index,
                memory: instance.memory(now),
                disk: self.left_behind(id, &model.disk, now).map_or(0, |size| size.0),
                inodes: self.left_behind(id, &model.inodes, now).copied().unwrap_or(0),
                processes: instance.amount(&model.processes, now).copied().unwrap_or(0),
            };
            let measured = volumes_at.iter().find(|(pod, _)| *pod == id.pod).map(|(_, at)| *at);
            let volume = |steps, at| self.left_behind(id, steps, at).map_or(0, |size: &Size| size.0);
            let volumes: Vec<(Name, u64)> = measured.map_or_else(Vec::new, |at| {
                model.volumes.iter().map(|(name, steps)| (Name::from(name), volume(steps, at))).collect()
            });
            let written = model.volumes.values().fold(0u64, |sum, steps| sum.saturating_add(volume(steps, now)));
            usage.memory = usage.memory.saturating_add(container.memory);
            usage.processes = usage.processes.saturating_add(container.processes);
            usage.inodes = usage.inodes.saturating_add(container.inodes);
            usage.disk = usage.disk.saturating_add(container.disk).saturating_add(written);
            let changes = [
                instance.next_change(&model.memory, now),
                instance.next_change(&model.disk, now),
                instance.next_change(&model.inodes, now),
                instance.next_change(&model.processes, now),
            ];
            let writes = model.volumes.values().filter_map(|steps| instance.next_change(steps, now));
            usage.next_change = usage.next_change.into_iter().chain(changes.into_iter().flatten()).chain(writes).min();
            let since = measured.unwrap_or(SimTime::ZERO);
            let unmeasured = model.volumes.values().filter_map(|steps| instance.next_change(steps, since)).min();
            usage.add(id, container, volumes, unmeasured);
        }
        usage
    }

    /// What a container has of something that stays: as much as when it ended, once it has.
    fn left_behind<'a, T>(&self, id: ContainerId, steps: &'a [Usage<T>], at: SimTime) -> Option<&'a T> {
        let instance = self.instance(id)?;
        let time = instance.exit.map_or(at, |exit| exit.at.min(at));
        amount_at(steps, instance.started?, time)
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
            let spec = self.pod_of(victim.pod).map(|pod| &pod.spec);
            let container = spec.and_then(|spec| spec.containers.get(usize::from(victim.index)));
            let process = container.map(|container| container.name.clone()).unwrap_or_default();
            let pid = self.container_stream(victim, "pid").between(300, 32_767) as u32;
            ctx.emit(Event::SystemOom { process, pid });
            self.kill(victim, Exit { code: 137, reason: ExitReason::OomKilled, at: now }, ctx);
        }
        self.watch_memory(ctx);
    }
}

impl NodeUsage {
    /// Adds what a container uses; containers come by id.
    fn add(
        &mut self,
        id: ContainerId,
        container: ContainerUsage,
        volumes: Vec<(Name, u64)>,
        next_volume_change: Option<SimTime>,
    ) {
        match self.pods.last_mut().filter(|last| last.pod == id.pod) {
            Some(pod) => {
                pod.next_volume_change = pod.next_volume_change.into_iter().chain(next_volume_change).min();
                match pod.containers.last_mut().filter(|last| last.index == id.index) {
                    // An earlier instance of the container: only its disk counts.
                    Some(last) => {
                        let disk = last.disk.saturating_add(container.disk);
                        let inodes = last.inodes.saturating_add(container.inodes);
                        *last = ContainerUsage { disk, inodes, ..container };
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
            None => self.pods.push(PodUsage { pod: id.pod, containers: vec![container], volumes, next_volume_change }),
        }
    }
}
