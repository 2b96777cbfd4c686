//! Of security contexts the users and groups: in a simulated cluster nothing looks at the rest.

use k8s_openapi::api::core::v1::{PodSecurityContext, SecurityContext};

use super::error::{ErrorList, FieldError, Path};
use super::format;

/// Checks the context of a container (`ValidateSecurityContext`).
pub(super) fn container(context: &SecurityContext, path: &Path<'_>, errors: &mut ErrorList) {
    id(context.run_as_user, &path.child("runAsUser"), errors);
    id(context.run_as_group, &path.child("runAsGroup"), errors);
}

/// Checks the context of a pod (`validatePodSpecSecurityContext`).
pub(super) fn pod(context: &PodSecurityContext, path: &Path<'_>, errors: &mut ErrorList) {
    id(context.fs_group, &path.child("fsGroup"), errors);
    id(context.run_as_user, &path.child("runAsUser"), errors);
    id(context.run_as_group, &path.child("runAsGroup"), errors);
    for (position, group) in context.supplemental_groups.iter().flatten().enumerate() {
        id(Some(*group), &path.child("supplementalGroups").index(position), errors);
    }
}

/// Refuses what is no number of a user or group.
fn id(id: Option<i64>, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(id) = id
        && let Some(complaint) = format::user_id(id)
    {
        errors.push(FieldError::invalid(path, id, complaint));
    }
}
