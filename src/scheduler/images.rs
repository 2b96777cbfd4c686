//! Which images are on how many nodes (kube-scheduler, `backend/cache`, `imageStates`).
//!
//! A node shows the counts as of its own last change, as the real scheduler's snapshot of it does.

use super::node_info::{ImageOnNode, NodeInfo};
use crate::api::name::Name;
use crate::api::node::Node;
use crate::engine::hash::Map;

/// The account of all images.
#[derive(Default)]
pub struct Images {
    by_name: Map<Name, u32>,
    states: Vec<State>,
    free: Vec<u32>,
}

/// An image name that is on at least one node.
struct State {
    name: Name,
    /// The size that the first node with this name reported.
    size_bytes: i64,
    nodes: u32,
}

impl Images {
    /// Takes in what images a node reports, in place of what it reported before.
    pub fn set(&mut self, info: &mut NodeInfo, node: &Node) {
        self.remove(info);
        for image in node.status.images.iter() {
            for name in image.names.iter() {
                let state = self.state(name, image.size_bytes);
                let known = ImageOnNode { name: name.clone(), state, size_bytes: 0, nodes: 0 };
                info.images.push(known);
            }
        }
        info.images.sort_by(|left, right| left.name.cmp(&right.name));
        info.images.dedup_by(|left, right| left.name == right.name);
        for image in &info.images {
            self.states[image.state as usize].nodes += 1;
        }
    }

    /// Forgets what a node reports.
    pub fn remove(&mut self, info: &mut NodeInfo) {
        for image in info.images.drain(..) {
            let state = &mut self.states[image.state as usize];
            state.nodes -= 1;
            if state.nodes == 0 {
                self.by_name.remove(&state.name);
                self.free.push(image.state);
            }
        }
    }

    /// Lets a node show the present counts; true if that changed anything.
    pub fn refresh(&self, info: &mut NodeInfo) -> bool {
        let mut changed = false;
        for image in &mut info.images {
            let state = &self.states[image.state as usize];
            changed |= (image.size_bytes, image.nodes) != (state.size_bytes, state.nodes);
            (image.size_bytes, image.nodes) = (state.size_bytes, state.nodes);
        }
        changed
    }

    fn state(&mut self, name: &Name, size_bytes: i64) -> u32 {
        if let Some(number) = self.by_name.get(name) {
            return *number;
        }
        let state = State { name: name.clone(), size_bytes, nodes: 0 };
        let number = match self.free.pop() {
            Some(number) => {
                self.states[number as usize] = state;
                number
            }
            None => {
                self.states.push(state);
                self.states.len() as u32 - 1
            }
        };
        self.by_name.insert(name.clone(), number);
        number
    }
}
