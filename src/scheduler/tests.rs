//! Stories of the scheduler as a process.

use super::testing::{Run, node, pod, replica};

#[test]
fn plain_pods_are_bound_and_spread_over_the_nodes() {
    let first = pod("web-0", "1");
    let mut objects = vec![node("a", "4"), node("b", "4"), first.clone()];
    objects.extend((1..4).map(|number| replica(&first, &format!("web-{number}"))));
    let mut run = Run::start(objects);
    run.until_millis(100);
    let mut nodes: Vec<String> = (0..4).map(|number| run.node_of(&format!("web-{number}"))).collect();
    nodes.sort();
    assert_eq!(nodes, ["a", "a", "b", "b"]);
    assert_eq!(run.scheduler.backlog(), 0);
}
