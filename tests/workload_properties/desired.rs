//! Whether a cluster that has settled is as it was asked to be: every workload whole and of its newest revision, nothing left over of
//! what is gone, and on every node what the API says and nothing else.

use std::collections::BTreeSet;

use kubesim::api::batch::Job;
use kubesim::api::kind::{Kind, REGISTRY};
use kubesim::api::meta::Uid;
use kubesim::api::node::Node;
use kubesim::api::object::{Object, Resource};
use kubesim::api::pod::{ConditionStatus, Pod, PodPhase};
use kubesim::api::stateful::{StatefulSet, UpdateStrategy};
use kubesim::api::workload::{DaemonSet, DaemonSetStrategy, Deployment, ReplicaSet};
use kubesim::cluster::Cluster;

/// The label with the revision of a pod of a StatefulSet or DaemonSet.
const REVISION: &str = "controller-revision-hash";
/// The annotation with the revision of a ReplicaSet.
const NUMBER: &str = "deployment.kubernetes.io/revision";

/// Looks at everything.
pub fn check(cluster: &Cluster) -> Result<(), String> {
    let view = View(cluster);
    view.nodes()?;
    view.all::<Deployment>().try_for_each(|deployment| view.deployment(deployment))?;
    view.all::<StatefulSet>().try_for_each(|set| view.stateful_set(set))?;
    view.all::<DaemonSet>().try_for_each(|set| view.daemon_set(set))?;
    view.all::<Job>().try_for_each(|job| view.job(job))?;
    view.leftovers()
}

struct View<'c>(&'c Cluster);

fn expect(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

impl View<'_> {
    fn all<R: Resource>(&self) -> impl Iterator<Item = &R> {
        self.0.truth().list(R::KIND).filter_map(Object::get::<R>).map(|object| &**object)
    }

    fn pods_of(&self, owner: Uid) -> Vec<&Pod> {
        let owned = |pod: &&Pod| pod.meta.controller().is_some_and(|controller| controller.uid == owner);
        self.all::<Pod>().filter(owned).collect()
    }

    /// Every node is ready and runs what the API has there.
    fn nodes(&self) -> Result<(), String> {
        for node in self.all::<Node>() {
            expect(node.is_ready(), || format!("{} is not ready", node.meta.name))?;
        }
        for machine in self.0.nodes() {
            let here: Vec<&Pod> = self.all::<Pod>().filter(|pod| pod.node.as_ref() == Some(machine.name())).collect();
            let live = here.iter().filter(|pod| !pod.is_terminal());
            let mut count = 0;
            for pod in live {
                count += pod.spec.containers.len();
                expect(machine.runs(pod.meta.uid), || format!("{} does not run {}", machine.name(), pod.meta.name))?;
            }
            let running = machine.runtime().running();
            expect(running == count, || format!("{} runs {running} containers, not {count}", machine.name()))?;
        }
        Ok(())
    }

    fn deployment(&self, deployment: &Deployment) -> Result<(), String> {
        let name = &deployment.meta.name;
        let owned =
            |set: &&ReplicaSet| set.meta.controller().is_some_and(|controller| controller.uid == deployment.meta.uid);
        let newest = self
            .all::<ReplicaSet>()
            .filter(owned)
            .max_by_key(|set| set.meta.annotations.get(NUMBER).and_then(|number| number.parse::<u64>().ok()));
        for set in self.all::<ReplicaSet>().filter(owned) {
            let is_newest = newest.is_some_and(|newest| newest.meta.uid == set.meta.uid);
            let wanted = if is_newest { deployment.spec.replicas } else { 0 };
            let pods = self.pods_of(set.meta.uid);
            let ready = pods.iter().filter(|pod| pod.status.is_ready()).count();
            expect(pods.len() == ready && ready == wanted as usize && set.replicas == wanted, || {
                format!("{} has {} pods, {ready} of them ready, of {wanted}", set.meta.name, pods.len())
            })?;
        }
        let image = |set: &ReplicaSet| set.template.spec.full.containers[0].image.clone();
        let newest_image = newest.map(image);
        let wanted = deployment.spec.template.spec.full.containers[0].image.clone();
        expect(newest_image == Some(wanted.clone()), || format!("{name} is of {newest_image:?}, not of {wanted:?}"))?;
        let status = &deployment.status;
        let replicas = deployment.spec.replicas;
        expect(
            [status.replicas, status.ready_replicas, status.available_replicas, status.updated_replicas]
                == [replicas; 4],
            || format!("{name} says of itself {status:?}"),
        )
    }

    fn stateful_set(&self, set: &StatefulSet) -> Result<(), String> {
        let name = &set.meta.name;
        let (first, count) = (set.first_ordinal(), set.spec.replicas);
        let pods = self.pods_of(set.meta.uid);
        expect(pods.len() == count as usize, || format!("{name} has {} pods, of {count}", pods.len()))?;
        let partition = match &set.spec.strategy {
            UpdateStrategy::OnDelete => i32::MAX,
            UpdateStrategy::RollingUpdate(rolling) => rolling.as_ref().map_or(0, |rolling| rolling.partition),
        };
        for ordinal in first..first + count {
            let name = format!("{name}-{ordinal}");
            let pod = pods.iter().find(|pod| *pod.meta.name == *name).ok_or_else(|| format!("there is no {name}"))?;
            expect(pod.status.is_ready(), || format!("{name} is not ready"))?;
            // The partition counts places, not ordinals, from the first one on.
            let revision = pod.meta.labels.get(REVISION);
            let is_new = revision == Some(&set.status.update_revision);
            expect(is_new || ordinal - first < partition, || format!("{name} is of revision {revision:?}"))?;
            for claim in &set.spec.claim_templates {
                let claim = format!("{}-{name}", claim.metadata.name.as_deref().unwrap_or_default());
                let bound = self.0.truth().get(Kind::PersistentVolumeClaim, "default", &claim).is_some();
                expect(bound, || format!("there is no claim {claim}"))?;
            }
        }
        if set.spec.retention.delete_when_scaled {
            let claims = self.0.truth().count(Kind::PersistentVolumeClaim);
            let wanted = count as usize * set.spec.claim_templates.len();
            expect(claims == wanted, || format!("there are {claims} claims, of {wanted}"))?;
        }
        let status = &set.status;
        expect([status.replicas, status.ready_replicas, status.available_replicas] == [count; 3], || {
            format!("{name} says of itself {status:?}")
        })
    }

    fn daemon_set(&self, set: &DaemonSet) -> Result<(), String> {
        let pods = self.pods_of(set.meta.uid);
        let rolls = matches!(set.strategy, DaemonSetStrategy::RollingUpdate { .. });
        for node in self.all::<Node>() {
            let here: Vec<_> = pods.iter().filter(|pod| pod.node.as_ref() == Some(&node.meta.name)).collect();
            expect(here.len() == 1 && here[0].status.is_ready(), || {
                format!("{} has {} pods of {}", node.meta.name, here.len(), set.meta.name)
            })?;
            let image = &here[0].spec.full.containers[0].image;
            let wanted = &set.template.spec.full.containers[0].image;
            expect(!rolls || image == wanted, || format!("{} runs {image:?}, not {wanted:?}", here[0].meta.name))?;
        }
        let revisions: BTreeSet<_> = pods.iter().map(|pod| pod.meta.labels.get(REVISION)).collect();
        expect(!rolls || revisions.len() == 1, || format!("{} has pods of {revisions:?}", set.meta.name))
    }

    fn job(&self, job: &Job) -> Result<(), String> {
        let (name, status) = (&job.meta.name, &job.status);
        let has =
            |kind: &str| status.conditions.iter().any(|one| *one.kind == *kind && one.status == ConditionStatus::True);
        let completions = job.spec.full.completions.unwrap_or(1);
        if has("Complete") {
            expect(status.succeeded == completions, || format!("{name} is complete with {status:?}"))?;
        } else {
            expect(has("Failed"), || format!("{name} has not ended: {status:?}"))?;
        }
        let pods = self.pods_of(job.meta.uid);
        let ended = |pod: &&Pod| matches!(pod.status.phase, PodPhase::Succeeded | PodPhase::Failed);
        expect(pods.iter().all(ended), || format!("{name} has ended and some of its pods have not"))?;
        expect(pods.iter().all(|pod| pod.meta.finalizers().is_empty()), || format!("a pod of {name} is still tracked"))
    }

    /// Nothing is owned by what is gone, or is about to go.
    fn leftovers(&self) -> Result<(), String> {
        let truth = self.0.truth();
        let all = || REGISTRY.iter().flat_map(|row| truth.list(row.kind));
        let uids: BTreeSet<Uid> = all().map(|object| object.meta().uid).collect();
        for object in all() {
            let meta = object.meta();
            let is_orphan = !meta.owners().is_empty() && meta.owners().iter().all(|owner| !uids.contains(&owner.uid));
            expect(!is_orphan, || format!("{} is left over: its owners are gone", object.key()))?;
            expect(!meta.is_deleting(), || format!("{} is still being deleted", object.key()))?;
        }
        Ok(())
    }
}
