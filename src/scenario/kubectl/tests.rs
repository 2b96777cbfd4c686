//! Commands typed at a small cluster, and what kubectl prints.

use crate::scenario::Scenario;
use crate::scenario::outcome::{Ending, Outcome};

const CLUSTER: &str = "
apiVersion: kubesim/v1alpha1
kind: Scenario
metadata: {name: commands}
cluster:
  nodes: [{count: 3, kubelet: standIn}]
  etcd: {members: 1}
images:
- {match: 'broken', model: {start: 1h}}
manifests:
- object:
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: web, labels: {a: '1', b: '1'}}
    spec:
      replicas: 2
      progressDeadlineSeconds: 20
      selector: {matchLabels: {app: web}}
      template:
        metadata: {labels: {app: web}}
        spec: {containers: [{name: app, image: 'app:v1'}]}
steps:
- {name: created, after: setup, rollout: {status: web, timeout: 30s}}
";

fn run(steps: &str) -> Outcome {
    let text = format!("{CLUSTER}{steps}");
    let scenario = Scenario::read("s.yml", &text, &mut |file| Err(format!("{file} is not there")));
    let scenario = scenario.unwrap_or_else(|problems| panic!("{}", problems[0]));
    scenario.run(1)
}

/// What the steps printed, and why they failed; the lines of `rollout status` while it waits are left out.
fn check(steps: &str, expected: &str) {
    let outcome = run(steps);
    let mut printed = String::new();
    for step in outcome.steps.iter().skip(2) {
        printed.push_str(&format!("{}: {}\n", step.name, step.state));
        for line in step.output.iter().chain(&step.error).filter(|line| !line.starts_with("Waiting")) {
            printed.push_str(&format!("  {line}\n"));
        }
    }
    assert_eq!(printed, expected, "{}", outcome.ending);
}

#[test]
fn objects_are_changed_and_kubectl_says_so() {
    check(
        "
- {name: scale, after: created, scale: {object: deploy/web, replicas: 3}}
- {name: image, after: scale, setImage: {object: deploy/web, images: {app: 'app:v2'}}}
- {name: same image, after: image, setImage: {object: deploy/web, images: {'*': 'app:v2'}}}
- {name: status, after: same image, rollout: {status: web}}
- {name: label, after: status, labelObject: {object: deploy/web, set: {b: null, c: '2'}}}
- {name: same label, after: label, labelObject: {object: deploy/web, set: {c: '2'}}}
- {name: patch, after: same label, patch: {object: deploy/web, type: merge, patch: {spec: {paused: true}}}}
- {name: same patch, after: patch, patch: {object: deploy/web, type: json, patch: [{op: add, path: /spec/paused, value: true}]}}
- {name: pause, after: same patch, expectFailure: true, rollout: {pause: web}}
- {name: resume, after: pause, rollout: {resume: web}}
- {name: restart, after: resume, rollout: {restart: web}}
- {name: status again, after: restart, rollout: {status: web}}
- {name: undo, after: status again, rollout: {undo: web, toRevision: 1}}
- {name: delete, after: undo, delay: 10s, delete: {objects: [deploy/web]}}
",
        "scale: done
  deployment.apps/web scaled
image: done
  deployment.apps/web image updated
same image: done
status: done
  deployment \"web\" successfully rolled out
label: done
  deployment.apps/web labeled
same label: done
  deployment.apps/web not labeled
patch: done
  deployment.apps/web patched
same patch: done
  deployment.apps/web patched (no change)
pause: done
  error: deployment.apps/web is already paused
resume: done
  deployment.apps/web resumed
restart: done
  deployment.apps/web restarted
status again: done
  deployment \"web\" successfully rolled out
undo: done
  deployment.apps/web rolled back
delete: done
  deployment.apps \"web\" deleted from default namespace
",
    );
}

#[test]
fn what_is_not_there_is_an_error_of_the_step_and_of_no_other() {
    check(
        "
- {name: no object, after: created, scale: {object: deploy/none, replicas: 3}}
- {name: no container, after: created, setImage: {object: deploy/web, images: {none: 'app:v2'}}}
- {name: no node, after: created, cordon: none}
- {name: no machine, after: created, machine: {crash: none}}
- {name: no member, after: created, etcd: {crash: etcd-7}}
- {name: no disk, after: created, etcd: {slowDisk: {member: etcd-7, fsync: 10ms}}}
- {name: no partition, after: created, heal: none}
- {name: no revision, after: created, rollout: {undo: web, toRevision: 9}}
- {name: no kind of change, after: created, patch: {object: deploy/web, patch: {spec: {replicas: -1}}}}
- {name: never, after: created, when: \"available('web') > 5\", timeout: 3s, note: ''}
- {name: after a failure, after: no node, cordon: node-0}
- {name: expected, after: created, expectFailure: true, cordon: node-0}
",
        "no object: failed
  Error from server (NotFound): deployments.apps \"none\" not found
no container: failed
  error: unable to find container named \"none\"
no node: failed
  Error from server (NotFound): nodes \"none\" not found
no machine: failed
  error: there is no machine \"none\" (there are: etcd-0, control-plane-0, operator, node-0, node-1, node-2)
no member: failed
  error: there is no machine \"etcd-7\" (there are: etcd-0, control-plane-0, operator, node-0, node-1, node-2)
no disk: failed
  error: there is no etcd member \"etcd-7\" (there are: etcd-0)
no partition: failed
  error: there is no partition \"none\"
no revision: failed
  error: unable to find specified revision 9 in history
no kind of change: failed
  Deployment.apps \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0
never: failed
  timed out waiting for the condition: available('web') > 5
after a failure: skipped
  the step \"no node\" was not done
expected: failed
  node/node-0 cordoned
  it was expected to fail and was done
",
    );
}

#[test]
fn a_drained_node_is_empty() {
    let outcome = run("
- {name: taint, after: created, taint: {node: node-1, key: a, effect: NoSchedule}}
- {name: untaint, after: taint, taint: {node: node-1, key: a, remove: true}}
- {name: drain, after: untaint, drain: {node: node-0}}
- {name: drain another, after: drain, drain: {node: node-1}}
- {name: uncordon, after: drain another, uncordon: node-0}
expect:
- {name: empty, atEnd: \"pods.size() == 2 && pods.all(p, p.spec.nodeName == 'node-2')\"}
");
    let printed = |step: &str| outcome.step(step).map(|step| step.output.clone()).unwrap_or_default();
    assert_eq!(printed("taint"), ["node/node-1 tainted"]);
    assert_eq!(printed("untaint"), ["node/node-1 untainted"]);
    assert_eq!(printed("drain").first().map(String::as_str), Some("node/node-0 cordoned"));
    assert_eq!(printed("drain").last().map(String::as_str), Some("node/node-0 drained"));
    assert!(outcome.is_success(), "{outcome:?}");
}

#[test]
fn a_drain_evicts_ten_pods_at_once_and_then_five_a_second() {
    // Two nodes are closed, so that all sixty pods go to the third: the last eviction comes ten seconds after the first.
    let outcome = run("
- {name: close, after: created, cordon: node-1}
- {name: close another, after: close, cordon: node-2}
- {name: scale, after: close another, scale: {object: deploy/web, replicas: 60}}
- {name: scaled, after: scale, rollout: {status: web, timeout: 60s}}
- {name: drain, after: scaled, drain: {node: node-0}}
expect:
- {name: empty, atEnd: \"pods.all(p, !has(p.spec.nodeName) || p.spec.nodeName != 'node-0')\"}
");
    let drain = outcome.step("drain").expect("there");
    let evicted = drain.output.iter().filter(|line| line.starts_with("evicting")).count();
    assert!(evicted >= 58, "all but perhaps the first two: {evicted}");
    let (began, ended) = (drain.began.expect("it began"), drain.ended.expect("it ended"));
    let took = ended.since(began).as_millis();
    assert!((9_500..14_000).contains(&took), "{took} ms");
}

#[test]
fn applying_again_changes_only_what_is_written_differently() {
    let object = |rest: &str| {
        format!(
            "{{manifests: [{{object: {{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web{rest}}}, \
             spec: {{replicas: 2, progressDeadlineSeconds: 20, selector: {{matchLabels: {{app: web}}}}, template: {{metadata: {{labels: {{app: web}}}}, \
             spec: {{containers: [{{name: app, image: 'app:v1'}}]}}}}}}}}}}]}}"
        )
    };
    let (same, other) = (object(", labels: {a: '1', b: '1'}"), object(", labels: {a: '2'}"));
    let outcome = run(&format!(
        "
- {{name: same, after: created, apply: {same}}}
- {{name: label, after: same, labelObject: {{object: deploy/web, set: {{mine: '1'}}}}}}
- {{name: other, after: label, apply: {other}}}
- {{name: create, after: other, expectFailure: true, create: {other}}}
expect:
- {{name: merged, atEnd: \"deployment('web').metadata.labels == {{'a': '2', 'mine': '1'}}\"}}
"
    ));
    let printed = |step: &str| outcome.step(step).map(|step| step.output.join("\n")).unwrap_or_default();
    assert_eq!(printed("same"), "deployment.apps/web unchanged");
    assert_eq!(printed("other"), "deployment.apps/web configured");
    let refused = outcome.step("create").and_then(|step| step.error.clone());
    assert_eq!(refused.as_deref(), Some("Error from server (AlreadyExists): deployments.apps \"web\" already exists"));
    assert!(outcome.is_success(), "{outcome:?}");
}

#[test]
fn a_rollout_that_has_failed_has_settled_and_one_that_hangs_is_stuck() {
    let failed = run("
- {name: break, after: created, setImage: {object: deploy/web, images: {app: broken}}}
- {name: broken, after: break, expectFailure: true, rollout: {status: web}}
");
    assert!(matches!(failed.ending, Ending::Settled { .. }), "{}", failed.ending);
    let waiting = failed.step("broken").and_then(|step| step.error.clone());
    assert_eq!(waiting.as_deref(), Some("error: deployment \"web\" exceeded its progress deadline"));
    let exits = |step: &str| failed.step(step).map(|step| step.command_failed);
    assert_eq!((exits("break"), exits("broken")), (Some(false), Some(true)), "as expected, and failed all the same");
    let stuck = run("
- name: pod
  after: created
  apply: {manifests: [{object: {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {nodeSelector: {none: '1'}, containers: [{name: c, image: i}]}}}]}
until: {settled: 5s, limit: 60s}
");
    assert_eq!(stuck.ending, Ending::Stuck { reason: "pod/default/p is not scheduled".to_owned() });
    assert!(!stuck.is_success());
}

#[test]
fn expectations_say_when_they_were_broken_and_by_what() {
    let outcome = run("
- {name: scale, after: created, scale: {object: deploy/web, replicas: 1}}
- {name: later, at: 50s, note: ''}
expect:
- {name: always, from: created, always: available('web') == 2}
- {name: never, never: available('web') == 1 && desired('web') == 1}
- {name: eventually, from: scale, within: 10s, eventually: available('web') == 7}
- {name: in time, from: scale, within: 10s, eventually: available('web') == 1}
- {name: at the end, atEnd: available('web') == 1}
- {name: untested, from: later, to: scale, always: available('none').foo == 1}
");
    let told: Vec<(bool, Option<&str>, &str)> = outcome
        .expectations
        .iter()
        .map(|record| (record.is_met, record.object.as_deref(), record.why.as_str()))
        .collect();
    let web = Some("deployment/default/web");
    assert_eq!(
        told,
        [
            (false, web, "it did not hold"),
            (false, web, "it held"),
            (false, None, "it did not come true within 10s"),
            (true, web, ""),
            (true, None, ""),
            (false, None, "it was never put to the test"),
        ]
    );
    assert!(outcome.expectations[2].at > outcome.expectations[3].at);
    assert!(!outcome.is_success());
}

const BUDGET: &str = "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: web}, spec: {minAvailable: 2, selector: {matchLabels: {app: web}}}}";

#[test]
fn a_drain_that_a_budget_forbids_waits_five_seconds_and_asks_again() {
    // Both pods must stay: the drain gets nothing done until the Deployment is larger.
    let outcome = run(&format!(
        "
- {{name: budget, after: created, create: {{manifests: [{{object: {BUDGET}}}]}}}}
- {{name: drain, after: budget, delay: 1s, drain: {{node: node-0}}}}
- {{name: more, after: budget, delay: 12s, scale: {{object: deploy/web, replicas: 3}}}}
expect:
- {{name: two are ready all the time, from: created, always: \"pods.filter(p, ready(p) && !has(p.metadata.deletionTimestamp)).size() >= 2\"}}
- {{name: empty, atEnd: \"pods.size() == 3 && pods.all(p, p.spec.nodeName != 'node-0')\"}}
"
    ));
    assert!(outcome.is_success(), "{outcome:?}");
    let printed = outcome.step("drain").map(|step| step.output.clone()).unwrap_or_default();
    let name =
        printed.iter().find_map(|line| line.strip_prefix("evicting pod default/")).unwrap_or_default().to_owned();
    let refused = format!(
        "error when evicting pods/\"{name}\" -n \"default\" (will retry after 5s): Cannot evict pod as it would violate the pod's disruption budget."
    );
    assert_eq!(printed.iter().filter(|line| **line == refused).count(), 3, "{printed:?}");
    assert_eq!(printed.last().map(String::as_str), Some("node/node-0 drained"));
    assert!(printed.contains(&format!("pod/{name} evicted")));
}

#[test]
fn a_drain_says_which_pods_are_in_its_way() {
    let pod = |name: &str, volume: &str| {
        format!(
            "{{object: {{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{nodeName: node-2, containers: [{{name: app, image: app}}]{volume}}}}}}}"
        )
    };
    let pods = [pod("bare", ""), pod("data", ", volumes: [{name: scratch, emptyDir: {}}]")].join(", ");
    let agent = "{object: {apiVersion: apps/v1, kind: DaemonSet, metadata: {name: agent}, spec: {selector: {matchLabels: {app: agent}}, template: {metadata: {labels: {app: agent}}, spec: {containers: [{name: app, image: agent}]}}}}}";
    let outcome = run(&format!(
        "
- {{name: pods, after: created, create: {{manifests: [{pods}, {agent}]}}}}
- {{name: agents, after: pods, rollout: {{status: daemonset/agent, timeout: 30s}}}}
- {{name: plain, after: agents, delay: 5s, expectFailure: true, drain: {{node: node-2}}}}
- {{name: less, after: plain, expectFailure: true, drain: {{node: node-2, ignoreDaemonsets: true, force: true}}}}
- {{name: all, after: less, drain: {{node: node-2, ignoreDaemonsets: true, force: true, deleteEmptydirData: true}}}}
expect:
- {{name: the agent stays, atEnd: \"pods.filter(p, p.spec.nodeName == 'node-2').all(p, p.metadata.labels.app == 'agent')\"}}
"
    ));
    let step = |name: &str| outcome.step(name).cloned().unwrap_or_else(|| panic!("{name}"));
    let agent = "default/agent-";
    let error = step("plain").error.unwrap_or_default();
    assert!(
        error.starts_with('[')
            && error.contains(&format!(
                "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): {agent}"
            )),
        "{error}"
    );
    assert!(error.contains("cannot delete Pods that declare no controller (use --force to override): default/bare"));
    assert!(
        error.contains("cannot delete Pods with local storage (use --delete-emptydir-data to override): default/data")
    );
    let printed = step("plain").output;
    assert_eq!(printed[0], "node/node-2 cordoned");
    assert_eq!(
        printed[1..],
        [
            format!("error: unable to drain node \"node-2\" due to error: {error}, continuing command..."),
            "There are pending nodes to be drained:".to_owned(),
            " node-2".to_owned()
        ]
    );
    let expected = "cannot delete Pods with local storage (use --delete-emptydir-data to override): default/data";
    assert_eq!(step("less").error.as_deref(), Some(expected));
    let printed = step("all").output;
    assert_eq!(printed[0], "node/node-2 already cordoned");
    assert!(printed[1].starts_with(&format!("Warning: ignoring DaemonSet-managed Pods: {agent}")), "{printed:?}");
    assert!(
        printed[1].ends_with("; deleting Pods that declare no controller: default/bare, default/data"),
        "{printed:?}"
    );
    assert_eq!(printed.last().map(String::as_str), Some("node/node-2 drained"));
    assert!(outcome.is_success(), "{outcome:?}");
}

#[test]
fn a_daemon_set_is_rolled_out_back_and_restarted() {
    let agent = "{object: {apiVersion: apps/v1, kind: DaemonSet, metadata: {name: agent}, spec: {selector: {matchLabels: {app: agent}}, template: {metadata: {labels: {app: agent}}, spec: {containers: [{name: app, image: 'agent:v1'}]}}}}}";
    check(
        &format!(
            "
- {{name: create, after: created, create: {{manifests: [{agent}]}}}}
- {{name: ready, after: create, rollout: {{status: daemonset/agent, timeout: 30s}}}}
- {{name: no last one, after: ready, expectFailure: true, rollout: {{undo: ds/agent}}}}
- {{name: image, after: no last one, setImage: {{object: ds/agent, images: {{app: 'agent:v2'}}}}}}
- {{name: rolled, after: image, rollout: {{status: ds/agent, timeout: 1m}}}}
- {{name: undo, after: rolled, rollout: {{undo: ds/agent}}}}
- {{name: undone, after: undo, rollout: {{status: ds/agent, timeout: 1m}}}}
- {{name: same, after: undone, rollout: {{undo: ds/agent, toRevision: 3}}}}
- {{name: restart, after: same, rollout: {{restart: ds/agent}}}}
- {{name: pause, after: restart, expectFailure: true, rollout: {{pause: ds/agent}}}}
- {{name: restarted, after: pause, rollout: {{status: ds/agent, timeout: 1m}}}}
"
        ),
        "create: done
  daemonset.apps/agent created
ready: done
  daemon set \"agent\" successfully rolled out
no last one: done
  error: no last revision to roll back to
image: done
  daemonset.apps/agent image updated
rolled: done
  daemon set \"agent\" successfully rolled out
undo: done
  daemonset.apps/agent rolled back
undone: done
  daemon set \"agent\" successfully rolled out
same: done
  daemonset.apps/agent skipped rollback (current template already matches revision 3)
restart: done
  daemonset.apps/agent restarted
pause: done
  error: daemonsets.apps \"agent\" pausing is not supported
restarted: done
  daemon set \"agent\" successfully rolled out
",
    );
}
