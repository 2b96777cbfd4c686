//! The subsets of Endpoints: addresses grouped so that all of a subset serve all its ports.
//! Shared by the controllers that write and that mirror Endpoints.

use std::collections::BTreeMap;

use crate::api::meta::Uid;
use crate::api::network::{EndpointAddress, EndpointPort, EndpointSubset};

/// What tells one address from another: its text, by which it is sorted, and the pod.
type AddressKey = (String, Uid);

/// Addresses by the ports under which they serve, to be packed into as few subsets as there can be
/// (api/v1/endpoints, `RepackSubsets`). Subsets are sorted by their ports; the original sorts by a hash.
#[derive(Default)]
pub struct Repacking {
    /// For each port the addresses that serve it, and whether they are ready; those without ports have one of their own.
    by_port: BTreeMap<Option<EndpointPort>, BTreeMap<AddressKey, bool>>,
    addresses: BTreeMap<AddressKey, EndpointAddress>,
}

impl Repacking {
    /// Adds an address under some ports; none stands for no port. What is not ready under a port in one place is not ready there.
    pub fn add(
        &mut self,
        address: EndpointAddress,
        ready: bool,
        ports: impl IntoIterator<Item = Option<EndpointPort>>,
    ) {
        // Addresses are sorted as text, as in the original.
        let key = (address.ip.to_string(), address.target.as_ref().map_or(Uid::default(), |target| target.uid));
        for port in ports {
            let ready_at = self.by_port.entry(port).or_default().entry(key.clone()).or_insert(ready);
            *ready_at &= ready;
        }
        self.addresses.entry(key).or_insert(address);
    }

    /// The subsets.
    pub fn subsets(self) -> Vec<EndpointSubset> {
        let Repacking { by_port, addresses } = self;
        let mut by_addresses: BTreeMap<Vec<(AddressKey, bool)>, Vec<EndpointPort>> = BTreeMap::new();
        for (port, serving) in by_port {
            by_addresses.entry(serving.into_iter().collect()).or_default().extend(port);
        }
        let subset = |(serving, ports): (Vec<(AddressKey, bool)>, Vec<EndpointPort>)| {
            let of = |wanted: bool| {
                let matching = serving.iter().filter(|(_, ready)| *ready == wanted);
                matching.filter_map(|(key, _)| addresses.get(key).cloned()).collect()
            };
            EndpointSubset { addresses: of(true), not_ready_addresses: of(false), ports }
        };
        let mut subsets: Vec<_> = by_addresses.into_iter().map(subset).collect();
        subsets.sort_by(|left, right| left.ports.cmp(&right.ports));
        subsets
    }
}

/// The same addresses under the same ports, in their usual form.
pub fn repacked(subsets: &[EndpointSubset]) -> Vec<EndpointSubset> {
    let mut repacking = Repacking::default();
    for subset in subsets {
        let ports: Vec<Option<EndpointPort>> =
            if subset.ports.is_empty() { vec![None] } else { subset.ports.iter().cloned().map(Some).collect() };
        let ready = subset.addresses.iter().map(|address| (address, true));
        for (address, ready) in ready.chain(subset.not_ready_addresses.iter().map(|address| (address, false))) {
            repacking.add(address.clone(), ready, ports.iter().cloned());
        }
    }
    repacking.subsets()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subset(ready: &[u8], not_ready: &[u8], ports: &[i32]) -> EndpointSubset {
        let address =
            |last: &u8| EndpointAddress { ip: [10, 0, 0, *last].into(), hostname: None, node_name: None, target: None };
        let port =
            |port: &i32| EndpointPort { name: None, port: Some(*port), protocol: "TCP".into(), app_protocol: None };
        EndpointSubset {
            addresses: ready.iter().map(address).collect(),
            not_ready_addresses: not_ready.iter().map(address).collect(),
            ports: ports.iter().map(port).collect(),
        }
    }

    #[test]
    fn addresses_that_serve_the_same_ports_share_a_subset() {
        let cases = [
            (vec![subset(&[2, 1], &[], &[80]), subset(&[1, 2], &[], &[443])], vec![subset(&[1, 2], &[], &[80, 443])]),
            (vec![subset(&[1], &[], &[80]), subset(&[2], &[], &[80])], vec![subset(&[1, 2], &[], &[80])]),
            (
                vec![subset(&[1, 2], &[], &[80]), subset(&[1], &[], &[443])],
                vec![subset(&[1, 2], &[], &[80]), subset(&[1], &[], &[443])],
            ),
            (vec![subset(&[1, 1], &[1], &[80])], vec![subset(&[], &[1], &[80])]),
            (vec![subset(&[1], &[2], &[])], vec![subset(&[1], &[2], &[])]),
            (vec![subset(&[], &[], &[80])], vec![]),
        ];
        for (given, expected) in cases {
            assert_eq!(repacked(&given), expected);
        }
    }
}
