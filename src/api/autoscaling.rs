//! Autoscalers: how many replicas there are to be, as a measure says.

use std::rc::Rc;

use k8s_openapi::api::autoscaling::v2 as autoscaling;

use super::meta::Meta;

/// A HorizontalPodAutoscaler; the content carries no metadata.
#[derive(Clone, Debug)]
pub struct HorizontalPodAutoscaler {
    /// Metadata.
    pub meta: Meta,
    /// Specification and status as the API knows them.
    pub content: Rc<autoscaling::HorizontalPodAutoscaler>,
}
