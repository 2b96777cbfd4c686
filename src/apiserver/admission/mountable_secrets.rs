//! Which Secrets a pod may use: of an account that says so only those that the account names
//! (kubernetes, plugin/pkg/admission/serviceaccount: `limitSecretReferences`), and a mirror pod none at all.

use k8s_openapi::api::core::v1 as core;

use crate::api::plain::ServiceAccount;

/// The annotation by which an account asks for it.
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";

/// Why a pod may not be created under an account; none if it may.
pub fn refusal(account: &ServiceAccount, full: &core::PodSpec) -> Option<String> {
    let annotations = &account.meta.annotations;
    if annotations.is_empty() || !annotations.get(ENFORCE).is_some_and(|value| is_true(value)) {
        return None;
    }
    let mountable =
        |name: &str| account.content.secrets.iter().flatten().any(|known| known.name.as_deref() == Some(name));
    let ending = format!("is not allowed because service account {} does not reference that", account.meta.name);
    for volume in full.volumes.iter().flatten() {
        let Some(secret) = &volume.secret else { continue };
        let name = secret.secret_name.as_deref().unwrap_or_default();
        if !mountable(name) {
            return Some(format!("volume with secret.secretName=\"{name}\" {ending} secret"));
        }
    }
    let init = full.init_containers.iter().flatten().map(|container| ("init container", container));
    let main = full.containers.iter().map(|container| ("container", container));
    for (what, container) in init.chain(main) {
        if let Some((how, name)) = references(container).find(|(_, name)| !mountable(name)) {
            let place = format!("{what} {} with {how} referencing secret.secretName=\"{name}\"", container.name);
            return Some(format!("{place} {ending} secret"));
        }
    }
    let pull = |name: &str| account.content.image_pull_secrets.iter().flatten().any(|known| known.name == name);
    let mut wanted = full.image_pull_secrets.iter().flatten().enumerate();
    let (place, unknown) = wanted.find(|(_, secret)| !pull(&secret.name))?;
    Some(format!("imagePullSecrets[{place}].name=\"{}\" {ending} imagePullSecret", unknown.name))
}

/// As Go reads a truth value (`strconv.ParseBool`).
fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "TRUE" | "true" | "True")
}

/// The Secrets that a container's environment comes from, and how: single variables first.
fn references(container: &core::Container) -> impl Iterator<Item = (String, &str)> {
    let single = container.env.iter().flatten().filter_map(|variable| {
        let secret = variable.value_from.as_ref()?.secret_key_ref.as_ref()?;
        Some((format!("envVar {}", variable.name), secret.name.as_str()))
    });
    let whole = container
        .env_from
        .iter()
        .flatten()
        .filter_map(|source| Some(("envFrom".to_owned(), source.secret_ref.as_ref()?.name.as_str())));
    single.chain(whole)
}

/// True if a pod refers to any Secret (api/pod, `VisitPodSecretNames`).
pub fn uses_secrets(full: &core::PodSpec) -> bool {
    let containers = full.init_containers.iter().flatten().chain(&full.containers);
    let mut names = full.image_pull_secrets.iter().flatten().map(|secret| secret.name.as_str());
    names.any(|name| !name.is_empty())
        || containers.flat_map(references).any(|(_, name)| !name.is_empty())
        || full.volumes.iter().flatten().any(of_volume)
}

/// True if the content of a volume comes from a Secret, or needs one to be reached.
fn of_volume(volume: &core::Volume) -> bool {
    let local = [
        volume.cephfs.as_ref().and_then(|source| source.secret_ref.as_ref()),
        volume.cinder.as_ref().and_then(|source| source.secret_ref.as_ref()),
        volume.flex_volume.as_ref().and_then(|source| source.secret_ref.as_ref()),
        volume.rbd.as_ref().and_then(|source| source.secret_ref.as_ref()),
        volume.scale_io.as_ref().map(|source| &source.secret_ref),
        volume.iscsi.as_ref().and_then(|source| source.secret_ref.as_ref()),
        volume.storageos.as_ref().and_then(|source| source.secret_ref.as_ref()),
        volume.csi.as_ref().and_then(|source| source.node_publish_secret_ref.as_ref()),
    ];
    let projected = volume.projected.iter().flat_map(|source| source.sources.iter().flatten());
    volume.azure_file.as_ref().is_some_and(|source| !source.secret_name.is_empty())
        || volume.secret.as_ref().is_some_and(|source| source.secret_name.as_ref().is_some_and(|name| !name.is_empty()))
        || local.into_iter().flatten().any(|secret| !secret.name.is_empty())
        || projected.filter_map(|source| source.secret.as_ref()).any(|secret| !secret.name.is_empty())
}

/// True if a volume of the pod holds a token of its account.
pub fn projects_token(full: &core::PodSpec) -> bool {
    let projected = full.volumes.iter().flatten().filter_map(|volume| volume.projected.as_ref());
    projected.flat_map(|source| source.sources.iter().flatten()).any(|source| source.service_account_token.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kind::Kind;
    use crate::api::object::Object;
    use serde_json::{Value, json};

    fn check(enforce: &str, spec: Value) -> Option<String> {
        let value = json!({
            "metadata": {"name": "robot", "namespace": "default", "annotations": {ENFORCE: enforce}},
            "secrets": [{"name": "known"}], "imagePullSecrets": [{"name": "registry"}],
        });
        let object = Object::from_json(Kind::ServiceAccount, value).expect("an account");
        let account = object.get::<ServiceAccount>().expect("an account").clone();
        refusal(&account, &serde_json::from_value(spec).expect("a specification"))
    }

    #[test]
    fn an_account_that_enforces_it_lets_only_its_own_secrets_be_used() {
        let env = |secret: &str| json!({"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}});
        let app = |env: Value| json!({"containers": [{"name": "app", "env": [env]}]});
        assert_eq!(check("true", app(env("known"))), None);
        assert_eq!(check("false", app(env("other"))), None);
        assert_eq!(check("yes", app(env("other"))), None, "what is no truth value is false");
        let ending = "is not allowed because service account robot does not reference that";
        let cases = [
            (
                app(env("other")),
                format!("container app with envVar TOKEN referencing secret.secretName=\"other\" {ending} secret"),
            ),
            (
                json!({"containers": [], "initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "other"}}]}]}),
                format!("init container i with envFrom referencing secret.secretName=\"other\" {ending} secret"),
            ),
            (
                json!({"containers": [], "volumes": [{"name": "v", "secret": {"secretName": "other"}}]}),
                format!("volume with secret.secretName=\"other\" {ending} secret"),
            ),
            (
                json!({"containers": [], "imagePullSecrets": [{"name": "registry"}, {"name": "other"}]}),
                format!("imagePullSecrets[1].name=\"other\" {ending} imagePullSecret"),
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(check("1", spec), Some(expected));
        }
    }
}
