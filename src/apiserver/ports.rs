//! Node ports of Services (kubernetes, pkg/registry/core/service: portallocator, allocator/bitmap.go, storage/alloc.go).

use std::rc::Rc;

use k8s_openapi::api::core::v1::ServiceSpec;

use crate::api::kind::Kind;
use crate::api::network::Service;
use crate::api::validation::error::{ErrorList, FieldError, Path};
use crate::engine::hash::Set;
use crate::engine::random::Stream;

use super::status::Status;

/// The first port of `--service-node-port-range`.
const FIRST: i32 = 30_000;
/// How many ports there are: up to 32767.
const SIZE: i32 = 2768;
/// Ports at the beginning of the range that are only given out when asked for, or when all others are in use
/// (portallocator: `calculateRangeOffset`, a 32nd of the range, at least 16 and at most 128).
const RESERVED: i32 = SIZE / 32;

/// The ports in use, and those that one request has got.
#[derive(Debug)]
pub struct Ports<'a> {
    taken: Set<i32>,
    given: Vec<i32>,
    stream: &'a mut Stream,
}

impl<'a> Ports<'a> {
    /// All ports but those in use.
    pub fn new(taken: Set<i32>, stream: &'a mut Stream) -> Self {
        Ports { taken, given: Vec::new(), stream }
    }

    /// What the request has got.
    pub fn given(self) -> impl Iterator<Item = i32> {
        self.given.into_iter()
    }

    fn take(&mut self, port: i32) {
        self.taken.insert(port);
        self.given.push(port);
    }

    /// Gives out the port that was asked for, or says why not.
    fn allocate(&mut self, port: i32) -> Result<(), String> {
        if !(FIRST..FIRST + SIZE).contains(&port) {
            let range = format!("{FIRST}-{}", FIRST + SIZE - 1);
            return Err(format!("provided port is not in the valid range. The range of valid ports is {range}"));
        }
        if self.taken.contains(&port) {
            return Err("provided port is already allocated".to_owned());
        }
        self.take(port);
        Ok(())
    }

    /// Gives out a random free port, or the first free one after it: of the upper part as long as there is one.
    fn allocate_next(&mut self) -> Result<i32, String> {
        let upper = self.scan(FIRST + RESERVED, SIZE - RESERVED);
        let port = upper.or_else(|| self.scan(FIRST, RESERVED)).ok_or("range is full")?;
        self.take(port);
        Ok(port)
    }

    fn scan(&mut self, first: i32, size: i32) -> Option<i32> {
        let start = self.stream.below(u64::from(size.unsigned_abs())) as i32;
        (0..size).map(|step| first + (start + step) % size).find(|port| !self.taken.contains(port))
    }
}

/// The node ports of a Service, that of its health check included.
pub fn of(spec: &ServiceSpec) -> impl Iterator<Item = i32> {
    let ports = spec.ports.iter().flatten().map(|port| port.node_port.unwrap_or(0));
    ports.chain(needs_health_check(spec).then(|| spec.health_check_node_port.unwrap_or(0))).filter(|port| *port != 0)
}

fn has_node_ports(spec: &ServiceSpec) -> bool {
    matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"))
}

/// Whether ports that name no node port get one.
pub fn are_allocated(spec: &ServiceSpec) -> bool {
    match spec.type_.as_deref() {
        Some("NodePort") => true,
        Some("LoadBalancer") => spec.allocate_load_balancer_node_ports.unwrap_or(true),
        _ => false,
    }
}

/// Whether a load balancer must be able to ask a node whether it has endpoints.
pub fn needs_health_check(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("LoadBalancer") && spec.external_traffic_policy.as_deref() == Some("Local")
}

fn invalid(service: &Service, place: usize, port: i32, why: String) -> Box<Status> {
    let spec = Path::Root.child("spec");
    let error = FieldError::invalid(&spec.child("ports").index(place).child("nodePort"), port, why);
    Box::new(Status::invalid(Kind::Service, &service.meta.name, &ErrorList(vec![error])))
}

fn full(why: &str) -> Box<Status> {
    Box::new(Status::internal(&format!("failed to allocate a nodePort: {why}")))
}

/// Gives a new Service its node ports. Entries for the same port, one for each protocol, share a node port
/// (storage/alloc.go: `initNodePorts`).
pub fn create(service: &mut Rc<Service>, ports: &mut Ports<'_>) -> Result<(), Box<Status>> {
    if !has_node_ports(&service.spec) {
        return Ok(());
    }
    let mut spec = (*service.spec).clone();
    let allocated = are_allocated(&spec);
    let mut by_port: Vec<(i32, i32)> = Vec::new();
    for place in 0..spec.ports.as_ref().map_or(0, Vec::len) {
        let entries = spec.ports.as_deref_mut().unwrap_or_default();
        let (port, node_port) = (entries[place].port, entries[place].node_port.unwrap_or(0));
        if node_port == 0 && !allocated {
            continue;
        }
        let known = by_port.iter().find(|(other, _)| *other == port).map(|(_, node_port)| *node_port);
        let asked =
            entries.iter().filter(|entry| entry.port == port).find_map(|entry| entry.node_port.filter(|p| *p != 0));
        let given = match (known, asked) {
            (None, Some(asked)) => {
                ports.allocate(asked).map_err(|why| invalid(service, place, asked, why))?;
                by_port.push((port, asked));
                asked
            }
            (None, None) => {
                let given = ports.allocate_next().map_err(|why| full(&why))?;
                by_port.push((port, given));
                given
            }
            (Some(known), _) if node_port == 0 => known,
            (Some(known), _) => {
                if node_port != known {
                    ports.allocate(node_port).map_err(|why| invalid(service, place, node_port, why))?;
                }
                node_port
            }
        };
        entries[place].node_port = Some(given);
    }
    if needs_health_check(&spec) {
        allocate_health_check(&mut spec, ports)?;
    }
    Rc::make_mut(service).spec = Rc::new(spec);
    Ok(())
}

fn allocate_health_check(spec: &mut ServiceSpec, ports: &mut Ports<'_>) -> Result<(), Box<Status>> {
    let internal = |message: String| Box::new(Status::internal(&message));
    match spec.health_check_node_port.unwrap_or(0) {
        0 => {
            let given = ports.allocate_next();
            let port = given.map_err(|why| internal(format!("failed to allocate a HealthCheck NodePort 0: {why}")))?;
            spec.health_check_node_port = Some(port);
        }
        asked => ports
            .allocate(asked)
            .map_err(|why| internal(format!("failed to allocate requested HealthCheck NodePort {asked}: {why}")))?,
    }
    Ok(())
}

/// Gives the new version of a Service the node ports that the present one does not have
/// (storage/alloc.go: `updateNodePorts`, `updateHealthCheckNodePort`).
pub fn update(new: &mut Rc<Service>, old: &Service, ports: &mut Ports<'_>) -> Result<(), Box<Status>> {
    if Rc::ptr_eq(&new.spec, &old.spec) || !has_node_ports(&new.spec) {
        return Ok(());
    }
    let mut spec = (*new.spec).clone();
    let allocated = are_allocated(&spec);
    let had: Vec<i32> = old.spec.ports.iter().flatten().filter_map(|port| port.node_port).collect();
    let mut seen: Vec<(Option<String>, i32)> = Vec::new();
    for (place, entry) in spec.ports.iter_mut().flatten().enumerate() {
        let node_port = entry.node_port.unwrap_or(0);
        if node_port == 0 && !allocated {
            continue;
        }
        if node_port == 0 {
            entry.node_port = Some(ports.allocate_next().map_err(|why| full(&why))?);
        } else if !had.contains(&node_port) && !ports.given.contains(&node_port) {
            ports.allocate(node_port).map_err(|why| invalid(new, place, node_port, why))?;
        }
        let this = (entry.protocol.clone(), entry.node_port.unwrap_or(0));
        if seen.contains(&this) {
            let shown = format!("duplicate nodePort: {{{} {}}}", this.0.unwrap_or_default(), this.1);
            return Err(Box::new(Status::internal(&shown)));
        }
        seen.push(this);
    }
    if needs_health_check(&spec) && !needs_health_check(&old.spec) {
        allocate_health_check(&mut spec, ports)?;
    }
    if spec != *new.spec {
        Rc::make_mut(new).spec = Rc::new(spec);
    }
    Ok(())
}
