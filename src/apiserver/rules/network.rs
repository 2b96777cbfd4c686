//! Services and endpoint slices (kubernetes, pkg/registry/core/service and pkg/registry/discovery).

use std::rc::Rc;

use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};

use crate::api::kind::Kind;
use crate::api::network::{EndpointSlice, Service};
use crate::api::validation::error::{ErrorList, FieldError, Path};

use crate::apiserver::addresses;
use crate::apiserver::ports;
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
    let stays = addresses::are_needed;
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
    let stays = addresses::are_needed;
    if !Rc::ptr_eq(&new.spec, &old.spec) && stays(&new.spec) && stays(&old.spec) {
        keep_addresses(Rc::make_mut(&mut Rc::make_mut(new).spec), &old.spec);
    }
}

/// Takes away what the new type of a Service does not have.
pub fn drop_unused(new: &mut Rc<Service>, old: &Service) {
    if !Rc::ptr_eq(&new.spec, &old.spec) {
        drop_what_the_type_has_not(Rc::make_mut(&mut Rc::make_mut(new).spec), &old.spec);
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
    if ports::are_allocated(new) && ports::are_allocated(old) {
        keep_node_ports(new, old);
    }
    if ports::needs_health_check(new) && ports::needs_health_check(old) && new.health_check_node_port.unwrap_or(0) == 0
    {
        new.health_check_node_port = old.health_check_node_port;
    }
}

/// Ports that name no node port keep the one that the port of their name had, unless another port has got that.
fn keep_node_ports(new: &mut ServiceSpec, old: &ServiceSpec) {
    let node_ports = |spec: &ServiceSpec| -> Vec<i32> {
        spec.ports.iter().flatten().filter_map(|port| port.node_port.filter(|port| *port != 0)).collect()
    };
    let (had, asked) = (node_ports(old), node_ports(new));
    for port in new.ports.iter_mut().flatten().filter(|port| port.node_port.unwrap_or(0) == 0) {
        let name = |port: &ServicePort| port.name.clone().unwrap_or_default();
        let before = old.ports.iter().flatten().rfind(|other| name(other) == name(port));
        let kept =
            before.and_then(|other| other.node_port).filter(|kept| !(had.contains(kept) && asked.contains(kept)));
        port.node_port = kept;
    }
}

/// Takes away what a Service of the new type does not have, where the server may have set it and the client left it as it was
/// (service strategy: `dropTypeDependentFields`).
fn drop_what_the_type_has_not(new: &mut ServiceSpec, old: &ServiceSpec) {
    let kind = |spec: &ServiceSpec| spec.type_.clone().unwrap_or_default();
    let has_node_ports = |spec: &ServiceSpec| matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
    let is_balanced = |spec: &ServiceSpec| spec.type_.as_deref() == Some("LoadBalancer");
    if addresses::are_needed(old) && !addresses::are_needed(new) {
        if new.cluster_ip == old.cluster_ip && new.cluster_ips == old.cluster_ips {
            (new.cluster_ip, new.cluster_ips) = (None, None);
        }
        if new.ip_families == old.ip_families {
            new.ip_families = None;
        }
        if new.ip_family_policy == old.ip_family_policy {
            new.ip_family_policy = None;
        }
    }
    if kind(new) == kind(old) {
        return drop_health_check(new, old);
    }
    if has_node_ports(old) && !has_node_ports(new) {
        let had: Vec<Option<i32>> = old.ports.iter().flatten().map(|port| port.node_port).collect();
        let same = new.ports.iter().flatten().all(|port| port.node_port.is_none() || had.contains(&port.node_port));
        if same {
            new.ports.iter_mut().flatten().for_each(|port| port.node_port = None);
        }
        if new.external_traffic_policy == old.external_traffic_policy
            && new.external_ips.iter().flatten().next().is_none()
        {
            new.external_traffic_policy = None;
        }
    }
    drop_health_check(new, old);
    if is_balanced(old) && !is_balanced(new) {
        if new.allocate_load_balancer_node_ports == old.allocate_load_balancer_node_ports {
            new.allocate_load_balancer_node_ports = None;
        }
        if new.load_balancer_class == old.load_balancer_class {
            new.load_balancer_class = None;
        }
    }
}

fn drop_health_check(new: &mut ServiceSpec, old: &ServiceSpec) {
    let ceases = ports::needs_health_check(old) && !ports::needs_health_check(new);
    if ceases && new.health_check_node_port == old.health_check_node_port {
        new.health_check_node_port = None;
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
