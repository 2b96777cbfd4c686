//! Probes and the handlers of containers' lifecycles.

use k8s_openapi::api::core::v1::{
    ExecAction, GRPCAction, HTTPGetAction, Lifecycle, LifecycleHandler, Probe, SleepAction, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::error::{ErrorList, FieldError, Path};
use super::{format, not_negative, text};

pub(super) fn liveness(probe: &Option<Probe>, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(probe) = probe else { return };
    common(probe, path, errors);
    let successes = probe.success_threshold.unwrap_or_default();
    if successes != 1 {
        errors.push(FieldError::invalid(&path.child("successThreshold"), successes, "must be 1"));
    }
}

pub(super) fn readiness(probe: &Option<Probe>, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(probe) = probe else { return };
    common(probe, path, errors);
    if let Some(seconds) = probe.termination_grace_period_seconds {
        let place = path.child("terminationGracePeriodSeconds");
        errors.push(FieldError::invalid(&place, seconds, "must not be set for readinessProbes"));
    }
}

fn common(probe: &Probe, path: &Path<'_>, errors: &mut ErrorList) {
    let handler = Handler {
        exec: probe.exec.as_ref(),
        http_get: probe.http_get.as_ref(),
        tcp_socket: probe.tcp_socket.as_ref(),
        grpc: probe.grpc.as_ref(),
        sleep: None,
    };
    handler.check(None, path, errors);
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (name, number) in numbers {
        not_negative(number.unwrap_or_default().into(), &path.child(name), errors);
    }
    if let Some(seconds) = probe.termination_grace_period_seconds.filter(|seconds| *seconds <= 0) {
        let place = path.child("terminationGracePeriodSeconds");
        errors.push(FieldError::invalid(&place, seconds, "must be greater than 0"));
    }
}

/// Checks what happens after a container starts and before it stops. `grace` is the pod's time to terminate.
pub(super) fn lifecycle(lifecycle: &Lifecycle, grace: Option<i64>, path: &Path<'_>, errors: &mut ErrorList) {
    let handlers = [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)];
    for (name, handler) in handlers {
        if let Some(handler) = handler {
            Handler::of(handler).check(grace, &path.child(name), errors);
        }
    }
}

/// The action of a probe or a lifecycle handler, of which there must be exactly one.
struct Handler<'a> {
    exec: Option<&'a ExecAction>,
    http_get: Option<&'a HTTPGetAction>,
    tcp_socket: Option<&'a TCPSocketAction>,
    grpc: Option<&'a GRPCAction>,
    sleep: Option<&'a SleepAction>,
}

impl<'a> Handler<'a> {
    fn of(handler: &'a LifecycleHandler) -> Handler<'a> {
        Handler {
            exec: handler.exec.as_ref(),
            http_get: handler.http_get.as_ref(),
            tcp_socket: handler.tcp_socket.as_ref(),
            grpc: None,
            sleep: handler.sleep.as_ref(),
        }
    }

    fn check(&self, grace: Option<i64>, path: &Path<'_>, errors: &mut ErrorList) {
        let mut found = false;
        let mut only = |name: &'static str, present: bool, errors: &mut ErrorList| {
            if present && found {
                errors.push(FieldError::forbidden(&path.child(name), "may not specify more than 1 handler type"));
            }
            let first = present && !found;
            found |= present;
            first
        };
        if let Some(exec) = self.exec.filter(|_| only("exec", true, errors))
            && exec.command.as_ref().is_none_or(|command| command.is_empty())
        {
            errors.push(FieldError::required(&path.child("exec").child("command"), ""));
        }
        if let Some(get) = self.http_get.filter(|_| only("httpGet", true, errors)) {
            http_get(get, &path.child("httpGet"), errors);
        }
        if let Some(socket) = self.tcp_socket.filter(|_| only("tcpSocket", true, errors)) {
            port(&socket.port, &path.child("tcpSocket").child("port"), errors);
        }
        if let Some(grpc) = self.grpc.filter(|_| only("grpc", true, errors)) {
            let place = path.child("grpc");
            port(&IntOrString::Int(grpc.port), &place.child("port"), errors);
        }
        if let Some(sleep) = self.sleep.filter(|_| only("sleep", true, errors)) {
            let limit = grace.unwrap_or_default();
            if sleep.seconds < 0 || sleep.seconds > limit {
                let message = format!("must be non-negative and less than terminationGracePeriodSeconds ({limit})");
                errors.push(FieldError::invalid(&path.child("sleep"), sleep.seconds, message));
            }
        }
        if !found {
            errors.push(FieldError::required(path, "must specify a handler type"));
        }
    }
}

fn http_get(get: &HTTPGetAction, path: &Path<'_>, errors: &mut ErrorList) {
    if text(&get.path).is_empty() {
        errors.push(FieldError::required(&path.child("path"), ""));
    }
    port(&get.port, &path.child("port"), errors);
    let scheme = text(&get.scheme);
    if !matches!(scheme, "HTTP" | "HTTPS") {
        errors.push(FieldError::not_supported(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]));
    }
    for header in get.http_headers.iter().flatten() {
        errors.invalid_each(&path.child("httpHeaders"), &header.name, format::http_header_name(&header.name));
    }
}

/// Checks a port given by number or by name.
pub(super) fn port(port: &IntOrString, path: &Path<'_>, errors: &mut ErrorList) {
    match port {
        IntOrString::Int(number) => {
            for complaint in format::port_number(*number) {
                errors.push(FieldError::invalid(path, *number, complaint));
            }
        }
        IntOrString::String(name) => errors.invalid_each(path, name, format::port_name(name)),
    }
}
