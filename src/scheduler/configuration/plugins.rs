//! Which plugins are asked where: the default ones, what a configuration changes about them, and the lists that follow
//! (kube-scheduler, `apis/config/v1/default_plugins.go`; `framework/runtime/framework.go`, `expandMultiPointPlugins`).

use super::file::{Plugin, PluginSet, Plugins};
use crate::scheduler::framework::Point;

/// The default plugins in their order, with the weights of their scores.
const DEFAULT: [(&str, Option<i32>); 20] = [
    ("SchedulingGates", None),
    ("PrioritySort", None),
    ("NodeUnschedulable", None),
    ("NodeName", None),
    ("TaintToleration", Some(3)),
    ("NodeAffinity", Some(2)),
    ("NodePorts", None),
    ("NodeResourcesFit", Some(1)),
    ("VolumeRestrictions", None),
    ("NodeVolumeLimits", None),
    ("VolumeBinding", None),
    ("VolumeZone", None),
    ("PodTopologySpread", Some(2)),
    ("InterPodAffinity", Some(2)),
    ("DynamicResources", Some(2)),
    ("DefaultPreemption", None),
    ("NodeResourcesBalancedAllocation", Some(1)),
    ("ImageLocality", Some(1)),
    ("DefaultBinder", None),
    ("NodeDeclaredFeatures", None),
];

/// An extension point: what is asked there, and how the framework and configurations call it.
pub struct ExtensionPoint<'a> {
    /// The point; none for those of pod groups, at which no plugin is asked here.
    pub point: Option<Point>,
    /// The field of a configuration.
    pub field: &'static str,
    /// The type of the plugins that are asked there.
    pub type_name: &'static str,
    /// What is on and off there.
    pub set: &'a PluginSet,
}

impl Plugins {
    /// The default plugins.
    pub fn standard() -> Plugins {
        let enabled = DEFAULT.map(|(name, weight)| Plugin { name: name.to_owned(), weight });
        let multi_point = PluginSet { enabled: enabled.into(), disabled: Vec::new() };
        Plugins { multi_point, ..Plugins::default() }
    }

    /// The default plugins with what a configuration changes about them.
    pub fn merged(custom: &Plugins) -> Plugins {
        let default = Plugins::standard();
        let merged = |default: &PluginSet, custom: &PluginSet| default.merged_with(custom);
        let none = PluginSet::default();
        Plugins {
            multi_point: merged(&default.multi_point, &custom.multi_point),
            pre_enqueue: merged(&none, &custom.pre_enqueue),
            queue_sort: merged(&none, &custom.queue_sort),
            pre_filter: merged(&none, &custom.pre_filter),
            filter: merged(&none, &custom.filter),
            post_filter: merged(&none, &custom.post_filter),
            pre_score: merged(&none, &custom.pre_score),
            score: merged(&none, &custom.score),
            reserve: merged(&none, &custom.reserve),
            permit: merged(&none, &custom.permit),
            pre_bind: merged(&none, &custom.pre_bind),
            bind: merged(&none, &custom.bind),
            post_bind: merged(&none, &custom.post_bind),
            placement_generate: merged(&none, &custom.placement_generate),
            placement_score: merged(&none, &custom.placement_score),
        }
    }

    /// The extension points in the order in which the framework fills them (`getExtensionPoints`).
    pub fn extension_points(&self) -> [ExtensionPoint<'_>; 14] {
        let at = |point, field, type_name, set| ExtensionPoint { point: Some(point), field, type_name, set };
        let of_groups = |field, type_name, set| ExtensionPoint { point: None, field, type_name, set };
        [
            at(Point::PreFilter, "preFilter", "PreFilterPlugin", &self.pre_filter),
            at(Point::Filter, "filter", "FilterPlugin", &self.filter),
            at(Point::PostFilter, "postFilter", "PostFilterPlugin", &self.post_filter),
            at(Point::Reserve, "reserve", "ReservePlugin", &self.reserve),
            at(Point::PreScore, "preScore", "PreScorePlugin", &self.pre_score),
            at(Point::Score, "score", "ScorePlugin", &self.score),
            at(Point::PreBind, "preBind", "PreBindPlugin", &self.pre_bind),
            at(Point::Bind, "bind", "BindPlugin", &self.bind),
            at(Point::PostBind, "postBind", "PostBindPlugin", &self.post_bind),
            at(Point::Permit, "permit", "PermitPlugin", &self.permit),
            at(Point::PreEnqueue, "preEnqueue", "PreEnqueuePlugin", &self.pre_enqueue),
            at(Point::QueueSort, "queueSort", "QueueSortPlugin", &self.queue_sort),
            of_groups("placementGenerate", "PlacementGeneratePlugin", &self.placement_generate),
            of_groups("placementScore", "PlacementScorePlugin", &self.placement_score),
        ]
    }

    /// The names of all plugins that are needed, those of the default order first.
    pub fn needed(&self) -> Vec<&str> {
        let points = self.extension_points();
        let sets = [&self.multi_point].into_iter().chain(points.iter().map(|point| point.set));
        let mut names: Vec<&str> = Vec::new();
        for plugin in sets.flat_map(|set| &set.enabled) {
            if !names.contains(&plugin.name.as_str()) {
                names.push(&plugin.name);
            }
        }
        names
    }
}

impl PluginSet {
    /// These default plugins with what a configuration changes about them (`mergePluginSet`).
    fn merged_with(&self, custom: &PluginSet) -> PluginSet {
        let disabled: Vec<Plugin> = custom.disabled.iter().chain(&self.disabled).cloned().collect();
        let is_off = |name: &str| disabled.iter().any(|plugin| plugin.name == name);
        let mut replaced = vec![false; custom.enabled.len()];
        let mut enabled = Vec::new();
        if !is_off("*") {
            for plugin in self.enabled.iter().filter(|plugin| !is_off(&plugin.name)) {
                // A default plugin that is configured keeps its place.
                let configured = custom.enabled.iter().rposition(|other| other.name == plugin.name);
                enabled.push(configured.map_or(plugin, |place| &custom.enabled[place]).clone());
                configured.into_iter().for_each(|place| replaced[place] = true);
            }
        }
        let added = custom.enabled.iter().zip(replaced).filter(|(_, replaced)| !replaced);
        enabled.extend(added.map(|(plugin, _)| plugin.clone()));
        PluginSet { enabled, disabled }
    }

    /// The plugins of a point in order: those that are on here and at all points as they stand here, then those that are on
    /// at all points, then the rest. `applies` says which can be asked here.
    ///
    /// # Errors
    ///
    /// The name of a plugin that is on twice.
    pub fn expanded(&self, multi_point: &PluginSet, applies: impl Fn(&str) -> bool) -> Result<Vec<String>, String> {
        let own: Vec<&str> = self.enabled.iter().map(|plugin| plugin.name.as_str()).collect();
        let is_off = |name: &str| self.disabled.iter().any(|plugin| plugin.name == name);
        if is_off("*") {
            return Ok(own.into_iter().map(str::to_owned).collect());
        }
        let (mut overridden, mut everywhere) = (Vec::new(), Vec::new());
        for plugin in &multi_point.enabled {
            let name = plugin.name.as_str();
            if !applies(name) || is_off(name) {
                continue;
            }
            if own.contains(&name) {
                overridden.push(name);
            } else if everywhere.contains(&name) {
                return Err(name.to_owned());
            } else {
                everywhere.push(name);
            }
        }
        let first = own.iter().filter(|name| overridden.contains(name));
        let last = own.iter().filter(|name| !overridden.contains(name));
        Ok(first.chain(&everywhere).chain(last).map(|name| (*name).to_owned()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(enabled: &[&str], disabled: &[&str]) -> PluginSet {
        let plugins = |names: &[&str]| {
            names
                .iter()
                .map(|word| {
                    let (name, weight) = word.split_once('=').unwrap_or((word, ""));
                    Plugin { name: name.to_owned(), weight: weight.parse().ok() }
                })
                .collect()
        };
        PluginSet { enabled: plugins(enabled), disabled: plugins(disabled) }
    }

    #[test]
    fn a_default_plugin_that_is_configured_keeps_its_place() {
        let default = set(&["A=1", "B=2", "C=3"], &[]);
        assert_eq!(default.merged_with(&set(&["D", "B=9"], &["A"])), set(&["B=9", "C=3", "D"], &["A"]));
        assert_eq!(default.merged_with(&set(&["C=5"], &["*"])), set(&["C=5"], &["*"]));
        assert_eq!(default.merged_with(&set(&["B=5"], &["B"])).enabled, set(&["A=1", "C=3", "B=5"], &[]).enabled);
    }

    #[test]
    fn what_is_on_at_all_points_stands_between_what_overrides_it_and_the_rest() {
        let everywhere = set(&["A", "B", "C", "D"], &[]);
        let expand = |own: &PluginSet| own.expanded(&everywhere, |name| name != "D").map(|names| names.join(" "));
        assert_eq!(expand(&set(&[], &[])).as_deref(), Ok("A B C"));
        assert_eq!(expand(&set(&["X", "C", "B"], &["A"])).as_deref(), Ok("C B X"));
        assert_eq!(expand(&set(&["X"], &["*"])).as_deref(), Ok("X"));
        assert_eq!(set(&[], &[]).expanded(&set(&["A", "A"], &[]), |_| true), Err("A".to_owned()));
    }
}
