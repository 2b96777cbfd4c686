//! What the slices of Endpoints should be, and the writes that make them so.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::api::event::EventType;
use crate::api::meta::{Common, Labels, Meta, ObjectKey};
use crate::api::name::Name;
use crate::api::network::{Endpoint, EndpointAddress, EndpointPort, EndpointSlice, Endpoints};
use crate::api::object::{Object, Resource};
use crate::apiserver::protocol::{Answer, DeleteOptions, Operation, Part};
use crate::client::plan::Again;

use super::super::endpoint_slice::packing::{self, identity, port_key};
use super::super::endpoint_slice::tracker::Tracker;
use super::super::endpoint_slice::{MANAGED_BY, SERVICE_NAME};
use super::super::script::{Halt, Script};
use super::super::{owner, service_pods, subsets};
use super::CONTROLLER;

/// What kubectl remembers of what it applied.
const LAST_APPLIED: Name = Name::of("kubectl.kubernetes.io/last-applied-configuration");
const FAMILIES: [Name; 2] = [Name::of("IPv4"), Name::of("IPv6")];

/// Endpoints with the slices that they should have, and the writes that are missing for it.
pub(super) struct Mirror {
    endpoints: Rc<Endpoints>,
    /// How many addresses of a subset are mirrored, and how many are too many.
    max_per_subset: usize,
    skipped: usize,
    groups: BTreeMap<Group, packing::Endpoints>,
    create: Vec<EndpointSlice>,
    update: Vec<EndpointSlice>,
    delete: Vec<Rc<EndpointSlice>>,
}

/// Endpoints that share a slice: those of a family that serve the same ports.
type Group = (Name, Vec<EndpointPort>);

impl Mirror {
    /// Groups the addresses of Endpoints.
    pub fn of(endpoints: &Rc<Endpoints>, max_per_subset: usize) -> Self {
        let (mut groups, mut skipped) = (BTreeMap::<Group, packing::Endpoints>::new(), 0);
        for subset in subsets::repacked(&endpoints.subsets) {
            // A family without addresses has a group too, so that its slices go.
            for family in FAMILIES {
                groups.entry((family, port_key(&subset.ports))).or_default();
            }
            let ready = subset.addresses.iter().map(|address| (address, true));
            let all = ready.chain(subset.not_ready_addresses.iter().map(|address| (address, false)));
            skipped += (subset.addresses.len() + subset.not_ready_addresses.len()).saturating_sub(max_per_subset);
            for (address, ready) in all.take(max_per_subset) {
                let endpoint = endpoint(address, ready);
                let family = FAMILIES[usize::from(address.ip.is_ipv6())].clone();
                let group = groups.entry((family, port_key(&subset.ports))).or_default();
                group.insert(identity(&endpoint), endpoint);
            }
        }
        let (create, update, delete) = Default::default();
        Mirror { endpoints: endpoints.clone(), max_per_subset, skipped, groups, create, update, delete }
    }

    /// Finds out what has to be written, given the slices that are there (`reconcileByPortMapping`).
    pub fn compare(&mut self, slices: Vec<Rc<EndpointSlice>>, key: &ObjectKey, tracker: &Tracker) {
        let mut present: BTreeMap<Group, Vec<Rc<EndpointSlice>>> = BTreeMap::new();
        for slice in slices {
            present.entry((slice.address_type.clone(), port_key(&slice.ports))).or_default().push(slice);
        }
        for ((family, ports), wanted) in std::mem::take(&mut self.groups) {
            let mut there = present.remove(&(family.clone(), ports.clone())).unwrap_or_default().into_iter();
            let first = if wanted.is_empty() { None } else { there.next() };
            self.delete.extend(there);
            match first {
                None if wanted.is_empty() => {}
                Some(slice) if self.is_right(&slice, &wanted) => tracker.found(key, &slice),
                first => {
                    let mut slice = self.new_slice(family, ports);
                    slice.endpoints = wanted.into_values().take(self.max_per_subset).collect();
                    match first {
                        None => self.create.push(slice),
                        Some(first) => self.replace(&first, slice),
                    }
                }
            }
        }
        self.delete.extend(present.into_values().flatten());
        self.recycle();
    }

    /// Writes a slice over another one: under its name, and without a version.
    fn replace(&mut self, old: &EndpointSlice, mut new: EndpointSlice) {
        new.meta.name = old.meta.name.clone();
        new.meta.generate_name = None;
        self.update.push(new);
    }

    /// Turns creations into replacements of slices of the same family that would be deleted (`recycleSlices`).
    fn recycle(&mut self) {
        for family in FAMILIES {
            let is_of = |slice: &EndpointSlice| slice.address_type == family;
            while let Some(old) = self.delete.iter().position(|slice| is_of(slice))
                && let Some(new) = self.create.iter().position(is_of)
            {
                let (old, new) = (self.delete.remove(old), self.create.remove(new));
                self.replace(&old, new);
            }
        }
    }

    /// True if a slice need not be written (`totalChanges`, `needRebuildExistingSlices`).
    fn is_right(&self, slice: &EndpointSlice, wanted: &packing::Endpoints) -> bool {
        let meta = &self.endpoints.meta;
        let is_wanted = |endpoint: &Endpoint| wanted.get(&identity(endpoint)) == Some(endpoint);
        let is_of_another = slice
            .meta
            .owners()
            .iter()
            .any(|owner| owner.kind == *"Endpoints" && owner.name == meta.name && owner.uid != meta.uid);
        slice.endpoints.len() == wanted.len()
            && slice.endpoints.iter().all(is_wanted)
            && slice.meta.labels.without(&MANAGED_BY).without(&SERVICE_NAME) == meta.labels
            && slice.meta.annotations == annotations(&self.endpoints)
            && !is_of_another
    }

    /// An empty slice (`newEndpointSlice`).
    fn new_slice(&self, address_type: Name, ports: Vec<EndpointPort>) -> EndpointSlice {
        let own = &self.endpoints.meta;
        let common = Common {
            generate_name: Some(prefix(&own.name)),
            namespace: own.namespace.clone(),
            labels: own.labels.with(SERVICE_NAME, own.name.clone()).with(MANAGED_BY, CONTROLLER),
            annotations: annotations(&self.endpoints),
            owners: [owner::controller_reference(&*self.endpoints)].into(),
            ..Common::default()
        };
        let meta = Meta { common: common.into(), ..Meta::default() };
        EndpointSlice { meta, address_type, endpoints: Vec::new(), ports: ports.into() }
    }

    /// Makes the writes, one after the other up to the first that fails (`finalize`).
    pub fn write(&self, script: &mut Script<'_>, tracker: &Tracker) -> Result<Again, Halt> {
        let meta = &self.endpoints.meta;
        let (key, place) = (owner::key_of(&*self.endpoints), format!("{}/{}", meta.namespace, meta.name));
        if self.skipped > 0 {
            let message = format!(
                "A max of {} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped",
                self.max_per_subset, self.skipped
            );
            let about = owner::reference(&*self.endpoints);
            script.record(&about, EventType::Warning, "TooManyAddressesToMirror", message);
        }
        for slice in self.create.iter().filter(|_| !meta.is_deleting()) {
            let operation = Operation::Create { object: slice.clone().boxed(), dry_run: false };
            match script.ask(operation)? {
                Ok(answer) => note(script, tracker, &key, &answer),
                Err(status) if status.is_namespace_terminating() => return Ok(Again::OnChange),
                Err(status) => {
                    let why = &status.message;
                    return Err(Halt::Failed(format!("failed to create EndpointSlice for Endpoints {place}: {why}")));
                }
            }
        }
        for slice in &self.update {
            let operation = Operation::Update { object: slice.clone().boxed(), part: Part::Main, dry_run: false };
            match script.ask(operation)? {
                Ok(answer) => note(script, tracker, &key, &answer),
                Err(status) => return Err(failed("update", slice, &place, &status.message)),
            }
        }
        for slice in &self.delete {
            let operation = Operation::Delete { key: owner::key_of(&**slice), options: DeleteOptions::default() };
            if let Err(status) = script.ask(operation)? {
                return Err(failed("delete", slice, &place, &status.message));
            }
            script.once(|| {
                tracker.deletes(&key, slice);
                true
            });
        }
        Ok(Again::OnChange)
    }
}

/// Notes the version that was written.
fn note(script: &mut Script<'_>, tracker: &Tracker, key: &ObjectKey, answer: &Answer) {
    if let Answer::Object(Object::EndpointSlice(slice)) = answer {
        script.once(|| {
            tracker.wrote(key, slice);
            true
        });
    }
}

fn failed(what: &str, slice: &EndpointSlice, place: &str, why: &str) -> Halt {
    Halt::Failed(format!("failed to {what} {} EndpointSlice for Endpoints {place}: {why}", slice.meta.name))
}

/// What an address is as an endpoint (`addressToEndpoint`).
fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: [Name::from(address.ip.to_string())].into(),
        ready: Some(ready),
        serving: None,
        terminating: None,
        hostname: address.hostname.clone().filter(|hostname| !hostname.is_empty()),
        node_name: address.node_name.clone(),
        zone: None,
        hints: None,
        target: address.target.clone(),
    }
}

/// The annotations that slices have from Endpoints.
fn annotations(endpoints: &Endpoints) -> Labels {
    endpoints.meta.annotations.without(&service_pods::LAST_CHANGE_TRIGGER_TIME).without(&LAST_APPLIED)
}

/// What names of slices begin with: the name of the Endpoints, and a dash if there is room for one (`getEndpointSlicePrefix`).
fn prefix(name: &Name) -> Name {
    if name.len() < 253 { Name::from(format!("{name}-")) } else { name.clone() }
}
