//! What a scheduler is made of.

use std::rc::Rc;

use super::configuration::Configuration;
use super::registry::Registry;
use crate::api::meta::Epoch;
use crate::api::name::Name;
use crate::apiserver::protocol::User;
use crate::engine::process::ProcessId;
use crate::engine::random::Seed;
use crate::engine::time::SimDuration;

/// What a scheduler is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// The process's name, as `kube-scheduler`; names its random streams.
    pub name: String,
    /// Who asks.
    pub user: Rc<User>,
    /// The API servers, the one to be preferred first.
    pub api_servers: Vec<ProcessId>,
    /// The machine it runs on, which its events name.
    pub host: String,
    /// What ties virtual time to dates.
    pub epoch: Epoch,
    /// The run's seed.
    pub seed: Seed,
    /// Requests a second (`clientConnection.qps`); zero for no limit.
    pub qps: u32,
    /// Requests at once (`clientConnection.burst`).
    pub burst: u32,
    /// What its configuration file says.
    pub configuration: Rc<Configuration>,
    /// The plugins that profiles may name.
    pub registry: Registry,
    /// Whether decisions are kept for whoever wants to know them.
    pub records_decisions: bool,
    /// How long a scheduling cycle takes: a real scheduler places about 800 plain pods in a second of CPU time
    /// on 1000 nodes.
    pub cycle: SimDuration,
}

impl Config {
    /// The defaults of kube-scheduler for one that speaks to these API servers.
    pub fn new(name: impl Into<String>, api_servers: Vec<ProcessId>, epoch: Epoch, seed: Seed) -> Self {
        let groups = vec![Name::of("system:authenticated")];
        Config {
            name: name.into(),
            user: Rc::new(User { name: Name::of("system:kube-scheduler"), groups }),
            api_servers,
            host: "control-plane-0".to_owned(),
            epoch,
            seed,
            qps: 50,
            burst: 100,
            configuration: Rc::default(),
            registry: Registry::in_tree(),
            records_decisions: false,
            cycle: SimDuration::from_millis(1),
        }
    }
}
