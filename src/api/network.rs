//! Services and the endpoints behind them.

use std::net::IpAddr;
use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;

use super::meta::{Meta, Uid};
use super::name::Name;
use super::selector::Selector;

/// A Service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Metadata.
    pub meta: Meta,
    /// The desired state, defaulted, cluster addresses allocated.
    pub spec: Rc<core::ServiceSpec>,
    /// `spec.selector`, compiled; none if the Service has none.
    pub selector: Option<Rc<Selector>>,
    /// The observed state (load balancer and conditions), as written.
    pub status: Rc<core::ServiceStatus>,
}

/// A slice of the endpoints behind a Service.
#[derive(Clone, Debug)]
pub struct EndpointSlice {
    /// Metadata.
    pub meta: Meta,
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: Name,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
    /// The ports that all endpoints of the slice serve.
    pub ports: Rc<[EndpointPort]>,
}

/// One endpoint of a slice.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct Endpoint {
    pub addresses: Rc<[Name]>,
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
    pub hostname: Option<Name>,
    pub node_name: Option<Name>,
    pub zone: Option<Name>,
    pub hints: Option<Rc<Hints>>,
    pub target: Option<Target>,
}

/// Who is to use an endpoint.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hints {
    /// Clients in these zones.
    pub zones: Vec<Name>,
    /// Clients on these nodes.
    pub nodes: Vec<Name>,
}

/// A port of an endpoint slice or of an Endpoints subset.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct EndpointPort {
    pub name: Option<Name>,
    pub port: Option<i32>,
    pub protocol: Name,
    pub app_protocol: Option<Name>,
}

/// The object behind an endpoint, a pod as a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct Target {
    pub kind: Name,
    pub namespace: Name,
    pub name: Name,
    pub uid: Uid,
}

/// The older form of the endpoints behind a Service.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// Metadata.
    pub meta: Meta,
    /// Groups of addresses that serve the same ports.
    pub subsets: Rc<[EndpointSubset]>,
}

/// Addresses that serve the same ports.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct EndpointSubset {
    pub addresses: Vec<EndpointAddress>,
    pub not_ready_addresses: Vec<EndpointAddress>,
    pub ports: Vec<EndpointPort>,
}

/// One address of a subset.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct EndpointAddress {
    pub ip: IpAddr,
    pub hostname: Option<Name>,
    pub node_name: Option<Name>,
    pub target: Option<Target>,
}
