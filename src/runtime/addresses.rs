//! Pod addresses out of a node's range, given out as the host-local CNI plugin does.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// The pod addresses of one node. The first address of the range is the network's, the second the gateway's, the last
/// the broadcast address; all others are given out in rising order from the last one given out on, so that an address
/// is used again as late as possible (CNI plugins, host-local: round robin from the last reserved address).
#[derive(Clone, Debug)]
pub struct Addresses {
    first: u32,
    last: u32,
    previous: u32,
    taken: BTreeSet<u32>,
}

impl Addresses {
    /// The addresses of a range such as `10.244.3.0/24`; none if it is not one, or too small for a single pod.
    pub fn of_range(range: &str) -> Option<Self> {
        let (base, bits) = range.split_once('/')?;
        let (base, bits): (Ipv4Addr, u32) = (base.parse().ok()?, bits.parse().ok()?);
        if !(1..=29).contains(&bits) {
            return None;
        }
        let base = u32::from(base) & (u32::MAX << (32 - bits));
        let last = base + ((1u32 << (32 - bits)) - 2);
        Some(Addresses { first: base + 2, last, previous: base + 1, taken: BTreeSet::new() })
    }

    /// Gives out an address; none if all are taken.
    pub fn take(&mut self) -> Option<Ipv4Addr> {
        let candidates = (self.previous.saturating_add(1)..=self.last).chain(self.first..=self.previous);
        let free = candidates.into_iter().find(|address| !self.taken.contains(address))?;
        self.taken.insert(free);
        self.previous = free;
        Some(Ipv4Addr::from(free))
    }

    /// Takes an address back.
    pub fn release(&mut self, address: Ipv4Addr) {
        self.taken.remove(&u32::from(address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_used_again_as_late_as_possible() {
        let mut addresses = Addresses::of_range("10.244.3.0/29").unwrap();
        let mut take = || addresses.take().map(|address| address.octets()[3]);
        assert_eq!([take(), take(), take()], [Some(2), Some(3), Some(4)]);
        addresses.release(Ipv4Addr::new(10, 244, 3, 2));
        let mut take = || addresses.take().map(|address| address.octets()[3]);
        assert_eq!([take(), take(), take(), take()], [Some(5), Some(6), Some(2), None]);
    }

    #[test]
    fn what_is_no_range_for_pods_is_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/30", "10.0.0.0/33", "::/64", "10.0.0.0/x"] {
            assert!(Addresses::of_range(text).is_none(), "{text}");
        }
    }
}
