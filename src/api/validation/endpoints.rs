//! Endpoints and EndpointSlices.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::error::{ErrorList, FieldError, Path};
use super::metadata::{self, Scope};
use super::{Validate, format, one_of, text};

pub(super) const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

impl Validate for Endpoints {
    fn validate(&self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta(&self.metadata, Scope::Namespaced, format::dns_1123_subdomain, &mut errors);
        subsets(self, &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta_update(&self.metadata, &old.metadata, &mut errors);
        // What was accepted once is accepted as long as it stays.
        if !metadata::same(&self.subsets, &old.subsets) {
            subsets(self, &mut errors);
        }
        errors
    }
}

fn subsets(object: &Endpoints, errors: &mut ErrorList) {
    let path = Path::Root.child("subsets");
    for (position, subset) in object.subsets.iter().flatten().enumerate() {
        let place = path.index(position);
        let (ready, not_ready) = (subset.addresses.as_deref(), subset.not_ready_addresses.as_deref());
        let (ready, not_ready) = (ready.unwrap_or_default(), not_ready.unwrap_or_default());
        if ready.is_empty() && not_ready.is_empty() {
            errors.push(FieldError::required(&place, "must specify `addresses` or `notReadyAddresses`"));
        }
        for (field, addresses) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
            let list = place.child(field);
            for (position, entry) in addresses.iter().enumerate() {
                endpoint_address(entry, &list.index(position), errors);
            }
        }
        let ports = subset.ports.as_deref().unwrap_or_default();
        let list = place.child("ports");
        for (position, port) in ports.iter().enumerate() {
            endpoint_port(port, ports.len() > 1, &list.index(position), errors);
        }
    }
}

fn endpoint_address(entry: &EndpointAddress, path: &Path<'_>, errors: &mut ErrorList) {
    if !text(&entry.hostname).is_empty() {
        let hostname = text(&entry.hostname);
        errors.invalid_each(&path.child("hostname"), hostname, format::dns_1123_label(hostname));
    }
    if let Some(node) = &entry.node_name {
        errors.invalid_each(&path.child("nodeName"), node, format::dns_1123_subdomain(node));
    }
    address(&entry.ip, &path.child("ip"), errors);
}

fn endpoint_port(port: &EndpointPort, name_required: bool, path: &Path<'_>, errors: &mut ErrorList) {
    match text(&port.name) {
        "" if name_required => errors.push(FieldError::required(&path.child("name"), "")),
        "" => {}
        name => errors.invalid_each(&path.child("name"), name, format::dns_1123_label(name)),
    }
    for complaint in format::port_number(port.port) {
        errors.push(FieldError::invalid(&path.child("port"), port.port, complaint));
    }
    one_of(text(&port.protocol), &PROTOCOLS, &path.child("protocol"), errors);
}

/// Checks an address to which traffic may be sent.
pub(super) fn address(text: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let Ok(ip) = text.parse::<IpAddr>() else {
        let message = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        return errors.push(FieldError::invalid(path, text, message));
    };
    let (link_local, link_local_multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.segments()[0] & 0xffc0 == 0xfe80, ip.segments()[0] & 0xff0f == 0xff02),
    };
    let unspecified = format!("may not be unspecified ({text})");
    let refused = [
        (ip.is_unspecified(), unspecified.as_str()),
        (ip.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (link_local_multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
    ];
    for (_, message) in refused.into_iter().filter(|(applies, _)| *applies) {
        errors.push(FieldError::invalid(path, text, message));
    }
}

impl Validate for EndpointSlice {
    fn validate(&self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta(&self.metadata, Scope::Namespaced, format::dns_1123_subdomain, &mut errors);
        slice(self, true, &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta_update(&self.metadata, &old.metadata, &mut errors);
        slice(self, !metadata::same(&self.endpoints, &old.endpoints), &mut errors);
        metadata::immutable(&self.address_type, &old.address_type, &Path::Root.child("addressType"), &mut errors);
        errors
    }
}

fn slice(slice: &EndpointSlice, check_endpoints: bool, errors: &mut ErrorList) {
    one_of(&slice.address_type, &["FQDN", "IPv4", "IPv6"], &Path::Root.child("addressType"), errors);
    slice_ports(slice, errors);
    if !check_endpoints {
        return;
    }
    let endpoints = slice.endpoints.as_deref().unwrap_or_default();
    let path = Path::Root.child("endpoints");
    if endpoints.len() > 1000 {
        return errors.push(FieldError::too_many(&path, endpoints.len(), 1000));
    }
    for (position, endpoint) in endpoints.iter().enumerate() {
        slice_endpoint(endpoint, &slice.address_type, &path.index(position), errors);
    }
}

fn slice_ports(slice: &EndpointSlice, errors: &mut ErrorList) {
    let ports = slice.ports.as_deref().unwrap_or_default();
    let path = Path::Root.child("ports");
    if ports.len() > 20_000 {
        return errors.push(FieldError::too_many(&path, ports.len(), 20_000));
    }
    let mut names = BTreeSet::new();
    for (position, port) in ports.iter().enumerate() {
        let place = path.index(position);
        let name = text(&port.name);
        if !name.is_empty() {
            errors.invalid_each(&place.child("name"), name, format::dns_1123_label(name));
        }
        if !names.insert(name) {
            errors.push(FieldError::duplicate(&place.child("name"), name));
        }
        one_of(text(&port.protocol), &PROTOCOLS, &place.child("protocol"), errors);
    }
}

fn slice_endpoint(endpoint: &Endpoint, kind: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let addresses = path.child("addresses");
    match endpoint.addresses.len() {
        0 => errors.push(FieldError::required(&addresses, "must contain at least 1 address")),
        1..=100 => {}
        count => errors.push(FieldError::too_many(&addresses, count, 100)),
    }
    for (position, text) in endpoint.addresses.iter().enumerate() {
        let place = addresses.index(position);
        match kind {
            "IPv4" | "IPv6" => {
                if kind == "IPv4" && text.parse::<Ipv4Addr>().is_err() && text.parse::<IpAddr>().is_ok() {
                    errors.push(FieldError::invalid(&addresses, text, "must be an IPv4 address"));
                }
                if kind == "IPv6" && text.parse::<Ipv6Addr>().is_err() && text.parse::<IpAddr>().is_ok() {
                    errors.push(FieldError::invalid(&addresses, text, "must be an IPv6 address"));
                }
                address(text, &place, errors);
            }
            "FQDN" => errors.invalid_each(&place, text, format::dns_1123_subdomain(text)),
            _ => {}
        }
    }
    if let Some(node) = &endpoint.node_name {
        errors.invalid_each(&path.child("nodeName"), node, format::dns_1123_subdomain(node));
    }
    if let Some(hostname) = &endpoint.hostname {
        errors.invalid_each(&path.child("hostname"), hostname, format::dns_1123_label(hostname));
    }
}
