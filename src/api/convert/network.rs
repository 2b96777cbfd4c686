//! Services, EndpointSlices, Endpoints.

use std::net::IpAddr;
use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;

use super::meta::{from_label_selector, from_meta, to_meta};
use super::{Convert, ConvertError, name, name_or_empty, nonempty, nonzero, some_unless_empty, text};
use crate::api::meta::Uid;
use crate::api::name::Name;
use crate::api::network::{
    Endpoint, EndpointAddress, EndpointPort, EndpointSlice, EndpointSubset, Endpoints, Hints, Service, Target,
};

impl Convert for Service {
    type Full = core::Service;

    fn to_full(&self) -> core::Service {
        core::Service {
            metadata: to_meta(&self.meta),
            spec: Some((*self.spec).clone()),
            status: Some((*self.status).clone()),
        }
    }

    fn from_full(full: core::Service) -> Result<Self, ConvertError> {
        let spec = full.spec.unwrap_or_default();
        let selector = match &spec.selector {
            Some(labels) if !labels.is_empty() => {
                let full = metav1::LabelSelector { match_labels: Some(labels.clone()), match_expressions: None };
                Some(Rc::new(from_label_selector("spec.selector", &full)?))
            }
            _ => None,
        };
        Ok(Service {
            meta: from_meta(full.metadata)?,
            spec: Rc::new(spec),
            selector,
            status: Rc::new(full.status.unwrap_or_default()),
        })
    }
}

fn to_target(target: &Target) -> core::ObjectReference {
    core::ObjectReference {
        kind: nonempty(&target.kind),
        namespace: nonempty(&target.namespace),
        name: nonempty(&target.name),
        uid: nonzero(target.uid).map(|uid| uid.to_string()),
        ..core::ObjectReference::default()
    }
}

fn from_target(full: core::ObjectReference) -> Target {
    Target {
        kind: name_or_empty(full.kind),
        namespace: name_or_empty(full.namespace),
        name: name_or_empty(full.name),
        uid: full.uid.as_deref().and_then(Uid::parse).unwrap_or_default(),
    }
}

impl Convert for EndpointSlice {
    type Full = discovery::EndpointSlice;

    fn to_full(&self) -> discovery::EndpointSlice {
        let port = |port: &EndpointPort| discovery::EndpointPort {
            name: Some(port.name.as_ref().map(String::from).unwrap_or_default()),
            port: port.port,
            protocol: nonempty(&port.protocol),
            app_protocol: text(&port.app_protocol),
        };
        discovery::EndpointSlice {
            metadata: to_meta(&self.meta),
            address_type: String::from(&self.address_type),
            endpoints: Some(self.endpoints.iter().map(to_endpoint).collect()),
            ports: Some(self.ports.iter().map(port).collect()),
        }
    }

    fn from_full(full: discovery::EndpointSlice) -> Result<Self, ConvertError> {
        let port = |full: discovery::EndpointPort| EndpointPort {
            name: name(full.name),
            port: full.port,
            protocol: Name::from(full.protocol.unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: name(full.app_protocol),
        };
        Ok(EndpointSlice {
            meta: from_meta(full.metadata)?,
            address_type: Name::from(full.address_type),
            endpoints: full.endpoints.unwrap_or_default().into_iter().map(from_endpoint).collect(),
            ports: full.ports.unwrap_or_default().into_iter().map(port).collect(),
        })
    }
}

fn to_endpoint(endpoint: &Endpoint) -> discovery::Endpoint {
    discovery::Endpoint {
        addresses: endpoint.addresses.iter().map(String::from).collect(),
        conditions: Some(discovery::EndpointConditions {
            ready: endpoint.ready,
            serving: endpoint.serving,
            terminating: endpoint.terminating,
        }),
        hostname: text(&endpoint.hostname),
        node_name: text(&endpoint.node_name),
        zone: text(&endpoint.zone),
        hints: endpoint.hints.as_deref().map(to_hints),
        target_ref: endpoint.target.as_ref().map(to_target),
        ..discovery::Endpoint::default()
    }
}

fn to_hints(hints: &Hints) -> discovery::EndpointHints {
    let zones = hints.zones.iter().map(|zone| discovery::ForZone { name: String::from(zone) });
    let nodes = hints.nodes.iter().map(|node| discovery::ForNode { name: String::from(node) });
    discovery::EndpointHints {
        for_zones: some_unless_empty(zones.collect()),
        for_nodes: some_unless_empty(nodes.collect()),
    }
}

fn from_hints(full: discovery::EndpointHints) -> Hints {
    let zones = full.for_zones.unwrap_or_default().into_iter().map(|zone| Name::from(zone.name));
    let nodes = full.for_nodes.unwrap_or_default().into_iter().map(|node| Name::from(node.name));
    Hints { zones: zones.collect(), nodes: nodes.collect() }
}

fn from_endpoint(full: discovery::Endpoint) -> Endpoint {
    let conditions = full.conditions.unwrap_or_default();
    Endpoint {
        addresses: full.addresses.into_iter().map(Name::from).collect(),
        ready: conditions.ready,
        serving: conditions.serving,
        terminating: conditions.terminating,
        hostname: name(full.hostname),
        node_name: name(full.node_name),
        zone: name(full.zone),
        hints: full.hints.map(|hints| Rc::new(from_hints(hints))),
        target: full.target_ref.map(from_target),
    }
}

impl Convert for Endpoints {
    type Full = core::Endpoints;

    fn to_full(&self) -> core::Endpoints {
        core::Endpoints {
            metadata: to_meta(&self.meta),
            subsets: some_unless_empty(self.subsets.iter().map(to_subset).collect()),
        }
    }

    fn from_full(full: core::Endpoints) -> Result<Self, ConvertError> {
        let subsets = full.subsets.unwrap_or_default().into_iter().enumerate();
        let subsets = subsets.map(|(index, subset)| from_subset(&format!("subsets[{index}]"), subset));
        Ok(Endpoints { meta: from_meta(full.metadata)?, subsets: subsets.collect::<Result<Vec<_>, _>>()?.into() })
    }
}

fn to_subset(subset: &EndpointSubset) -> core::EndpointSubset {
    let address = |address: &EndpointAddress| core::EndpointAddress {
        ip: address.ip.to_string(),
        hostname: text(&address.hostname),
        node_name: text(&address.node_name),
        target_ref: address.target.as_ref().map(to_target),
    };
    let port = |port: &EndpointPort| core::EndpointPort {
        name: text(&port.name),
        port: port.port.unwrap_or(0),
        protocol: nonempty(&port.protocol),
        app_protocol: text(&port.app_protocol),
    };
    core::EndpointSubset {
        addresses: some_unless_empty(subset.addresses.iter().map(address).collect()),
        not_ready_addresses: some_unless_empty(subset.not_ready_addresses.iter().map(address).collect()),
        ports: some_unless_empty(subset.ports.iter().map(port).collect()),
    }
}

fn from_subset(path: &str, full: core::EndpointSubset) -> Result<EndpointSubset, ConvertError> {
    let addresses = |list: &str, full: Option<Vec<core::EndpointAddress>>| {
        let one = |(index, full): (usize, core::EndpointAddress)| {
            let ip: IpAddr = full.ip.parse().map_err(|_| {
                let message = format!("Invalid value: \"{}\": must be a valid IP address", full.ip);
                ConvertError::new(format!("{path}.{list}[{index}].ip"), message)
            })?;
            Ok(EndpointAddress {
                ip,
                hostname: name(full.hostname),
                node_name: name(full.node_name),
                target: full.target_ref.map(from_target),
            })
        };
        full.unwrap_or_default().into_iter().enumerate().map(one).collect::<Result<Vec<_>, _>>()
    };
    let port = |full: core::EndpointPort| EndpointPort {
        name: name(full.name),
        port: Some(full.port),
        protocol: Name::from(full.protocol.unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: name(full.app_protocol),
    };
    Ok(EndpointSubset {
        addresses: addresses("addresses", full.addresses)?,
        not_ready_addresses: addresses("notReadyAddresses", full.not_ready_addresses)?,
        ports: full.ports.unwrap_or_default().into_iter().map(port).collect(),
    })
}
