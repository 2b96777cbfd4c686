//! The table of plugins: which there are, in which order they are asked, and how much their scores weigh
//! (kube-scheduler 1.36, `apis/config/v1/default_plugins.go`).

use super::event::ClusterEvent;
use super::framework::{Plugin, PluginSet, Point};
use super::plugins::{
    balanced_allocation::BalancedAllocation, default_binder::DefaultBinder, default_preemption::DefaultPreemption,
    dynamic_resources::DynamicResources, fit::Fit, image_locality::ImageLocality, node_affinity::NodeAffinity,
    node_declared_features::NodeDeclaredFeatures, node_name::NodeName, node_ports::NodePorts,
    node_unschedulable::NodeUnschedulable, node_volume_limits::NodeVolumeLimits, priority_sort::PrioritySort,
    scheduling_gates::SchedulingGates, taint_toleration::TaintToleration, volume_binding::VolumeBinding,
    volume_restrictions::VolumeRestrictions, volume_zone::VolumeZone,
};
use crate::api::name::Name;
use crate::api::pod::Pod;

/// Plugins in the order in which they are asked.
pub struct Profile {
    /// The `schedulerName` of the pods that it is for.
    pub scheduler_name: Name,
    plugins: Vec<Row>,
    /// For each cluster event the plugins that want to hear of it.
    interested: [PluginSet; ClusterEvent::COUNT],
}

/// A plugin of a profile, and how much its scores weigh.
pub struct Row {
    /// The plugin.
    pub plugin: Box<dyn Plugin>,
    /// The weight of its scores; means nothing for a plugin that does not score.
    pub weight: i64,
}

impl Profile {
    /// The default profile.
    pub fn standard() -> Self {
        Profile::new(Name::of("default-scheduler"), Profile::standard_rows())
    }

    /// The plugins of the default profile.
    pub fn standard_rows() -> Vec<Row> {
        let row = |plugin: Box<dyn Plugin>, weight: i64| Row { plugin, weight };
        vec![
            row(Box::new(SchedulingGates), 0),
            row(Box::new(PrioritySort), 0),
            row(Box::new(NodeUnschedulable), 0),
            row(Box::new(NodeName), 0),
            row(Box::new(TaintToleration), 3),
            row(Box::<NodeAffinity>::default(), 2),
            row(Box::new(NodePorts), 0),
            row(Box::new(Fit), 1),
            row(Box::new(VolumeRestrictions), 0),
            row(Box::new(NodeVolumeLimits), 0),
            row(Box::<VolumeBinding>::default(), 1),
            row(Box::new(VolumeZone), 0),
            row(Box::new(DynamicResources), 2),
            row(Box::new(NodeDeclaredFeatures), 0),
            row(Box::new(DefaultPreemption), 0),
            row(Box::new(BalancedAllocation), 1),
            row(Box::new(ImageLocality), 1),
            row(Box::new(DefaultBinder), 0),
        ]
    }

    /// A profile of plugins in the order in which they are asked.
    pub fn new(scheduler_name: Name, plugins: Vec<Row>) -> Self {
        assert!(plugins.len() <= PluginSet::CAPACITY, "a profile has at most 64 plugins");
        let interested = ClusterEvent::ALL.map(|event| {
            let rows = plugins.iter().enumerate();
            rows.filter(|(_, row)| row.plugin.events().contains(event)).map(|(place, _)| place).collect()
        });
        Profile { scheduler_name, plugins, interested }
    }

    /// The plugins that want to hear of an event.
    pub fn interested_in(&self, event: ClusterEvent) -> PluginSet {
        self.interested[event as usize]
    }

    /// A pod's rank in the active queue.
    pub fn rank(&self, pod: &Pod) -> i64 {
        self.at(Point::QueueSort).next().map_or(0, |(_, plugin, _)| plugin.rank(pod))
    }

    /// The first plugin that keeps a pod out of the queue. One that did so before is asked first.
    pub fn gate(&self, pod: &Pod, before: Option<usize>) -> Option<usize> {
        let closed = |place: &usize| !self.plugin(*place).pre_enqueue(pod).is_success();
        let all = self.at(Point::PreEnqueue).map(|(place, _, _)| place);
        before.into_iter().chain(all).find(closed)
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
