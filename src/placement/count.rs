//! How many copies of a pod fit, one placed after the other, as cluster-capacity counts them.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::api::meta::Uid;
use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::engine::random::Seed;
use crate::scheduler::algorithm::{Algorithm, Outcome};
use crate::scheduler::profile::Profile;

use super::snapshot::Snapshot;

/// How many copies fit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Count {
    /// The pod, as `namespace/name`.
    pub pod: String,
    /// How many copies were placed.
    pub copies: u64,
    /// How many of them are on each node that has any.
    pub by_node: BTreeMap<Name, u64>,
    /// Why not one more: the scheduler's own sentence. None if only the limit ended the count.
    pub reason: Option<String>,
}

/// Places copies of a pod until one does not fit or there are `limit`. Each is placed by the scheduler's own algorithm, which
/// looks at all nodes; the seed decides among equally good ones. The copies stay in the snapshot.
pub fn count(profile: &Profile, snapshot: &mut Snapshot, pod: &Rc<Pod>, limit: u64, seed: Seed) -> Count {
    let mut algorithm = Algorithm::new(100, seed.stream("count", "node-tie-break"));
    let name = format!("{}/{}", pod.meta.namespace, pod.meta.name);
    let mut count = Count { pod: name, copies: 0, by_node: BTreeMap::new(), reason: None };
    while count.copies < limit {
        let mut copy = Pod::clone(pod);
        copy.meta.name = Name::from(format!("{}-{}", pod.meta.name, count.copies));
        // No object of an API server has a uid with these highest bits.
        copy.meta.uid = Uid(u128::MAX - u128::from(count.copies));
        copy.status.nominated_node = None;
        let copy = Rc::new(copy);
        snapshot.cluster.refresh();
        match algorithm.schedule(profile, &copy, &snapshot.cluster) {
            Outcome::Node(chosen) => {
                snapshot.cluster.assume(&copy, &chosen.node);
                *count.by_node.entry(chosen.node).or_default() += 1;
                count.copies += 1;
            }
            Outcome::Failed(why) => {
                count.reason = Some(why.to_string());
                break;
            }
            Outcome::Unschedulable(mut diagnosis) => {
                // A copy does not push out what was there before it.
                diagnosis.post_filter.clear();
                count.reason = Some(diagnosis.message());
                break;
            }
        }
    }
    snapshot.cluster.refresh();
    count
}
