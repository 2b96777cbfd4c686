//! Which nodes are one place in the sense of a label: its domains, numbered, and the nodes in each.

use super::bits::Bits;
use crate::api::name::Name;
use crate::engine::hash::Map;

/// No domain: the node does not have the label.
pub const NOWHERE: u32 = u32::MAX;

/// The domains of a label, by the places of nodes in the cluster's list. Holds while the list and the labels are unchanged.
pub struct Topology {
    /// The label.
    pub key: Name,
    domain_of: Vec<u32>,
    /// Where the places of each domain begin in `places`.
    begins: Vec<u32>,
    places: Vec<u32>,
    /// The places of large domains as bits: there are at most 64 of them.
    wide: Vec<Option<Bits>>,
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
        let mut topology = Topology { key: key.clone(), domain_of, begins, places, wide: Vec::new() };
        topology.wide = (0..count).map(|domain| topology.as_bits(domain)).collect();
        topology
    }

    fn as_bits(&self, domain: usize) -> Option<Bits> {
        let (places, nodes) = (self.places(domain), self.domain_of.len());
        let mut bits = (places.len() * 64 > nodes && places.len() > 64).then(|| Bits::none(nodes))?;
        places.iter().for_each(|place| bits.set(*place as usize, true));
        Some(bits)
    }

    /// How many domains there are.
    pub fn len(&self) -> usize {
        self.wide.len()
    }

    /// True if no node has the label.
    pub fn is_empty(&self) -> bool {
        self.wide.is_empty()
    }

    /// The domain of a node, [`NOWHERE`] if it has none.
    #[inline]
    pub fn domain(&self, place: usize) -> u32 {
        self.domain_of[place]
    }

    /// The domain of each node.
    #[inline]
    pub fn domains(&self) -> &[u32] {
        &self.domain_of
    }

    /// The places of a domain's nodes.
    pub fn places(&self, domain: usize) -> &[u32] {
        &self.places[self.begins[domain] as usize..self.begins[domain + 1] as usize]
    }

    /// Puts all nodes of a domain into a set, or takes them out.
    pub fn set(&self, bits: &mut Bits, domain: usize, are_in: bool) {
        match &self.wide[domain] {
            Some(wide) => bits.set_all(wide, are_in),
            None => self.places(domain).iter().for_each(|place| bits.set(*place as usize, are_in)),
        }
    }
}
