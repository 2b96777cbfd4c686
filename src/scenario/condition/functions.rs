//! The functions that conditions may use besides those of CEL.

use std::sync::{Arc, RwLock};

use cel::common::types::{CelBool, CelInt, CelList, CelNull, CelString};
use cel::common::value::{CowVal, Val};
use cel::{Context, ExecutionError, FunctionContext};

use crate::api::kind::Kind;

use super::expression::object_names;
use super::sight::{Sight, read};
use super::sources::Sources;
use super::value::{Owned, Subject, field, fields, items, number, text};

type Shared = Arc<RwLock<Sight>>;

/// What a function returns.
pub(super) type Answer = Result<Owned, ExecutionError>;

/// A function as CEL calls it.
pub(super) type Native =
    Box<dyn for<'b, 'v> Fn(&mut FunctionContext<'b, 'v>) -> Result<CowVal<'b, 'v>, ExecutionError> + Send + Sync>;

/// A function: its name, what it looks at besides its argument, and how it is added to a context.
pub(super) type Function = (&'static str, Sources, fn(&mut Context<'static, 'static>, &'static str, &Shared));

const DEPLOYMENT: Sources = Sources::objects(Kind::Deployment);
const PODS: Sources = DEPLOYMENT.and(Sources::objects(Kind::ReplicaSet)).and(Sources::objects(Kind::Pod));

/// All functions, in the order in which they are documented.
pub(super) static FUNCTIONS: [Function; 13] = [
    ("ready", Sources::NONE, |context, name, _| {
        add(context, name, |arguments| Ok(truth(condition_status(argument(arguments, 0)?, "Ready") == "True")));
    }),
    ("condition", Sources::NONE, |context, name, _| {
        add(context, name, |arguments| {
            let (object, kind) = (argument(arguments, 0)?, argument(arguments, 1)?);
            Ok(words(condition_status(object, name_in(kind)?)))
        });
    }),
    ("desired", DEPLOYMENT, |context, name, sight| count(context, name, sight, &["spec", "replicas"])),
    ("available", DEPLOYMENT, |context, name, sight| count(context, name, sight, &["status", "availableReplicas"])),
    ("updated", DEPLOYMENT, |context, name, sight| count(context, name, sight, &["status", "updatedReplicas"])),
    ("readyReplicas", DEPLOYMENT, |context, name, sight| count(context, name, sight, &["status", "readyReplicas"])),
    ("rolledOut", DEPLOYMENT, |context, name, sight| {
        of_deployment(context, name, sight, |deployment| truth(is_rolled_out(deployment)));
    }),
    ("rolloutFailed", DEPLOYMENT, |context, name, sight| {
        of_deployment(context, name, sight, |deployment| truth(has_failed(deployment)));
    }),
    ("podsOf", PODS, |context, name, sight| {
        let sight = Arc::clone(sight);
        add(context, name, move |arguments| {
            let sight = read(&sight);
            Ok(pods_of(&sight, deployment(&sight, argument(arguments, 0)?)))
        });
    }),
    ("image", Sources::NONE, |context, name, _| add(context, name, |arguments| Ok(image(argument(arguments, 0)?)))),
    ("restarts", Sources::NONE, |context, name, _| {
        add(context, name, |arguments| Ok(whole(restarts(argument(arguments, 0)?))));
    }),
    ("twins", Sources::TWINS, |context, name, sight| {
        let sight = Arc::clone(sight);
        add(context, name, move |_| {
            let names: Vec<Owned> = read(&sight).twins.iter().map(|name| words(name)).collect();
            Ok(Box::new(CelList::from(names)))
        });
    }),
    ("etcdLeader", Sources::LEADER, |context, name, sight| {
        let sight = Arc::clone(sight);
        add(context, name, move |_| {
            Ok(words(&read(&sight).leader.map_or_else(String::new, |member| format!("etcd-{member}"))))
        });
    }),
];

/// Adds all functions to a context.
pub(super) fn add_all(context: &mut Context<'static, 'static>, sight: &Shared) {
    for (name, _, add) in &FUNCTIONS {
        add(context, name, sight);
    }
    for (kind, function) in Kind::all().flat_map(|kind| object_names(kind).map(move |name| (kind, name))) {
        let sight = Arc::clone(sight);
        add(context, &function, move |arguments| {
            let name = argument(arguments, 0)?;
            let Some(name) = name.downcast_ref::<CelString<'_>>() else {
                let wrong = format!("a {} is no name", name.get_type().name());
                return Err(ExecutionError::function_error(kind.row().singular, wrong));
            };
            Ok(read(&sight).object(kind, name.inner()).map_or_else(|| Box::new(CelNull) as Owned, Subject::boxed))
        });
    }
}

/// Adds a function that makes a value of its own from its arguments.
pub(super) fn add(
    context: &mut Context<'static, 'static>,
    name: &str,
    function: impl Fn(&[CowVal<'_, '_>]) -> Answer + Send + Sync + 'static,
) {
    let native: Native = Box::new(move |call| Ok(CowVal::Owned(function(&call.args)?)));
    // The names are none of CEL's own, so they can be added; a test calls each of them.
    let _ = context.add_function(name, native);
}

/// One of the arguments of a call.
fn argument<'c, 'v>(arguments: &'c [CowVal<'_, 'v>], place: usize) -> Result<&'c (dyn Val + 'v), ExecutionError> {
    let found = arguments.get(place).map(AsRef::as_ref);
    found.ok_or_else(|| ExecutionError::invalid_argument_count(place + 1, arguments.len()))
}

fn name_in(value: &dyn Val) -> Result<&str, ExecutionError> {
    let wrong =
        || ExecutionError::UnexpectedType { got: value.get_type().name().to_owned(), want: "string".to_owned() };
    value.downcast_ref::<CelString<'_>>().map(|text| text.inner()).ok_or_else(wrong)
}

/// A truth as a value of its own.
pub(super) fn truth(holds: bool) -> Owned {
    Box::new(CelBool::from(holds))
}

/// A whole number as a value of its own.
pub(super) fn whole(number: i64) -> Owned {
    Box::new(CelInt::from(number))
}

fn words(text: &str) -> Owned {
    Box::new(CelString::from(text.to_owned()))
}

/// Adds a function that counts replicas of a Deployment named, or of an object given.
fn count(context: &mut Context<'static, 'static>, name: &str, sight: &Shared, path: &'static [&'static str]) {
    of_deployment(context, name, sight, move |deployment| whole(number(field(deployment, path))));
}

/// Adds a function of a Deployment named or given.
fn of_deployment(
    context: &mut Context<'static, 'static>,
    name: &str,
    sight: &Shared,
    value: impl Fn(&dyn Val) -> Owned + Send + Sync + 'static,
) {
    let sight = Arc::clone(sight);
    add(context, name, move |arguments| Ok(value(deployment(&read(&sight), argument(arguments, 0)?))));
}

fn deployment<'c>(sight: &'c Sight, which: &'c dyn Val) -> &'c dyn Val {
    match which.downcast_ref::<CelString<'_>>() {
        Some(name) => sight.object(Kind::Deployment, name.inner()).map_or(&CelNull, |found| found as &dyn Val),
        None => which,
    }
}

fn condition<'c>(object: &'c dyn Val, kind: &str) -> Option<&'c dyn Val> {
    let conditions = items(field(object, &["status", "conditions"])).iter().map(AsRef::as_ref);
    conditions.into_iter().find(|condition| text(field(*condition, &["type"])) == kind)
}

fn condition_status<'c>(object: &'c dyn Val, kind: &str) -> &'c str {
    condition(object, kind).map_or("", |condition| text(field(condition, &["status"])))
}

/// As `kubectl rollout status` decides (kubectl, polymorphichelpers: DeploymentStatusViewer).
fn is_rolled_out(deployment: &dyn Val) -> bool {
    let status = |name| number(field(deployment, &["status", name]));
    let generation = number(field(deployment, &["metadata", "generation"]));
    let desired = number(field(deployment, &["spec", "replicas"]));
    fields(deployment).is_some()
        && status("observedGeneration") >= generation
        && status("updatedReplicas") >= desired
        && status("replicas") <= status("updatedReplicas")
        && status("availableReplicas") >= status("updatedReplicas")
}

fn has_failed(deployment: &dyn Val) -> bool {
    let reason = condition(deployment, "Progressing").map_or("", |progressing| text(field(progressing, &["reason"])));
    let generation = number(field(deployment, &["metadata", "generation"]));
    reason == "ProgressDeadlineExceeded" && number(field(deployment, &["status", "observedGeneration"])) >= generation
}

/// The pods that a Deployment's ReplicaSets or itself manage, by namespace and name.
fn pods_of(sight: &Sight, deployment: &dyn Val) -> Owned {
    let uid = text(field(deployment, &["metadata", "uid"]));
    let sets = sight.managed_by(uid, Kind::ReplicaSet);
    let owners = sets.map(|(_, set)| text(field(set, &["metadata", "uid"]))).chain([uid]);
    let mut pods: Vec<_> = owners.flat_map(|owner| sight.managed_by(owner, Kind::Pod)).collect();
    pods.sort_by_key(|(place, _)| *place);
    Box::new(CelList::from(pods.into_iter().map(|(_, pod)| pod.boxed()).collect::<Vec<_>>()))
}

fn image(object: &dyn Val) -> Owned {
    let of_pod = items(field(object, &["spec", "containers"])).first();
    let first = of_pod.or_else(|| items(field(object, &["spec", "template", "spec", "containers"])).first());
    let image = first.and_then(|container| field(container.as_ref(), &["image"]));
    image.map_or_else(|| Box::new(CelNull) as Owned, |image| words(text(Some(image))))
}

fn restarts(pod: &dyn Val) -> i64 {
    let statuses = items(field(pod, &["status", "containerStatuses"]));
    statuses.iter().map(|status| number(field(status.as_ref(), &["restartCount"]))).sum()
}
