//! Evictions through the API never break a disruption budget, whoever asks for how many at once.

mod support;

use kubesim::api::kind::Kind;
use kubesim::api::meta::ObjectKey;
use kubesim::api::policy::PodDisruptionBudget;
use kubesim::apiserver::protocol::{DeleteOptions, Operation};
use kubesim::apiserver::status::Reason;
use kubesim::cluster::options::KubeletKind;
use kubesim::engine::random::Seed;
use support::{Bed, options, stand_in_images};

/// A Deployment and a budget for its pods.
fn application(replicas: u64, budget: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec: {{containers: [{{name: app, image: \"fake/app:v1\"}}]}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{name: web}}
spec: {{{budget}, selector: {{matchLabels: {{app: web}}}}}}
"
    )
}

/// The pods that are ready and stay.
fn healthy(bed: &Bed) -> usize {
    bed.pods().iter().filter(|pod| pod.status.is_ready() && !pod.meta.is_deleting()).count()
}

#[test]
fn evictions_through_the_api_never_break_a_budget() {
    let (mut granted, mut refused) = (0, 0);
    for seed in 0..6 {
        let mut chance = Seed(seed).stream("disruption", "test");
        let replicas = 3 + chance.below(6);
        let (budget, needed) = match chance.below(3) {
            0 => ("maxUnavailable: 1".to_owned(), replicas - 1),
            1 => ("minAvailable: 50%".to_owned(), replicas.div_ceil(2)),
            _ => (format!("minAvailable: {}", replicas - 2), replicas - 2),
        };
        let mut options = options(4, KubeletKind::StandIn);
        options.images = stand_in_images();
        let mut bed = Bed::ready(options, seed);
        bed.apply(&application(replicas, &budget));
        bed.until("all are ready and counted", 60, |bed| {
            let known = bed.get::<PodDisruptionBudget>("default", "web");
            let counted = known.is_some_and(|budget| budget.current_healthy() as u64 == replicas);
            healthy(bed) as u64 == replicas && counted
        });
        let mut asked = Vec::new();
        for _ in 0..120 {
            // Several at the same time, of pods that may be going already.
            for _ in 0..chance.below(4) {
                let pods = bed.pods();
                let name = pods[chance.below(pods.len() as u64) as usize].meta.name.clone();
                let key = ObjectKey::new(Kind::Pod, "default", name);
                asked.push(bed.send(Operation::Evict { key, options: DeleteOptions::default() }));
            }
            let end = bed.now() + kubesim::engine::time::SimDuration::from_millis(50 + chance.below(400));
            while bed.now() < end {
                if bed.step(end) {
                    let left = healthy(&bed) as u64;
                    assert!(left >= needed, "seed {seed}: {left} of {needed} are left\n{}", bed.state());
                }
            }
        }
        bed.run(20);
        for request in asked {
            match bed.answered(request) {
                Some(Ok(_)) => granted += 1,
                Some(Err(status)) => refused += usize::from(status.reason == Reason::TooManyRequests),
                None => panic!("an eviction was never answered"),
            }
        }
    }
    assert!(granted > 50 && refused > 50, "{granted} granted, {refused} refused");
}
