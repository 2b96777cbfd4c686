//! The Kubernetes object model: pure data and pure functions. No events, no time passing.
//!
//! - `kind`: the registry, one row for each kind
//! - `object`: any object by reference, and the trait of all kinds
//! - `meta`, `name`, `resources`: what objects are made of
//! - `resize`: what pods hold while they are resized
//! - `pod`, `workload`, `stateful`, `batch`, `node`, `network`, `storage`, `policy`, `autoscaling`, `event`, `revision`,
//!   `plain`: the kinds, compact
//! - `convert`: between the compact objects, those of `k8s_openapi`, and JSON
//! - `cron`: schedules and time zones
//! - `defaults`: what the API server adds to objects
//! - `node_selector`, `tolerations`: which nodes and taints a pod means
//! - `duration`: lengths of time as configurations write them
//! - `instance_id`: what runtimes call the instances of containers
//! - `int_or_string`: numbers that may be percentages
//! - `label_keys`: a new pod's own labels merged into its selectors
//! - `manifest`: files of objects, and what is wrong with them
//! - `patch`: JSON, merge and strategic merge patches
//! - `quantity`: amounts of resources
//! - `quota`: quotas and limits of namespaces, and how usage is measured
//! - `pod_claims`: the claims that the volumes of a pod use
//! - `selector`: label and field selectors
//! - `shared`: lists that objects have in common
//! - `strict`: values to typed objects, refusing unknown fields and wrong types
//! - `time`: points in time as the API writes them
//! - `validation`: what the API server refuses, and how it says so
//! - `yaml`: text to values that know their places

pub mod autoscaling;
pub mod batch;
pub mod convert;
pub mod cron;
pub mod defaults;
pub mod duration;
pub mod event;
pub mod instance_id;
pub mod int_or_string;
pub mod kind;
pub mod label_keys;
pub mod manifest;
pub mod meta;
pub mod name;
pub mod network;
pub mod node;
pub mod node_selector;
pub mod object;
pub mod patch;
pub mod plain;
pub mod pod;
pub mod pod_claims;
pub mod policy;
pub mod quantity;
pub mod quota;
pub mod resize;
pub mod resources;
pub mod revision;
pub mod selector;
pub mod shared;
pub mod stateful;
pub mod storage;
pub mod strict;
pub mod time;
pub mod tolerations;
pub mod validation;
pub mod workload;
pub mod yaml;
