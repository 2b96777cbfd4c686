//! `kubectl drain`: cordons a node, then evicts its pods and waits until they are gone.
//!
//! Facts, texts and the order of things: kubectl, pkg/drain and pkg/cmd/drain.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::apiserver::protocol::{Answer, DeleteOptions, FieldTest, ListRevision, Operation, Scope};
use crate::apiserver::status::Reason;
use crate::client::rate_limit::RateLimit;
use crate::engine::time::{SimDuration, SimTime};

use super::super::plan::Drain;
use super::node::cordon;
use super::{Answered, Done, Shell, from_server, object_of};

/// How long kubectl waits before it asks again for an eviction that a disruption budget forbids (`EvictErrorRetryDelay`).
const RETRY: SimDuration = SimDuration::from_secs(5);
/// How often kubectl looks whether a pod is gone.
const POLL: SimDuration = SimDuration::from_secs(1);
/// How often a request is repeated that the server wants to see again later (client-go, rest: `maxRetries`).
const REPEATS: u32 = 10;
/// The annotation of pods that mirror what a kubelet runs by itself.
const MIRROR: &str = "kubernetes.io/config.mirror";

const OF_DAEMON_SET: &str = "DaemonSet-managed Pods (use --ignore-daemonsets to ignore)";
const OF_DAEMON_SET_IGNORED: &str = "ignoring DaemonSet-managed Pods";
const LOCAL_STORAGE: &str = "Pods with local storage (use --delete-emptydir-data to override)";
const UNMANAGED: &str = "Pods that declare no controller (use --force to override)";
const UNMANAGED_DELETED: &str = "deleting Pods that declare no controller";

/// kubectl's clients, one for each group of the API, each with a bucket of its own (client-go, rest: `DefaultQPS`,
/// `DefaultBurst`): many pods are evicted, and looked for, five a second.
struct Clients<'s> {
    shell: &'s Shell,
    core: RefCell<RateLimit>,
    policy: RefCell<RateLimit>,
    apps: RefCell<RateLimit>,
}

impl<'s> Clients<'s> {
    fn new(shell: &'s Shell) -> Self {
        let bucket = || RefCell::new(RateLimit::per_second(5, 10));
        Clients { shell, core: bucket(), policy: bucket(), apps: bucket() }
    }

    /// Makes a request as soon as the group's bucket lets it.
    async fn send(&self, bucket: &RefCell<RateLimit>, operation: Operation) -> Answered {
        let now = self.shell.now();
        let wait = bucket.borrow_mut().reserve(now).since(now);
        if wait > SimDuration::ZERO {
            self.shell.sleep(wait).await;
        }
        self.shell.send(operation).await
    }

    async fn core(&self, operation: Operation) -> Answered {
        self.send(&self.core, operation).await
    }
}

/// Cordons a node and empties it.
pub(super) async fn drain(shell: &Shell, node: &str, options: &Drain) -> Done {
    cordon(shell, node, true).await?;
    let clients = Clients::new(shell);
    clients.core.borrow_mut().reserve(shell.now()); // The patch that cordoned the node.
    match empty(&clients, node, options).await {
        Ok(()) => {
            shell.print(format!("node/{node} drained"));
            Ok(())
        }
        Err(why) => {
            shell.print(format!("error: unable to drain node \"{node}\" due to error: {why}, continuing command..."));
            shell.print("There are pending nodes to be drained:");
            shell.print(format!(" {node}"));
            Err(why)
        }
    }
}

async fn empty(clients: &Clients<'_>, node: &str, options: &Drain) -> Done {
    let chosen = choose(clients, node, options).await?;
    if !chosen.warnings.is_empty() {
        clients.shell.print(format!("Warning: {}", listed(&chosen.warnings).join("; ")));
    }
    let emptied = if options.disable_eviction {
        delete_all(clients, &chosen.pods, options).await
    } else {
        evict_all(clients, &chosen.pods, options).await
    };
    let Err(why) = emptied else { return Ok(()) };
    if let Ok(left) = choose(clients, node, options).await
        && !left.pods.is_empty()
    {
        clients.shell.print(format!("There are pending pods in node \"{node}\" when an error occurred: {why}"));
        left.pods.iter().for_each(|pod| clients.shell.print(format!("pod/{}", pod.meta.name)));
    }
    Err(why)
}

/// What goes of the pods of a node.
struct Chosen {
    pods: Vec<Rc<Pod>>,
    /// Which pods something has to be said about, by what is said.
    warnings: Vec<(String, Vec<String>)>,
}

/// What is to be done about a pod.
enum Verdict {
    Goes,
    GoesWith(String),
    Stays,
    StaysWith(String),
    Fails(String),
}

/// Chooses the pods that go; fails if there are some that are neither to go nor to be left (`GetPodsForDeletion`).
async fn choose(clients: &Clients<'_>, node: &str, options: &Drain) -> Result<Chosen, String> {
    let mut chosen = Chosen { pods: Vec::new(), warnings: Vec::new() };
    let mut errors: Vec<(String, Vec<String>)> = Vec::new();
    for pod in pods_of(clients, node).await? {
        let verdict = judge(clients, &pod, options).await;
        if matches!(verdict, Verdict::Goes | Verdict::GoesWith(_)) {
            chosen.pods.push(pod.clone());
        }
        match verdict {
            Verdict::GoesWith(warning) | Verdict::StaysWith(warning) => add(&mut chosen.warnings, warning, &pod),
            Verdict::Fails(error) => add(&mut errors, format!("cannot delete {error}"), &pod),
            Verdict::Goes | Verdict::Stays => {}
        }
    }
    if errors.is_empty() { Ok(chosen) } else { Err(aggregate(&listed(&errors))) }
}

/// The filters, in order: the first that keeps a pod decides, and what the last one says of those that go counts.
async fn judge(clients: &Clients<'_>, pod: &Pod, options: &Drain) -> Verdict {
    let is_of_daemon_set = |owner: &&crate::api::meta::OwnerReference| owner.kind == "DaemonSet";
    let controller = pod.meta.controller();
    if let Some(owner) = controller.filter(is_of_daemon_set)
        && !pod.is_terminal()
    {
        let key = ObjectKey::new(Kind::DaemonSet, pod.meta.namespace.clone(), owner.name.clone());
        match clients.send(&clients.apps, Operation::Get { key }).await {
            Ok(_) if options.ignore_daemon_sets => return Verdict::StaysWith(OF_DAEMON_SET_IGNORED.to_owned()),
            Ok(_) => return Verdict::Fails(OF_DAEMON_SET.to_owned()),
            // What is said of orphaned pods is forgotten: the filters that follow have nothing to say.
            Err(status) if status.reason == Reason::NotFound && options.force => {}
            Err(status) => return Verdict::Fails(status.message),
        }
    }
    if pod.meta.annotations.get(MIRROR).is_some() {
        return Verdict::Stays;
    }
    if pod.is_terminal() {
        return Verdict::Goes;
    }
    let has_local_storage = pod.spec.full.volumes.iter().flatten().any(|volume| volume.empty_dir.is_some());
    if has_local_storage && !options.delete_empty_dir_data {
        return Verdict::Fails(LOCAL_STORAGE.to_owned());
    }
    match (controller, options.force) {
        (Some(_), _) => Verdict::Goes,
        (None, true) => Verdict::GoesWith(UNMANAGED_DELETED.to_owned()),
        (None, false) => Verdict::Fails(UNMANAGED.to_owned()),
    }
}

fn add(lists: &mut Vec<(String, Vec<String>)>, text: String, pod: &Pod) {
    let name = format!("{}/{}", pod.meta.namespace, pod.meta.name);
    match lists.iter_mut().find(|(other, _)| *other == text) {
        Some((_, pods)) => pods.push(name),
        None => lists.push((text, vec![name])),
    }
}

fn listed(lists: &[(String, Vec<String>)]) -> Vec<String> {
    lists.iter().map(|(text, pods)| format!("{text}: {}", pods.join(", "))).collect()
}

/// Several errors as one (apimachinery, util/errors: `Aggregate`): each text once.
fn aggregate(errors: &[String]) -> String {
    let mut once: Vec<&str> = Vec::new();
    errors.iter().for_each(|error| {
        if !once.contains(&error.as_str()) {
            once.push(error);
        }
    });
    if let [error] = once.as_slice() { (*error).to_owned() } else { format!("[{}]", once.join(", ")) }
}

/// Evicts all pods beside one another and waits for each.
async fn evict_all(clients: &Clients<'_>, pods: &[Rc<Pod>], options: &Drain) -> Done {
    let until = options.timeout.map(|timeout| clients.shell.now() + timeout);
    let script = |pod: &Rc<Pod>| -> Pin<Box<dyn Future<Output = Done> + '_>> {
        let pod = Rc::clone(pod);
        Box::pin(async move { evict(clients, pod, options, until).await })
    };
    let errors: Vec<String> =
        super::beside(pods.iter().map(script).collect()).await.into_iter().filter_map(Result::err).collect();
    if errors.is_empty() { Ok(()) } else { Err(aggregate(&errors)) }
}

/// Asks for a pod's eviction until it is granted, then waits until the pod is gone.
async fn evict(clients: &Clients<'_>, mut pod: Rc<Pod>, options: &Drain, until: Option<SimTime>) -> Done {
    let (namespace, name) = (pod.meta.namespace.clone(), pod.meta.name.clone());
    loop {
        clients.shell.print(format!("evicting pod {namespace}/{name}"));
        let (now, timeout) = (clients.shell.now(), options.timeout.unwrap_or_default());
        if until.is_some_and(|until| now >= until) {
            let timeout = go_duration(timeout);
            let why = format!("global timeout reached: {timeout}");
            return Err(format!("error when evicting pods/\"{name}\" -n \"{namespace}\": {why}"));
        }
        match send_patiently(clients, &pod, options).await {
            Ok(_) => break,
            Err(status) if status.reason == Reason::NotFound => return Ok(()),
            Err(status) if status.reason == Reason::TooManyRequests => {
                let about = format!("pods/\"{name}\" -n \"{namespace}\"");
                clients.shell.print(format!("error when evicting {about} (will retry after 5s): {}", status.message));
                clients.shell.sleep(RETRY).await;
            }
            Err(status) if status.is_namespace_terminating() => {
                if pod.meta.is_deleting() {
                    break;
                }
                let about = format!("pod \"{name}\" from terminating namespace \"{namespace}\"");
                clients.shell.print(format!("error when evicting {about} (will retry after 5s): {}", status.message));
                clients.shell.sleep(RETRY).await;
            }
            Err(status) => {
                return Err(format!("error when evicting pods/\"{name}\" -n \"{namespace}\": {}", status.message));
            }
        }
        // It may be another one of the same name by now. If nobody knows, the next eviction finds out.
        if let Ok(Answer::Object(Object::Pod(fresh))) = clients.core(Operation::Get { key: key_of(&pod) }).await {
            pod = fresh;
        }
    }
    match wait_until_gone(clients, vec![pod], until, "evicted").await {
        Ok(()) => Ok(()),
        Err(why) => {
            Err(format!("error when waiting for pod \"{name}\" in namespace \"{namespace}\" to terminate: {why}"))
        }
    }
}

/// Sends an eviction, and again if the server says when to (client-go, rest: `Retry-After`).
async fn send_patiently(clients: &Clients<'_>, pod: &Pod, options: &Drain) -> Answered {
    for _ in 0..REPEATS {
        let answer = clients
            .send(&clients.policy, Operation::Evict { key: key_of(pod), options: delete_options(options) })
            .await;
        let Err(status) = &answer else { return answer };
        let retryable = matches!(status.reason.code(), 429 | 500..);
        let wait = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        if !retryable || wait == 0 {
            return answer;
        }
        clients.shell.sleep(SimDuration::from_secs(wait.into())).await;
    }
    clients.send(&clients.policy, Operation::Evict { key: key_of(pod), options: delete_options(options) }).await
}

/// Deletes all pods, then waits for all of them.
async fn delete_all(clients: &Clients<'_>, pods: &[Rc<Pod>], options: &Drain) -> Done {
    for pod in pods {
        let operation = Operation::Delete { key: key_of(pod), options: delete_options(options) };
        match clients.core(operation).await {
            Ok(_) => {}
            Err(status) if status.reason == Reason::NotFound => {}
            Err(status) => return Err(status.message),
        }
    }
    let until = options.timeout.map(|timeout| clients.shell.now() + timeout);
    wait_until_gone(clients, pods.to_vec(), until, "deleted").await
}

/// Looks once a second whether pods are gone, or as often as the bucket lets it (`waitForDelete`).
async fn wait_until_gone(clients: &Clients<'_>, mut pods: Vec<Rc<Pod>>, until: Option<SimTime>, word: &str) -> Done {
    let mut tick = clients.shell.now();
    while !pods.is_empty() {
        let mut left = Vec::new();
        for pod in pods {
            match clients.core(Operation::Get { key: key_of(&pod) }).await {
                Ok(Answer::Object(object)) if object.meta().uid == pod.meta.uid => left.push(pod),
                Ok(_) => clients.shell.print(format!("pod/{} {word}", pod.meta.name)),
                Err(status) if status.reason == Reason::NotFound => {
                    clients.shell.print(format!("pod/{} {word}", pod.meta.name));
                }
                Err(status) => {
                    let failed = if word == "evicted" { "eviction failed" } else { "deletion failed" };
                    clients.shell.print(format!("pod/{} {failed}", pod.meta.name));
                    return Err(status.message);
                }
            }
        }
        pods = left;
        if pods.is_empty() {
            break;
        }
        // A ticker's ticks do not wait for a slow look; one that was missed is made up for.
        let now = clients.shell.now();
        tick += POLL * (now.since(tick).as_nanos() / POLL.as_nanos()).max(1);
        match until {
            Some(until) if tick > until => {
                clients.shell.sleep(until.max(now).since(now)).await;
                return Err("context deadline exceeded".to_owned());
            }
            _ if tick > now => clients.shell.sleep(tick.since(now)).await,
            _ => {}
        }
    }
    Ok(())
}

fn delete_options(options: &Drain) -> DeleteOptions {
    DeleteOptions { grace_seconds: options.grace_seconds, ..DeleteOptions::default() }
}

fn key_of(pod: &Pod) -> ObjectKey {
    ObjectKey::new(Kind::Pod, pod.meta.namespace.clone(), pod.meta.name.clone())
}

async fn pods_of(clients: &Clients<'_>, node: &str) -> Result<Vec<Rc<Pod>>, String> {
    let field = FieldTest { field: Name::of("spec.nodeName"), value: Name::from(node), equal: true };
    let scope = Scope { kind: Kind::Pod, namespace: None, labels: None, fields: vec![field] };
    let operation = Operation::List { scope, limit: 0, continue_token: None, at: ListRevision::Latest };
    match clients.core(operation).await.map_err(from_server)? {
        Answer::List { items, .. } => Ok(items.iter().filter_map(Object::get::<Pod>).cloned().collect()),
        answer => object_of(answer).map(|_| Vec::new()),
    }
}

/// A length of time as Go prints it, in whole seconds.
fn go_duration(length: SimDuration) -> String {
    let seconds = length.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}
