//! Deployments: never more pods than replicas and surge; never fewer available, by its own doing, than replicas without those that
//! may be missing.

use std::collections::BTreeMap;

use kubesim::api::int_or_string::{Round, scaled_value};
use kubesim::api::meta::Uid;
use kubesim::api::pod::Pod;
use kubesim::api::workload::{Deployment, DeploymentStrategy, ReplicaSet};
use kubesim::engine::time::{SimDuration, SimTime};

use super::super::watch::{Recent, Scene};
use super::Invariant;

/// The annotation with the replicas that the Deployment had when it scaled a ReplicaSet last.
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// How long after a change of the replicas ReplicaSets may still be about to follow.
const SETTLING: SimDuration = SimDuration::from_secs(5);

/// How many pods a Deployment may have at most, and must have at least
/// (kubernetes, pkg/controller/deployment/util: `ResolveFenceposts`, `MaxUnavailable`).
pub fn bounds(deployment: &Deployment) -> (i64, i64) {
    let replicas = i64::from(deployment.spec.replicas);
    let DeploymentStrategy::RollingUpdate { max_surge, max_unavailable } = &deployment.spec.strategy else {
        return (replicas, 0);
    };
    let surge = scaled_value(max_surge, replicas, Round::Up).unwrap_or(0);
    let missing = scaled_value(max_unavailable, replicas, Round::Down).unwrap_or(0);
    let missing = if surge == 0 && missing == 0 { 1 } else { missing.min(replicas) };
    (replicas + surge, (replicas - missing).max(0))
}

/// The Deployment that manages a ReplicaSet.
fn deployment_of<'s>(set: &ReplicaSet, scene: &'s Scene<'_>) -> Option<&'s Deployment> {
    let owner = set.meta.controller()?;
    scene.objects.get::<Deployment>(&owner.name).filter(|deployment| deployment.meta.uid == owner.uid)
}

fn sets_of<'s>(deployment: &Deployment, scene: &'s Scene<'_>) -> impl Iterator<Item = &'s ReplicaSet> {
    let uid = deployment.meta.uid;
    let sets = scene.objects.all::<ReplicaSet>();
    sets.filter(move |set| set.meta.controller().is_some_and(|controller| controller.uid == uid))
}

/// What ReplicaSets are told, and how many pods they make.
#[derive(Default)]
pub struct Bounds {
    most: BTreeMap<Uid, Recent<i64>>,
    least: BTreeMap<Uid, Recent<i64>>,
    wanted: BTreeMap<Uid, Recent<i32>>,
    available: BTreeMap<Uid, Recent<i32>>,
    judged: [usize; 3],
}

impl Invariant for Bounds {
    fn look(&mut self, scene: &Scene<'_>) -> Result<(), String> {
        if let Some((_, Some(deployment))) = scene.change::<Deployment>() {
            let (most, least) = bounds(deployment);
            self.most.entry(deployment.meta.uid).or_default().note(scene.now, most);
            self.least.entry(deployment.meta.uid).or_default().note(scene.now, least);
        }
        if let Some((old, Some(set))) = scene.change::<ReplicaSet>() {
            self.wanted.entry(set.meta.uid).or_default().note(scene.now, set.replicas);
            self.available.entry(set.meta.uid).or_default().note(scene.now, set.status.available_replicas);
            let before = old.map_or(0, |old| old.replicas);
            if scene.is_by("deployment-controller") && set.replicas > before {
                self.more(set, scene)?;
            }
            if let Some(old) = old
                && scene.is_by("deployment-controller")
                && set.replicas < before
            {
                self.fewer(old, set, scene)?;
            }
        }
        match scene.change::<Pod>() {
            Some((None, Some(pod))) if scene.is_by("replicaset-controller") => self.made(pod, scene),
            _ => Ok(()),
        }
    }

    fn judged(&self) -> usize {
        self.judged.into_iter().min().unwrap_or(0)
    }
}

impl Bounds {
    /// No ReplicaSet is made larger than all of them together may be.
    fn more(&mut self, set: &ReplicaSet, scene: &Scene<'_>) -> Result<(), String> {
        let Some(deployment) = deployment_of(set, scene) else { return Ok(()) };
        self.judged[0] += 1;
        let total: i64 = sets_of(deployment, scene).map(|set| i64::from(set.replicas)).sum();
        let most = self.most.get(&deployment.meta.uid).and_then(|most| most.since(scene.seen_from()).max());
        match most {
            Some(most) if total > most => Err(format!("{total} pods are asked for, of {most} that there may be")),
            _ => Ok(()),
        }
    }

    /// No ReplicaSet is made smaller at the cost of pods that must stay available. A change of the Deployment's replicas is
    /// somebody's wish, and shared among ReplicaSets by their size whatever that costs.
    fn fewer(&mut self, old: &ReplicaSet, set: &ReplicaSet, scene: &Scene<'_>) -> Result<(), String> {
        let Some(deployment) = deployment_of(set, scene) else { return Ok(()) };
        let is_scaling = old.meta.annotations.get(DESIRED) != set.meta.annotations.get(DESIRED);
        if is_scaling || matches!(deployment.spec.strategy, DeploymentStrategy::Recreate) {
            return Ok(());
        }
        let from = scene.seen_from();
        let available = |uid: &Uid| self.available.get(uid).map(|recent| recent.since(from));
        if available(&set.meta.uid).is_some_and(|mut seen| seen.any(|available| available <= set.replicas)) {
            return Ok(());
        }
        self.judged[1] += 1;
        let left: i64 = sets_of(deployment, scene)
            .map(|set| {
                let most = available(&set.meta.uid).and_then(|seen| seen.max()).unwrap_or(0);
                i64::from(most.min(set.replicas))
            })
            .sum();
        let least = self.least.get(&deployment.meta.uid).and_then(|least| least.since(from).min());
        match least {
            Some(least) if left < least => Err(format!("{left} available pods are left, of {least} that must stay")),
            _ => Ok(()),
        }
    }

    /// No ReplicaSet has more pods than it was told. What an API server in trouble was asked may happen though its client was
    /// told otherwise.
    fn made(&mut self, pod: &Pod, scene: &Scene<'_>) -> Result<(), String> {
        let Some(owner) = pod.meta.controller() else { return Ok(()) };
        if scene.circumstances.control_plane_fails {
            return Ok(());
        }
        self.judged[2] += 1;
        let active = scene.objects.pods_of(owner.uid).filter(|pod| pod.is_active()).count();
        let wanted = self.wanted.get(&owner.uid).and_then(|wanted| wanted.since(scene.seen_from()).max());
        match wanted {
            Some(wanted) if active > usize::try_from(wanted).unwrap_or(0) => {
                Err(format!("{active} pods of {} are active, of {wanted}", owner.name))
            }
            _ => Ok(()),
        }
    }
}

/// How many pods of a Deployment are available, and for how long there have been too many.
#[derive(Default)]
pub struct Floor {
    of: BTreeMap<Uid, Standing>,
    judged: usize,
}

/// How a Deployment stands.
#[derive(Default)]
struct Standing {
    replicas: i32,
    changed: SimTime,
    /// The most that were available since, as far as they must stay so.
    reached: i64,
    /// Since when there have been more pods than there may be.
    too_many: Option<SimTime>,
}

impl Invariant for Floor {
    fn look(&mut self, scene: &Scene<'_>) -> Result<(), String> {
        if scene.change::<Pod>().is_none() && scene.change::<Deployment>().is_none() {
            return Ok(());
        }
        for deployment in scene.objects.all::<Deployment>().filter(|deployment| !deployment.meta.is_deleting()) {
            let standing = self.of.entry(deployment.meta.uid).or_default();
            self.judged += 1;
            standing.look(deployment, scene).map_err(|why| format!("{}: {why}", deployment.meta.name))?;
        }
        Ok(())
    }

    fn judged(&self) -> usize {
        self.judged
    }
}

impl Standing {
    fn look(&mut self, deployment: &Deployment, scene: &Scene<'_>) -> Result<(), String> {
        if self.replicas != deployment.spec.replicas {
            *self = Standing { replicas: deployment.spec.replicas, changed: scene.now, ..Standing::default() };
        }
        let pods: Vec<&Pod> = sets_of(deployment, scene).flat_map(|set| scene.objects.pods_of(set.meta.uid)).collect();
        let (most, least) = bounds(deployment);
        let is_settling = scene.now < self.changed + SETTLING;
        let calm = scene.circumstances;
        if !is_settling && !calm.control_plane_fails {
            let active = pods.iter().filter(|pod| pod.is_active()).count() as i64;
            let since = if active > most { Some(*self.too_many.get_or_insert(scene.now)) } else { None };
            self.too_many = since;
            if since.is_some_and(|since| scene.now >= since + SETTLING) {
                return Err(format!("there are {active} pods, of {most} that there may be, and have been for a while"));
            }
        }
        if !is_settling && !calm.nodes_fail && !calm.pods_go {
            let minimum = deployment.spec.min_ready_seconds;
            let is_available = |pod: &&&Pod| pod.is_active() && pod.is_available(minimum, scene.date);
            let available = pods.iter().filter(is_available).count() as i64;
            if available < self.reached {
                return Err(format!("{available} pods are available, of {} that must stay so", self.reached));
            }
            self.reached = self.reached.max(available.min(least));
        }
        Ok(())
    }
}
