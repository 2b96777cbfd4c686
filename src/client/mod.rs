//! What every component uses to speak to the API: requests, informers, work queues, rate limits, event recorders.
//!
//! - `controller`: the shape of every control loop
//! - `plan`: what a control loop decides
//! - `harness`, `sync`, `expectations`: runs control loops, as kube-controller-manager does
//! - `view`, `cache`, `indexes`, `pod_counts`, `daemon_pods`, `by_label`: what a component knows of the cluster
//! - `transport`, `requests`, `delivery`, `rate_limit`, `tokens`: requests and watches, and what comes of them
//! - `informer`, `back_off`: list and watch
//! - `work_queue`: keys to be worked on
//! - `recorder`, `correlator`, `series_recorder`, `recent`, `lately`: Kubernetes events
//!
//! A component that is not a set of control loops (scheduler, kubelet, a user) owns a [`transport::Client`], perhaps
//! [`informer::Informers`] with their [`cache::Cache`], and hands them everything that happens to it:
//!
//! ```
//! use kubesim::apiserver::protocol::ApiMessage;
//! use kubesim::client::cache::Cache;
//! use kubesim::client::delivery::{Caller, Delivery};
//! use kubesim::client::informer::Informers;
//! use kubesim::client::transport::Client;
//! use kubesim::engine::process::{Context, Input};
//!
//! /// A component that knows its own requests by a number.
//! struct Component {
//!     client: Client<u32>,
//!     informers: Informers,
//!     cache: Cache,
//! }
//!
//! impl Component {
//!     fn handle(&mut self, input: Input<ApiMessage>, ctx: &mut dyn Context<ApiMessage>) {
//!         match self.client.handle(input, ctx) {
//!             Some(Input::Start) => self.informers.start(&mut self.client, ctx),
//!             Some(Input::Timer { token }) if self.informers.timer(token, &mut self.client, ctx) => {}
//!             Some(_own_timer_or_other_input) => {}
//!             None => {}
//!         }
//!         while let Some(delivery) = self.client.next_delivery() {
//!             match (delivery.caller(), delivery) {
//!                 (Caller::Informer(_), delivery) => {
//!                     let mut changed = |_change: kubesim::client::controller::Change<'_>, _cache: &Cache| {};
//!                     self.informers.deliver(delivery, &mut self.client, &mut self.cache, ctx, &mut changed);
//!                 }
//!                 (Caller::Process(_number), Delivery::Answered { .. }) => {}
//!                 _ => {}
//!             }
//!         }
//!     }
//! }
//! ```

mod back_off;
mod by_label;
pub mod cache;
pub mod controller;
mod correlator;
mod daemon_pods;
pub mod delivery;
mod expectations;
pub mod harness;
#[cfg(test)]
mod harness_tests;
mod indexes;
pub mod informer;
mod lately;
pub mod plan;
mod pod_counts;
pub mod rate_limit;
mod recent;
pub mod recorder;
mod requests;
#[cfg(test)]
mod script;
pub mod series_recorder;
mod sync;
pub mod tokens;
pub mod transport;
#[cfg(test)]
mod transport_tests;
pub mod view;
pub mod work_queue;
