//! What is given to Services out of a range: cluster addresses and node ports, each to one Service at a time.
//!
//! In use is what the watch cache shows, and what this server has given away and not yet seen there. What other servers give away
//! may not show there yet; so each gift is a key in etcd, which comes and goes with the Service in one transaction, and of two
//! servers that give the same away only one succeeds. The other one tries another, or refuses what was asked for by name.
//! (The real ones agree through objects of their own: an IPAddress for each address, one bitmap for all node ports.)

use crate::api::network::Service;
use crate::api::object::Object;
use crate::engine::hash::Set;
use crate::engine::random::Stream;

use super::addresses;
use super::cache::WatchCache;
use super::ports::{self, Ports};
use super::status::Status;

/// Something that was given to a Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claim {
    /// A cluster address.
    Address(String),
    /// A port of all nodes.
    Port(i32),
}

/// What a Service has out of the ranges; nothing of other objects.
pub fn held(object: &Object) -> Vec<Claim> {
    let Object::Service(service) = object else { return Vec::new() };
    let address = service.spec.cluster_ip.clone().filter(|address| !address.is_empty() && address != "None");
    let address = address.filter(|_| addresses::are_needed(&service.spec)).map(Claim::Address);
    let mut claims: Vec<Claim> = address.into_iter().chain(ports::of(&service.spec).map(Claim::Port)).collect();
    claims.dedup();
    claims
}

/// What the old version of an object has and the new one has not.
pub fn released(old: &Object, new: &Object) -> Vec<Claim> {
    let mut claims = held(old);
    if !claims.is_empty() {
        let kept = held(new);
        claims.retain(|claim| !kept.contains(claim));
    }
    claims
}

/// A claim that the watch cache may not show yet.
#[derive(Debug)]
struct Reservation {
    claim: Claim,
    /// The revision that shows it; none as long as the Service is not stored.
    revision: Option<u64>,
}

/// Gives Services their addresses and ports.
#[derive(Debug)]
pub struct Allocator {
    addresses: Stream,
    ports: Stream,
    reserved: Vec<Reservation>,
}

impl Allocator {
    /// An allocator that has given nothing away.
    pub fn new(addresses: Stream, ports: Stream) -> Allocator {
        Allocator { addresses, ports, reserved: Vec::new() }
    }

    /// Gives a new Service what it needs; returns what that is.
    pub fn create(&mut self, object: &mut Object, services: &WatchCache) -> Result<Vec<Claim>, Box<Status>> {
        let Object::Service(service) = object else { return Ok(Vec::new()) };
        self.forget_seen(services.revision());
        let mut claims = Vec::new();
        let taken = self.addresses_in_use(services);
        claims.extend(addresses::allocate(service, &taken, &mut self.addresses)?.map(Claim::Address));
        let mut ports = Ports::new(self.ports_in_use(services), &mut self.ports);
        ports::create(service, &mut ports)?;
        claims.extend(ports.given().map(Claim::Port));
        self.reserve(&claims);
        Ok(claims)
    }

    /// Gives the new version of a Service what it needs beyond the present one; returns what that is.
    pub fn update(
        &mut self,
        object: &mut Object,
        present: &Object,
        services: &WatchCache,
    ) -> Result<Vec<Claim>, Box<Status>> {
        let (Object::Service(new), Object::Service(old)) = (object, present) else { return Ok(Vec::new()) };
        self.forget_seen(services.revision());
        let mut claims = Vec::new();
        if !addresses::are_needed(&old.spec) && addresses::are_needed(&new.spec) {
            let taken = self.addresses_in_use(services);
            claims.extend(addresses::allocate(new, &taken, &mut self.addresses)?.map(Claim::Address));
        }
        let mut ports = Ports::new(self.ports_in_use(services), &mut self.ports);
        ports::update(new, old, &mut ports)?;
        claims.extend(ports.given().map(Claim::Port));
        self.reserve(&claims);
        Ok(claims)
    }

    fn reserve(&mut self, claims: &[Claim]) {
        self.reserved.extend(claims.iter().map(|claim| Reservation { claim: claim.clone(), revision: None }));
    }

    /// The Service that has these claims is stored at a revision.
    pub fn stored(&mut self, claims: &[Claim], revision: u64) {
        for reservation in &mut self.reserved {
            if reservation.revision.is_none() && claims.contains(&reservation.claim) {
                reservation.revision = Some(revision);
            }
        }
    }

    /// The Service that had these claims is not stored.
    pub fn release(&mut self, claims: &[Claim]) {
        if !claims.is_empty() {
            self.reserved.retain(|kept| kept.revision.is_some() || !claims.contains(&kept.claim));
        }
    }

    /// These claims of a Service that was not stored belong to others since the revisions given.
    pub fn taken(&mut self, taken: Vec<(Claim, u64)>) {
        let reservation = |(claim, since)| Reservation { claim, revision: Some(since) };
        self.reserved.extend(taken.into_iter().map(reservation));
    }

    fn forget_seen(&mut self, revision: u64) {
        self.reserved.retain(|kept| kept.revision.is_none_or(|stored| stored > revision));
    }

    /// The addresses that Services have.
    fn addresses_in_use(&self, services: &WatchCache) -> Set<String> {
        let reserved = self.reserved.iter().filter_map(|kept| match &kept.claim {
            Claim::Address(address) => Some(address.clone()),
            Claim::Port(_) => None,
        });
        of_services(services).filter_map(|service| service.spec.cluster_ip.clone()).chain(reserved).collect()
    }

    /// The node ports that Services have.
    fn ports_in_use(&self, services: &WatchCache) -> Set<i32> {
        let reserved = self.reserved.iter().filter_map(|kept| match kept.claim {
            Claim::Port(port) => Some(port),
            Claim::Address(_) => None,
        });
        of_services(services).flat_map(|service| ports::of(&service.spec)).chain(reserved).collect()
    }
}

fn of_services(services: &WatchCache) -> impl Iterator<Item = &Service> {
    services.unordered().filter_map(|object| match object {
        Object::Service(service) => Some(&**service),
        _ => None,
    })
}
