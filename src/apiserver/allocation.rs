//! What is given to Services out of a range: cluster addresses and node ports, each to one Service at a time.
//!
//! In use is what the watch cache shows, and what this server has given away and not yet seen there. Several servers know of one
//! another's gifts through their watch caches; the real ones agree through objects in etcd.

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
