//! A claim that is to be bound, or was (kube-controller-manager, persistentvolume: `syncUnboundClaim`, `syncBoundClaim`).

use std::rc::Rc;

use crate::api::event::EventType;
use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::api::storage::{PersistentVolume, PersistentVolumeClaim, StorageClass, default_class};
use crate::apiserver::protocol::Part;
use crate::client::plan::{Again, Plan};
use crate::client::view::{Now, View};

use super::super::owner;
use super::super::script::{self, Halt, Script};
use super::binding::{bind, place, set_claim_phase, update};
use super::index::{Index, best_match};
use super::{BETA_PROVISIONER, BIND_COMPLETED, BOUND_BY_CONTROLLER, PROVISIONER, SELECTED_NODE};

/// In-tree provisioners and the CSI drivers that took their places (csi-translation-lib).
const MIGRATED: [(&str, &str); 7] = [
    ("kubernetes.io/aws-ebs", "ebs.csi.aws.com"),
    ("kubernetes.io/azure-disk", "disk.csi.azure.com"),
    ("kubernetes.io/azure-file", "file.csi.azure.com"),
    ("kubernetes.io/cinder", "cinder.csi.openstack.org"),
    ("kubernetes.io/gce-pd", "pd.csi.storage.gke.io"),
    ("kubernetes.io/portworx-volume", "pxd.portworx.com"),
    ("kubernetes.io/vsphere-volume", "csi.vsphere.vmware.com"),
];

/// What a sync of a claim knows.
struct Snapshot {
    claim: Rc<PersistentVolumeClaim>,
    /// The volume that the claim names.
    named: Option<Rc<PersistentVolume>>,
    /// The volume that suits it best, if it names none.
    best: Option<Rc<PersistentVolume>>,
    class: Option<Rc<StorageClass>>,
    /// The class for claims that say nothing.
    default_class: Option<Name>,
    /// Pods that wait for the claim.
    waiting: Vec<Name>,
}

/// What to do about a claim.
pub(super) fn plan(view: &View<'_>, index: &Index, claim: &Rc<PersistentVolumeClaim>, now: Now) -> Plan {
    let name = claim.class().unwrap_or_default();
    let class = view.get::<StorageClass>("", &name).cloned();
    let is_delayed = class.as_ref().is_some_and(|class| class.waits_for_consumer());
    let is_free = claim.volume().is_empty() && claim.meta.annotations.get(&BIND_COMPLETED).is_none();
    let waits = |pod: &&Name| {
        let pod = view.get::<Pod>(&claim.meta.namespace, pod);
        pod.is_some_and(|pod| pod.node.is_none() && !pod.is_terminal())
    };
    let snapshot = Snapshot {
        named: view.get::<PersistentVolume>("", claim.volume()).cloned(),
        best: if is_free { best_match(index, claim, is_delayed) } else { None },
        default_class: if claim.class().is_none() { default_class(view.list()) } else { None },
        waiting: if is_free && is_delayed {
            index.users(&claim.meta).filter(waits).cloned().collect()
        } else {
            Vec::new()
        },
        claim: claim.clone(),
        class,
    };
    script::run(view, now, move |script| snapshot.sync(script).map(|()| Again::OnChange))
}

impl Snapshot {
    fn sync(&self, script: &mut Script<'_>) -> Result<(), Halt> {
        if self.claim.meta.annotations.get(&BIND_COMPLETED).is_some() {
            self.sync_bound(script)
        } else if self.claim.volume().is_empty() {
            self.sync_free(script)
        } else {
            self.sync_choice(script)
        }
    }

    fn tell(&self, script: &mut Script<'_>, kind: EventType, reason: &'static str, message: String) {
        script.record(&owner::reference(&*self.claim), kind, reason, message);
    }

    fn stay_pending(&self, script: &mut Script<'_>) -> Result<(), Halt> {
        set_claim_phase(script, &self.claim, "Pending", None)
    }

    /// A claim that any volume may satisfy.
    fn sync_free(&self, script: &mut Script<'_>) -> Result<(), Halt> {
        if let Some(volume) = &self.best {
            return bind(script, volume, &self.claim);
        }
        if let Some(class) = &self.default_class {
            let mut changed = (*self.claim).clone();
            if let Some(spec) = &mut Rc::make_mut(&mut changed.content).spec {
                spec.storage_class_name = Some(String::from(class));
            }
            return update(script, changed, Part::Main).map(|_| ());
        }
        let is_delayed = self.class.as_ref().is_some_and(|class| class.waits_for_consumer());
        let is_placed = self.claim.meta.annotations.get(&SELECTED_NODE).is_some();
        if is_delayed && !is_placed {
            self.tell_of_waiting(script);
        } else if self.claim.class().is_some_and(|class| !class.is_empty()) {
            return self.provision(script);
        } else {
            let message = "no persistent volumes available for this claim and no storage class is set";
            self.tell(script, EventType::Normal, "FailedBinding", message.to_owned());
        }
        self.stay_pending(script)
    }

    fn tell_of_waiting(&self, script: &mut Script<'_>) {
        let (reason, message) = match self.waiting.as_slice() {
            [] => ("WaitForFirstConsumer", "waiting for first consumer to be created before binding".to_owned()),
            [pod] => ("WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled")),
            pods => {
                let names: Vec<&str> = pods.iter().map(|pod| pod.as_str()).collect();
                ("WaitForPodScheduled", format!("waiting for pods {} to be scheduled", names.join(",")))
            }
        };
        self.tell(script, EventType::Normal, reason, message);
    }

    /// Asks the class's provisioner for a volume (`provisionClaim`, `provisionClaimOperationExternal`).
    fn provision(&self, script: &mut Script<'_>) -> Result<(), Halt> {
        let Some(class) = &self.class else {
            let name = self.claim.class().unwrap_or_default();
            let message = format!("storageclass.storage.k8s.io \"{name}\" not found");
            self.tell(script, EventType::Warning, "ProvisioningFailed", message);
            return Ok(());
        };
        let named = class.content.provisioner.as_str();
        let migrated = MIGRATED.iter().find(|(in_tree, _)| *in_tree == named).map(|(_, driver)| *driver);
        if migrated.is_none() && named.starts_with("kubernetes.io/") {
            let message = format!("no volume plugin matched name: {named}");
            self.tell(script, EventType::Warning, "ProvisioningFailed", message);
            return Ok(());
        }
        let provisioner = Name::from(migrated.unwrap_or(named));
        let annotations = &self.claim.meta.annotations;
        if [PROVISIONER, BETA_PROVISIONER].iter().any(|key| annotations.get(key) != Some(&provisioner)) {
            let mut changed = (*self.claim).clone();
            changed.meta.annotations =
                annotations.with(BETA_PROVISIONER, provisioner.clone()).with(PROVISIONER, provisioner.clone());
            update(script, changed, Part::Main)?;
        }
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' \
             or manually by the system administrator. If volume creation is delayed, please verify that \
             the provisioner is running and correctly registered."
        );
        self.tell(script, EventType::Normal, "ExternalProvisioning", message);
        Ok(())
    }

    /// A claim for which somebody has chosen a volume.
    fn sync_choice(&self, script: &mut Script<'_>) -> Result<(), Halt> {
        let Some(volume) = &self.named else { return self.stay_pending(script) };
        let name = &volume.meta.name;
        if volume.claim().is_none() {
            if let Err(why) = check_choice(volume, &self.claim) {
                let message = format!("Cannot bind to requested volume \"{name}\": {why}");
                self.tell(script, EventType::Warning, "VolumeMismatch", message);
                return self.stay_pending(script);
            }
            return bind(script, volume, &self.claim);
        }
        if volume.is_kept_for(&self.claim.meta) {
            return bind(script, volume, &self.claim);
        }
        let message = format!("volume \"{name}\" already bound to a different claim.");
        self.tell(script, EventType::Warning, "FailedBinding", message);
        if self.claim.meta.annotations.get(&BOUND_BY_CONTROLLER).is_none() {
            return self.stay_pending(script);
        }
        let claim = place(&self.claim.meta.namespace, &self.claim.meta.name);
        Err(Halt::Failed(format!("invalid binding of claim \"{claim}\" to volume \"{name}\"")))
    }

    /// A claim that was bound before.
    fn sync_bound(&self, script: &mut Script<'_>) -> Result<(), Halt> {
        let (reason, message) = match &self.named {
            None if self.claim.volume().is_empty() => {
                ("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
            }
            None => ("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!"),
            Some(volume) if volume.claim().is_none() || volume.claim_uid() == Some(self.claim.meta.uid) => {
                return bind(script, volume, &self.claim);
            }
            Some(_) => ("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly"),
        };
        if self.claim.phase() == "Lost" {
            return Ok(());
        }
        set_claim_phase(script, &self.claim, "Lost", None)?;
        self.tell(script, EventType::Warning, reason, message.to_owned());
        Ok(())
    }
}

/// Whether a volume that somebody has chosen satisfies a claim (`checkVolumeSatisfyClaim`).
fn check_choice(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), &'static str> {
    let (Some(own), Some(asked)) = (volume.spec(), claim.spec()) else { return Ok(()) };
    let mode = |mode: &Option<String>| mode.as_deref().unwrap_or("Filesystem").to_owned();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    if volume.size() < claim.size() {
        return Err("requested PV is too small");
    }
    if volume.class() != claim.class().unwrap_or_default() {
        return Err("storageClassName does not match");
    }
    if text(&own.volume_attributes_class_name) != text(&asked.volume_attributes_class_name) {
        return Err("volumeAttributesClassName does not match");
    }
    if mode(&own.volume_mode) != mode(&asked.volume_mode) {
        return Err("incompatible volumeMode");
    }
    let has = |wanted: &String| own.access_modes.iter().flatten().any(|mode| mode == wanted);
    if !asked.access_modes.iter().flatten().all(has) {
        return Err("incompatible accessMode");
    }
    Ok(())
}
