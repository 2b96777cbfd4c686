//! Amounts of resources as vectors of integers.

use std::ops::{Add, AddAssign, Sub, SubAssign};

use super::name::Name;

/// Amounts of the resources that scheduling and capacity know: integers in base units.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Resources {
    /// CPU in thousandths of a core.
    pub milli_cpu: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Ephemeral storage in bytes.
    pub ephemeral_storage: i64,
    /// Pods.
    pub pods: i64,
    /// Extended resources and huge pages, sorted by name; none with amount zero is needed.
    pub scalars: Vec<(Name, i64)>,
}

impl Resources {
    /// The amount of an extended resource.
    pub fn scalar(&self, name: &str) -> i64 {
        self.scalars.binary_search_by(|(key, _)| key.as_str().cmp(name)).map_or(0, |index| self.scalars[index].1)
    }

    /// Sets the amount of an extended resource.
    pub fn set_scalar(&mut self, name: &Name, amount: i64) {
        match self.scalars.binary_search_by(|(key, _)| key.cmp(name)) {
            Ok(index) => self.scalars[index].1 = amount,
            Err(index) => self.scalars.insert(index, (name.clone(), amount)),
        }
    }

    /// The larger amount of each resource.
    pub fn max(&self, other: &Resources) -> Resources {
        let mut result = self.clone();
        result.milli_cpu = result.milli_cpu.max(other.milli_cpu);
        result.memory = result.memory.max(other.memory);
        result.ephemeral_storage = result.ephemeral_storage.max(other.ephemeral_storage);
        result.pods = result.pods.max(other.pods);
        for (name, amount) in &other.scalars {
            result.set_scalar(name, result.scalar(name).max(*amount));
        }
        result
    }

    fn combine(&mut self, other: &Resources, sign: i64) {
        self.milli_cpu = shifted(self.milli_cpu, sign, other.milli_cpu);
        self.memory = shifted(self.memory, sign, other.memory);
        self.ephemeral_storage = shifted(self.ephemeral_storage, sign, other.ephemeral_storage);
        self.pods = shifted(self.pods, sign, other.pods);
        for (name, amount) in &other.scalars {
            self.set_scalar(name, shifted(self.scalar(name), sign, *amount));
        }
    }
}

/// The sum or difference; what no amount can be stays at the largest or smallest one, as manifests may ask for anything.
fn shifted(amount: i64, sign: i64, by: i64) -> i64 {
    amount.saturating_add(sign.saturating_mul(by))
}

impl AddAssign<&Resources> for Resources {
    fn add_assign(&mut self, other: &Resources) {
        self.combine(other, 1);
    }
}

impl SubAssign<&Resources> for Resources {
    fn sub_assign(&mut self, other: &Resources) {
        self.combine(other, -1);
    }
}

impl Add<&Resources> for Resources {
    type Output = Resources;
    fn add(mut self, other: &Resources) -> Resources {
        self += other;
        self
    }
}

impl Sub<&Resources> for Resources {
    type Output = Resources;
    fn sub(mut self, other: &Resources) -> Resources {
        self -= other;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_that_no_amount_can_be_stay_at_the_largest() {
        let huge = Resources { milli_cpu: i64::MAX, memory: 1, ..Resources::default() };
        let sum = huge.clone() + &huge;
        assert_eq!((sum.milli_cpu, sum.memory), (i64::MAX, 2));
        let rest = Resources::default() - &huge - &huge;
        assert_eq!((rest.milli_cpu, rest.memory), (i64::MIN, -2));
    }
}
