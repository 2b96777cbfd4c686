//! The arguments of plugins as a configuration gives them (`pluginConfig`), with the defaults and checks of the real one
//! (kube-scheduler, `apis/config/v1/defaults.go`, `apis/config/validation/validation_pluginargs.go`).
//!
//! - this file: [`Arguments`], those of any plugin
//! - `resources`: what the two plugins that look at resources take
//! - `placement`: what the others take
//! - `reading`: fields that may be null

pub mod placement;
mod reading;
pub mod resources;

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use self::placement::{
    DefaultPreemptionArgs, DynamicResourcesArgs, InterPodAffinityArgs, NodeAffinityArgs, PodTopologySpreadArgs,
    VolumeBindingArgs,
};
pub use self::resources::{
    NodeResourcesBalancedAllocationArgs, NodeResourcesFitArgs, RequestedToCapacityRatioParam, ResourceSpec,
    ScoringStrategy, UtilizationShapePoint,
};
use crate::api::manifest::{Part, Problem};
use crate::api::validation::error::{ErrorList, Path};

/// The arguments of a plugin.
#[derive(Clone, PartialEq, Debug)]
pub enum Arguments {
    /// None: the configuration has none for it and the plugin is none of those below.
    None,
    /// Those of DefaultPreemption.
    DefaultPreemption(DefaultPreemptionArgs),
    /// Those of DynamicResources.
    DynamicResources(DynamicResourcesArgs),
    /// Those of InterPodAffinity.
    InterPodAffinity(InterPodAffinityArgs),
    /// Those of NodeAffinity.
    NodeAffinity(Box<NodeAffinityArgs>),
    /// Those of NodeResourcesBalancedAllocation.
    NodeResourcesBalancedAllocation(NodeResourcesBalancedAllocationArgs),
    /// Those of NodeResourcesFit.
    NodeResourcesFit(NodeResourcesFitArgs),
    /// Those of PodTopologySpread.
    PodTopologySpread(PodTopologySpreadArgs),
    /// Those of VolumeBinding.
    VolumeBinding(VolumeBindingArgs),
    /// Those of a plugin that reads its arguments itself.
    Other(Value),
}

/// Arguments of one plugin: how they are defaulted and checked.
pub(super) trait PluginArguments: DeserializeOwned + Default {
    /// Fills in what was not given.
    fn set_defaults(&mut self) {}

    /// Everything that is wrong with them.
    fn validate(&self, path: &Path<'_>) -> ErrorList;
}

/// The arguments of a plugin that Kubernetes has a type for, read or defaulted by a function of its type.
macro_rules! by_name {
    ($name:expr, $make:ident($($given:expr),*), $otherwise:expr) => {
        match $name {
            "DefaultPreemption" => $make($($given),*).map(Arguments::DefaultPreemption),
            "DynamicResources" => $make($($given),*).map(Arguments::DynamicResources),
            "InterPodAffinity" => $make($($given),*).map(Arguments::InterPodAffinity),
            "NodeAffinity" => $make($($given),*).map(Box::new).map(Arguments::NodeAffinity),
            "NodeResourcesBalancedAllocation" => $make($($given),*).map(Arguments::NodeResourcesBalancedAllocation),
            "NodeResourcesFit" => $make($($given),*).map(Arguments::NodeResourcesFit),
            "PodTopologySpread" => $make($($given),*).map(Arguments::PodTopologySpread),
            "VolumeBinding" => $make($($given),*).map(Arguments::VolumeBinding),
            _ => $otherwise,
        }
    };
}

impl Arguments {
    /// The arguments of a plugin for which the configuration has none.
    pub fn of_plugin(name: &str) -> Arguments {
        fn defaulted<A: PluginArguments>() -> Option<A> {
            let mut arguments = A::default();
            arguments.set_defaults();
            Some(arguments)
        }
        by_name!(name, defaulted(), None).unwrap_or(Arguments::None)
    }

    /// Reads the arguments of a plugin. Those of plugins that are not Kubernetes' own are not looked into.
    pub fn read(name: &str, part: &Part) -> Result<Arguments, Vec<Problem>> {
        fn decoded<A: PluginArguments>(part: &Part) -> Result<A, Vec<Problem>> {
            let mut arguments: A = part.decode()?;
            arguments.set_defaults();
            Ok(arguments)
        }
        by_name!(name, decoded(part), Ok(Arguments::Other(part.value.clone())))
    }

    /// True if Kubernetes has a type for the arguments of this plugin.
    pub fn are_known(name: &str) -> bool {
        Arguments::of_plugin(name) != Arguments::None
    }

    /// Everything that is wrong with them; `path` is where they stand.
    pub fn validate(&self, path: &Path<'_>) -> ErrorList {
        match self {
            Arguments::None | Arguments::Other(_) => ErrorList::new(),
            Arguments::DefaultPreemption(arguments) => arguments.validate(path),
            Arguments::DynamicResources(arguments) => arguments.validate(path),
            Arguments::InterPodAffinity(arguments) => arguments.validate(path),
            Arguments::NodeAffinity(arguments) => arguments.validate(path),
            Arguments::NodeResourcesBalancedAllocation(arguments) => arguments.validate(path),
            Arguments::NodeResourcesFit(arguments) => arguments.validate(path),
            Arguments::PodTopologySpread(arguments) => arguments.validate(path),
            Arguments::VolumeBinding(arguments) => arguments.validate(path),
        }
    }
}
