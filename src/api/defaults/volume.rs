//! Defaults of volumes.

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, EmptyDirVolumeSource, ProjectedVolumeSource, Volume};

use super::container::default_pull_policy;
use super::fill;

/// Permissions of files made from objects: 0644.
const DEFAULT_MODE: i32 = 0o644;

pub(super) fn volume(volume: &mut Volume) {
    if *volume == (Volume { name: volume.name.clone(), ..Volume::default() }) {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    }
    if let Some(image) = &mut volume.image {
        fill(&mut image.pull_policy, default_pull_policy(image.reference.as_deref().unwrap_or_default()));
    }
    if let Some(path) = &mut volume.host_path {
        path.type_.get_or_insert_default();
    }
    if let Some(secret) = &mut volume.secret {
        secret.default_mode.get_or_insert(DEFAULT_MODE);
    }
    if let Some(config_map) = &mut volume.config_map {
        config_map.default_mode.get_or_insert(DEFAULT_MODE);
    }
    if let Some(downward) = &mut volume.downward_api {
        downward.default_mode.get_or_insert(DEFAULT_MODE);
        downward_items(&mut downward.items);
    }
    if let Some(sources) = &mut volume.projected {
        projected(sources);
    }
    if let Some(iscsi) = &mut volume.iscsi {
        fill(&mut iscsi.iscsi_interface, "default");
    }
    if let Some(template) = volume.ephemeral.as_mut().and_then(|source| source.volume_claim_template.as_mut()) {
        fill(&mut template.spec.volume_mode, "Filesystem");
        if let Some(resources) = &mut template.spec.resources {
            super::storage::claim_resources(resources);
        }
    }
}

fn projected(volume: &mut ProjectedVolumeSource) {
    volume.default_mode.get_or_insert(DEFAULT_MODE);
    for source in volume.sources.iter_mut().flatten() {
        if let Some(downward) = &mut source.downward_api {
            downward_items(&mut downward.items);
        }
        if let Some(token) = &mut source.service_account_token {
            token.expiration_seconds.get_or_insert(3600);
        }
    }
}

fn downward_items(items: &mut Option<Vec<DownwardAPIVolumeFile>>) {
    for item in items.iter_mut().flatten() {
        if let Some(field) = &mut item.field_ref {
            fill(&mut field.api_version, "v1");
        }
    }
}
