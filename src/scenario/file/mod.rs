//! The scenario file as it is written: plain data, each field documented. What the documentation says here is what
//! `kubesim schema scenario` prints.
//!
//! Nothing is looked up or worked out here; that is the business of [`super::check`].
//!
//! - this file: the whole file, how long the run goes on, what is expected of it
//! - `cluster`: the cluster to be simulated
//! - `step`: what is done to it, and when
//! - `amount`: quantities, shares and dates as they are written
//! - `decode`: from a text to this data, with everything that is wrong

pub mod amount;
pub mod cluster;
pub mod decode;
pub mod step;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::runtime::model::ImageModel;
use crate::runtime::span::Span;

use self::amount::{Amount, Date};
use self::cluster::ClusterFile;
use self::step::StepFile;

/// A scenario: a cluster, what is done to it and when, and what is expected.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScenarioFile {
    /// The version of this format.
    pub api_version: ApiVersion,
    /// What the file is.
    pub kind: ScenarioKind,
    /// The scenario's name.
    pub metadata: MetadataFile,
    /// What the scenario shows, for people.
    #[serde(default)]
    pub description: String,
    /// The date at which the run begins, as `2026-11-20T18:32:16Z`. The first of January 2026 if not given.
    #[serde(default)]
    pub epoch: Option<Date>,
    /// The cluster. Three nodes behind three etcd members if not given.
    #[serde(default)]
    pub cluster: ClusterFile,
    /// How images behave; the first model whose pattern matches counts. Other images are well-behaved servers of 50 MiB.
    #[serde(default)]
    pub images: Vec<ImageFile>,
    /// Measures that change over time: work that pods share, and what else autoscalers look at.
    #[serde(default)]
    pub signals: Vec<SignalFile>,
    /// Objects that are applied as soon as the cluster is up (3 s after the run began), before any step.
    #[serde(default)]
    pub manifests: Vec<ManifestFile>,
    /// What is done to the cluster.
    #[serde(default)]
    pub steps: Vec<StepFile>,
    /// When the run ends. As soon as everything has settled if not given.
    #[serde(default)]
    pub until: UntilFile,
    /// What is expected of the run. A run in which something is not met ends with status 1.
    #[serde(default)]
    pub expect: Vec<ExpectFile>,
}

/// The version of the format.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// The only one so far.
    #[serde(rename = "kubesim/v1alpha1")]
    V1Alpha1,
}

/// What a file of this format is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub enum ScenarioKind {
    /// A scenario.
    Scenario,
}

/// What a scenario is called.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MetadataFile {
    /// The name: small letters, digits and dashes.
    pub name: String,
}

/// How the images that a pattern names behave.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageFile {
    /// The images meant, as `fake/app:v1`; `*` stands for any text, and a name without tag means all its tags.
    #[serde(rename = "match")]
    pub pattern: String,
    /// The containers meant, as `POD/CONTAINER`; `*` stands for any text. All if not given. So the containers of one image can
    /// differ, as the scripts differ that a shell's image runs; size, user and pull of the image are those of an entry without
    /// this.
    #[serde(default)]
    pub container: Option<String>,
    /// How their containers behave.
    pub model: ImageModel,
}

/// A measure that changes over time. With `pods` it is work that the ready ones of these pods share: a load of which their
/// images' models may say what it costs, and a metric of each pod. With `object` it is a metric of that object. With neither it
/// is a metric of something outside the cluster.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignalFile {
    /// Its name, its own: that of the metric.
    pub name: String,
    /// The namespace in which it is known. `default` if not given.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The labels of the pods that share it.
    #[serde(default)]
    pub pods: Option<BTreeMap<String, String>>,
    /// The object that it is a measure of.
    #[serde(default)]
    pub object: Option<SignalObjectFile>,
    /// What tells it apart from others, if it is a measure of something outside the cluster.
    #[serde(default)]
    pub labels: Option<BTreeMap<String, String>>,
    /// How much it is, and from when on. Nothing before that.
    #[serde(default)]
    pub amounts: Vec<SignalAmountFile>,
}

/// An object that a metric is about.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignalObjectFile {
    /// Its kind, as `Service` or `Ingress`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// How much a signal is from a time on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignalAmountFile {
    /// The time after the run began.
    pub at: Span,
    /// How much.
    pub amount: Amount,
}

/// Kubernetes objects: from a file or written in place. Exactly one of the two is given.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManifestFile {
    /// A file of manifests, relative to the folder of the scenario.
    #[serde(default)]
    pub file: Option<String>,
    /// One object, with `apiVersion` and `kind`.
    #[serde(default)]
    pub object: Option<BTreeMap<String, Value>>,
}

/// When the run ends: exactly one of `settled`, `condition` and `time`, or none for `settled`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UntilFile {
    /// When every step is done, every rollout is complete or has failed for good, no pod is in transition, and nothing
    /// has been written for so long. 10 s if not given.
    #[serde(default)]
    pub settled: Option<Span>,
    /// As soon as this condition (CEL) holds and every step is done.
    #[serde(default)]
    pub condition: Option<String>,
    /// At this time after the run began.
    #[serde(default)]
    pub time: Option<Span>,
    /// A run that has not ended by this time is stuck. 1 h if not given.
    #[serde(default)]
    pub limit: Option<Span>,
}

/// Something expected of the run: exactly one of `always`, `never`, `eventually` and `atEnd`, each a condition (CEL).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpectFile {
    /// What is expected, in words.
    pub name: String,
    /// Holds all the time.
    #[serde(default)]
    pub always: Option<String>,
    /// Holds at no time.
    #[serde(default)]
    pub never: Option<String>,
    /// Holds at some time.
    #[serde(default)]
    pub eventually: Option<String>,
    /// Holds when the run ends.
    #[serde(default)]
    pub at_end: Option<String>,
    /// The step after whose end this counts (`always`, `never`, `eventually`). From the beginning if not given.
    #[serde(default)]
    pub from: Option<String>,
    /// The step at whose beginning this no longer counts (`always`, `never`). Up to the end of the run if not given.
    #[serde(default)]
    pub to: Option<String>,
    /// How long after `from` it must have happened at the latest (`eventually`). Until the run ends if not given.
    #[serde(default)]
    pub within: Option<Span>,
}

/// The JSON Schema of scenario files.
pub fn schema() -> Value {
    let schema = schemars::schema_for!(ScenarioFile);
    schema.to_value()
}
