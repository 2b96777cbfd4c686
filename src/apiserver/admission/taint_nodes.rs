//! TaintNodesByCondition: a new node takes no pods before it is ready (kubernetes, plugin/pkg/admission/nodetaint).

use std::rc::Rc;

use crate::api::name::Name;
use crate::api::node::{Taint, TaintEffect};
use crate::api::object::Object;
use crate::engine::random::Stream;

use super::{Attributes, Facts, Plugin, Refusal, Verb};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// The plugin.
pub struct TaintNodesByCondition;

impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn admit(
        &self,
        attributes: Attributes<'_>,
        _facts: Facts<'_>,
        object: &mut Object,
        _: &mut Stream,
    ) -> Result<(), Refusal> {
        let Object::Node(node) = object else { return Ok(()) };
        let has = |taint: &Taint| taint.key == NOT_READY && taint.effect == TaintEffect::NoSchedule;
        if attributes.verb == Verb::Create && !attributes.subresource && !node.taints.iter().any(has) {
            let taint = Taint {
                key: Name::of(NOT_READY),
                value: Name::EMPTY,
                effect: TaintEffect::NoSchedule,
                time_added: None,
            };
            let taints = node.taints.iter().cloned().chain([taint]).collect();
            Rc::make_mut(node).taints = taints;
        }
        Ok(())
    }
}
