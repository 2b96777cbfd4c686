//! A cluster and pods as files: what `kubectl get -o yaml` prints, and manifests of pods and of workloads that make pods.
//!
//! What the API server would refuse is refused here in its words, with file, line and column.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::{Map, Value, json};

use crate::api::kind::Kind;
use crate::api::manifest::{self, Document, Part, Problem, Source};
use crate::api::meta::{ObjectKey, Uid};
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::api::yaml::Mark;
use crate::apiserver::admission;
use crate::scenario::manifests;

use super::claims;
use super::snapshot;

/// A file's name as the user knows it, and its text.
pub type File = (String, String);

/// The namespace of objects that name none.
const NAMESPACE: &str = "default";

/// The bits that the uids of new pods have in common.
const NEW: u128 = 0xf << 124;

/// At most so many pods are made of one workload.
const REPLICAS: u64 = 10_000;

/// An object and where it stands.
#[derive(Clone, Debug)]
pub struct Given {
    /// The object, defaulted.
    pub object: Object,
    /// Where it stands.
    pub part: Part,
}

/// What files say a cluster is.
#[derive(Clone, Debug, Default)]
pub struct ClusterFiles {
    /// The objects that scheduling reads.
    pub objects: Vec<Given>,
    /// What does no harm and should be told.
    pub warnings: Vec<Problem>,
    /// How many objects there are of each kind that scheduling does not read.
    pub skipped: BTreeMap<String, usize>,
}

/// A pod that is to be scheduled, and where it stands.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The pod.
    pub pod: Rc<Pod>,
    /// The pod or the template that it is made of, if it stands in a file.
    pub part: Option<Part>,
}

impl Wanted {
    fn problem(&self, field: &str, message: String, expected: Option<String>) -> Problem {
        match &self.part {
            Some(part) => part.problem(field, message, expected),
            None => Source::new(self.pod.meta.name.as_str(), "").problem(Mark::default(), message, expected),
        }
    }
}

impl ClusterFiles {
    /// Reads the objects in these files.
    pub fn read(files: &[File]) -> Result<Self, Vec<Problem>> {
        let (mut cluster, mut problems) = (ClusterFiles::default(), Vec::new());
        let mut known: BTreeSet<ObjectKey> = BTreeSet::new();
        for (name, text) in files {
            let documents = manifest::read(name, text).unwrap_or_else(|found| {
                problems.extend(found);
                Vec::new()
            });
            for document in documents {
                cluster.take(document, &mut known, &mut problems);
            }
        }
        cluster.give_uids();
        if problems.is_empty() { Ok(cluster) } else { Err(problems) }
    }

    /// Pods are told apart by their uids. Such as were written by hand have none, and get numbers.
    fn give_uids(&mut self) {
        let mut used = BTreeSet::new();
        let mut free = 1;
        for given in &mut self.objects {
            let Object::Pod(pod) = &mut given.object else { continue };
            if pod.meta.uid == Uid::default() || !used.insert(pod.meta.uid) {
                while !used.insert(Uid(free)) {
                    free += 1;
                }
                Rc::make_mut(pod).meta.uid = Uid(free);
            }
        }
    }

    fn take(&mut self, document: Document, known: &mut BTreeSet<ObjectKey>, problems: &mut Vec<Problem>) {
        let kind = Kind::of_manifest(&document.api_version, &document.kind);
        if !kind.is_some_and(snapshot::is_read) {
            *self.skipped.entry(document.kind).or_default() += 1;
            return;
        }
        match manifests::check(&document, NAMESPACE) {
            Ok(manifest) => {
                if !known.insert(manifest.key.clone()) {
                    let row = manifest.key.kind.row();
                    let message = format!("{} \"{}\" already exists", row.qualified_plural(), manifest.key.name);
                    problems.push(document.part.problem("metadata.name", message, None));
                }
                self.objects.push(Given { object: manifest.object, part: document.part });
            }
            Err(found) => problems.extend(found),
        }
        self.warnings.extend(document.warnings);
    }

    /// The pods without a node, and where they stand, in the order of the files.
    pub fn pending(&self) -> Vec<Wanted> {
        let pods = self.objects.iter().filter_map(|given| match &given.object {
            Object::Pod(pod) if pod.node.is_none() && !pod.is_terminal() => {
                Some(Wanted { pod: pod.clone(), part: Some(given.part.clone()) })
            }
            _ => None,
        });
        pods.collect()
    }
}

/// Reads pods, and workloads of which their pods are made: as many as it has replicas. The second list are the owners of
/// pods that are made, as far as scheduling reads them.
pub fn read_pods(files: &[File]) -> Result<(Vec<Wanted>, Vec<Object>), Vec<Problem>> {
    let (mut wanted, mut owners, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for (name, text) in files {
        let documents = manifest::read(name, text).unwrap_or_else(|found| {
            problems.extend(found);
            Vec::new()
        });
        for document in documents {
            match pods_of(&document) {
                Ok((pods, owner)) => {
                    wanted.extend(pods);
                    owners.extend(owner);
                }
                Err(found) => problems.extend(found),
            }
        }
    }
    for (number, wanted) in (0..).zip(&mut wanted) {
        // No object of an API server has a uid with these highest bits, and none in a file that was written by hand.
        Rc::make_mut(&mut wanted.pod).meta.uid = Uid(NEW | number);
    }
    if problems.is_empty() { Ok((wanted, owners)) } else { Err(problems) }
}

/// The pods that a document is or makes, and their owner.
fn pods_of(document: &Document) -> Result<(Vec<Wanted>, Option<Object>), Vec<Problem>> {
    let part = &document.part;
    if Kind::of_manifest(&document.api_version, &document.kind) == Some(Kind::Pod) {
        let manifest = manifests::check(document, NAMESPACE)?;
        let Object::Pod(pod) = manifest.object else { return Ok((Vec::new(), None)) };
        return Ok((vec![Wanted { pod, part: Some(part.clone()) }], None));
    }
    let field = if document.kind == "CronJob" { "spec.jobTemplate.spec.template" } else { "spec.template" };
    let pointer = format!("/{}", field.replace('.', "/"));
    let Some(Value::Object(template)) = part.value.pointer(&pointer).cloned() else {
        let message = format!("{} \"{}\" makes no pods", document.kind, text_at(&part.value, "/metadata/name"));
        let expected = Some("expected a Pod, or a workload with a pod template".to_owned());
        return Err(vec![part.problem("kind", message, expected)]);
    };
    let owner = owner(document)?;
    let replicas = match document.kind.as_str() {
        "Job" => part.value.pointer("/spec/parallelism"),
        _ => part.value.pointer("/spec/replicas"),
    };
    let replicas = replicas.and_then(Value::as_u64).unwrap_or(1).min(REPLICAS);
    let mut pods = Vec::new();
    let mut first: Option<Rc<Pod>> = None;
    for number in 0..replicas {
        let name = format!("{}-{number}", text_at(&part.value, "/metadata/name"));
        // All pods of a template share its specification.
        let pod = match &first {
            Some(first) => {
                let mut pod = Pod::clone(first);
                pod.meta.name = name.into();
                Rc::new(pod)
            }
            None => made_of(document, field, template.clone(), &name, owner.as_ref())?,
        };
        first.get_or_insert_with(|| pod.clone());
        pods.push(Wanted { pod, part: Some(part.inside(field, Value::Null)) });
    }
    Ok((pods, owner))
}

/// A pod of a template, checked as the API server would check it.
fn made_of(
    document: &Document,
    field: &str,
    mut template: Map<String, Value>,
    name: &str,
    owner: Option<&Object>,
) -> Result<Rc<Pod>, Vec<Problem>> {
    let metadata = template.entry("metadata").or_insert_with(|| json!({}));
    if let Value::Object(metadata) = metadata {
        let namespace = text_at(&document.part.value, "/metadata/namespace");
        metadata.insert("namespace".to_owned(), if namespace.is_empty() { NAMESPACE } else { namespace }.into());
        metadata.insert("name".to_owned(), name.into());
        if let Some(owner) = owner {
            let row = owner.kind().row();
            let reference = json!({
                "apiVersion": row.api_version(), "kind": row.name, "name": owner.meta().name.as_str(),
                "uid": Uid(1).to_string(), "controller": true, "blockOwnerDeletion": true,
            });
            metadata.insert("ownerReferences".to_owned(), json!([reference]));
        }
    }
    template.insert("apiVersion".to_owned(), "v1".into());
    template.insert("kind".to_owned(), "Pod".into());
    let part = document.part.inside(field, Value::Object(template));
    match manifests::object(Kind::Pod, &part)? {
        Object::Pod(pod) => Ok(pod),
        other => Err(vec![part.problem("", format!("{} is no pod", other.key()), None)]),
    }
}

/// The owner of the pods that a workload makes, if scheduling reads its selector: a Deployment's pods belong to a ReplicaSet.
fn owner(document: &Document) -> Result<Option<Object>, Vec<Problem>> {
    let kind = Kind::of_manifest(&document.api_version, &document.kind);
    match kind {
        Some(Kind::Deployment) => {
            // The Deployment's own mistakes are told as its own.
            manifests::check(document, NAMESPACE)?;
            let mut part = document.part.clone();
            let spec = json!({
                "selector": part.value.pointer("/spec/selector"), "template": part.value.pointer("/spec/template"),
            });
            part.value = json!({
                "metadata": {"name": text_at(&part.value, "/metadata/name"), "namespace": match text_at(&part.value, "/metadata/namespace") {
                    "" => NAMESPACE,
                    namespace => namespace,
                }},
                "spec": spec,
            });
            manifests::object(Kind::ReplicaSet, &part).map(Some)
        }
        Some(Kind::ReplicaSet | Kind::StatefulSet | Kind::ReplicationController) => {
            manifests::check(document, NAMESPACE).map(|manifest| Some(manifest.object))
        }
        _ => Ok(None),
    }
}

fn text_at<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Makes of pods that are to be scheduled what the API server makes of new pods, and refuses what it, or the scheduler, would
/// refuse. `objects` are the cluster.
pub fn admit(wanted: &mut [Wanted], objects: &[Object], schedulers: &[&str]) -> Result<(), Vec<Problem>> {
    let classes = objects.iter().filter(|object| object.kind() == Kind::PriorityClass).cloned();
    let facts = admission::PodFacts::new(classes);
    let mut problems = Vec::new();
    for wanted in wanted {
        // A pod that the API server has stored carries its priority already.
        if wanted.pod.spec.full.priority.is_none()
            && let Err(status) = facts.admit(&mut wanted.pod)
        {
            problems.push(wanted.problem("spec.priorityClassName", status.message.to_string(), None));
        }
        let named = wanted.pod.spec.full.scheduler_name.as_deref().unwrap_or("default-scheduler");
        if !schedulers.contains(&named) {
            let known: Vec<String> = schedulers.iter().map(|name| format!("\"{name}\"")).collect();
            let message = format!("profile not found for scheduler name \"{named}\"");
            let expected = Some(format!("expected {}", known.join(" or ")));
            problems.push(wanted.problem("spec.schedulerName", message, expected));
        }
        for (field, message) in claims::wrong_claims(&wanted.pod, objects) {
            problems.push(wanted.problem(&field, message, None));
        }
    }
    // Pods of one template stand in one place.
    problems.sort_by(|left, right| (&left.file, left.line, left.column).cmp(&(&right.file, right.line, right.column)));
    problems.dedup();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Refuses new pods whose names are taken. Those that a workload makes have names of which that is said by nobody.
pub fn refuse_existing(new: &[Wanted], objects: &[Object]) -> Result<(), Vec<Problem>> {
    let pods = objects.iter().filter(|object| object.kind() == Kind::Pod);
    let mut known: BTreeSet<ObjectKey> = pods.map(Object::key).collect();
    let mut problems = Vec::new();
    for wanted in new {
        let key = Object::Pod(wanted.pod.clone()).key();
        if !known.insert(key) && wanted.part.as_ref().is_some_and(|part| !part.value.is_null()) {
            let message = format!("pods \"{}\" already exists", wanted.pod.meta.name);
            problems.push(wanted.problem("metadata.name", message, None));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}
