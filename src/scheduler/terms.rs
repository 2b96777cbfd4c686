//! Affinity to other pods, compiled: which pods a term means (kube-scheduler, `framework.AffinityTerm`).

use k8s_openapi::api::core::v1::{Affinity, PodAffinityTerm, WeightedPodAffinityTerm};

use super::individual;
use super::objects::Objects;
use crate::api::meta::Labels;
use crate::api::name::Name;
use crate::api::pod::PodSpec;
use crate::api::selector::Selector;

/// A term of an affinity or anti-affinity to pods.
#[derive(Clone, Debug)]
pub struct Term {
    /// Pods of these namespaces are meant.
    namespaces: Vec<Name>,
    /// So are those of namespaces with such labels.
    namespace_selector: Selector,
    selector: Selector,
    /// The label that says which nodes are one place.
    pub topology_key: Name,
}

/// All terms of a pod.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Pods that must be near.
    pub required_affinity: Vec<Term>,
    /// Pods that must not be near.
    pub required_anti_affinity: Vec<Term>,
    /// Pods that should be near, with weights.
    pub preferred_affinity: Vec<(Term, i64)>,
    /// Pods that should not be near, with weights.
    pub preferred_anti_affinity: Vec<(Term, i64)>,
    /// What is wrong with the terms; lists with such an error are empty.
    pub errors: Vec<String>,
}

impl Terms {
    /// The terms of a pod in a namespace.
    pub fn compile(spec: &PodSpec, namespace: &Name) -> Self {
        let mut terms = Terms::default();
        let Some(Affinity { pod_affinity, pod_anti_affinity, .. }) = &spec.full.affinity else { return terms };
        let one = |term: &PodAffinityTerm| Term::compile(term, namespace);
        let weighted = |term: &WeightedPodAffinityTerm| Ok((one(&term.pod_affinity_term)?, i64::from(term.weight)));
        let mut errors = Vec::new();
        if let Some(affinity) = pod_affinity {
            let required = affinity.required_during_scheduling_ignored_during_execution.iter().flatten();
            terms.required_affinity = all(required.map(one), "requiredAffinityTerms", &mut errors);
            let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten();
            terms.preferred_affinity = all(preferred.map(weighted), "preferredAffinityTerms", &mut errors);
        }
        if let Some(anti) = pod_anti_affinity {
            let required = anti.required_during_scheduling_ignored_during_execution.iter().flatten();
            terms.required_anti_affinity = all(required.map(one), "requiredAntiAffinityTerms", &mut errors);
            let preferred = anti.preferred_during_scheduling_ignored_during_execution.iter().flatten();
            terms.preferred_anti_affinity = all(preferred.map(weighted), "preferredAntiAffinityTerms", &mut errors);
        }
        terms.errors = errors;
        terms
    }

    /// Puts the names of the namespaces that the terms select in the place of their selectors; what selects all namespaces stays
    /// (kube-scheduler, `mergeAffinityTermNamespacesIfNotEmpty`).
    pub fn resolve(mut self, objects: &Objects) -> Self {
        let required = self.required_affinity.iter_mut().chain(&mut self.required_anti_affinity);
        let preferred = self.preferred_affinity.iter_mut().chain(&mut self.preferred_anti_affinity);
        for term in required.chain(preferred.map(|(term, _)| term)) {
            if !term.namespace_selector.is_everything() {
                let selected = objects.namespaces().filter(|(_, labels)| term.namespace_selector.matches(*labels));
                term.namespaces.extend(selected.map(|(name, _)| name.clone()));
                term.namespace_selector = Selector::nothing();
            }
        }
        self
    }

    /// All that is wrong with the terms in one text, as Kubernetes joins errors (apimachinery, `errors.NewAggregate`).
    pub fn error(&self) -> Option<String> {
        match self.errors.as_slice() {
            [] => None,
            [error] => Some(error.clone()),
            errors => Some(format!("[{}]", errors.join(", "))),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Term> {
        let required = self.required_affinity.iter().chain(&self.required_anti_affinity);
        let preferred = self.preferred_affinity.iter().chain(&self.preferred_anti_affinity);
        required.chain(preferred.map(|(term, _)| term))
    }

    /// True if there is no term.
    pub fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// True if a term selects namespaces by their labels.
    pub fn select_namespaces(&self) -> bool {
        let selects = |term: &Term| !term.namespace_selector.is_everything() && !term.namespace_selector.is_nothing();
        self.all().any(selects)
    }

    /// True if a term tells the pods of one workload apart.
    pub fn tell_individuals(&self) -> bool {
        self.all().any(|term| individual::is_told_by(&term.selector))
    }
}

impl Term {
    fn compile(term: &PodAffinityTerm, namespace: &Name) -> Result<Self, String> {
        let named = term.namespaces.as_deref().unwrap_or_default();
        let own = named.is_empty() && term.namespace_selector.is_none();
        Ok(Term {
            namespaces: if own { vec![namespace.clone()] } else { named.iter().map(Name::from).collect() },
            namespace_selector: Selector::compile(term.namespace_selector.as_ref())?,
            selector: Selector::compile(term.label_selector.as_ref())?,
            topology_key: Name::from(&term.topology_key),
        })
    }

    /// True if the term means a pod with these labels, in a namespace with this name and these labels.
    pub fn matches(&self, namespace: &Name, labels: &Labels, namespace_labels: &Labels) -> bool {
        (self.namespaces.contains(namespace) || self.namespace_selector.matches(namespace_labels))
            && self.selector.matches(labels)
    }
}

/// True if there are terms and all of them mean the pod. The namespaces of the terms must have been resolved.
pub fn all_match(terms: &[Term], namespace: &Name, labels: &Labels) -> bool {
    !terms.is_empty() && terms.iter().all(|term| term.matches(namespace, labels, &Labels::NONE))
}

fn all<T>(terms: impl Iterator<Item = Result<T, String>>, what: &str, errors: &mut Vec<String>) -> Vec<T> {
    terms.collect::<Result<Vec<T>, String>>().unwrap_or_else(|error| {
        errors.push(format!("{what}: {error}"));
        Vec::new()
    })
}
