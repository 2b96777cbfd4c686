//! What the benches of the scheduler place: alone, and within a running cluster.

use serde_json::{Value, json};

/// Kinds of pods, and what each has in its specification.
pub fn workloads() -> Vec<(&'static str, Value)> {
    let (zone, host) = ("topology.kubernetes.io/zone", "kubernetes.io/hostname");
    let selector = json!({ "matchLabels": { "app": "web" } });
    let spread = |key: &str| json!({ "topologyKey": key, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector });
    let term = |key: &str| json!({ "topologyKey": key, "labelSelector": selector });
    let required = |key: &str| json!({ "requiredDuringSchedulingIgnoredDuringExecution": [term(key)] });
    let weighted = |key: &str| json!({ "weight": 50, "podAffinityTerm": term(key) });
    let preferred = |key: &str| json!({ "preferredDuringSchedulingIgnoredDuringExecution": [weighted(key)] });
    vec![
        ("plain", json!({})),
        ("spread by zone and host", json!({ "topologySpreadConstraints": [spread(zone), spread(host)] })),
        ("required anti-affinity", json!({ "affinity": { "podAntiAffinity": required(host) } })),
        ("required affinity", json!({ "affinity": { "podAffinity": required(zone) } })),
        (
            "preferred affinity",
            json!({ "affinity": { "podAffinity": preferred(zone), "podAntiAffinity": preferred(host) } }),
        ),
    ]
}
