//! ServiceAccount: every pod runs under an account, whose token is mounted as the volume `kube-api-access-xxxxx`
//! (kubernetes, plugin/pkg/admission/serviceaccount).

use k8s_openapi::api::core::v1::{self as core, LocalObjectReference};

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::plain;
use crate::api::pod::{Pod, PodSpec};
use crate::engine::random::Stream;
use crate::engine::time::SimDuration;

use super::{Attributes, Facts, Plugin, Refusal, Verb, forbidden, mountable_secrets};
use crate::apiserver::names;

const DEFAULT: Name = Name::of("default");
const MIRROR: &str = "kubernetes.io/config.mirror";
/// How often the account `default` is looked for, which a controller makes soon after its namespace (`getServiceAccount`).
const ATTEMPTS: usize = 10;
/// How long between two of these; the original draws 100 to 200 ms for each pod.
const PAUSE: SimDuration = SimDuration::from_millis(150);
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Which accounts must exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Accounts {
    /// All, as in a real cluster, where a controller makes the account `default` of each namespace.
    MustExist,
    /// All but `default`: a cluster in which nobody makes those.
    #[default]
    DefaultIsGiven,
}

/// The plugin.
pub struct ServiceAccount {
    /// Which accounts must exist.
    pub accounts: Accounts,
}

impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn admit(
        &self,
        attributes: Attributes<'_>,
        facts: Facts<'_>,
        object: &mut Object,
        tokens: &mut Stream,
    ) -> Result<(), Refusal> {
        let Object::Pod(pod) = object else { return Ok(()) };
        if attributes.verb != Verb::Create || attributes.subresource || is_mirror(pod) {
            return Ok(());
        }
        let account = self.find(pod, facts)?;
        if let Some(why) = account.and_then(|account| mountable_secrets::refusal(account, &pod.spec.full)) {
            return Err(forbidden(Kind::Pod, &pod.meta.name, pod.meta.generate_name.as_ref(), why));
        }
        if pod.token_volume.is_some() {
            return Ok(());
        }
        let wanted = pod.spec.full.automount_service_account_token;
        let wanted = wanted.or_else(|| account?.content.automount_service_account_token).unwrap_or(true);
        if wanted && needs_token(&pod.spec.full) {
            std::rc::Rc::make_mut(pod).token_volume = Some(names::suffix(tokens));
        }
        Ok(())
    }

    fn spec_facts(&self, pod: &Pod, facts: Facts<'_>) -> Result<u64, Refusal> {
        if is_mirror(pod) {
            return Ok(u64::MAX);
        }
        let account = self.find(pod, facts)?;
        let secrets = account.filter(|account| account.content.image_pull_secrets.is_some());
        Ok(secrets.map_or(0, |account| account.meta.revision()))
    }

    fn admit_spec(&self, pod: &Pod, facts: Facts<'_>, spec: &mut PodSpec) -> Result<(), Refusal> {
        let full = &mut spec.full;
        let name = full.service_account_name.clone().unwrap_or_default();
        if is_mirror(pod) {
            let why = match full {
                _ if !name.is_empty() => "a mirror pod may not reference service accounts",
                full if mountable_secrets::uses_secrets(full) => "a mirror pod may not reference secrets",
                full if mountable_secrets::projects_token(full) => {
                    "a mirror pod may not use ServiceAccountToken volume projections"
                }
                _ => return Ok(()),
            };
            return Err(forbidden(Kind::Pod, &pod.meta.name, pod.meta.generate_name.as_ref(), why));
        }
        if name.is_empty() {
            full.service_account_name = Some(DEFAULT.to_string());
        }
        // The older field mirrors the name (core/v1 conversion: `DeprecatedServiceAccount`).
        full.service_account = full.service_account_name.clone();
        let secrets: Option<Vec<LocalObjectReference>> =
            self.find(pod, facts)?.and_then(|account| account.content.image_pull_secrets.clone());
        if full.image_pull_secrets.as_ref().is_none_or(Vec::is_empty) && secrets.is_some() {
            full.image_pull_secrets = secrets;
        }
        Ok(())
    }
}

impl ServiceAccount {
    /// The pod's account; none if it is one that need not exist.
    fn find<'a>(&self, pod: &Pod, facts: Facts<'a>) -> Result<Option<&'a plain::ServiceAccount>, Refusal> {
        let name = match pod.spec.full.service_account_name.as_deref() {
            None | Some("" | "default") => DEFAULT,
            Some(name) => Name::new(name),
        };
        let namespace = &pod.meta.namespace;
        if let Some(account) = facts.cached::<plain::ServiceAccount>(namespace, &name) {
            return Ok(Some(account));
        }
        if name == DEFAULT && self.accounts == Accounts::DefaultIsGiven {
            return Ok(None);
        }
        let look_up = |after| {
            let key = ObjectKey::new(Kind::ServiceAccount, namespace.clone(), name.clone());
            Err(Refusal::LookUp { key, after })
        };
        match facts.looked_up::<plain::ServiceAccount>(namespace, &name) {
            Some(Some(account)) => Ok(Some(account)),
            Some(None)
                if name == DEFAULT && facts.times_looked_up::<plain::ServiceAccount>(namespace, &name) < ATTEMPTS =>
            {
                look_up(PAUSE)
            }
            Some(None) => {
                let missing = format!("serviceaccount \"{name}\" not found");
                let why = format!("error looking up service account {namespace}/{name}: {missing}");
                Err(forbidden(Kind::Pod, &pod.meta.name, pod.meta.generate_name.as_ref(), why))
            }
            None => look_up(SimDuration::ZERO),
        }
    }
}

fn is_mirror(pod: &Pod) -> bool {
    !pod.meta.annotations.is_empty() && pod.meta.annotations.get(MIRROR).is_some()
}

/// True if a container has nothing else mounted where the token belongs.
fn needs_token(full: &core::PodSpec) -> bool {
    let volumes = full.volumes.iter().flatten();
    let has_token = volumes.into_iter().any(|volume| volume.name.starts_with("kube-api-access-"));
    let mut containers = full.init_containers.iter().flatten().chain(&full.containers);
    !has_token
        && containers
            .any(|container| !container.volume_mounts.iter().flatten().any(|mount| mount.mount_path == TOKEN_PATH))
}
