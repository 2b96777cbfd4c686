//! Scenario files: what is wrong with them, and what reading them never does.

use proptest::prelude::*;
use serde_json::Value;

use super::outcome::Ending;
use super::*;

const HEAD: &str = "apiVersion: kubesim/v1alpha1\nkind: Scenario\nmetadata: {name: s}\n";

fn read(text: &str) -> Result<Scenario, Vec<Problem>> {
    Scenario::read("s.yml", text, &mut |file| Err(format!("{file} cannot be read: it is not there")))
}

/// The problems of a file that begins with the three lines that all have.
fn check(text: &str, expected: &[&str]) {
    let found = read(&format!("{HEAD}{text}")).err().unwrap_or_default();
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn everything_wrong_with_a_file_is_reported_at_once_with_its_place() {
    check(
        "epoch: yesterday
cluster:
  nodes:
  - {name: Big_Node, count: 2}
  - {name: node, cpus: 4, memory: lots}
  etcd: {members: 2}
steps:
- {name: a, at: soon, cordon: node-0}
- {name: b, after: z, cordon: node-0}
- {name: b, when: podz.size() > 1, uncordon: node-0, heal: all}
- {name: d, at: 1s, setImages: {object: deployment/web}}
until: {time: 10}
",
        &[
            "s.yml:4:8: epoch: \"yesterday\" is not a date (expected one such as 2026-11-20T18:32:16Z)",
            "s.yml:7:12: cluster.nodes[0].name: \"Big_Node\" cannot begin the name of a node: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            "s.yml:8:18: unknown field \"cluster.nodes[1].cpus\" (expected one of name, count, cpu, memory, pods, ephemeralStorage, zones, labels, taints, images, kubelet, pullBandwidth, kubeletConfig)",
            "s.yml:8:35: cluster.nodes[1].memory: \"lots\" is not an amount (expected a quantity such as 500m, 4 or 16Gi)",
            "s.yml:9:19: cluster.etcd.members: there cannot be 2 etcd members (expected 1, 3 or 5)",
            "s.yml:11:17: steps[0].at: \"soon\" is not a duration (expected numbers with units, such as 1.5s, 200ms or 1h30m)",
            "s.yml:12:20: steps[1].after: there is no step \"z\" (expected one of: a, b, d)",
            "s.yml:13:3: steps[2]: the step \"b\" does several things: uncordon, heal (expected one action; use several steps)",
            "s.yml:13:10: steps[2].name: there are two steps called \"b\"",
            "s.yml:13:19: steps[2].when: the condition names an unknown variable \"podz\" (expected one of: namespaces, nodes, leases, pods, replicaSets, deployments, services, endpointSlices, endpoints, events, configMaps, secrets, serviceAccounts, priorityClasses, controllerRevisions, persistentVolumes, persistentVolumeClaims, storageClasses, csiNodes, csiDrivers, csiStorageCapacities, volumeAttachments, podDisruptionBudgets, statefulSets, replicationControllers, daemonSets, jobs, cronJobs, resourceQuotas, limitRanges, runtimeClasses, horizontalPodAutoscalers, now)",
            "s.yml:14:21: unknown field \"steps[3].setImages\" (expected one of name, label, expectFailure, at, after, delay, when, timeout, clientDelay, create, apply, delete, scale, setImage, patch, rollout, labelObject, annotate, cordon, uncordon, drain, taint, node, etcd, process, machine, partition, heal, signal, note)",
            "s.yml:15:15: until.time: invalid type: integer \"10\" (expected a string)",
        ],
    );
    check(
        "cluster:
  nodes:
  - {name: Big_Node, count: 2}
  etcd: {members: 2}
steps:
- {name: a, cordon: node-0}
- {name: b, after: z, cordon: node-0}
- {name: b, when: podz.size() > 1, uncordon: node-0, heal: all}
- {name: c, at: 1s, delay: 1s}
expect:
- {name: e, always: 'true', from: a, within: 1s}
",
        &[
            "s.yml:6:12: cluster.nodes[0].name: \"Big_Node\" cannot begin the name of a node: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            "s.yml:7:19: cluster.etcd.members: there cannot be 2 etcd members (expected 1, 3 or 5)",
            "s.yml:9:3: steps[0]: the step \"a\" must say once when it begins (expected one of at, after and when (after and when may stand together))",
            "s.yml:10:20: steps[1].after: there is no step \"z\" (expected one of: a, b, c)",
            "s.yml:11:3: steps[2]: the step \"b\" does several things: uncordon, heal (expected one action; use several steps)",
            "s.yml:11:10: steps[2].name: there are two steps called \"b\"",
            "s.yml:11:19: steps[2].when: the condition names an unknown variable \"podz\" (expected one of: namespaces, nodes, leases, pods, replicaSets, deployments, services, endpointSlices, endpoints, events, configMaps, secrets, serviceAccounts, priorityClasses, controllerRevisions, persistentVolumes, persistentVolumeClaims, storageClasses, csiNodes, csiDrivers, csiStorageCapacities, volumeAttachments, podDisruptionBudgets, statefulSets, replicationControllers, daemonSets, jobs, cronJobs, resourceQuotas, limitRanges, runtimeClasses, horizontalPodAutoscalers, now)",
            "s.yml:12:3: steps[3]: the step \"c\" does nothing (expected one action, such as apply, setImage or node)",
            "s.yml:12:28: steps[3].delay: a delay counts from the end of another step, but there is no after",
            "s.yml:14:46: expect[0].within: this has no meaning here",
        ],
    );
}

#[test]
fn a_file_that_is_no_scenario_says_what_was_expected() {
    let first = |text: &str| read(text).err().and_then(|problems| problems.first().map(ToString::to_string));
    let expected = "(expected one scenario: apiVersion: kubesim/v1alpha1, kind: Scenario)";
    assert_eq!(first(""), Some(format!("s.yml:1:1: the file is empty {expected}")));
    assert_eq!(first("a"), Some(format!("s.yml:1:1: the file is no mapping {expected}")));
    assert_eq!(first("a: 1\n---\nb: 1\n"), Some(format!("s.yml:1:1: the file holds 2 documents {expected}")));
    assert_eq!(
        first("apiVersion: kubesim/v1\nkind: Scenario\nmetadata: {name: s}\n"),
        Some("s.yml:1:13: apiVersion: unknown variant \"kubesim/v1\" (expected kubesim/v1alpha1)".to_owned())
    );
    assert_eq!(
        first("kind: Scenario\nmetadata: {}\n"),
        Some("s.yml:1:1: the scenario lacks \"apiVersion\" (expected a field apiVersion)".to_owned())
    );
    check("kind: Scenario\n", &["s.yml:4:1: key \"kind\" already set in map"]);
}

#[test]
fn steps_that_wait_for_one_another_are_refused() {
    check(
        "steps:\n- {name: a, after: b, note: ''}\n- {name: b, after: a, note: ''}\n- {name: c, after: c, note: ''}\n",
        &[
            "s.yml:5:20: steps[0].after: the step \"a\" waits for itself",
            "s.yml:6:20: steps[1].after: the step \"b\" waits for itself",
            "s.yml:7:20: steps[2].after: the step \"c\" waits for itself",
        ],
    );
}

#[test]
fn manifests_inside_a_scenario_are_checked_where_they_stand() {
    check(
        "manifests:
- file: app.yml
- object: {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, imagee: x}]}}
- {}
steps:
- name: a
  at: 1s
  apply:
    manifests:
    - object: {apiVersion: v1, kind: ConfigMap, metadata: {name: A_}}
",
        &[
            "s.yml:5:9: app.yml cannot be read: it is not there",
            "s.yml:6:90: strict decoding error: unknown field \"spec.containers[0].imagee\"",
            "s.yml:7:3: manifests[2]: this names no object, or two (expected either file or object)",
            "s.yml:13:66: metadata.name: Invalid value: \"A_\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ],
    );
}

/// A run ends only when nothing more is to come by itself.
fn ends(text: &str) -> (SimTime, Ending) {
    let outcome = read(&format!("{HEAD}{text}")).unwrap().run(1);
    (outcome.ended_at, outcome.ending)
}

#[test]
fn a_job_that_waits_before_it_tries_again_has_not_settled() {
    let (ended, ending) = ends(
        "images:
- {match: work, model: {exit: {after: 1s, codes: [1]}}}
manifests:
- object:
    apiVersion: batch/v1
    kind: Job
    metadata: {name: work}
    spec: {backoffLimit: 3, template: {spec: {restartPolicy: Never, containers: [{name: work, image: work}]}}}
",
    );
    assert!(matches!(ending, Ending::Settled { .. }), "{ending}");
    assert!(ended > SimTime::from_nanos(70_000_000_000), "10, 20 and 40 s are waited; it ended at {ended}");
}

#[test]
fn a_machine_that_is_being_rebooted_is_waited_for() {
    let (ended, ending) = ends("steps:\n- {name: r, at: 5s, node: {reboot: node-0, down: 25s}}\n");
    assert!(matches!(ending, Ending::Settled { .. }), "{ending}");
    assert!(ended >= SimTime::from_nanos(40_000_000_000), "it is up at 30 s; the run ended at {ended}");
}

#[test]
fn a_scenario_is_told_from_a_manifest() {
    assert!(is_scenario(HEAD));
    assert!(is_scenario("{\"kind\": \"Scenario\"}"));
    assert!(!is_scenario("apiVersion: v1\nkind: Pod\nmetadata: {name: Scenario}\n"));
}

#[test]
fn a_scenario_names_its_schedulers_configuration_or_holds_it() {
    let object = "cluster:
  schedulerConfiguration:
    object:
      apiVersion: kubescheduler.config.k8s.io/v1
      kind: KubeSchedulerConfiguration
";
    let scenario =
        read(&format!("{HEAD}{object}      percentageOfNodesToScore: 30\n      clientConnection: {{qps: 7}}\n"));
    let scenario = scenario.unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(scenario.cluster.scheduler.percentage_of_nodes_to_score, 30);
    assert_eq!((scenario.cluster.scheduler_limits.per_second, scenario.cluster.scheduler_limits.burst), (7, 100));
    check(
        &format!("{object}      profiles: [{{plugins: {{filter: {{enabled: [{{name: Best}}]}}}}}}]\n"),
        &[
            "s.yml:9:55: initializing profiles: creating profile for scheduler name default-scheduler: FilterPlugin \"Best\" does not exist",
        ],
    );
    check(
        "cluster:\n  schedulerConfiguration: {file: scheduler.yml}\n",
        &["s.yml:5:34: scheduler.yml cannot be read: it is not there"],
    );
}

#[test]
fn every_field_is_documented_in_the_schema() {
    fn walk(value: &Value, path: &str, missing: &mut Vec<String>) {
        if let Some(Value::Object(fields)) = value.get("properties") {
            for (name, field) in fields {
                if field.get("description").is_none() && field.get("$ref").is_none() {
                    missing.push(format!("{path}.{name}"));
                }
            }
        }
        if let Value::Object(entries) = value {
            entries.iter().for_each(|(name, inner)| walk(inner, &format!("{path}/{name}"), missing));
        }
    }
    let schema = schema();
    let mut missing = Vec::new();
    walk(&schema, "", &mut missing);
    assert_eq!(missing, Vec::<String>::new());
    assert!(schema["properties"]["steps"]["items"]["$ref"].is_string());
}

/// A scenario in which much is given, to be spoilt in all kinds of ways.
const WHOLE: &str = include_str!("../../scenarios/rolling-update.yml");

proptest! {
    #[test]
    fn reading_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        for problem in read(&String::from_utf8_lossy(&bytes)).err().unwrap_or_default() {
            prop_assert!(!problem.render(false).is_empty());
        }
    }

    #[test]
    fn reading_a_spoilt_scenario_never_panics(at in 0..WHOLE.len(), length in 0..60usize, put in "[-a-z0-9:{}\\[\\]'\" \n,]{0,12}") {
        let from = (0..=at).rev().find(|at| WHOLE.is_char_boundary(*at)).unwrap_or(0);
        let to = (from + length..WHOLE.len()).find(|at| WHOLE.is_char_boundary(*at)).unwrap_or(WHOLE.len());
        let spoilt = format!("{}{put}{}", &WHOLE[..from], &WHOLE[to..]);
        for problem in read(&spoilt).err().unwrap_or_default() {
            prop_assert!(!problem.render(false).is_empty());
        }
    }
}
