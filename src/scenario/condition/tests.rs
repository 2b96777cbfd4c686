//! Conditions asked about a cluster of a few objects.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::api::kind::Kind;
use crate::api::meta::{ObjectKey, Uid};
use crate::api::name::Name;
use crate::api::object::Object;
use crate::engine::process::Cause;

use super::*;

fn write(kind: Kind, revision: u64, json: Value) -> Write {
    let object = Object::from_json(kind, json).unwrap();
    object.meta().resource_version.set(revision);
    let key = object.key();
    write_of(key, revision, Some(object))
}

fn write_of(key: ObjectKey, revision: u64, new: Option<Object>) -> Write {
    Write {
        at: SimTime::ZERO,
        revision,
        key,
        old: None,
        new,
        agent: Name::of("test"),
        verb: "create",
        cause: Cause::NONE,
    }
}

fn deployment(revision: u64, available: i32) -> Write {
    let containers = json!([{"name": "app", "image": "app:v1"}]);
    write(
        Kind::Deployment,
        revision,
        json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "3f0fe55c-39b6-426e-bdd0-d93ef8a9b7ef", "generation": 2},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers}}},
            "status": {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": available,
                "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]}
        }),
    )
}

fn pod(revision: u64, name: &str, restarts: i32) -> Write {
    let status = json!({"name": "app", "image": "app:v1", "imageID": "i", "ready": true, "restartCount": restarts});
    write(
        Kind::Pod,
        revision,
        json!({
            "metadata": {"name": name, "namespace": "default", "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet",
                "name": "web", "uid": "0d90d7f3-9bd1-4a0c-8f72-e37fd6cf044c", "controller": true}]},
            "spec": {"containers": [{"name": "app", "image": "app:v1"}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [status]}
        }),
    )
}

fn replica_set(revision: u64) -> Write {
    write(
        Kind::ReplicaSet,
        revision,
        json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "0d90d7f3-9bd1-4a0c-8f72-e37fd6cf044c", "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "3f0fe55c-39b6-426e-bdd0-d93ef8a9b7ef", "controller": true}]},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": "app:v1"}]}}}
        }),
    )
}

fn ask(text: &str) -> Result<bool, String> {
    let expression = Expression::parse(text).map_err(|wrong| wrong[0].message.clone())?;
    let mut conditions = Conditions::new([&expression].into_iter());
    conditions.note_write(&deployment(5, 2));
    conditions.note_write(&replica_set(6));
    conditions.note_write(&pod(7, "web-1", 0));
    conditions.note_write(&pod(8, "web-2", 4));
    conditions.note_leader(Some(1));
    for (name, pods) in [("db-1", 2), ("db-0", 3), ("db-1", 1)] {
        let alive = vec![(Uid(1), Name::of("node-1")); pods];
        conditions.note_twins(&Twins { key: ObjectKey::new(Kind::Pod, "default", name), alive, cause: Cause::NONE });
    }
    conditions.note_time(SimTime::from_nanos(61_500_000_000));
    conditions.ask(&mut Condition::new(expression.into())).0.clone()
}

#[test]
fn every_name_that_is_documented_can_be_used() {
    for text in [
        "pods.size() == 2 && po.size() == 2 && deployments.size() == 1 && nodes == []",
        "pods.all(p, ready(p)) && pods.exists_one(p, restarts(p) > 3)",
        "pods.filter(p, p.metadata.name.startsWith('web')).size() == 2",
        "deployment('web').spec.replicas - 10 == -7",
        "deployment('default/web') != null && deployment('other/web') == null && node('n') == null",
        "available('web') == 2 && desired('web') == 3 && updated('web') == 3 && readyReplicas('web') == 0",
        "available(deployment('web')) == 2 && available('none') == 0",
        "!rolledOut('web') && rolloutFailed('web') && !rolledOut('none')",
        "condition(deployment('web'), 'Progressing') == 'False' && condition(deployment('web'), 'Other') == ''",
        "podsOf('web').size() == 2 && podsOf('none').size() == 0",
        "image(deployment('web')) == 'app:v1' && image(pod('web-1')) == 'app:v1'",
        "etcdLeader() == 'etcd-1'",
        "twins() == ['default/db-0'] && 'default/db-0' in twins() && !('default/db-1' in twins())",
        "now == 61 && now > 60",
        "has(deployment('web').status.availableReplicas) && !has(deployment('web').status.readyReplicas)",
    ] {
        assert_eq!(ask(text), Ok(true), "{text}");
    }
    for kind in Kind::all() {
        let list = expression::list_name(kind);
        for object in expression::object_names(kind) {
            let text = format!("{list}.size() >= 0 && {object}('x') == null");
            assert_eq!(ask(&text), Ok(true), "{text}");
        }
        for short in kind.row().short_names {
            assert_eq!(ask(&format!("{short} == {list}")), Ok(true), "{short}");
        }
    }
}

/// The mappings of the CEL crate are hash maps with a random seed: each question here makes new ones.
#[test]
fn macros_over_a_mapping_meet_its_keys_in_order() {
    let keys = "{'d': 1, 'a': 2, 'c': 3, 'b': 4, 'h': 5, 'e': 6, 'g': 7, 'f': 8}";
    for text in [
        format!("{keys}.map(k, k) == ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']"),
        format!("{keys}.filter(k, k < 'd').map(k, k + k) == ['aa', 'bb', 'cc']"),
        format!("{keys}.map(k, k > 'f', k) == ['g', 'h']"),
        format!("[{keys}].map(m, m.map(k, m[k])) == [[2, 4, 3, 1, 6, 8, 7, 5]]"),
        "deployment('web').spec.map(k, k).filter(k, k.startsWith('re')) == ['replicas', 'revisionHistoryLimit']"
            .to_owned(),
        format!("{keys}.all(k, k < 'i') && {keys}.exists(k, k == 'h') && {keys}.exists_one(k, k == 'a')"),
    ] {
        for _ in 0..8 {
            assert_eq!(ask(&text), Ok(true), "{text}");
        }
    }
    // Which of several errors is told depends on the order, too.
    let wrong = format!("{keys}.map(k, {{'a': 1}}[k]).size() > 0");
    let first = ask(&wrong);
    assert!(first.is_err());
    assert!((0..8).all(|_| ask(&wrong) == first));
}

#[test]
fn what_cannot_be_answered_says_why() {
    assert_eq!(ask("deployment('none').spec.replicas > 1").map_err(|why| why.is_empty()), Err(false));
    assert_eq!(ask("pods.size()"), Err("the condition is neither true nor false but of type int".to_owned()));
    assert_eq!(ask("pod.size() > 1"), Err("the condition names an unknown variable \"pod\"".to_owned()));
    assert_eq!(ask("availible('web') > 1"), Err("the condition names an unknown function \"availible\"".to_owned()));
    assert_eq!(ask("max(1, 2) == 2"), Err("the condition names an unknown function \"max\"".to_owned()));
    assert!(ask("1 +").is_err());
    assert!(ask("").is_err());
}

#[test]
fn what_is_too_deep_for_the_stack_is_refused() {
    // Each is repeated until it is refused, and has been parsed and evaluated as often as it may be before.
    let growing: [fn(usize) -> String; 12] = [
        |n| format!("1{} > 1", "+1".repeat(n)),
        |n| format!("now{} == 1", ".x".repeat(n)),
        |n| format!("[1]{} == 1", "[0]".repeat(n)),
        |n| format!("{}[1]", "1 in ".repeat(n)),
        |n| format!("{}1{}", "1 == (".repeat(n), ")".repeat(n)),
        |n| format!("{}1{} == 1", "[".repeat(n), "]".repeat(n)),
        |n| format!("{}1{} == 1", "size({1: 1 + [".repeat(n), "]})".repeat(n)),
        |n| format!("{}true{}", "[1].exists(x, true || 1 + 1 * 1 == ".repeat(n), ")".repeat(n)),
        |n| format!("{}true", "!".repeat(n)),
        |n| format!("{}true", "true ? true : ".repeat(n)),
        |n| format!("{}true{}", "(true ? ".repeat(n), " : false)".repeat(n)),
        |n| "{a: [f(-]".repeat(n),
    ];
    for text in growing {
        let refused = (1..64).find(|n| Expression::parse(&text(*n)).is_err());
        assert!(refused.is_some(), "{}", text(3));
        for n in 1..refused.unwrap_or(0) {
            let _ = ask(&text(n));
        }
        assert!(Expression::parse(&text(4096 / text(1).len())).is_err(), "{}", text(3));
        assert!(Expression::parse(&text(4096)).is_err(), "{}", text(3));
    }
    // In a row of these nothing stands within another.
    assert_eq!(ask(&format!("true{}", " && 2 - 1 == 1".repeat(200))), Ok(true));
}

#[test]
fn an_error_of_syntax_says_where_it_is() {
    let told = |text: &str| Expression::parse(text).expect_err("no condition").remove(0).message;
    assert!(told("1 + 2 )").ends_with("(character 7)"), "{}", told("1 + 2 )"));
    let below = "pods.size() > 1\n  && 1 )";
    assert!(told(below).ends_with("(line 2, character 8)"), "{}", told(below));
}

#[test]
fn a_condition_is_asked_again_only_if_something_that_it_looks_at_changed() {
    let expression = Expression::parse("available('web') >= 2").unwrap();
    let mut conditions = Conditions::new([&expression].into_iter());
    let mut condition = Condition::new(expression.into());
    conditions.note_write(&deployment(5, 2));
    assert_eq!(conditions.ask(&mut condition), (&Ok(true), true));
    conditions.note_write(&pod(6, "web-1", 0));
    conditions.note_time(SimTime::from_nanos(9_000_000_000));
    assert_eq!(conditions.ask(&mut condition), (&Ok(true), false));
    conditions.note_write(&deployment(7, 1));
    conditions.note_write(&deployment(6, 3));
    assert_eq!(conditions.ask(&mut condition), (&Ok(false), true));
    let key = ObjectKey::new(Kind::Deployment, "default", "web");
    conditions.note_write(&write_of(key, 8, None));
    assert_eq!(conditions.ask(&mut condition), (&Ok(false), true));
}

/// Macros over all objects of a kind, and the same as CEL itself goes through the list: `{}` is where the list stands.
const MACROS: [&str; 10] = [
    "{}.all(p, QUESTION)",
    "{}.exists(p, QUESTION)",
    "{}.exists_one(p, QUESTION)",
    "{}.filter(p, QUESTION).size() == 2",
    "size({}.filter(p, QUESTION)) > 1",
    "{}.filter(p, QUESTION).map(p, p.metadata.name) == ['b', 'd']",
    "{}.map(p, QUESTION, p.metadata.name).exists(name, name == 'c')",
    "{}.map(p, QUESTION) == [true, false, true]",
    "{}.size() == 3 && {}.exists(p, QUESTION)",
    "[1, 2].all(n, {}.exists(p, QUESTION && restarts(p) == n)) || {}.filter(p, QUESTION).size() >= 0",
];

/// What may be asked of a pod; of some there is no answer.
const QUESTIONS: [&str; 7] = [
    "ready(p)",
    "restarts(p) > 1",
    "p.status.phase == 'Running'",
    "p.metadata.name < 'c' && p.status.phase == 'Running'",
    "6 / restarts(p) > 2",
    "p.metadata.ownerReferences.exists(p, p.name == 'web')",
    "p.metadata.name",
];

/// A pod without a word about its phase, if there is none.
fn pod_in(revision: u64, name: &str, restarts: i32, phase: Option<&str>) -> Write {
    let Write { new: Some(object), .. } = pod(revision, name, restarts) else { unreachable!() };
    let mut json = object.to_json();
    match phase {
        Some(phase) => json["status"]["phase"] = phase.into(),
        None => json["status"] = json!({}),
    }
    write(Kind::Pod, revision, json)
}

#[test]
fn variables_of_macros_hide_lists() {
    assert_eq!(ask("[{'b': 1, 'a': 2}].all(pods, pods.map(k, k) == ['a', 'b']) && pods.size() == 2"), Ok(true));
    assert_eq!(ask("deployments.all(pods, pods.metadata.name == 'web') && pods.exists(po, ready(po))"), Ok(true));
}

proptest! {
    /// After any changes a macro that is kept has the value, or the error, that CEL's own way through the list has.
    #[test]
    fn macros_that_are_kept_say_what_going_through_the_list_says(
        changes in prop::collection::vec((0..5_usize, 0..4_i32, 0..4_u8, prop::bool::weighted(0.4)), 1..24),
        form in 0..MACROS.len(),
        question in 0..QUESTIONS.len(),
    ) {
        let text = MACROS[form].replace("QUESTION", QUESTIONS[question]);
        let kept = Expression::parse(&text.replace("{}", "pods")).unwrap();
        let gone_through = Expression::parse(&text.replace("{}", "[pods][0]")).unwrap();
        prop_assert!(kept.prepared().macros.len() > gone_through.prepared().macros.len() || form == 9);
        let mut conditions = Conditions::new([&kept, &gone_through].into_iter());
        let [mut kept, mut gone_through] = [kept, gone_through].map(|expression| Condition::new(expression.into()));
        for (place, (name, restarts, phase, look)) in changes.into_iter().enumerate() {
            let revision = place as u64 + 1;
            let name = ["a", "b", "c", "d", "e"][name];
            let write = match phase {
                0 => write_of(ObjectKey::new(Kind::Pod, "default", name), revision, None),
                1 => pod_in(revision, name, restarts, None),
                2 => pod_in(revision, name, restarts, Some("Pending")),
                _ => pod_in(revision, name, restarts, Some("Running")),
            };
            conditions.note_write(&write);
            if look {
                let kept = conditions.ask(&mut kept).0.clone();
                prop_assert_eq!(&kept, conditions.ask(&mut gone_through).0, "{}", text);
            }
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "\\PC{0,60}") {
        let _ = Expression::parse(&text);
    }

    #[test]
    fn any_text_of_cel_letters_is_parsed_or_refused(text in "[a-z0-9'(){}\\[\\].,:?!&|<>=+*% -]{0,80}") {
        let _ = Expression::parse(&text);
    }
}
