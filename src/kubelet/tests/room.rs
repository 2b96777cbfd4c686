//! What is set aside for pods.

use crate::api::pod::{PodSpec, RestartPolicy};
use crate::api::resources::Resources;
use crate::kubelet::room::Taken;

use super::harness::spec;

#[test]
fn what_one_pod_has_can_be_taken_from_the_sum_unless_that_has_reached_the_largest_amount() {
    let of = |memory: i64| {
        let requests = Resources { memory, ..Resources::default() };
        PodSpec { requests, ..spec(RestartPolicy::Always, 30, Vec::new()) }
    };
    let (small, huge) = (of(5), of(i64::MAX));
    let both = Taken::by([&small, &small].into_iter());
    assert_eq!(both.without(&small), Some(Taken::by([&small].into_iter())));
    assert_eq!(Taken::by([&small, &huge].into_iter()).without(&small), None);
}
