//! Pods without an owner: 100,000 of them arrive at 100 a second on 1000 nodes and live for 300 seconds on average, as in the
//! published runs of simulators that know nothing but pods and nodes. Here each goes through API server, etcd, scheduler and
//! kubelet in full.
//!
//! Prints what one run took; there is nothing to repeat. `--small` runs a tenth of all of it.

mod support;

use std::rc::Rc;

use kubesim::api::kind::Kind;
use kubesim::api::object::Object;
use kubesim::api::pod::{Pod, PodPhase};
use kubesim::apiserver::protocol::Operation;
use kubesim::cluster::Cluster;
use kubesim::cluster::news::News;
use kubesim::cluster::options::{ClusterOptions, Limits, NodeOptions};
use kubesim::engine::distribution::Distribution;
use kubesim::engine::random::Seed;
use kubesim::engine::time::{SimDuration, SimTime};
use kubesim::runtime::model::{ExitModel, ImageModel, ImageModels};
use kubesim::runtime::span::Spread;
use serde_json::json;
use support::memory_status;

/// Everything is up before the first pod arrives.
const BOOTED: SimTime = SimTime::from_nanos(20_000_000_000);

/// How long pods live on average.
const LIFETIME: SimDuration = SimDuration::from_secs(300);

/// After the last arrival, long enough that but one pod in four million still runs.
const TAIL: SimDuration = SimDuration::from_secs(300 * 15);

fn cluster(nodes: usize) -> Cluster {
    let exit = ExitModel {
        after: Spread(Distribution::Exponential { mean: LIFETIME }),
        codes: vec![0],
        out_of_memory: false,
        cpu_bound: false,
    };
    let image = ImageModel { exit: Some(exit), ..ImageModel::default() };
    let node = |place: usize| NodeOptions {
        name: format!("node-{place}"),
        images: vec!["job:v1".to_owned()],
        ..NodeOptions::default()
    };
    let options = ClusterOptions {
        nodes: (0..nodes).map(node).collect(),
        images: ImageModels::new(vec![("job".to_owned(), image)]),
        // The default of 50 bindings a second would be what everything waits for.
        scheduler_limits: Limits { per_second: 1000, burst: 1000 },
        ..ClusterOptions::default()
    };
    Cluster::new(options, Seed(7), false)
}

fn pod() -> Object {
    let manifest = json!({
        "metadata": {"name": "job", "namespace": "default"},
        "spec": {"restartPolicy": "Never", "containers": [
            {"name": "job", "image": "job:v1", "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}]},
    });
    Object::from_json(Kind::Pod, manifest).expect("a valid manifest")
}

/// What has become of the pods.
#[derive(Default)]
struct Tally {
    bound: usize,
    succeeded: usize,
}

impl Tally {
    fn see(&mut self, old: Option<&Object>, new: Option<&Object>) {
        let pod = |object: Option<&Object>| object.and_then(|it| it.get::<Pod>()).cloned();
        let (old, new) = (pod(old), pod(new));
        let is_bound = |pod: &Option<Rc<Pod>>| pod.as_ref().is_some_and(|pod| pod.node.is_some());
        let is_done = |pod: &Option<Rc<Pod>>| pod.as_ref().is_some_and(|pod| pod.status.phase == PodPhase::Succeeded);
        self.bound += usize::from(is_bound(&new) && !is_bound(&old));
        self.succeeded += usize::from(is_done(&new) && !is_done(&old));
    }
}

/// Lets time pass and counts.
fn rest(cluster: &mut Cluster, until: SimTime, tally: &mut Tally) {
    while cluster.step(until).is_some() {
        while let Some(news) = cluster.next_news() {
            match news {
                News::Write(write) if write.key.kind == Kind::Pod => tally.see(write.old.as_ref(), write.new.as_ref()),
                News::Answer { result, .. } => assert!(result.is_ok(), "{result:?}"),
                News::Violation(violation) => panic!("{violation}"),
                News::Write(_) | News::Alarm { .. } | News::EtcdLeader { .. } | News::Decided(_) | News::Twins(_) => {}
            }
        }
    }
}

#[expect(clippy::disallowed_types, reason = "a bench measures the wall clock")]
fn main() {
    let small = std::env::args().any(|argument| argument == "--small");
    let (nodes, pods, rate) = if small { (100, 10_000, 10) } else { (1000, 100_000, 100) };
    let between = SimDuration::from_millis(1000 / rate);
    let begin = std::time::Instant::now();
    let mut tally = Tally::default();
    let mut cluster = cluster(nodes);
    rest(&mut cluster, BOOTED, &mut tally);
    let booted = begin.elapsed();
    // One specification for all, as the pods of a template have; the names differ.
    let pod = pod();
    for number in 0..pods {
        let mut pod = pod.clone();
        pod.meta_mut().name = format!("job-{number}").as_str().into();
        cluster.request(Operation::Create { object: pod, dry_run: false });
        let until = cluster.now() + between;
        rest(&mut cluster, until, &mut tally);
    }
    let until = cluster.now() + TAIL;
    rest(&mut cluster, until, &mut tally);
    let (wall, events) = (begin.elapsed().as_secs_f64(), cluster.events());
    println!("{pods} pods on {nodes} nodes, {rate} a second, living for 300 s on average");
    println!(
        "  {} bound, {} succeeded, {:.0} s of virtual time",
        tally.bound,
        tally.succeeded,
        cluster.now().as_nanos() as f64 / 1e9
    );
    println!(
        "  {wall:.3} s wall ({booted:.3?} to boot), {events} events, {:.2} million events/s",
        events as f64 / wall / 1e6
    );
    println!("  peak memory {:.1} MB, digest {}", memory_status("VmHWM:"), cluster.digest());
}
