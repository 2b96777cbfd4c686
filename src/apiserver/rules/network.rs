//! Services and endpoint slices (kubernetes, pkg/registry/core/service and pkg/registry/discovery).

use std::rc::Rc;

use k8s_openapi::api::core::v1::ServiceSpec;

use crate::api::kind::Kind;
use crate::api::network::{EndpointSlice, Service};
use crate::api::validation::error::{ErrorList, FieldError, Path};

use crate::apiserver::protocol::Part;
use crate::apiserver::status::Status;

/// A new Service has no status. Its addresses are allocated apart from this.
pub fn create_service(service: &mut Rc<Service>) {
    Rc::make_mut(service).status = Rc::default();
}

/// A Service keeps the addresses that were allocated to it.
pub fn update_service(new: &mut Rc<Service>, old: &Service, part: Part) -> Result<(), Box<Status>> {
    let new = Rc::make_mut(new);
    if part == Part::Status {
        new.spec = old.spec.clone();
        new.selector = old.selector.clone();
        return Ok(());
    }
    new.status = old.status.clone();
    if Rc::ptr_eq(&new.spec, &old.spec) {
        return Ok(());
    }
    let stays = |spec: &ServiceSpec| spec.type_.as_deref() != Some("ExternalName");
    let fixed = stays(&new.spec) && stays(&old.spec) && old.spec.cluster_ip.is_some();
    if fixed && new.spec.cluster_ip != old.spec.cluster_ip {
        let path = Path::Root.child("spec");
        let shown = new.spec.cluster_ips.clone().unwrap_or_default();
        let shown = crate::api::validation::error::BadValue::json(&shown);
        let detail = "may not change once set";
        let error = FieldError::invalid(&path.child("clusterIPs").index(0), shown, detail);
        return Err(Box::new(Status::invalid(Kind::Service, &new.meta.name, &ErrorList(vec![error]))));
    }
    Ok(())
}

/// A replacement that names no addresses keeps those that were allocated.
pub fn keep_allocated(new: &mut Rc<Service>, old: &Service) {
    let stays = |spec: &ServiceSpec| spec.type_.as_deref() != Some("ExternalName");
    if !Rc::ptr_eq(&new.spec, &old.spec) && stays(&new.spec) && stays(&old.spec) {
        keep_addresses(Rc::make_mut(&mut Rc::make_mut(new).spec), &old.spec);
    }
}

/// What a client leaves out of a replacement stays (service storage: `patchAllocatedValues`, `defaultOnReadService`).
fn keep_addresses(new: &mut ServiceSpec, old: &ServiceSpec) {
    if new.cluster_ip.as_deref().unwrap_or_default().is_empty() {
        new.cluster_ip.clone_from(&old.cluster_ip);
        new.cluster_ips.clone_from(&old.cluster_ips);
    }
    if new.cluster_ips.is_none() {
        new.cluster_ips.clone_from(&old.cluster_ips);
    }
    if new.ip_families.is_none() {
        new.ip_families.clone_from(&old.ip_families);
    }
    if new.ip_family_policy.is_none() {
        new.ip_family_policy.clone_from(&old.ip_family_policy);
    }
    let has_node_ports = |spec: &ServiceSpec| matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
    if has_node_ports(new) && has_node_ports(old) {
        let had = old.ports.iter().flatten();
        for port in new.ports.iter_mut().flatten().filter(|port| port.node_port.unwrap_or(0) == 0) {
            let same = had.clone().find(|other| other.port == port.port && other.protocol == port.protocol);
            port.node_port = same.and_then(|other| other.node_port);
        }
    }
}

/// The generation counts changes of everything but metadata, labels apart.
pub fn update_slice(new: &mut EndpointSlice, old: &EndpointSlice) -> Result<(), Box<Status>> {
    if new.address_type != old.address_type {
        let shown = new.address_type.as_str();
        let error = FieldError::invalid(&Path::Root.child("addressType"), shown, "field is immutable");
        return Err(Box::new(Status::invalid(Kind::EndpointSlice, &new.meta.name, &ErrorList(vec![error]))));
    }
    if new.endpoints != old.endpoints || new.ports != old.ports || new.meta.labels != old.meta.labels {
        new.meta.generation += 1;
    }
    Ok(())
}
