//! The plugins that profiles may name, and how each is made out of its arguments
//! (kube-scheduler, `framework/plugins/registry.go`).

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use super::arguments::Arguments;
use super::framework::Plugin;
use super::plugins::{
    balanced_allocation::BalancedAllocation, default_binder::DefaultBinder, default_preemption::DefaultPreemption,
    dynamic_resources::DynamicResources, fit::Fit, image_locality::ImageLocality, inter_pod_affinity::InterPodAffinity,
    node_affinity::NodeAffinity, node_declared_features::NodeDeclaredFeatures, node_name::NodeName,
    node_ports::NodePorts, node_unschedulable::NodeUnschedulable, node_volume_limits::NodeVolumeLimits,
    pod_topology_spread::PodTopologySpread, priority_sort::PrioritySort, scheduling_gates::SchedulingGates,
    taint_toleration::TaintToleration, volume_binding::VolumeBinding, volume_restrictions::VolumeRestrictions,
    volume_zone::VolumeZone,
};
use super::profile::Handle;
use crate::api::validation::error::{ErrorList, Path};

/// Makes a plugin out of its arguments; the handle gives it what all plugins of a scheduler share.
pub type Constructor = Rc<dyn Fn(&Arguments, &Handle) -> Result<Box<dyn Plugin>, WrongArguments>>;

/// How one of Kubernetes' own plugins is made.
type Make = fn(&Arguments, &Handle) -> Result<Box<dyn Plugin>, WrongArguments>;

/// Why a plugin cannot be made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WrongArguments {
    /// In a sentence.
    pub message: String,
    /// The argument that is wrong, as in `scoringStrategy.type`.
    pub argument: Option<String>,
}

/// Plugins by name.
#[derive(Clone)]
pub struct Registry {
    constructors: BTreeMap<String, Constructor>,
}

/// Kubernetes' own plugins. To add one is to add its file and its line here.
const IN_TREE: &[(&str, Make)] = &[
    ("DefaultBinder", |_, _| Ok(Box::new(DefaultBinder))),
    ("DefaultPreemption", |arguments, handle| Ok(Box::new(DefaultPreemption::new(arguments, handle)))),
    ("DynamicResources", |_, _| Ok(Box::new(DynamicResources))),
    ("ImageLocality", |_, _| Ok(Box::new(ImageLocality))),
    ("InterPodAffinity", |arguments, _| Ok(Box::new(InterPodAffinity::new(arguments)))),
    ("NodeAffinity", |arguments, _| Ok(Box::new(NodeAffinity::new(arguments)))),
    ("NodeDeclaredFeatures", |_, _| Ok(Box::new(NodeDeclaredFeatures))),
    ("NodeName", |_, _| Ok(Box::new(NodeName))),
    ("NodePorts", |_, _| Ok(Box::new(NodePorts))),
    ("NodeResourcesBalancedAllocation", |arguments, _| Ok(Box::new(BalancedAllocation::new(arguments)))),
    ("NodeResourcesFit", |arguments, _| {
        WrongArguments::check(arguments)?;
        Ok(Box::new(Fit::new(arguments)))
    }),
    ("NodeUnschedulable", |_, _| Ok(Box::new(NodeUnschedulable))),
    ("NodeVolumeLimits", |_, _| Ok(Box::new(NodeVolumeLimits))),
    ("PodTopologySpread", |arguments, _| Ok(Box::new(PodTopologySpread::new(arguments)))),
    ("PrioritySort", |_, _| Ok(Box::new(PrioritySort))),
    ("SchedulingGates", |_, _| Ok(Box::new(SchedulingGates))),
    ("TaintToleration", |_, _| Ok(Box::new(TaintToleration))),
    ("VolumeBinding", |arguments, _| {
        WrongArguments::check(arguments)?;
        Ok(Box::new(VolumeBinding::new(arguments)))
    }),
    ("VolumeRestrictions", |_, _| Ok(Box::new(VolumeRestrictions))),
    ("VolumeZone", |_, _| Ok(Box::new(VolumeZone))),
];

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.constructors.keys()).finish()
    }
}

impl Default for Registry {
    fn default() -> Self {
        Registry::in_tree()
    }
}

impl Registry {
    /// Kubernetes' own plugins.
    pub fn in_tree() -> Self {
        let mut registry = Registry { constructors: BTreeMap::new() };
        for (name, constructor) in IN_TREE {
            registry.constructors.insert((*name).to_owned(), Rc::new(constructor));
        }
        registry
    }

    /// Adds a plugin of one's own. A profile has it once its configuration enables it.
    ///
    /// # Errors
    ///
    /// If there is a plugin of this name already.
    pub fn register(
        &mut self,
        name: &str,
        constructor: impl Fn(&Arguments, &Handle) -> Result<Box<dyn Plugin>, WrongArguments> + 'static,
    ) -> Result<(), String> {
        if self.constructors.contains_key(name) {
            return Err(format!("a plugin named {name} already exists"));
        }
        self.constructors.insert(name.to_owned(), Rc::new(constructor));
        Ok(())
    }

    /// True if a plugin of this name is Kubernetes' own.
    pub fn is_in_tree(name: &str) -> bool {
        IN_TREE.iter().any(|(own, _)| *own == name)
    }

    /// How a plugin is made.
    pub fn constructor(&self, name: &str) -> Option<&Constructor> {
        self.constructors.get(name)
    }
}

impl WrongArguments {
    /// Whether arguments are what they should be.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub fn check(arguments: &Arguments) -> Result<(), WrongArguments> {
        let errors: ErrorList = arguments.validate(&Path::Root);
        match errors.0.first() {
            None => Ok(()),
            Some(first) => Err(WrongArguments { message: errors.to_string(), argument: Some(first.path.clone()) }),
        }
    }
}
