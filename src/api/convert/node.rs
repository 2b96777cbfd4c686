//! Nodes and leases.

use std::rc::Rc;

use k8s_openapi::api::coordination::v1 as coordination;
use k8s_openapi::api::core::v1 as core;

use super::meta::{
    from_meta, from_micro, from_quantities, from_time, to_meta, to_micro, to_quantities, to_time, to_time_unless_zero,
};
use super::{Convert, ConvertError, name, name_or_empty, nonempty, nonzero, some_unless_empty, text};
use crate::api::name::Name;
use crate::api::node::{Lease, Node, NodeCondition, NodeImage, NodeStatus, Taint, TaintEffect};
use crate::api::pod::ConditionStatus;

impl TaintEffect {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            TaintEffect::NoSchedule => "NoSchedule",
            TaintEffect::PreferNoSchedule => "PreferNoSchedule",
            TaintEffect::NoExecute => "NoExecute",
        }
    }

    /// From what the API writes.
    pub fn of(text: &str) -> Option<Self> {
        match text {
            "NoSchedule" => Some(TaintEffect::NoSchedule),
            "PreferNoSchedule" => Some(TaintEffect::PreferNoSchedule),
            "NoExecute" => Some(TaintEffect::NoExecute),
            _ => None,
        }
    }
}

impl Convert for Node {
    type Full = core::Node;

    fn to_full(&self) -> core::Node {
        let taint = |taint: &Taint| core::Taint {
            key: String::from(&taint.key),
            value: nonempty(&taint.value),
            effect: taint.effect.as_str().to_owned(),
            time_added: taint.time_added.map(to_time),
        };
        core::Node {
            metadata: to_meta(&self.meta),
            spec: Some(core::NodeSpec {
                pod_cidr: text(&self.pod_cidr),
                pod_cidrs: text(&self.pod_cidr).map(|cidr| vec![cidr]),
                provider_id: text(&self.provider_id),
                unschedulable: self.unschedulable.then_some(true),
                taints: some_unless_empty(self.taints.iter().map(taint).collect()),
                ..core::NodeSpec::default()
            }),
            status: Some(to_status(&self.meta.name, &self.status)),
        }
    }

    fn from_full(full: core::Node) -> Result<Self, ConvertError> {
        let spec = full.spec.unwrap_or_default();
        let taint = |(index, full): (usize, core::Taint)| {
            let effect = TaintEffect::of(&full.effect).ok_or_else(|| {
                let path = format!("spec.taints[{index}].effect");
                let known = "\"NoExecute\", \"NoSchedule\", \"PreferNoSchedule\"";
                ConvertError::new(path, format!("Unsupported value: \"{}\": supported values: {known}", full.effect))
            })?;
            Ok(Taint {
                key: Name::from(full.key),
                value: name_or_empty(full.value),
                effect,
                time_added: full.time_added.map(from_time),
            })
        };
        let taints = spec.taints.unwrap_or_default().into_iter().enumerate().map(taint);
        Ok(Node {
            meta: from_meta(full.metadata)?,
            pod_cidr: name(spec.pod_cidr),
            provider_id: name(spec.provider_id),
            unschedulable: spec.unschedulable.unwrap_or(false),
            taints: taints.collect::<Result<Vec<_>, _>>()?.into(),
            status: from_status(full.status.unwrap_or_default())?,
        })
    }
}

fn to_status(node: &Name, status: &NodeStatus) -> core::NodeStatus {
    let address = |address: &std::net::IpAddr| {
        let of = |type_: &str, address: String| core::NodeAddress { type_: type_.to_owned(), address };
        vec![of("InternalIP", address.to_string()), of("Hostname", String::from(node))]
    };
    let condition = |condition: &NodeCondition| core::NodeCondition {
        type_: String::from(&condition.kind),
        status: condition.status.as_str().to_owned(),
        reason: nonempty(&condition.reason),
        message: nonempty(&condition.message),
        last_heartbeat_time: to_time_unless_zero(condition.last_heartbeat),
        last_transition_time: to_time_unless_zero(condition.last_transition),
    };
    let image = |image: &NodeImage| core::ContainerImage {
        names: some_unless_empty(image.names.iter().map(String::from).collect()),
        size_bytes: nonzero(image.size_bytes),
    };
    core::NodeStatus {
        addresses: status.address.as_ref().map(address),
        capacity: to_quantities(&status.capacity),
        allocatable: to_quantities(&status.allocatable),
        conditions: some_unless_empty(status.conditions.iter().map(condition).collect()),
        images: some_unless_empty(status.images.iter().map(image).collect()),
        daemon_endpoints: status
            .kubelet_port
            .map(|port| core::NodeDaemonEndpoints { kubelet_endpoint: Some(core::DaemonEndpoint { port }) }),
        node_info: status.info.as_deref().cloned(),
        declared_features: some_unless_empty(status.declared_features.iter().map(String::from).collect()),
        ..core::NodeStatus::default()
    }
}

fn from_status(full: core::NodeStatus) -> Result<NodeStatus, ConvertError> {
    let condition = |full: core::NodeCondition| NodeCondition {
        kind: Name::from(full.type_),
        status: ConditionStatus::of(&full.status),
        reason: name_or_empty(full.reason),
        message: name_or_empty(full.message),
        last_heartbeat: full.last_heartbeat_time.map(from_time).unwrap_or_default(),
        last_transition: full.last_transition_time.map(from_time).unwrap_or_default(),
    };
    let image = |full: core::ContainerImage| NodeImage {
        names: full.names.unwrap_or_default().into_iter().map(Name::from).collect(),
        size_bytes: full.size_bytes.unwrap_or(0),
    };
    let internal = full.addresses.iter().flatten().find(|address| address.type_ == "InternalIP");
    let capacity = from_quantities("status.capacity", full.capacity.as_ref())?;
    Ok(NodeStatus {
        address: internal.and_then(|address| address.address.parse().ok()),
        // The API server copies capacity into allocatable where that is absent (core/v1, SetDefaults_NodeStatus).
        allocatable: match &full.allocatable {
            None => capacity.clone(),
            Some(amounts) => from_quantities("status.allocatable", Some(amounts))?,
        },
        capacity,
        conditions: full.conditions.unwrap_or_default().into_iter().map(condition).collect(),
        images: full.images.unwrap_or_default().into_iter().map(image).collect(),
        declared_features: full.declared_features.unwrap_or_default().into_iter().map(Name::from).collect(),
        kubelet_port: full.daemon_endpoints.and_then(|daemons| daemons.kubelet_endpoint).map(|kubelet| kubelet.port),
        info: full.node_info.map(Rc::new),
    })
}

impl Convert for Lease {
    type Full = coordination::Lease;

    fn to_full(&self) -> coordination::Lease {
        coordination::Lease {
            metadata: to_meta(&self.meta),
            spec: Some(coordination::LeaseSpec {
                holder_identity: text(&self.holder),
                lease_duration_seconds: self.duration_seconds,
                acquire_time: self.acquire_time.map(to_micro),
                renew_time: self.renew_time.map(to_micro),
                lease_transitions: self.transitions,
                ..coordination::LeaseSpec::default()
            }),
        }
    }

    fn from_full(full: coordination::Lease) -> Result<Self, ConvertError> {
        let spec = full.spec.unwrap_or_default();
        Ok(Lease {
            meta: from_meta(full.metadata)?,
            holder: name(spec.holder_identity),
            duration_seconds: spec.lease_duration_seconds,
            acquire_time: spec.acquire_time.map(from_micro),
            renew_time: spec.renew_time.map(from_micro),
            transitions: spec.lease_transitions,
        })
    }
}
