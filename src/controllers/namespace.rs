//! The namespace controller: empties a namespace that is being deleted, pods first, then lets it go.
//!
//! Decides from what the API server lists, not from its cache.

use std::rc::Rc;

use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::kind::Kind;
use crate::api::meta::{ObjectKey, Timestamp};
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::plain::Namespace;
use crate::apiserver::protocol::{Answer, DeleteOptions, ListRevision, Operation, Part, Propagation, Scope};
use crate::apiserver::status::Reason;
use crate::client::controller::{Change, Controller};
use crate::client::plan::{Again, Plan};
use crate::client::view::{Now, View};
use crate::client::work_queue::RetryDelays;
use crate::engine::time::SimDuration;

use super::config::Config;
use super::script::{self, Halt, Script};

/// How long the controller waits so that all API servers know that the namespace goes (`namespaceDeletionGracePeriod`).
const DELETION_GRACE: SimDuration = SimDuration::from_secs(5);
/// What a finalizer is given to be dealt with (`finalizerEstimateSeconds`).
const FINALIZER_ESTIMATE_SECONDS: i64 = 15;
const FINALIZER: Name = Name::of("kubernetes");
/// How often a write that meets a conflict is made anew; the original never gives up.
const TRIES: usize = 10;

/// The conditions, with reason and message for when all is well (`okReasons`, `okMessages`).
const CONDITIONS: [(&str, &str, &str); 5] = [
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    ("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
    (CONTENT_FAILURE, "ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
    (CONTENT_REMAINING, "ContentRemoved", "All content successfully removed"),
    (FINALIZERS_REMAINING, "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];
const CONTENT_FAILURE: &str = "NamespaceDeletionContentFailure";
const CONTENT_REMAINING: &str = "NamespaceContentRemaining";
const FINALIZERS_REMAINING: &str = "NamespaceFinalizersRemaining";

/// The namespace controller.
pub struct NamespaceController {
    workers: usize,
}

impl NamespaceController {
    /// The controller with a configuration.
    pub fn new(config: &Config) -> Self {
        NamespaceController { workers: config.concurrent_namespace_syncs }
    }
}

impl Controller for NamespaceController {
    fn name(&self) -> &'static str {
        "namespace-controller"
    }

    fn workers(&self) -> usize {
        self.workers
    }

    /// A namespace's end takes many requests at once (kube-controller-manager, app/core.go).
    fn limit_factors(&self) -> (u32, u32) {
        (20, 100)
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::Namespace]
    }

    fn on_change(&self, change: Change<'_>, _view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        if !matches!(change, Change::Deleted(_)) && change.object().meta().is_deleting() {
            enqueue(change.object().key(), DELETION_GRACE);
        }
    }

    fn retry_delays(&self) -> RetryDelays {
        RetryDelays { first: SimDuration::from_millis(5), last: SimDuration::from_secs(60), overall: true }
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        if view.get::<Namespace>(&Name::EMPTY, &key.name).is_none() {
            return Plan::nothing();
        }
        let key = key.clone();
        script::run(view, now, move |script| sync(script, &key))
    }
}

/// What is left in a namespace and what went wrong.
#[derive(Default)]
struct Content {
    /// How many seconds it may take until it is gone.
    estimate: i64,
    /// How many objects of a kind are left.
    remaining: Vec<(Kind, usize)>,
    /// How many objects a finalizer holds back.
    finalizers: std::collections::BTreeMap<Name, usize>,
    errors: Vec<String>,
}

fn sync(script: &mut Script<'_>, key: &ObjectKey) -> Result<Again, Halt> {
    let Some(mut namespace) = read(script, key)? else {
        return Ok(Again::OnChange);
    };
    let Some(deletion) = namespace.meta.deletion.clone() else {
        return Ok(Again::OnChange);
    };
    if !namespace.terminating {
        let changed = write(script, key, namespace, Part::Status, |namespace| namespace.terminating = true)?;
        let Some(changed) = changed else { return Ok(Again::OnChange) };
        namespace = changed;
    }
    if namespace.finalizers.is_empty() {
        return Ok(Again::OnChange);
    }
    let content = delete_content(script, &namespace, deletion.timestamp)?;
    if let Some(error) = content.errors.first() {
        return Err(Halt::Failed(error.clone()));
    }
    if content.estimate > 0 {
        return Ok(Again::After(SimDuration::from_secs(content.estimate as u64 / 2 + 1)));
    }
    write(script, key, namespace, Part::Finalize, |namespace| {
        namespace.finalizers = namespace.finalizers.iter().filter(|it| **it != FINALIZER).cloned().collect();
    })?;
    Ok(Again::OnChange)
}

fn read(script: &mut Script<'_>, key: &ObjectKey) -> Result<Option<Rc<Namespace>>, Halt> {
    match script.ask(Operation::Get { key: key.clone() })? {
        Ok(Answer::Object(Object::Namespace(namespace))) => Ok(Some(namespace)),
        Ok(_) => Ok(None),
        Err(status) if status.reason == Reason::NotFound => Ok(None),
        Err(status) => Err(Halt::Failed(status.message)),
    }
}

/// Writes a part of the namespace, on a fresh copy if it changed meanwhile; none if it is gone (`retryOnConflictError`).
fn write(
    script: &mut Script<'_>,
    key: &ObjectKey,
    namespace: Rc<Namespace>,
    part: Part,
    change: impl Fn(&mut Namespace),
) -> Result<Option<Rc<Namespace>>, Halt> {
    let mut latest = namespace;
    for _ in 0..TRIES {
        let mut changed = (*latest).clone();
        change(&mut changed);
        let object = Object::Namespace(Rc::new(changed));
        match script.ask(Operation::Update { object, part, dry_run: false })? {
            Ok(Answer::Object(Object::Namespace(written))) => return Ok(Some(written)),
            Ok(_) => return Ok(None),
            Err(status) if status.reason == Reason::NotFound => return Ok(None),
            Err(status) if status.reason != Reason::Conflict => return Err(Halt::Failed(status.message)),
            Err(_) => {}
        }
        let uid = latest.meta.uid;
        match read(script, key)? {
            None => return Ok(None),
            Some(fresh) if fresh.meta.uid != uid => {
                return Err(Halt::Failed("namespace uid has changed across retries".to_owned()));
            }
            Some(fresh) => latest = fresh,
        }
    }
    Err(Halt::Failed("the namespace changed each time it was written".to_owned()))
}

/// Deletes all there is, other kinds only when no pod is left, and says in the conditions how far it got
/// (`deleteAllContent`).
fn delete_content(script: &mut Script<'_>, namespace: &Namespace, deleted: Timestamp) -> Result<Content, Halt> {
    let mut content = Content::default();
    delete_kind(script, namespace, deleted, Kind::Pod, &mut content)?;
    let pods_remain = !content.remaining.is_empty();
    if !pods_remain {
        for kind in Kind::all().filter(|kind| kind.row().namespaced && *kind != Kind::Pod) {
            delete_kind(script, namespace, deleted, kind, &mut content)?;
        }
    }
    let now = script.now().timestamp();
    // While pods remain the totals are not reported: the original returns before it gets to them.
    let conditions = conditions(namespace, &content, !pods_remain, now);
    if let Some(conditions) = conditions {
        let mut changed = namespace.clone();
        changed.conditions = conditions.into();
        let object = Object::Namespace(Rc::new(changed));
        // Only logged if it fails.
        let _ = script.ask(Operation::Update { object, part: Part::Status, dry_run: false })?;
    }
    Ok(content)
}

/// Deletes all objects of a kind and counts what is left (`deleteAllContentForGroupVersionResource`).
fn delete_kind(
    script: &mut Script<'_>,
    namespace: &Namespace,
    deleted: Timestamp,
    kind: Kind,
    content: &mut Content,
) -> Result<(), Halt> {
    let scope = || Scope { namespace: Some(namespace.meta.name.clone()), ..Scope::all(kind) };
    let mut estimate = 0;
    if kind == Kind::Pod {
        let Some(pods) = list(script, scope(), content)? else { return Ok(()) };
        let graces = pods.iter().filter_map(|object| match object {
            Object::Pod(pod) if !pod.is_terminal() => Some(pod.spec.grace_seconds),
            _ => None,
        });
        estimate = graces.max().unwrap_or(0).max(0);
        if super::time::until(script.now(), deleted, estimate).left() == SimDuration::ZERO {
            estimate = 0;
        }
    }
    let options = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
    if let Err(status) = script.ask(Operation::DeleteCollection { scope: scope(), options })? {
        content.errors.push(status.message);
        content.estimate = content.estimate.max(estimate);
        return Ok(());
    }
    let Some(left) = list(script, scope(), content)? else {
        content.estimate = content.estimate.max(estimate);
        return Ok(());
    };
    if left.is_empty() {
        return Ok(());
    }
    content.remaining.push((kind, left.len()));
    let held: Vec<_> = left.iter().flat_map(|object| object.meta().finalizers()).cloned().collect();
    if estimate == 0 && held.is_empty() {
        let row = kind.row();
        let resource = format!("{}/{}, Resource={}", row.group, row.version, row.plural);
        let what = "unexpected items still remain in namespace";
        content.errors.push(format!("{what}: {} for gvr: {resource}", namespace.meta.name));
    }
    if estimate == 0 && !held.is_empty() {
        estimate = FINALIZER_ESTIMATE_SECONDS;
    }
    for finalizer in held {
        *content.finalizers.entry(finalizer).or_default() += 1;
    }
    content.estimate = content.estimate.max(estimate);
    Ok(())
}

fn list(script: &mut Script<'_>, scope: Scope, content: &mut Content) -> Result<Option<Vec<Object>>, Halt> {
    let operation = Operation::List { scope, limit: 0, continue_token: None, at: ListRevision::Latest };
    match script.ask(operation)? {
        Ok(Answer::List { items, .. }) => Ok(Some(items)),
        Ok(_) => Ok(None),
        Err(status) => {
            content.errors.push(status.message);
            Ok(None)
        }
    }
}

/// The namespace's conditions as they should be; none if nothing changes (`updateConditions`).
fn conditions(
    namespace: &Namespace,
    content: &Content,
    with_totals: bool,
    now: Timestamp,
) -> Option<Vec<NamespaceCondition>> {
    let time = jiff::Timestamp::from_second(now.0).ok().map(Time);
    let mut all = namespace.conditions.to_vec();
    let mut changed = false;
    for (kind, reason, message) in CONDITIONS {
        let problem = problem(kind, content, with_totals);
        let (status, reason, message) = match problem {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", reason, message.to_owned()),
        };
        let wanted = NamespaceCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: time.clone(),
        };
        match all.iter_mut().find(|present| present.type_ == kind) {
            None => all.push(wanted),
            Some(present) => {
                let same = present.status == wanted.status && present.reason == wanted.reason;
                if same && present.message == wanted.message {
                    continue;
                }
                let since =
                    if present.status == wanted.status { present.last_transition_time.clone() } else { time.clone() };
                *present = NamespaceCondition { last_transition_time: since, ..wanted };
            }
        }
        changed = true;
    }
    changed.then_some(all)
}

/// Why a condition holds, if it does.
fn problem(kind: &str, content: &Content, with_totals: bool) -> Option<(&'static str, String)> {
    let joined = |mut parts: Vec<String>| {
        parts.sort();
        parts.join(", ")
    };
    match kind {
        CONTENT_FAILURE if !content.errors.is_empty() => {
            let (count, errors) = (content.errors.len(), joined(content.errors.clone()));
            Some(("ContentDeletionFailed", format!("Failed to delete all resource types, {count} remaining: {errors}")))
        }
        CONTENT_REMAINING if with_totals && !content.remaining.is_empty() => {
            let one = |(kind, count): &(Kind, usize)| {
                format!("{}.{} has {count} resource instances", kind.row().plural, kind.row().group)
            };
            let parts = joined(content.remaining.iter().map(one).collect());
            Some(("SomeResourcesRemain", format!("Some resources are remaining: {parts}")))
        }
        FINALIZERS_REMAINING if with_totals && !content.finalizers.is_empty() => {
            let one = |(finalizer, count): (&Name, &usize)| format!("{finalizer} in {count} resource instances");
            let parts = joined(content.finalizers.iter().map(one).collect());
            let what = "Some content in the namespace has finalizers remaining";
            Some(("SomeFinalizersRemain", format!("{what}: {parts}")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::meta::Deletion;
    use crate::api::pod::Pod;
    use crate::api::workload::Deployment;
    use crate::controllers::testing::{self, Server};

    fn server() -> Server {
        let mut server = Server::at(100);
        let mut namespace = testing::namespace("default");
        namespace.meta.deletion = Some(Box::new(Deletion { timestamp: Timestamp(95), grace_seconds: None }));
        server.put(Object::Namespace(Rc::new(namespace)));
        server.put(Object::Deployment(Rc::new(testing::deployment("web", 1))));
        server
    }

    fn look(server: &mut Server) -> Again {
        let key = ObjectKey::new(Kind::Namespace, "", "default");
        server.reconcile(&NamespaceController::new(&Config::default()), &key)
    }

    fn condition(server: &Server, kind: &str) -> Option<(String, Option<String>)> {
        let namespace = server.get::<Namespace>("", "default")?;
        let condition = namespace.conditions.iter().find(|condition| condition.type_ == kind)?;
        Some((condition.status.clone(), condition.message.clone()))
    }

    #[test]
    fn an_emptied_namespace_goes_with_its_finalizer() {
        let mut server = server();
        assert_eq!(look(&mut server), Again::OnChange);
        assert!(server.get::<Namespace>("", "default").is_none());
        assert!(server.all::<Deployment>().is_empty());
    }

    #[test]
    fn pods_go_before_everything_else_and_half_their_grace_is_waited_for() {
        let mut server = server();
        server.put(Object::Pod(Rc::new(testing::ready_pod("web", 50))));
        assert_eq!(look(&mut server), Again::After(SimDuration::from_secs(16)));
        assert!(server.get::<Pod>("default", "web").expect("terminating").meta.is_deleting());
        assert_eq!(server.all::<Deployment>().len(), 1, "waits for the pods");
        assert_eq!(condition(&server, CONTENT_REMAINING).map(|it| it.0).as_deref(), Some("False"));
        server.vanish(&ObjectKey::new(Kind::Pod, "default", "web"));
        assert_eq!(look(&mut server), Again::OnChange);
        assert!(server.get::<Namespace>("", "default").is_none());
    }

    #[test]
    fn what_a_finalizer_holds_back_is_named() {
        let mut server = server();
        server.edit::<Deployment>("default", "web", |it| it.meta.finalizers = [Name::of("example.com/hold")].into());
        assert_eq!(look(&mut server), Again::After(SimDuration::from_secs(8)));
        let (status, message) = condition(&server, FINALIZERS_REMAINING).expect("there");
        assert_eq!(status, "True");
        let expected =
            "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances";
        assert_eq!(message.as_deref(), Some(expected));
        let (_, message) = condition(&server, CONTENT_REMAINING).expect("there");
        assert_eq!(message.as_deref(), Some("Some resources are remaining: deployments.apps has 1 resource instances"));
    }

    #[test]
    fn pods_that_stay_beyond_their_grace_are_an_error() {
        let mut server = server();
        server.put(Object::Pod(Rc::new(testing::ready_pod("web", 50))));
        server.seconds = 200;
        let again = look(&mut server);
        let expected = "unexpected items still remain in namespace: default for gvr: /v1, Resource=pods";
        assert_eq!(again, Again::BackOff(expected.to_owned()));
    }
}
