//! The user as whom a container runs: it must not be root where its security context says so.
//!
//! Follows kuberuntime (`verifyRunAsNonRoot`, security_context_others.go) and securitycontext
//! (`DetermineEffectiveSecurityContext`). A kubelet that takes every image to be on the node knows no image's user, and does not look.

use crate::api::validation::format;
use crate::runtime::user::ImageUser;

use super::shared::Shared;
use super::worker::Worker;

impl Worker {
    /// Why a container must not be made because of its user, if it must not.
    pub fn wrong_user(&self, index: u16, shared: &Shared) -> Option<String> {
        let own = self.own_container(index).and_then(|container| container.security_context.as_ref());
        let of_pod = self.pod.spec.full.security_context.as_ref();
        // What the container says goes before what its pod says.
        let or = |own: Option<bool>, of_pod: Option<bool>| own.or(of_pod) == Some(true);
        let must_not_be_root =
            or(own.and_then(|own| own.run_as_non_root), of_pod.and_then(|of_pod| of_pod.run_as_non_root));
        if !must_not_be_root || shared.settings.profile.images_present {
            return None;
        }
        let asked = own.and_then(|own| own.run_as_user).or_else(|| of_pod?.run_as_user);
        let spec = self.spec(index);
        let place = format!("(pod: {:?}, container: {})", self.full_name(), spec.name);
        match (asked, shared.puller.image(&spec.image).map(|image| image.user.clone()).unwrap_or_default()) {
            (Some(0), _) => Some(format!("container's runAsUser breaks non-root policy {place}")),
            (Some(_), _) => None,
            (None, ImageUser::Name(name)) => Some(format!(
                "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {place}"
            )),
            (None, ImageUser::Id(0)) => {
                Some(format!("container has runAsNonRoot and image will run as root {place}"))
            }
            (None, ImageUser::Id(id)) => format::user_id(id).map(|why| {
                format!(
                    "container has runAsNonRoot and image has an invalid user id ({id}). (Must be 1-({})): {why} {place}",
                    i32::MAX
                )
            }),
        }
    }
}
