//! DefaultBinder: binds a pod by the binding subresource.

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::apiserver::protocol::Operation;
use crate::scheduler::framework::{Placement, Plugin, Point};

/// The plugin.
pub struct DefaultBinder;

impl Plugin for DefaultBinder {
    fn name(&self) -> &'static str {
        "DefaultBinder"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Bind]
    }

    fn bind(&self, placement: &Placement) -> Option<Operation> {
        let meta = &placement.pod.meta;
        let key = ObjectKey::new(Kind::Pod, meta.namespace.clone(), meta.name.clone());
        Some(Operation::Bind { key, uid: meta.uid, node: placement.node.clone() })
    }
}
