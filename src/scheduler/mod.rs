//! tmp
#![allow(missing_docs)]
use crate::engine::process::*;
pub struct Config {
    pub qps: u32,
    pub burst: u32,
}
impl Config {
    pub fn new(_n: String, _m: Vec<ProcessId>, _e: crate::api::meta::Epoch, _s: crate::engine::random::Seed) -> Self {
        Config { qps: 50, burst: 100 }
    }
}
pub struct Scheduler;
impl Scheduler {
    pub fn new(_: Config) -> Self {
        Scheduler
    }
    pub fn handle(
        &mut self,
        _: Input<crate::apiserver::protocol::ApiMessage>,
        _: &mut dyn Context<crate::apiserver::protocol::ApiMessage>,
    ) {
    }
}
