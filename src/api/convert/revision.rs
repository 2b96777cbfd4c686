//! ControllerRevisions.

use std::rc::Rc;

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};

use super::meta::{from_meta, to_meta};
use super::workload::{from_template, to_template};
use super::{Convert, ConvertError, plain_json};
use crate::api::pod::PodTemplate;
use crate::api::revision::{ControllerRevision, RevisionData};

impl Convert for ControllerRevision {
    type Full = apps::ControllerRevision;

    fn to_full(&self) -> apps::ControllerRevision {
        let data = match &*self.data {
            RevisionData::Template(kept) => Some(template_patch(&kept.template)),
            RevisionData::Other(data) => data.clone(),
        };
        apps::ControllerRevision {
            metadata: to_meta(&self.meta),
            data: data.map(RawExtension),
            revision: self.revision,
        }
    }

    fn from_full(full: apps::ControllerRevision) -> Result<Self, ConvertError> {
        let data = full.data.map(|data| data.0);
        let template = data.as_ref().and_then(template_of);
        let data = match template {
            // What would not come back as it was written is kept as it is.
            Some(template) if Some(template_patch(&template)) == data => RevisionData::of(template),
            _ => RevisionData::Other(data),
        };
        Ok(ControllerRevision { meta: from_meta(full.metadata)?, revision: full.revision, data: Rc::new(data) })
    }
}

/// The strategic merge patch that puts a template back (kube-controller-manager, statefulset and daemon: `getPatch`).
pub fn template_patch(template: &PodTemplate) -> Value {
    let mut full = to_template(template);
    if let Some(spec) = &mut full.spec {
        write_what_go_writes(spec);
    }
    let mut patch = plain_json(&full);
    if let Value::Object(fields) = &mut patch {
        fields.insert("$patch".to_owned(), "replace".into());
    }
    json!({"spec": {"template": patch}})
}

/// The API's own types write some structures even if they are empty, as `resources` of a container.
fn write_what_go_writes(spec: &mut core::PodSpec) {
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        container.resources.get_or_insert_default();
    }
}

/// The template that a patch puts back, if that is all it does.
fn template_of(patch: &Value) -> Option<Rc<PodTemplate>> {
    let mut template = patch.get("spec")?.get("template")?.clone();
    template.as_object_mut()?.remove("$patch");
    let full: core::PodTemplateSpec = serde_json::from_value(template).ok()?;
    from_template("data.spec.template", full).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kind::Kind;
    use crate::api::object::Object;

    fn check(data: Value, is_template: bool) {
        let full = json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "db-1"},
            "revision": 3, "data": data});
        let object = Object::from_json(Kind::ControllerRevision, full.clone()).unwrap();
        assert_eq!(object.get::<ControllerRevision>().unwrap().template().is_some(), is_template);
        assert_eq!(object.to_json(), full);
    }

    #[test]
    fn the_patch_that_puts_a_template_back_is_kept_as_a_template_and_anything_else_as_it_is() {
        let template = json!({"$patch": "replace", "metadata": {"labels": {"app": "db"}},
            "spec": {"containers": [{"name": "app", "image": "i", "resources": {}}]}});
        check(json!({"spec": {"template": template}}), true);
        check(json!({"spec": {"template": template, "replicas": 3}}), false);
        check(json!({"anything": [1, 2]}), false);
    }
}
