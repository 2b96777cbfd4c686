//! Takes images from the node that no container uses, when the disk is full.
//!
//! Follows the kubelet's image garbage collector (`GarbageCollect`, `freeSpace`). The real one looks every five minutes. Here it
//! looks at the same times, but only after the disk was seen to be as full as it may be.

use std::collections::BTreeSet;

use crate::api::event::EventType;
use crate::api::name::Name;
use crate::engine::time::{SimDuration, SimTime};
use crate::runtime::interface::{Action, NodeUsage};

use super::agent::{Kubelet, NodeContext};
use super::tokens::Timer;
use super::worker::Instance;

/// What the collector waits for.
#[derive(Debug, Default)]
pub struct ImageGc {
    /// A look is due.
    armed: bool,
    /// What is used of the node has been asked for on its behalf.
    asked: bool,
}

impl Kubelet {
    /// Images were pulled, or something was written: if the disk may be too full, it is looked at when the real one does.
    pub(super) fn disk_filled(&mut self, used: u64, ctx: &mut dyn NodeContext) {
        let settings = &self.shared.settings;
        let capacity = u64::try_from(settings.node.capacity.ephemeral_storage).unwrap_or(0);
        let high = u64::from(settings.configuration.image_collection.high_percent);
        let full = u128::from(used) * 100 >= u128::from(capacity) * u128::from(high);
        if !full || capacity == 0 || self.image_gc.armed || settings.profile.images_present {
            return;
        }
        self.image_gc.armed = true;
        let after = ctx.now() + SimDuration::from_nanos(1);
        let at = after.next_tick(self.shared.began, settings.configuration.image_collection.period);
        ctx.set_timer(at, Timer::ImageGc.token());
    }

    /// It is time to look.
    pub(super) fn collect_images(&mut self, ctx: &mut dyn NodeContext) {
        self.image_gc = ImageGc { armed: false, asked: true };
        ctx.act(Action::ReadUsage { volumes_at: Vec::new() });
    }

    /// Collects images if that is what the usage was read for; true if so.
    pub(super) fn collected(&mut self, usage: &NodeUsage, ctx: &mut dyn NodeContext) -> bool {
        if !std::mem::take(&mut self.image_gc.asked) {
            return false;
        }
        let settings = self.shared.settings.clone();
        let rule = settings.configuration.image_collection;
        let capacity = u64::try_from(settings.node.capacity.ephemeral_storage).unwrap_or(0);
        let available = capacity.saturating_sub(usage.disk);
        if capacity == 0 || 100 - available * 100 / capacity < u64::from(rule.high_percent) {
            return true;
        }
        let wanted = (capacity / 100 * (100 - u64::from(rule.low_percent))).saturating_sub(available);
        let freed = self.free_images(wanted, rule.least_age, ctx);
        if freed < wanted {
            let message = format!(
                "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found {freed} bytes eligible to free."
            );
            self.shared.record_node(EventType::Warning, "FreeDiskSpaceFailed", message);
        }
        // The next look finds out whether the disk is still too full.
        self.disk_filled(usage.disk.saturating_sub(freed), ctx);
        true
    }

    /// Takes away all images that are not used; returns how many bytes that frees.
    pub(super) fn delete_unused_images(&mut self, ctx: &mut dyn NodeContext) -> u64 {
        self.free_images(u64::MAX, SimDuration::ZERO, ctx)
    }

    /// Takes away images that no container uses, those first that have not been used for longest.
    fn free_images(&mut self, wanted: u64, least_age: SimDuration, ctx: &mut dyn NodeContext) -> u64 {
        let now = ctx.now();
        let used: BTreeSet<Name> = self
            .workers
            .values()
            .flat_map(|worker| worker.indexes().map(move |index| (worker, index)))
            .filter(|(worker, index)| worker.record(*index).instance != Instance::None || worker.awaits_image(*index))
            .flat_map(|(worker, index)| [worker.record(index).image.clone(), worker.spec(index).image.clone()])
            .collect();
        let mut unused: Vec<(SimTime, SimTime, Name, u64)> = self
            .shared
            .puller
            .entries()
            .filter(|entry| !used.contains(&entry.image.name))
            .map(|entry| (entry.used, entry.since, entry.image.name.clone(), entry.image.size))
            .collect();
        unused.sort_unstable();
        let mut freed = 0u64;
        for (_, since, name, size) in unused {
            if freed >= wanted {
                break;
            }
            if now.since(since) < least_age {
                continue;
            }
            freed = freed.saturating_add(size);
            ctx.act(Action::RemoveImage { image: name });
        }
        freed
    }
}
