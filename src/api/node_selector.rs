//! Node selectors: terms of which one must match, each a list of requirements of which all must match
//! (component-helpers, scheduling/corev1/nodeaffinity).

use k8s_openapi::api::core::v1::{NodeSelector as Terms, NodeSelectorRequirement, NodeSelectorTerm};

use crate::api::meta::Labels;
use crate::api::name::Name;
use crate::api::node::Node;
use crate::api::selector::{Operator, Requirement, Selector};

/// The one field that can be selected by.
pub const NAME_FIELD: &str = "metadata.name";

/// A node selector, compiled. Terms that say nothing or are wrong match no node.
pub struct NodeSelector {
    terms: Vec<Term>,
}

/// A term of a node selector, compiled.
pub struct Term {
    labels: Selector,
    /// Each must be, or must not be, the node's name. None names another field, which no node has.
    names: Vec<(Option<Name>, bool)>,
}

impl NodeSelector {
    /// Compiles a node selector.
    pub fn compile(selector: &Terms) -> Self {
        NodeSelector { terms: selector.node_selector_terms.iter().filter_map(Term::compile).collect() }
    }

    /// True if a term matches.
    pub fn matches(&self, node: &Node) -> bool {
        self.terms.iter().any(|term| term.matches(node))
    }

    /// True if a term matches a node of which only the labels are known; what it says of other fields is passed over.
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.terms.iter().any(|term| term.labels.matches(labels))
    }
}

impl Term {
    /// Compiles a term; none if it says nothing or is wrong.
    pub fn compile(term: &NodeSelectorTerm) -> Option<Self> {
        let expressions = term.match_expressions.as_deref().unwrap_or(&[]);
        let fields = term.match_fields.as_deref().unwrap_or(&[]);
        if expressions.is_empty() && fields.is_empty() {
            return None;
        }
        let labels = expressions.iter().map(requirement).collect::<Option<Vec<_>>>()?;
        let names = fields.iter().map(name_test).collect::<Option<Vec<_>>>()?;
        Some(Term { labels: Selector::new(labels), names })
    }

    /// True if all requirements hold.
    pub fn matches(&self, node: &Node) -> bool {
        let holds = |(name, equal): &(Option<Name>, bool)| match name {
            Some(name) => (*name == node.meta.name) == *equal,
            None => false,
        };
        self.labels.matches(&node.meta.labels) && self.names.iter().all(holds)
    }
}

fn requirement(expression: &NodeSelectorRequirement) -> Option<Requirement> {
    let operator = match expression.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        _ => return None,
    };
    let values: Vec<&str> = expression.values.iter().flatten().map(String::as_str).collect();
    Requirement::new(&expression.key, operator, &values).ok()
}

fn name_test(field: &NodeSelectorRequirement) -> Option<(Option<Name>, bool)> {
    let equal = match field.operator.as_str() {
        "In" => true,
        "NotIn" => false,
        _ => return None,
    };
    let [value] = field.values.as_deref().unwrap_or(&[]) else { return None };
    Some(((field.key == NAME_FIELD).then(|| value.into()), equal))
}
