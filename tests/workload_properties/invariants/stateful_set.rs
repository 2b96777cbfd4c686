//! OrderedReady: no pod is made before those below it are ready.

use std::collections::BTreeMap;

use kubesim::api::pod::Pod;
use kubesim::api::stateful::StatefulSet;
use kubesim::engine::time::SimTime;

use super::super::watch::Scene;
use super::Invariant;

/// When each pod was ready last; none while it is.
#[derive(Default)]
pub struct Order {
    ready: BTreeMap<String, Option<SimTime>>,
    judged: usize,
}

impl Invariant for Order {
    fn look(&mut self, scene: &Scene<'_>) -> Result<(), String> {
        let Some((old, new)) = scene.change::<Pod>() else { return Ok(()) };
        let is_ready = |pod: &Pod| pod.status.is_ready() && !pod.meta.is_deleting();
        let name = scene.write.key.name.to_string();
        let (was, is) = (old.is_some_and(is_ready), new.is_some_and(is_ready));
        if is {
            self.ready.insert(name, None);
        } else if was {
            self.ready.insert(name, Some(scene.now));
        }
        match (old, new) {
            (None, Some(pod)) if scene.is_by("statefulset-controller") => self.made(pod, scene),
            _ => Ok(()),
        }
    }

    fn judged(&self) -> usize {
        self.judged
    }
}

impl Order {
    fn made(&mut self, pod: &Pod, scene: &Scene<'_>) -> Result<(), String> {
        let Some(set) = pod.meta.controller().and_then(|owner| scene.objects.get::<StatefulSet>(&owner.name)) else {
            return Ok(());
        };
        let ordinal = pod.meta.name.rsplit_once('-').and_then(|(_, ordinal)| ordinal.parse::<i32>().ok());
        let Some(ordinal) = ordinal.filter(|_| !set.spec.is_parallel) else { return Ok(()) };
        for lower in set.first_ordinal()..ordinal {
            self.judged += 1;
            let name = format!("{}-{lower}", set.meta.name);
            let was_ready = match self.ready.get(&name) {
                Some(None) => true,
                Some(Some(last)) => *last >= scene.seen_from(),
                None => false,
            };
            if !was_ready {
                return Err(format!("{} is made while {name} is not ready", pod.meta.name));
            }
        }
        Ok(())
    }
}
