//! What pods of a restricted namespace must do (pod-security-admission, policy/check_*.go).

use std::borrow::Cow;
use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{SecurityContext, Volume};

use super::baseline;
use super::seen::{Finding, Seen, named, quoted_set, s, setters, verb_s};

/// What the pod does that is forbidden.
pub fn findings(seen: &Seen<'_>, minor: u32) -> Vec<(Cow<'static, str>, String)> {
    let since = |version: u32, check: fn(&Seen<'_>) -> Finding| if minor >= version { check(seen) } else { None };
    // What cannot be set for Windows is not asked of pods that say that they are for it.
    let excused = minor >= 25 && seen.is_windows();
    let own_users = minor >= 35 && seen.has_own_users();
    [
        if excused { None } else { since(8, privilege_escalation) },
        if excused { None } else { since(22, capabilities) },
        since(35, baseline::proc_mount),
        volumes(seen),
        if own_users { None } else { non_root(seen) },
        if own_users { None } else { since(23, user) },
        if excused { None } else { since(19, seccomp) },
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn privilege_escalation(seen: &Seen<'_>) -> Finding {
    let refrains = |context: &SecurityContext| context.allow_privilege_escalation == Some(false);
    let names = seen.where_context(|context| !context.is_some_and(refrains));
    let who = setters(false, &names)?;
    let detail = format!("{who} must set securityContext.allowPrivilegeEscalation=false");
    Some(("allowPrivilegeEscalation != false".into(), detail))
}

fn capabilities(seen: &Seen<'_>) -> Finding {
    let mut bad = BTreeSet::new();
    let of = |context: Option<&SecurityContext>| {
        let capabilities = context.and_then(|context| context.capabilities.clone()).unwrap_or_default();
        (capabilities.add.unwrap_or_default(), capabilities.drop.unwrap_or_default())
    };
    let keeping = seen.where_context(|context| !of(context).1.iter().any(|name| name == "ALL"));
    let adding = seen.where_context(|context| {
        let before = of(context).0.into_iter().filter(|name| name != "NET_BIND_SERVICE").collect::<Vec<_>>();
        let any = !before.is_empty();
        bad.extend(before);
        any
    });
    let keeping =
        setters(false, &keeping).map(|who| format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
    let what = quoted_set(&bad);
    let adding =
        setters(false, &adding).map(|who| format!("{who} must not include {what} in securityContext.capabilities.add"));
    let said: Vec<String> = keeping.into_iter().chain(adding).collect();
    (!said.is_empty()).then(|| ("unrestricted capabilities".into(), said.join("; ")))
}

fn volumes(seen: &Seen<'_>) -> Finding {
    let (mut names, mut kinds) = (Vec::new(), BTreeSet::new());
    for volume in seen.full.volumes.iter().flatten() {
        if let Some(kind) = restricted_kind(volume) {
            names.push(volume.name.as_str());
            kinds.insert(kind.to_owned());
        }
    }
    if names.is_empty() {
        return None;
    }
    let what = format!("restricted volume type{} {}", s(kinds.len()), quoted_set(&kinds));
    let detail = format!("{} use{} {what}", named("volume", &names), verb_s(names.len()));
    Some(("restricted volume types".into(), detail))
}

/// The kind of a volume that may not be used; none for the others.
fn restricted_kind(volume: &Volume) -> Option<&'static str> {
    let allowed = volume.config_map.is_some()
        || volume.csi.is_some()
        || volume.downward_api.is_some()
        || volume.empty_dir.is_some()
        || volume.ephemeral.is_some()
        || volume.image.is_some()
        || volume.persistent_volume_claim.is_some()
        || volume.projected.is_some()
        || volume.secret.is_some();
    if allowed {
        return None;
    }
    let kinds = [
        (volume.host_path.is_some(), "hostPath"),
        (volume.gce_persistent_disk.is_some(), "gcePersistentDisk"),
        (volume.aws_elastic_block_store.is_some(), "awsElasticBlockStore"),
        (volume.git_repo.is_some(), "gitRepo"),
        (volume.nfs.is_some(), "nfs"),
        (volume.iscsi.is_some(), "iscsi"),
        (volume.glusterfs.is_some(), "glusterfs"),
        (volume.rbd.is_some(), "rbd"),
        (volume.flex_volume.is_some(), "flexVolume"),
        (volume.cinder.is_some(), "cinder"),
        (volume.cephfs.is_some(), "cephfs"),
        (volume.flocker.is_some(), "flocker"),
        (volume.fc.is_some(), "fc"),
        (volume.azure_file.is_some(), "azureFile"),
        (volume.vsphere_volume.is_some(), "vsphereVolume"),
        (volume.quobyte.is_some(), "quobyte"),
        (volume.azure_disk.is_some(), "azureDisk"),
        (volume.photon_persistent_disk.is_some(), "photonPersistentDisk"),
        (volume.portworx_volume.is_some(), "portworxVolume"),
        (volume.scale_io.is_some(), "scaleIO"),
        (volume.storageos.is_some(), "storageos"),
    ];
    Some(kinds.into_iter().find(|(is, _)| *is).map_or("unknown", |(_, kind)| kind))
}

fn non_root(seen: &Seen<'_>) -> Finding {
    let pod = seen.context.and_then(|context| context.run_as_non_root);
    let root = seen.where_context(|context| context.is_some_and(|context| context.run_as_non_root == Some(false)));
    let silent = seen.where_context(|context| context.is_none_or(|context| context.run_as_non_root.is_none()));
    let detail = match setters(pod == Some(false), &root) {
        Some(who) => format!("{who} must not set securityContext.runAsNonRoot=false"),
        None if pod == Some(true) => return None,
        None => format!("pod or {} must set securityContext.runAsNonRoot=true", setters(false, &silent)?),
    };
    Some(("runAsNonRoot != true".into(), detail))
}

fn user(seen: &Seen<'_>) -> Finding {
    let pod = seen.context.is_some_and(|context| context.run_as_user == Some(0));
    let names = seen.where_context(|context| context.is_some_and(|context| context.run_as_user == Some(0)));
    Some(("runAsUser=0".into(), format!("{} must not set runAsUser=0", setters(pod, &names)?)))
}

fn seccomp(seen: &Seen<'_>) -> Finding {
    if let Some(finding) = baseline::seccomp(seen) {
        return Some(finding);
    }
    if seen.context.is_some_and(|context| context.seccomp_profile.is_some()) {
        return None;
    }
    let silent = seen.where_context(|context| context.is_none_or(|context| context.seccomp_profile.is_none()));
    let who = setters(false, &silent)?;
    let detail =
        format!("pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"");
    Some(("seccompProfile".into(), detail))
}
