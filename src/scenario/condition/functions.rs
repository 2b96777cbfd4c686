//! The functions that conditions may use besides those of CEL.

use std::sync::{Arc, RwLock};

use cel::objects::KeyRef;
use cel::{Context, ExecutionError, Value};

use crate::api::kind::Kind;

use super::expression::object_names;
use super::sight::{Sight, Sources, read};

type Shared = Arc<RwLock<Sight>>;
type Answer = Result<Value, ExecutionError>;

/// A function: its name, what it looks at besides its argument, and how it is added to a context.
pub(super) type Function = (&'static str, Sources, fn(&mut Context<'static, 'static>, &'static str, &Shared));

const DEPLOYMENT: Sources = Sources::objects(Kind::Deployment);
const PODS: Sources = DEPLOYMENT.and(Sources::objects(Kind::ReplicaSet)).and(Sources::objects(Kind::Pod));

/// All functions, in the order in which they are documented.
pub(super) static FUNCTIONS: [Function; 13] = [
    ("ready", Sources::NONE, |context, name, _| {
        add(context, name, |object: Value| Ok((condition_status(&object, "Ready") == "True").into()));
    }),
    ("condition", Sources::NONE, |context, name, _| {
        let status = |object: Value, kind: Arc<String>| -> Answer { Ok(condition_status(&object, &kind).into()) };
        // The name is none of CEL's own, so it can be added.
        let _ = context.add_function(name, status);
    }),
    ("desired", DEPLOYMENT, |context, name, sight| count(context, name, sight, &["spec", "replicas"])),
    ("available", DEPLOYMENT, |context, name, sight| count(context, name, sight, &["status", "availableReplicas"])),
    ("updated", DEPLOYMENT, |context, name, sight| count(context, name, sight, &["status", "updatedReplicas"])),
    ("readyReplicas", DEPLOYMENT, |context, name, sight| count(context, name, sight, &["status", "readyReplicas"])),
    ("rolledOut", DEPLOYMENT, |context, name, sight| of_deployment(context, name, sight, is_rolled_out)),
    ("rolloutFailed", DEPLOYMENT, |context, name, sight| {
        of_deployment(context, name, sight, has_failed);
    }),
    ("podsOf", PODS, |context, name, sight| {
        let sight = Arc::clone(sight);
        add(context, name, move |which: Value| Ok(pods_of(&read(&sight), &which)));
    }),
    ("image", Sources::NONE, |context, name, _| add(context, name, |object: Value| Ok(image(&object)))),
    ("restarts", Sources::NONE, |context, name, _| add(context, name, |pod: Value| Ok(restarts(&pod).into()))),
    ("twins", Sources::TWINS, |context, name, sight| {
        let sight = Arc::clone(sight);
        let twins = move || -> Answer {
            let names: Vec<Value> = read(&sight).twins.iter().map(|name| name.clone().into()).collect();
            Ok(names.into())
        };
        let _ = context.add_function(name, twins);
    }),
    ("etcdLeader", Sources::LEADER, |context, name, sight| {
        let sight = Arc::clone(sight);
        let leader = move || -> Answer {
            Ok(read(&sight).leader.map_or_else(String::new, |member| format!("etcd-{member}")).into())
        };
        let _ = context.add_function(name, leader);
    }),
];

/// Adds all functions to a context.
pub(super) fn add_all(context: &mut Context<'static, 'static>, sight: &Shared) {
    for (name, _, add) in &FUNCTIONS {
        add(context, name, sight);
    }
    for (kind, function) in Kind::all().flat_map(|kind| object_names(kind).map(move |name| (kind, name))) {
        let sight = Arc::clone(sight);
        add(context, &function, move |name: Value| match &name {
            Value::String(name) => Ok(read(&sight).object(kind, name).cloned().unwrap_or(Value::Null)),
            other => {
                Err(ExecutionError::function_error(kind.row().singular, format!("a {} is no name", other.type_of())))
            }
        });
    }
}

fn add(
    context: &mut Context<'static, 'static>,
    name: &str,
    function: impl Fn(Value) -> Answer + Send + Sync + 'static,
) {
    // The names are none of CEL's own, so they can be added; a test calls each of them.
    let _ = context.add_function(name, function);
}

/// Adds a function that counts replicas of a Deployment named, or of an object given.
fn count(context: &mut Context<'static, 'static>, name: &str, sight: &Shared, path: &'static [&'static str]) {
    let sight = Arc::clone(sight);
    add(context, name, move |which| {
        let object = deployment(&read(&sight), which);
        Ok(number(field(&object, path)).into())
    });
}

/// Adds a function that is true or false of a Deployment named or given.
fn of_deployment(
    context: &mut Context<'static, 'static>,
    name: &str,
    sight: &Shared,
    holds: impl Fn(&Value) -> bool + Send + Sync + 'static,
) {
    let sight = Arc::clone(sight);
    add(context, name, move |which| Ok(holds(&deployment(&read(&sight), which)).into()));
}

fn deployment(sight: &Sight, which: Value) -> Value {
    match which {
        Value::String(name) => sight.object(Kind::Deployment, &name).cloned().unwrap_or(Value::Null),
        object => object,
    }
}

/// What stands in an object at a path of names.
fn field<'v>(object: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(object, |value, name| match value {
        Value::Map(map) => map.get(&KeyRef::String(name)),
        _ => None,
    })
}

fn number(value: Option<&Value>) -> i64 {
    match value {
        Some(Value::Int(number)) => *number,
        _ => 0,
    }
}

fn text(value: Option<&Value>) -> &str {
    match value {
        Some(Value::String(text)) => text,
        _ => "",
    }
}

fn items(value: Option<&Value>) -> &[Value] {
    match value {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}

fn condition(object: &Value, kind: &str) -> Option<Value> {
    let conditions = items(field(object, &["status", "conditions"]));
    conditions.iter().find(|condition| text(field(condition, &["type"])) == kind).cloned()
}

fn condition_status(object: &Value, kind: &str) -> String {
    condition(object, kind).map_or_else(String::new, |condition| text(field(&condition, &["status"])).to_owned())
}

/// As `kubectl rollout status` decides (kubectl, polymorphichelpers: DeploymentStatusViewer).
fn is_rolled_out(deployment: &Value) -> bool {
    let status = |name| number(field(deployment, &["status", name]));
    let generation = number(field(deployment, &["metadata", "generation"]));
    let desired = number(field(deployment, &["spec", "replicas"]));
    matches!(deployment, Value::Map(_))
        && status("observedGeneration") >= generation
        && status("updatedReplicas") >= desired
        && status("replicas") <= status("updatedReplicas")
        && status("availableReplicas") >= status("updatedReplicas")
}

fn has_failed(deployment: &Value) -> bool {
    let progressing = condition(deployment, "Progressing").unwrap_or(Value::Null);
    let generation = number(field(deployment, &["metadata", "generation"]));
    text(field(&progressing, &["reason"])) == "ProgressDeadlineExceeded"
        && number(field(deployment, &["status", "observedGeneration"])) >= generation
}

/// The uid of the owner that manages an object.
fn controller(object: &Value) -> &str {
    let owners = items(field(object, &["metadata", "ownerReferences"]));
    let managing = owners.iter().find(|owner| matches!(field(owner, &["controller"]), Some(Value::Bool(true))));
    managing.map_or("", |owner| text(field(owner, &["uid"])))
}

fn pods_of(sight: &Sight, which: &Value) -> Value {
    let deployment = deployment(sight, which.clone());
    let uid = text(field(&deployment, &["metadata", "uid"]));
    if uid.is_empty() {
        return Value::List(Arc::default());
    }
    let sets = sight.objects(Kind::ReplicaSet).filter(|set| controller(set) == uid);
    let mut owners: Vec<&str> = sets.map(|set| text(field(set, &["metadata", "uid"]))).collect();
    owners.push(uid);
    let pods = sight.objects(Kind::Pod).filter(|pod| owners.contains(&controller(pod)));
    Value::List(Arc::new(pods.cloned().collect()))
}

fn image(object: &Value) -> Value {
    let of_pod = items(field(object, &["spec", "containers"])).first();
    let first = of_pod.or_else(|| items(field(object, &["spec", "template", "spec", "containers"])).first());
    first.and_then(|container| field(container, &["image"])).cloned().unwrap_or(Value::Null)
}

fn restarts(pod: &Value) -> i64 {
    let statuses = items(field(pod, &["status", "containerStatuses"]));
    statuses.iter().map(|status| number(field(status, &["restartCount"]))).sum()
}
