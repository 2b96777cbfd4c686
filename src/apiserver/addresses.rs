//! Cluster addresses of Services (kubernetes, pkg/registry/core/service/ipallocator).

use std::net::Ipv4Addr;
use std::rc::Rc;

use k8s_openapi::api::core::v1::ServiceSpec;

use crate::api::network::Service;
use crate::api::validation::error::{ErrorList, FieldError, Path};
use crate::engine::hash::Set;
use crate::engine::random::Stream;

use super::status::Status;
use crate::api::kind::Kind;

/// The first address of `--service-cluster-ip-range`, 10.96.0.0/12.
const BASE: u32 = 0x0a60_0000;
/// How many addresses there are.
const SIZE: u32 = 1 << 20;
/// Addresses at the beginning of the range that are only given out when asked for
/// (ipallocator: `calculateRangeOffset`, a sixteenth of the range but at most 256).
const RESERVED: u32 = 256;

/// Whether a Service has a cluster address.
pub fn are_needed(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() != Some("ExternalName")
}

/// Gives a new Service its cluster address and what follows from it; returns the address if it is one. `taken` says which
/// addresses are in use.
pub fn allocate(
    service: &mut Rc<Service>,
    taken: &Set<String>,
    stream: &mut Stream,
) -> Result<Option<String>, Box<Status>> {
    if !are_needed(&service.spec) {
        return Ok(None);
    }
    let asked = service.spec.cluster_ip.clone().filter(|address| !address.is_empty());
    let address = match asked {
        Some(address) if address == "None" => address,
        Some(address) => {
            check(service, &address, taken)?;
            address
        }
        None => free(taken, stream),
    };
    let spec = Rc::make_mut(&mut Rc::make_mut(service).spec);
    spec.cluster_ips = Some(vec![address.clone()]);
    spec.cluster_ip = Some(address.clone());
    spec.ip_families.get_or_insert_with(|| vec!["IPv4".to_owned()]);
    spec.ip_family_policy.get_or_insert_with(|| "SingleStack".to_owned());
    Ok((address != "None").then_some(address))
}

fn check(service: &Service, address: &str, taken: &Set<String>) -> Result<(), Box<Status>> {
    let inside = address.parse::<Ipv4Addr>().is_ok_and(|ip| (BASE..BASE + SIZE).contains(&u32::from(ip)));
    let detail = match inside {
        false => "the provided network does not match the current range",
        true if taken.contains(address) => "provided IP is already allocated",
        true => return Ok(()),
    };
    let spec = Path::Root.child("spec");
    let error =
        FieldError::invalid(&spec.child("clusterIPs"), address, format!("failed to allocate IP {address}: {detail}"));
    Err(Box::new(Status::invalid(Kind::Service, &service.meta.name, &ErrorList(vec![error]))))
}

/// A random free address; the first free one after it if it is taken.
fn free(taken: &Set<String>, stream: &mut Stream) -> String {
    let span = SIZE - RESERVED - 1;
    let first = stream.below(u64::from(span)) as u32;
    let address = |offset: u32| Ipv4Addr::from(BASE + RESERVED + offset % span).to_string();
    (0..span).map(|step| address(first + step)).find(|address| !taken.contains(address)).unwrap_or_default()
}
