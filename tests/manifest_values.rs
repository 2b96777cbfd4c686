//! Manifests whose values are as strange as they can be: each is refused or does something, and the cluster lives on.

mod support;

use kubesim::cluster::options::KubeletKind;
use kubesim::scenario::manifests;
use kubesim::scenario::plan::Command;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use support::{Bed, delete_command, deployment, options};

/// Whole numbers: small ones, and those at which something ends. Those that no field can hold are rare, because a manifest with
/// one goes no further.
fn number() -> impl Strategy<Value = Value> {
    let ends =
        prop::sample::select(vec![i64::from(i32::MIN), -1, 0, 1, 2, 80, 30_000, 65_535, 65_536, i64::from(i32::MAX)]);
    let beyond = prop::sample::select(vec![
        i64::MIN,
        i64::from(i32::MIN) - 1,
        i64::from(i32::MAX) + 1,
        i64::MAX / 1_000_000_000,
        i64::MAX / 1_000_000_000 + 1,
        i64::MAX,
    ]);
    let any = any::<i32>().prop_map(i64::from);
    prop_oneof![20 => 1..90i64, 8 => ends, 1 => beyond, 1 => any].prop_map(Value::from)
}

/// Numbers of fields that hold 64 bits.
fn long() -> impl Strategy<Value = Value> {
    let ends =
        prop::sample::select(vec![i64::MAX / 1_000_000_000, i64::MAX / 1_000_000_000 + 1, i64::MAX - 1, i64::MAX]);
    prop_oneof![2 => number(), 1 => ends.prop_map(Value::from)]
}

/// Numbers that are mostly in order, so that something comes of the manifest.
fn mostly(good: i64) -> impl Strategy<Value = Value> {
    prop_oneof![4 => Just(Value::from(good)), 1 => number()]
}

fn quantity() -> impl Strategy<Value = Value> {
    let strange = prop::sample::select(vec![
        "0",
        "-0",
        "1m",
        "0.1m",
        "1n",
        "100u",
        "1e3",
        "1E",
        "9223372036854775807",
        "9223372036854775808",
        "8Ei",
        "16Ei",
        "-1",
        "1e-30",
        "1e30",
        "99999999999999999999999",
        "0.0000000001",
        "1.5Gi",
        "500m",
        "",
        "Ki",
        "1kk",
        ".5",
        "+7",
        "1e",
        "NaN",
    ]);
    let good = prop::sample::select(vec!["10m", "1", "64Mi", "1Gi"]);
    prop_oneof![
        6 => good.prop_map(Value::from),
        2 => strange.prop_map(Value::from),
        1 => number(),
    ]
}

fn amount() -> impl Strategy<Value = Value> {
    let texts = prop::sample::select(vec!["0%", "1%", "25%", "100%", "101%", "-1%", "99999999999%", "%", "1", "x%"]);
    prop_oneof![number(), texts.prop_map(Value::from)]
}

fn text() -> impl Strategy<Value = Value> {
    prop_oneof![
        2 => "[a-z]([a-z0-9-]{0,8}[a-z0-9])?".prop_map(Value::from),
        1 => "\\PC{0,12}".prop_map(Value::from),
        1 => (60..300usize).prop_map(|length| Value::from("x".repeat(length))),
    ]
}

/// A mapping with some of these fields.
fn some(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let each: Vec<_> = fields
        .into_iter()
        .map(|(name, value)| {
            prop::option::weighted(0.25, value).prop_map(move |value| value.map(|value| (name, value)))
        })
        .collect();
    each.prop_map(|fields| {
        let given = fields.into_iter().flatten().map(|(name, value)| (name.to_owned(), value));
        Value::Object(given.collect::<Map<_, _>>())
    })
    .boxed()
}

fn probe() -> BoxedStrategy<Value> {
    let port = prop_oneof![number(), text()].prop_map(|port| json!({"path": "/", "port": port}));
    some(vec![
        ("httpGet", port.boxed()),
        ("initialDelaySeconds", number().boxed()),
        ("periodSeconds", number().boxed()),
        ("timeoutSeconds", number().boxed()),
        ("failureThreshold", number().boxed()),
        ("successThreshold", number().boxed()),
        ("terminationGracePeriodSeconds", long().boxed()),
    ])
}

fn container() -> BoxedStrategy<Value> {
    let resources = (quantity(), quantity(), quantity())
        .prop_map(|(cpu, memory, limit)| json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": limit}}));
    let ports = (number(), number()).prop_map(|(port, host)| json!([{"containerPort": port, "hostPort": host}]));
    let sleep = long().prop_map(|seconds| json!({"preStop": {"sleep": {"seconds": seconds}}}));
    let image = prop_oneof![4 => Just(Value::from("app:v1")), 1 => text()];
    let rest = some(vec![
        ("resources", resources.boxed()),
        ("ports", ports.boxed()),
        ("livenessProbe", probe()),
        ("readinessProbe", probe()),
        ("startupProbe", probe()),
        ("lifecycle", sleep.boxed()),
        ("env", text().prop_map(|value| json!([{"name": "A", "value": value}])).boxed()),
    ]);
    (image, rest).prop_map(|(image, rest)| merged(json!({"name": "app", "image": image}), rest)).boxed()
}

fn merged(mut base: Value, more: Value) -> Value {
    if let (Value::Object(base), Value::Object(more)) = (&mut base, more) {
        base.extend(more);
    }
    base
}

fn pod_spec() -> BoxedStrategy<Value> {
    let toleration = long().prop_map(|seconds| {
        json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}])
    });
    let weight = (number(), text()).prop_map(|(weight, value)| {
        let term = json!({"matchExpressions": [{"key": "zone", "operator": "Gt", "values": [value]}]});
        json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": weight, "preference": term}]}})
    });
    let skew = number().prop_map(|skew| {
        json!([{"maxSkew": skew, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "web"}}}])
    });
    let rest = some(vec![
        ("terminationGracePeriodSeconds", long().boxed()),
        ("activeDeadlineSeconds", long().boxed()),
        ("priority", number().boxed()),
        ("tolerations", toleration.boxed()),
        ("affinity", weight.boxed()),
        ("topologySpreadConstraints", skew.boxed()),
        ("overhead", (quantity(), quantity()).prop_map(|(cpu, memory)| json!({"cpu": cpu, "memory": memory})).boxed()),
    ]);
    (container(), rest).prop_map(|(container, rest)| merged(json!({"containers": [container]}), rest)).boxed()
}

fn object() -> BoxedStrategy<Value> {
    let labels = json!({"app": "web"});
    let deployment = {
        let labels = labels.clone();
        let strategy = (amount(), amount()).prop_map(|(surge, unavailable)| {
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
        });
        let rest = some(vec![
            ("strategy", strategy.boxed()),
            ("minReadySeconds", number().boxed()),
            ("progressDeadlineSeconds", number().boxed()),
            ("revisionHistoryLimit", number().boxed()),
        ]);
        (mostly(3), pod_spec(), rest).prop_map(move |(replicas, spec, rest)| {
            let template = json!({"metadata": {"labels": labels}, "spec": spec});
            let base = json!({"replicas": replicas, "selector": {"matchLabels": labels}, "template": template});
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": merged(base, rest)})
        })
    };
    let pod = pod_spec().prop_map(move |spec| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one", "labels": labels}, "spec": spec})
    });
    let kinds = prop::sample::select(vec!["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]);
    let service =
        (kinds, number(), amount(), number(), number()).prop_map(|(kind, port, target, node_port, timeout)| {
            let affinity = json!({"clientIP": {"timeoutSeconds": timeout}});
            let spec = json!({"type": kind, "selector": {"app": "web"}, "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": affinity, "ports": [{"port": port, "targetPort": target, "nodePort": node_port}]});
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec})
        });
    let class = number().prop_map(|value| {
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": value})
    });
    let node = (quantity(), quantity(), number()).prop_map(|(cpu, memory, pods)| {
        let amounts = json!({"cpu": cpu, "memory": memory, "pods": pods.to_string()});
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "odd"},
            "status": {"capacity": amounts, "allocatable": amounts}})
    });
    let named = (text(), text(), text()).prop_map(|(name, key, value)| {
        let key = key.as_str().unwrap_or_default().to_owned();
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {key.clone(): value},
            "metadata": {"name": name, "labels": {key.clone(): value}, "annotations": {key: "x"}}})
    });
    prop_oneof![4 => deployment, 3 => pod, 2 => service, 1 => class, 1 => node, 1 => named].boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_values_a_manifest_is_refused_or_done_and_the_cluster_lives_on(
        objects in prop::collection::vec(object(), 1..4),
        seed in 0..1000u64,
    ) {
        let mut bed = Bed::ready(options(2, KubeletKind::Real), seed);
        for object in objects {
            let Ok(read) = manifests::read("test.yaml", &object.to_string(), "default") else { continue };
            // A refusal is as good as a success.
            let _ = bed.kubectl(Command::Apply { manifests: read.objects.into(), is_patient: true });
        }
        bed.run(45);
        let _ = bed.kubectl(delete_command(deployment("default", "web"), None, false));
        bed.run(15);
        let nodes = bed.all::<kubesim::api::node::Node>();
        prop_assert_eq!(nodes.iter().filter(|node| node.is_ready()).count(), 2, "the nodes are as before");
    }
}
