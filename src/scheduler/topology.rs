//! Which nodes are one place in the sense of a label: its domains, numbered, and the nodes in each.

use super::bits::Bits;
use crate::api::name::Name;
use crate::engine::hash::Map;

/// No domain: the node does not have the label.
pub const NOWHERE: u32 = u32::MAX;

/// A label with no more domains than these tells few nodes apart.
pub const COARSE: usize = 16;

/// The domains of a label, by the places of nodes in the cluster's list. Holds while the list and the labels are unchanged.
pub struct Topology {
    /// The label.
    pub key: Name,
    domain_of: Vec<u32>,
    /// Where the places of each domain begin in `places`.
    begins: Vec<u32>,
    places: Vec<u32>,
    /// The nodes without the label, if there are any.
    without: Option<Bits>,
    /// True if the label is empty on a node.
    has_empty: bool,
}

impl Topology {
    /// The domains that follow from the label's value on each node.
    pub fn new<'a>(key: &Name, values: impl Iterator<Item = Option<&'a Name>>) -> Self {
        let mut numbers: Map<&Name, u32> = Map::default();
        let mut number = |value: &'a Name| {
            let next = numbers.len() as u32;
            *numbers.entry(value).or_insert(next)
        };
        let domain_of: Vec<u32> = values.map(|value| value.map_or(NOWHERE, &mut number)).collect();
        let has_empty = numbers.keys().any(|value| value.is_empty());
        let count = numbers.len();
        let mut begins = vec![0_u32; count + 1];
        for domain in domain_of.iter().filter(|domain| **domain != NOWHERE) {
            begins[*domain as usize + 1] += 1;
        }
        for domain in 0..count {
            begins[domain + 1] += begins[domain];
        }
        let mut next = begins.clone();
        let mut places = vec![0; begins[count] as usize];
        for (place, domain) in domain_of.iter().enumerate().filter(|(_, domain)| **domain != NOWHERE) {
            places[next[*domain as usize] as usize] = place as u32;
            next[*domain as usize] += 1;
        }
        let mut without = None;
        if places.len() < domain_of.len() {
            let without = without.insert(Bits::none(domain_of.len()));
            for (place, _) in domain_of.iter().enumerate().filter(|(_, domain)| **domain == NOWHERE) {
                without.set(place, true);
            }
        }
        Topology { key: key.clone(), domain_of, begins, places, without, has_empty }
    }

    /// The places of the nodes without the label, if there are any.
    pub fn without(&self) -> Option<&Bits> {
        self.without.as_ref()
    }

    /// True if the label is there and empty on a node.
    pub fn has_empty(&self) -> bool {
        self.has_empty
    }

    /// How many domains there are.
    pub fn len(&self) -> usize {
        self.begins.len() - 1
    }

    /// True if no node has the label.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The domain of a node, [`NOWHERE`] if it has none.
    #[inline]
    pub fn domain(&self, place: usize) -> u32 {
        self.domain_of[place]
    }

    /// The places of a domain's nodes.
    pub fn places(&self, domain: usize) -> &[u32] {
        &self.places[self.begins[domain] as usize..self.begins[domain + 1] as usize]
    }
}
