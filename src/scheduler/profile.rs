//! The table of plugins: which there are, in which order they are asked, and how much their scores weigh
//! (kube-scheduler 1.36, `apis/config/v1/default_plugins.go`).

use super::framework::{Plugin, Point};
use super::plugins::{
    balanced_allocation::BalancedAllocation, default_binder::DefaultBinder, fit::Fit, image_locality::ImageLocality,
    node_affinity::NodeAffinity, node_name::NodeName, node_ports::NodePorts, node_unschedulable::NodeUnschedulable,
    priority_sort::PrioritySort, scheduling_gates::SchedulingGates, taint_toleration::TaintToleration,
};

/// Plugins in the order in which they are asked.
pub struct Profile {
    /// The `schedulerName` of the pods that it is for.
    pub scheduler_name: &'static str,
    plugins: Vec<Row>,
}

/// A plugin of a profile.
struct Row {
    plugin: Box<dyn Plugin>,
    weight: i64,
}

impl Profile {
    /// The default profile.
    pub fn standard() -> Self {
        let row = |plugin: Box<dyn Plugin>, weight: i64| Row { plugin, weight };
        Profile {
            scheduler_name: "default-scheduler",
            plugins: vec![
                row(Box::new(SchedulingGates), 0),
                row(Box::new(PrioritySort), 0),
                row(Box::new(NodeUnschedulable), 0),
                row(Box::new(NodeName), 0),
                row(Box::new(TaintToleration), 3),
                row(Box::new(NodeAffinity::default()), 2),
                row(Box::new(NodePorts), 0),
                row(Box::new(Fit), 1),
                row(Box::new(BalancedAllocation), 1),
                row(Box::new(ImageLocality), 1),
                row(Box::new(DefaultBinder), 0),
            ],
        }
    }

    /// The plugins that are asked at a point, with their places in the profile and their weights.
    pub fn at(&self, point: Point) -> impl Iterator<Item = (usize, &dyn Plugin, i64)> {
        let rows = self.plugins.iter().enumerate();
        rows.filter(move |(_, row)| row.plugin.points().contains(&point))
            .map(|(place, row)| (place, row.plugin.as_ref(), row.weight))
    }

    /// The plugin at a place.
    pub fn plugin(&self, place: usize) -> &dyn Plugin {
        self.plugins[place].plugin.as_ref()
    }

    /// How many plugins there are.
    pub fn len(&self) -> usize {
        self.plugins.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.plugins.is_empty()
    }
}
