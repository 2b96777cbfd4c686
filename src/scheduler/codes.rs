//! What the filters said of each node of a cluster in which a pod fits nowhere, in one word: node by node, or by kinds of nodes. A
//! kind is asked for as a whole, so that no step takes time in proportion to the nodes.

use super::bits::Bits;
use super::class::PodClass;
use super::framework::{Code, Status};
use super::kinds::Journal;

/// What the filters said of each node.
pub enum NodeCodes<'a> {
    /// The same of all of so many nodes.
    All(Code, usize),
    /// Of each node something of its own.
    Each(EachCode),
    /// Of each kind of nodes something of its own.
    Kinds(KindCodes<'a>),
}

/// What they said node by node.
pub struct EachCode {
    /// The nodes where preemption may help.
    pub(super) unschedulable: Bits,
    /// Those where it does not.
    pub(super) unresolvable: Bits,
}

/// What they said of kinds of nodes; every node is of one.
pub struct KindCodes<'a> {
    class: &'a PodClass,
    codes: Vec<Code>,
    /// The kinds where preemption may help.
    unschedulable: Vec<usize>,
}

impl EachCode {
    /// The same verdict for all of so many nodes.
    pub(super) fn all(code: Code, nodes: usize) -> Self {
        let if_is = |wanted: Code| if code == wanted { Bits::all(nodes) } else { Bits::none(nodes) };
        let (unschedulable, unresolvable) = (if_is(Code::Unschedulable), if_is(Code::UnschedulableAndUnresolvable));
        EachCode { unschedulable, unresolvable }
    }

    /// Takes in another verdict on a node.
    pub(super) fn set(&mut self, place: usize, code: Code) {
        self.unschedulable.set(place, code == Code::Unschedulable);
        self.unresolvable.set(place, code == Code::UnschedulableAndUnresolvable);
    }
}

impl<'a> KindCodes<'a> {
    /// What was said of each kind, by its number.
    pub(super) fn new(class: &'a PodClass, codes: Vec<Code>) -> Self {
        let unschedulable = (0..codes.len()).filter(|kind| codes[*kind] == Code::Unschedulable).collect();
        KindCodes { class, codes, unschedulable }
    }

    /// What followers say of nodes of a kind as they are, if they reject them, and when they are asked.
    pub(super) fn rejection_by_followers(&self, kind: usize) -> Option<(usize, Status)> {
        self.class.rejection_by_followers(self.class.kinds.key(kind))
    }

    /// What was said of a kind; nothing of one that came since.
    pub(super) fn of(&self, kind: usize) -> Code {
        self.codes.get(kind).copied().unwrap_or_default()
    }

    /// True if preemption may help on nodes of a kind.
    pub(super) fn may_help(&self, kind: usize) -> bool {
        self.of(kind) == Code::Unschedulable
    }

    /// The kind of a node.
    pub(super) fn kind_of(&self, place: usize) -> usize {
        self.class.kinds.kind_of(place)
    }

    /// How many nodes there are.
    pub(super) fn nodes(&self) -> usize {
        self.class.kinds.places()
    }

    /// Which nodes got another kind.
    pub(super) fn journal(&self) -> Option<&'a Journal> {
        self.class.kinds.journal()
    }
}

impl NodeCodes<'_> {
    /// How many nodes there are where preemption may help.
    pub fn unschedulable(&self) -> usize {
        match self {
            NodeCodes::All(Code::Unschedulable, nodes) => *nodes,
            NodeCodes::All(..) => 0,
            NodeCodes::Each(each) => each.unschedulable.len(),
            NodeCodes::Kinds(of) => of.unschedulable.iter().map(|kind| of.class.kinds.nodes(*kind)).sum(),
        }
    }

    /// The one that has this number among them.
    pub fn nth_unschedulable(&self, number: usize) -> Option<usize> {
        match self {
            NodeCodes::All(..) => (number < self.unschedulable()).then_some(number),
            NodeCodes::Each(each) => each.unschedulable.nth(number),
            NodeCodes::Kinds(of) => of.class.kinds.nth(&of.unschedulable, number),
        }
    }

    /// All of them in order: for those who have to look at each.
    pub fn unschedulable_places(&self) -> Vec<usize> {
        match self {
            NodeCodes::All(..) => (0..self.unschedulable()).collect(),
            NodeCodes::Each(each) => each.unschedulable.places().collect(),
            NodeCodes::Kinds(of) => {
                (0..of.nodes()).filter(|place| of.of(of.kind_of(*place)) == Code::Unschedulable).collect()
            }
        }
    }

    /// True if preemption does not help on a node.
    pub fn is_unresolvable(&self, place: usize) -> bool {
        match self {
            NodeCodes::All(code, _) => *code == Code::UnschedulableAndUnresolvable,
            NodeCodes::Each(each) => each.unresolvable.contains(place),
            NodeCodes::Kinds(of) => of.of(of.kind_of(place)) == Code::UnschedulableAndUnresolvable,
        }
    }
}

impl FromIterator<Code> for NodeCodes<'_> {
    fn from_iter<I: IntoIterator<Item = Code>>(codes: I) -> Self {
        let codes: Vec<Code> = codes.into_iter().collect();
        let mut all = EachCode::all(Code::Success, codes.len());
        codes.iter().enumerate().for_each(|(place, code)| all.set(place, *code));
        NodeCodes::Each(all)
    }
}
