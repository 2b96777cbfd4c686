//! Which endpoint goes into which slice: few writes come before full slices.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use crate::api::meta::Labels;
use crate::api::name::Name;
use crate::api::network::{Endpoint, EndpointPort, EndpointSlice};

/// What a pod adds to the slices: endpoints with the same ports share slices. A pod without endpoint only says that slices
/// with these ports are wanted.
pub(super) struct Desired {
    pub ports: Vec<EndpointPort>,
    pub endpoint: Option<Endpoint>,
    pub address: Option<IpAddr>,
}

/// What makes an endpoint the same one in its next version (endpointslice/util, `endpointHashObj`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    addresses: Rc<[Name]>,
    hostname: Option<Name>,
    target: Option<(Name, Name)>,
}

/// Slices to create, replace and delete.
pub(super) struct Packed {
    pub create: Vec<EndpointSlice>,
    pub update: Vec<EndpointSlice>,
    pub delete: Vec<Rc<EndpointSlice>>,
}

/// Endpoints to be placed, by identity.
pub type Endpoints = BTreeMap<Identity, Endpoint>;

/// What makes an endpoint the same one in its next version.
pub fn identity(endpoint: &Endpoint) -> Identity {
    let target = endpoint.target.as_ref().map(|target| (target.namespace.clone(), target.name.clone()));
    Identity { addresses: endpoint.addresses.clone(), hostname: endpoint.hostname.clone(), target }
}

/// Ports in an order that does not depend on how they were written.
pub fn port_key(ports: &[EndpointPort]) -> Vec<EndpointPort> {
    let mut key = ports.to_vec();
    key.sort();
    key
}

/// The desired endpoints of one address family, grouped by their ports.
pub(super) fn group(desired: &[Desired], fits: impl Fn(IpAddr) -> bool) -> Vec<(Vec<EndpointPort>, Endpoints)> {
    let mut groups: BTreeMap<Vec<EndpointPort>, (Vec<EndpointPort>, Endpoints)> = BTreeMap::new();
    for Desired { ports, endpoint, address } in desired {
        let (_, endpoints) = groups.entry(port_key(ports)).or_insert_with(|| (ports.clone(), Endpoints::new()));
        if let (Some(endpoint), Some(address)) = (endpoint, address)
            && fits(*address)
        {
            endpoints.insert(identity(endpoint), endpoint.clone());
        }
    }
    groups.into_values().collect()
}

/// Packs the endpoints of one group (endpointslice, `reconcileByPortMapping`): first what is in a slice stays there, then
/// slices that are written anyway are filled, the fullest first, then one slice that has room for all the rest, then new ones.
pub(super) fn pack(
    slices: Vec<Rc<EndpointSlice>>,
    mut desired: Endpoints,
    max: usize,
    fresh: impl Fn() -> EndpointSlice,
    labels: impl Fn(&EndpointSlice) -> (Labels, bool),
) -> Packed {
    let mut packed = Packed { create: Vec::new(), update: Vec::new(), delete: Vec::new() };
    let mut unchanged: Vec<Rc<EndpointSlice>> = Vec::new();
    for slice in slices {
        let mut changed = false;
        let kept: Vec<Endpoint> = slice
            .endpoints
            .iter()
            .filter_map(|present| {
                let wanted = desired.remove(&identity(present))?;
                changed |= wanted != *present;
                Some(wanted)
            })
            .collect();
        let (labels, relabelled) = labels(&slice);
        if changed || kept.len() != slice.endpoints.len() {
            if kept.is_empty() {
                packed.delete.push(slice);
            } else {
                packed.update.push(changed_slice(&slice, labels, kept));
            }
        } else if relabelled {
            packed.update.push(changed_slice(&slice, labels, kept));
        } else {
            unchanged.push(slice);
        }
    }
    packed.update.sort_by_key(|slice| std::cmp::Reverse(slice.endpoints.len()));
    for slice in &mut packed.update {
        fill(slice, &mut desired, max);
    }
    while !desired.is_empty() {
        let count = desired.len();
        let room = if count < max { with_room(&unchanged, count, max) } else { None };
        match room {
            Some(index) => {
                let slice = unchanged.remove(index);
                let mut slice = changed_slice(&slice, slice.meta.labels.clone(), slice.endpoints.clone());
                fill(&mut slice, &mut desired, max);
                packed.update.push(slice);
            }
            None => {
                let mut slice = fresh();
                fill(&mut slice, &mut desired, max);
                packed.create.push(slice);
            }
        }
    }
    packed
}

fn changed_slice(slice: &EndpointSlice, labels: Labels, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let mut changed = EndpointSlice {
        meta: slice.meta.clone(),
        address_type: slice.address_type.clone(),
        endpoints,
        ports: slice.ports.clone(),
    };
    changed.meta.labels = labels;
    changed
}

fn fill(slice: &mut EndpointSlice, desired: &mut Endpoints, max: usize) {
    while slice.endpoints.len() < max
        && let Some((_, endpoint)) = desired.pop_first()
    {
        slice.endpoints.push(endpoint);
    }
}

/// The slice that is closest to full once it has taken `count` more (`getSliceToFill`).
fn with_room(slices: &[Rc<EndpointSlice>], count: usize, max: usize) -> Option<usize> {
    let left = |slice: &Rc<EndpointSlice>| max.checked_sub(count + slice.endpoints.len());
    let candidates = slices.iter().enumerate().filter_map(|(index, slice)| Some((left(slice)?, index)));
    candidates.filter(|(left, _)| *left < max).min().map(|(_, index)| index)
}
