//! Defaults of volumes, claims to them, storage classes and CSI drivers (kubernetes, pkg/apis/core/v1 and storage/v1).

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, VolumeResourceRequirements};
use k8s_openapi::api::storage::v1::{CSIDriver, StorageClass};

use super::container::resource_list;
use super::{Defaults, fill};

impl Defaults for PersistentVolume {
    fn set_defaults(&mut self) {
        fill(&mut self.status.get_or_insert_default().phase, "Pending");
        let spec = self.spec.get_or_insert_default();
        fill(&mut spec.persistent_volume_reclaim_policy, "Retain");
        spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
        resource_list(&mut spec.capacity);
        if let Some(iscsi) = &mut spec.iscsi {
            fill(&mut iscsi.iscsi_interface, "default");
        }
        if let Some(rbd) = &mut spec.rbd {
            fill(&mut rbd.pool, "rbd");
            fill(&mut rbd.user, "admin");
            fill(&mut rbd.keyring, "/etc/ceph/keyring");
        }
        if let Some(disk) = &mut spec.azure_disk {
            disk.caching_mode.get_or_insert_with(|| "ReadWrite".to_owned());
            disk.kind.get_or_insert_with(|| "Shared".to_owned());
            disk.fs_type.get_or_insert_with(|| "ext4".to_owned());
            disk.read_only.get_or_insert(false);
        }
        if let Some(scale_io) = &mut spec.scale_io {
            fill(&mut scale_io.storage_mode, "ThinProvisioned");
            fill(&mut scale_io.fs_type, "xfs");
        }
        if let Some(path) = &mut spec.host_path {
            path.type_.get_or_insert_default();
        }
    }
}

impl Defaults for PersistentVolumeClaim {
    fn set_defaults(&mut self) {
        let status = self.status.get_or_insert_default();
        fill(&mut status.phase, "Pending");
        resource_list(&mut status.capacity);
        let spec = self.spec.get_or_insert_default();
        spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
        if let Some(resources) = &mut spec.resources {
            claim_resources(resources);
        }
    }
}

pub(super) fn claim_resources(resources: &mut VolumeResourceRequirements) {
    resource_list(&mut resources.limits);
    resource_list(&mut resources.requests);
}

impl Defaults for StorageClass {
    fn set_defaults(&mut self) {
        self.reclaim_policy.get_or_insert_with(|| "Delete".to_owned());
        self.volume_binding_mode.get_or_insert_with(|| "Immediate".to_owned());
    }
}

impl Defaults for CSIDriver {
    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.attach_required.get_or_insert(true);
        spec.pod_info_on_mount.get_or_insert(false);
        spec.storage_capacity.get_or_insert(false);
        spec.fs_group_policy.get_or_insert_with(|| "ReadWriteOnceWithFSType".to_owned());
        let modes = spec.volume_lifecycle_modes.get_or_insert_default();
        if modes.is_empty() {
            modes.push("Persistent".to_owned());
        }
        spec.requires_republish.get_or_insert(false);
        spec.se_linux_mount.get_or_insert(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check<T: Defaults + serde::de::DeserializeOwned + serde::Serialize>(object: Value, expected: Value) {
        let mut object: T = serde_json::from_value(object).expect("an object");
        object.set_defaults();
        let mut found = serde_json::to_value(object).expect("a value");
        found
            .as_object_mut()
            .expect("an object")
            .retain(|key, _| !["apiVersion", "kind", "metadata"].contains(&&**key));
        assert_eq!(found, expected);
    }

    #[test]
    fn volumes_are_kept_and_hold_file_systems_unless_they_say_otherwise() {
        check::<PersistentVolume>(
            json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {}, "spec": {"capacity": {"storage": "1024Mi"}}}),
            json!({"spec": {"capacity": {"storage": "1Gi"}, "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"}, "status": {"phase": "Pending"}}),
        );
        check::<PersistentVolumeClaim>(
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {}, "spec": {"resources": {"requests": {"storage": "1"}}}}),
            json!({"spec": {"resources": {"requests": {"storage": "1"}}, "volumeMode": "Filesystem"}, "status": {"phase": "Pending"}}),
        );
    }

    #[test]
    fn classes_bind_at_once_and_delete_what_they_made() {
        check::<StorageClass>(
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {}, "provisioner": "p"}),
            json!({"provisioner": "p", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}),
        );
    }
}
