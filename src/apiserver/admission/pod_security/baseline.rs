//! What no pod may do unless its namespace is privileged (pod-security-admission, policy/check_*.go).

use std::borrow::Cow;
use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{LifecycleHandler, Probe, SELinuxOptions};

use super::policy::Policy;
use super::seen::{Finding, Seen, named, quoted, quoted_set, s, setters, verb_s};

const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SELINUX_TYPES: [&str; 4] = ["", "container_t", "container_init_t", "container_kvm_t"];
/// The safe sysctls, and since which version they are.
const SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

/// What the pod does that is forbidden, but for what stricter checks of the restricted level look at.
pub fn findings(seen: &Seen<'_>, policy: &Policy) -> Vec<(Cow<'static, str>, String)> {
    let (restricted, minor) = (policy.restricted, policy.minor);
    let unless = |overridden: bool, check: fn(&Seen<'_>) -> Finding| if overridden { None } else { check(seen) };
    let own_users = minor >= 35 && seen.has_own_users();
    [
        app_armor(seen),
        unless(restricted && minor >= 22, capabilities),
        host_namespaces(seen),
        unless(restricted, host_paths),
        host_ports(seen),
        unless(minor < 34, probes),
        privileged(seen),
        unless(own_users || (restricted && minor >= 35), proc_mount),
        selinux(seen, minor),
        unless(minor < 19 || restricted, seccomp),
        sysctls(seen, minor),
        host_process(seen),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn app_armor(seen: &Seen<'_>) -> Finding {
    let mut bad = BTreeSet::new();
    let mut is_bad = |kind: &str| {
        let forbidden = kind != "RuntimeDefault" && kind != "Localhost";
        if forbidden {
            bad.insert(kind.to_owned());
        }
        forbidden
    };
    let pod = seen.context.and_then(|context| context.app_armor_profile.as_ref()).is_some_and(|p| is_bad(&p.type_));
    let containers = seen.where_context(|context| {
        context.and_then(|context| context.app_armor_profile.as_ref()).is_some_and(|profile| is_bad(&profile.type_))
    });
    let allowed = |value: &str| value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
    let told = seen.annotations.pairs().iter().filter(|(key, value)| key.starts_with(APP_ARMOR) && !allowed(value));
    let told: BTreeSet<String> = told.map(|(key, value)| format!("{key}=\"{value}\"")).collect();
    let annotations = (!told.is_empty()).then(|| format!("annotation{}", s(told.len())));
    let who: Vec<String> = setters(pod, &containers).into_iter().chain(annotations).collect();
    if who.is_empty() {
        return None;
    }
    let values: Vec<&str> = bad.iter().chain(&told).map(String::as_str).collect();
    let reason = format!("forbidden AppArmor profile{}", s(values.len()));
    let what = quoted(values.iter().copied());
    Some((reason.into(), format!("{} must not set AppArmor profile type to {what}", who.join(" and "))))
}

fn capabilities(seen: &Seen<'_>) -> Finding {
    let mut bad = BTreeSet::new();
    let containers = seen.where_context(|context| {
        let capabilities = context.and_then(|context| context.capabilities.as_ref());
        let added = capabilities.iter().flat_map(|capabilities| capabilities.add.iter().flatten());
        let before = added.filter(|name| !CAPABILITIES.contains(&name.as_str())).cloned().collect::<Vec<_>>();
        let any = !before.is_empty();
        bad.extend(before);
        any
    });
    if containers.is_empty() {
        return None;
    }
    let (who, what) = (named("container", &containers), quoted_set(&bad));
    Some((
        "non-default capabilities".into(),
        format!("{who} must not include {what} in securityContext.capabilities.add"),
    ))
}

fn host_namespaces(seen: &Seen<'_>) -> Finding {
    let full = seen.full;
    let rows = [("hostNetwork", full.host_network), ("hostPID", full.host_pid), ("hostIPC", full.host_ipc)];
    let set: Vec<String> =
        rows.iter().filter(|(_, set)| *set == Some(true)).map(|(name, _)| format!("{name}=true")).collect();
    (!set.is_empty()).then(|| ("host namespaces".into(), set.join(", ")))
}

fn host_paths(seen: &Seen<'_>) -> Finding {
    let volumes = seen.full.volumes.iter().flatten().filter(|volume| volume.host_path.is_some());
    let names: Vec<&str> = volumes.map(|volume| volume.name.as_str()).collect();
    (!names.is_empty()).then(|| ("hostPath volumes".into(), named("volume", &names)))
}

fn host_ports(seen: &Seen<'_>) -> Finding {
    let (mut ports, mut containers) = (BTreeSet::new(), Vec::new());
    for container in &seen.containers {
        let taken = container.ports.iter().flatten().filter_map(|port| port.host_port).filter(|port| *port != 0);
        let before = taken.map(|port| port.to_string()).collect::<Vec<_>>();
        if !before.is_empty() {
            containers.push(container.name.as_str());
        }
        ports.extend(before);
    }
    if containers.is_empty() {
        return None;
    }
    let list = ports.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let (who, use_s) = (named("container", &containers), verb_s(containers.len()));
    Some(("hostPort".into(), format!("{who} use{use_s} hostPort{} {list}", s(ports.len()))))
}

fn probes(seen: &Seen<'_>) -> Finding {
    let (mut hosts, mut containers) = (BTreeSet::new(), BTreeSet::new());
    for container in &seen.containers {
        let probes = [&container.liveness_probe, &container.readiness_probe, &container.startup_probe];
        let probes = probes.into_iter().flatten().flat_map(hosts_of_probe);
        let hooks = container.lifecycle.iter().flat_map(|lifecycle| [&lifecycle.post_start, &lifecycle.pre_stop]);
        let hooks = hooks.flatten().flat_map(hosts_of_hook);
        for host in probes.chain(hooks).flatten().filter(|host| !host.is_empty()) {
            hosts.insert(host.clone());
            containers.insert(container.name.as_str());
        }
    }
    if containers.is_empty() {
        return None;
    }
    let containers: Vec<&str> = containers.into_iter().collect();
    let (who, use_s) = (named("container", &containers), verb_s(containers.len()));
    let what = format!("probe or lifecycle host{} {}", s(hosts.len()), quoted_set(&hosts));
    Some(("probe or lifecycle host".into(), format!("{who} use{use_s} {what}")))
}

fn hosts_of_probe(probe: &Probe) -> [Option<&String>; 2] {
    let http = probe.http_get.as_ref().and_then(|action| action.host.as_ref());
    [http, probe.tcp_socket.as_ref().and_then(|action| action.host.as_ref())]
}

fn hosts_of_hook(hook: &LifecycleHandler) -> [Option<&String>; 2] {
    let http = hook.http_get.as_ref().and_then(|action| action.host.as_ref());
    [http, hook.tcp_socket.as_ref().and_then(|action| action.host.as_ref())]
}

fn privileged(seen: &Seen<'_>) -> Finding {
    let names = seen.where_context(|context| context.is_some_and(|context| context.privileged == Some(true)));
    let who = setters(false, &names)?;
    Some(("privileged".into(), format!("{who} must not set securityContext.privileged=true")))
}

/// Also what the restricted level says to pods with users of their own.
pub fn proc_mount(seen: &Seen<'_>) -> Finding {
    let mut bad = BTreeSet::new();
    let names = seen.where_context(|context| {
        let other = context.and_then(|context| context.proc_mount.as_ref()).filter(|kind| *kind != "Default");
        bad.extend(other.cloned());
        other.is_some()
    });
    let who = setters(false, &names)?;
    Some(("procMount".into(), format!("{who} must not set securityContext.procMount to {}", quoted_set(&bad))))
}

fn selinux(seen: &Seen<'_>, minor: u32) -> Finding {
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut is_bad = |options: &SELinuxOptions| {
        let kind = options.type_.as_deref().unwrap_or_default();
        let other = !SELINUX_TYPES.contains(&kind) && (kind != "container_engine_t" || minor < 31);
        let set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        if other {
            types.insert(kind.to_owned());
        }
        user |= set(&options.user);
        role |= set(&options.role);
        other || set(&options.user) || set(&options.role)
    };
    let pod = seen.context.and_then(|context| context.se_linux_options.as_ref()).is_some_and(&mut is_bad);
    let names = seen.where_context(|context| {
        context.and_then(|context| context.se_linux_options.as_ref()).is_some_and(&mut is_bad)
    });
    let who = setters(pod, &names)?;
    let types = (!types.is_empty()).then(|| format!("type{} {}", s(types.len()), quoted_set(&types)));
    let user = user.then(|| "user may not be set".to_owned());
    let role = role.then(|| "role may not be set".to_owned());
    let what = [types, user, role].into_iter().flatten().collect::<Vec<_>>().join("; ");
    Some(("seLinuxOptions".into(), format!("{who} set forbidden securityContext.seLinuxOptions: {what}")))
}

/// Also the first half of what the restricted level says.
pub fn seccomp(seen: &Seen<'_>) -> Finding {
    let mut bad = BTreeSet::new();
    let mut is_bad = |kind: &String| {
        let other = kind != "RuntimeDefault" && kind != "Localhost";
        if other {
            bad.insert(kind.clone());
        }
        other
    };
    let pod = seen.context.and_then(|context| context.seccomp_profile.as_ref()).is_some_and(|p| is_bad(&p.type_));
    let names = seen.where_context(|context| {
        context.and_then(|context| context.seccomp_profile.as_ref()).is_some_and(|profile| is_bad(&profile.type_))
    });
    let who = setters(pod, &names)?;
    let what = quoted_set(&bad);
    Some(("seccompProfile".into(), format!("{who} must not set securityContext.seccompProfile.type to {what}")))
}

fn sysctls(seen: &Seen<'_>, minor: u32) -> Finding {
    let safe = |name: &str| SYSCTLS.iter().any(|(known, since)| *known == name && *since <= minor);
    let set = seen.context.iter().flat_map(|context| context.sysctls.iter().flatten());
    let bad: Vec<&str> = set.map(|sysctl| sysctl.name.as_str()).filter(|name| !safe(name)).collect();
    (!bad.is_empty()).then(|| ("forbidden sysctls".into(), bad.join(", ")))
}

fn host_process(seen: &Seen<'_>) -> Finding {
    let pod = seen.context.and_then(|context| context.windows_options.as_ref());
    let pod = pod.is_some_and(|options| options.host_process == Some(true));
    let names = seen.where_context(|context| {
        let options = context.and_then(|context| context.windows_options.as_ref());
        options.is_some_and(|options| options.host_process == Some(true))
    });
    let who = setters(pod, &names)?;
    Some(("hostProcess".into(), format!("{who} must not set securityContext.windowsOptions.hostProcess=true")))
}
