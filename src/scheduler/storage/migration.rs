//! In-tree volumes that CSI drivers serve: which driver stands in for which kind, and how it knows a volume
//! (kubernetes, csi-translation-lib).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolumeSpec, Volume, VolumeNodeAffinity,
};

use crate::api::meta::Labels;

const ZONE: &str = "topology.kubernetes.io/zone";
const BETA_ZONE: &str = "failure-domain.beta.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
const BETA_REGION: &str = "failure-domain.beta.kubernetes.io/region";

/// What stands between the zones of a label.
const ZONE_DELIMITER: &str = "__";

/// What a Google disk's handle says where nothing is known.
const UNSPECIFIED: &str = "UNSPECIFIED";

/// A kind of in-tree volume for which a CSI driver exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the vendors' names")]
pub enum InTree {
    AwsElasticBlockStore,
    GcePersistentDisk,
    AzureDisk,
    Cinder,
    Portworx,
    AzureFile,
    Vsphere,
}

impl InTree {
    const ALL: [InTree; 7] = [
        InTree::AwsElasticBlockStore,
        InTree::GcePersistentDisk,
        InTree::AzureDisk,
        InTree::Cinder,
        InTree::Portworx,
        InTree::AzureFile,
        InTree::Vsphere,
    ];

    /// The kind of a volume that a pod names itself (`IsInlineMigratable`).
    pub fn of_inline(volume: &Volume) -> Option<Self> {
        let present = [
            volume.aws_elastic_block_store.is_some(),
            volume.gce_persistent_disk.is_some(),
            volume.azure_disk.is_some(),
            volume.cinder.is_some(),
            volume.portworx_volume.is_some(),
            volume.azure_file.is_some(),
            volume.vsphere_volume.is_some(),
        ];
        InTree::first(present)
    }

    /// The kind of a PersistentVolume (`IsPVMigratable`).
    pub fn of_persistent(spec: &PersistentVolumeSpec) -> Option<Self> {
        let present = [
            spec.aws_elastic_block_store.is_some(),
            spec.gce_persistent_disk.is_some(),
            spec.azure_disk.is_some(),
            spec.cinder.is_some(),
            spec.portworx_volume.is_some(),
            spec.azure_file.is_some(),
            spec.vsphere_volume.is_some(),
        ];
        InTree::first(present)
    }

    /// The kind with this provisioner.
    pub fn of_plugin(name: &str) -> Option<Self> {
        InTree::ALL.into_iter().find(|kind| kind.plugin_name() == name)
    }

    fn first(present: [bool; 7]) -> Option<Self> {
        InTree::ALL.into_iter().zip(present).find(|(_, present)| *present).map(|(kind, _)| kind)
    }

    /// The name of the in-tree plugin, which is also that of its provisioner.
    pub fn plugin_name(self) -> &'static str {
        match self {
            InTree::AwsElasticBlockStore => "kubernetes.io/aws-ebs",
            InTree::GcePersistentDisk => "kubernetes.io/gce-pd",
            InTree::AzureDisk => "kubernetes.io/azure-disk",
            InTree::Cinder => "kubernetes.io/cinder",
            InTree::Portworx => "kubernetes.io/portworx-volume",
            InTree::AzureFile => "kubernetes.io/azure-file",
            InTree::Vsphere => "kubernetes.io/vsphere-volume",
        }
    }

    /// The name of the CSI driver.
    pub fn driver_name(self) -> &'static str {
        match self {
            InTree::AwsElasticBlockStore => "ebs.csi.aws.com",
            InTree::GcePersistentDisk => "pd.csi.storage.gke.io",
            InTree::AzureDisk => "disk.csi.azure.com",
            InTree::Cinder => "cinder.csi.openstack.org",
            InTree::Portworx => "pxd.portworx.com",
            InTree::AzureFile => "file.csi.azure.com",
            InTree::Vsphere => "csi.vsphere.vmware.com",
        }
    }

    /// True if the scheduler takes it that the driver has taken over (`isCSIMigrationOn`).
    pub fn is_migrated(self) -> bool {
        !matches!(self, InTree::AzureFile | InTree::Vsphere)
    }

    /// The label by which the driver tells zones apart, if it does.
    fn topology_key(self) -> Option<&'static str> {
        match self {
            InTree::AwsElasticBlockStore => Some("topology.ebs.csi.aws.com/zone"),
            InTree::GcePersistentDisk => Some("topology.gke.io/zone"),
            InTree::Cinder => Some("topology.cinder.csi.openstack.org/zone"),
            InTree::AzureDisk | InTree::Portworx | InTree::AzureFile | InTree::Vsphere => None,
        }
    }
}

/// The handle by which the driver knows a volume that a pod names itself.
pub fn inline_handle(volume: &Volume) -> Result<String, String> {
    if let Some(disk) = &volume.aws_elastic_block_store {
        return ebs_volume_id(&disk.volume_id);
    }
    if let Some(disk) = &volume.gce_persistent_disk {
        return Ok(google_handle("zones", UNSPECIFIED, &disk.pd_name));
    }
    if let Some(disk) = &volume.azure_disk {
        check_azure_kind(disk.kind.as_deref())?;
        return Ok(disk.disk_uri.clone());
    }
    if let Some(disk) = &volume.cinder {
        return Ok(disk.volume_id.clone());
    }
    match &volume.portworx_volume {
        Some(disk) => Ok(disk.volume_id.clone()),
        None => Err(format!("could not find in-tree plugin translation logic for \"{}\"", volume.name)),
    }
}

/// The handle by which the driver knows a PersistentVolume.
pub fn persistent_handle(labels: &Labels, spec: &PersistentVolumeSpec) -> Result<String, String> {
    if let Some(disk) = &spec.aws_elastic_block_store {
        return ebs_volume_id(&disk.volume_id);
    }
    if let Some(disk) = &spec.gce_persistent_disk {
        return persistent_google_handle(labels, &disk.pd_name);
    }
    if let Some(disk) = &spec.azure_disk {
        check_azure_kind(disk.kind.as_deref())?;
        return Ok(disk.disk_uri.clone());
    }
    if let Some(disk) = &spec.cinder {
        return Ok(disk.volume_id.clone());
    }
    match &spec.portworx_volume {
        Some(disk) => Ok(disk.volume_id.clone()),
        None => Err("could not find in-tree plugin translation logic".to_owned()),
    }
}

/// An identifier of Amazon's own, or the last part of `aws://zone/vol-1234` (`KubernetesVolumeIDToEBSVolumeID`).
fn ebs_volume_id(id: &str) -> Result<String, String> {
    let Some(rest) = id.strip_prefix("aws://") else { return Ok(id.to_owned()) };
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once('/').map_or("", |(_, path)| path).trim_matches('/');
    if path.starts_with("vol-") && !path.contains('/') {
        return Ok(path.to_owned());
    }
    Err(format!("failed to translate Kubernetes ID to EBS Volume ID Invalid format for AWS volume ({id})"))
}

fn check_azure_kind(kind: Option<&str>) -> Result<(), String> {
    match kind {
        Some(kind) if !kind.eq_ignore_ascii_case("managed") => {
            Err(format!("kind({kind}) is not supported in csi migration"))
        }
        _ => Ok(()),
    }
}

fn google_handle(within: &str, place: &str, disk: &str) -> String {
    format!("projects/{UNSPECIFIED}/{within}/{place}/disks/{disk}")
}

/// A disk of one zone is named with it, one of several with their region.
fn persistent_google_handle(labels: &Labels, disk: &str) -> Result<String, String> {
    let label = |key: &str| labels.get(key).filter(|zones| !zones.is_empty());
    let zones = label(BETA_ZONE).or_else(|| label(ZONE)).map(|zones| zones.as_str()).unwrap_or_default();
    let zones: Vec<&str> = zones.split(ZONE_DELIMITER).collect();
    match zones.as_slice() {
        [zone] if !zone.is_empty() => Ok(google_handle("zones", zone, disk)),
        [_] | [] => Ok(google_handle("zones", UNSPECIFIED, disk)),
        zones => Ok(google_handle("regions", &google_region(zones)?, disk)),
    }
}

fn google_region(zones: &[&str]) -> Result<String, String> {
    let failed = |why: String| format!("failed to get region from zones: {why}");
    let mut regions = BTreeSet::new();
    for zone in zones {
        let parts: Vec<&str> = zone.split('-').collect();
        let [locale, region, _] = parts.as_slice() else {
            let why = "zone in unexpected format, expected: {locale}-{region}-{zone}, got: ";
            return Err(failed(format!("{why}{zone}")));
        };
        regions.insert(format!("{locale}-{region}"));
    }
    let mut all = regions.iter();
    match (all.next(), all.next()) {
        (Some(region), None) => Ok(region.clone()),
        _ => {
            let shown: Vec<String> = regions.iter().map(|region| format!("{region}:{{}}")).collect();
            Err(failed(format!("multiple or no regions gotten from zones, got: map[{}]", shown.join(" "))))
        }
    }
}

/// The node affinity of a volume with the keys that its driver's nodes carry; none if it has none.
pub fn affinity(kind: InTree, labels: &Labels, spec: &PersistentVolumeSpec) -> Result<Option<NodeSelector>, String> {
    persistent_handle(labels, spec)?;
    let terms = spec.node_affinity.as_ref().and_then(|affinity| affinity.required.clone());
    let Some(key) = kind.topology_key() else { return Ok(terms) };
    let (zone, region) = topology_labels(labels, spec.node_affinity.as_ref());
    let mut terms = terms.unwrap_or_default();
    let had_terms = spec.node_affinity.as_ref().is_some_and(|affinity| affinity.required.is_some());
    let zones = has_values(&terms, zone);
    if zones {
        rename(&mut terms, zone, key);
    }
    let added = !zones && labels.get(zone).is_some_and(|zones| add_zones(&mut terms, key, zones));
    if region == BETA_REGION && has_values(&terms, region) {
        rename(&mut terms, region, REGION);
    }
    Ok((had_terms || added).then_some(terms))
}

/// The labels for zone and region that the volume uses: those of today or the older ones (`getTopologyLabel`).
fn topology_labels(labels: &Labels, affinity: Option<&VolumeNodeAffinity>) -> (&'static str, &'static str) {
    let terms = affinity.and_then(|affinity| affinity.required.as_ref()).map(|terms| &terms.node_selector_terms);
    let in_affinity = |key: &str| {
        let expressions = terms.into_iter().flatten().flat_map(|term| term.match_expressions.iter().flatten());
        expressions.into_iter().any(|expression| expression.key == key)
    };
    let today = (ZONE, REGION);
    let older = (BETA_ZONE, BETA_REGION);
    if in_affinity(ZONE) {
        today
    } else if in_affinity(BETA_ZONE) || labels.get(ZONE).is_none() && labels.get(BETA_ZONE).is_some() {
        older
    } else {
        today
    }
}

fn expressions<'a>(terms: &'a mut NodeSelector, key: &'a str) -> impl Iterator<Item = &'a mut NodeSelectorRequirement> {
    let all = terms.node_selector_terms.iter_mut().flat_map(|term| term.match_expressions.iter_mut().flatten());
    all.filter(move |expression| expression.key == key)
}

fn has_values(terms: &NodeSelector, key: &str) -> bool {
    let all = terms.node_selector_terms.iter().flat_map(|term| term.match_expressions.iter().flatten());
    all.into_iter().any(|expression| expression.key == key && expression.values.as_ref().is_some_and(|v| !v.is_empty()))
}

fn rename(terms: &mut NodeSelector, old: &str, new: &str) {
    expressions(terms, old).for_each(|expression| expression.key = new.to_owned());
}

/// Adds to each term that the node must be in one of the zones of a label; false if the label names none.
fn add_zones(terms: &mut NodeSelector, key: &str, label: &str) -> bool {
    let zones: BTreeSet<&str> = label.split(ZONE_DELIMITER).map(str::trim).filter(|zone| !zone.is_empty()).collect();
    if zones.is_empty() {
        return false;
    }
    if terms.node_selector_terms.is_empty() {
        terms.node_selector_terms.push(NodeSelectorTerm::default());
    }
    for term in &mut terms.node_selector_terms {
        term.match_expressions.get_or_insert_default().push(NodeSelectorRequirement {
            key: key.to_owned(),
            operator: "In".to_owned(),
            values: Some(zones.iter().map(|zone| (*zone).to_owned()).collect()),
        });
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::name::Name;
    use serde_json::{Value, json};

    fn spec(value: Value) -> PersistentVolumeSpec {
        serde_json::from_value(value).expect("a specification")
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| (Name::from(*key), Name::from(*value))).collect()
    }

    #[test]
    fn drivers_know_disks_by_handles_of_their_own() {
        let handle = |pairs: &[(&str, &str)], value: Value| persistent_handle(&labels(pairs), &spec(value));
        let ebs = |id: &str| handle(&[], json!({"awsElasticBlockStore": {"volumeID": id}}));
        assert_eq!(ebs("vol-1"), Ok("vol-1".to_owned()));
        assert_eq!(ebs("aws://us-east-1a/vol-1"), Ok("vol-1".to_owned()));
        assert_eq!(ebs("aws:///vol-1"), Ok("vol-1".to_owned()));
        assert!(ebs("aws://us-east-1a/disk-1").is_err());
        let google = |pairs: &[(&str, &str)]| handle(pairs, json!({"gcePersistentDisk": {"pdName": "d"}}));
        assert_eq!(google(&[]), Ok("projects/UNSPECIFIED/zones/UNSPECIFIED/disks/d".to_owned()));
        assert_eq!(google(&[(ZONE, "eu-west1-b")]), Ok("projects/UNSPECIFIED/zones/eu-west1-b/disks/d".to_owned()));
        let two = google(&[(BETA_ZONE, "eu-west1-b__eu-west1-c")]);
        assert_eq!(two, Ok("projects/UNSPECIFIED/regions/eu-west1/disks/d".to_owned()));
    }

    #[test]
    fn zones_become_the_zones_of_the_driver() {
        let terms = |value: Value, pairs: &[(&str, &str)]| {
            let found = affinity(InTree::AwsElasticBlockStore, &labels(pairs), &spec(value)).expect("an affinity");
            serde_json::to_value(found).expect("a value")
        };
        let disk = json!({"volumeID": "vol-1"});
        let by_zone = |key: &str| json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": "In", "values": ["a"]}]}]});
        let key = "topology.ebs.csi.aws.com/zone";
        let with_affinity = json!({"awsElasticBlockStore": disk, "nodeAffinity": {"required": by_zone(ZONE)}});
        assert_eq!(terms(with_affinity, &[]), by_zone(key));
        assert_eq!(terms(json!({"awsElasticBlockStore": disk}), &[(BETA_ZONE, "a")]), by_zone(key));
        assert_eq!(terms(json!({"awsElasticBlockStore": disk}), &[]), Value::Null);
    }
}
