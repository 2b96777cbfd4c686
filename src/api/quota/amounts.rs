//! Lists of resources (`v1.ResourceList`) and what quotas reckon with them (apiserver, pkg/quota/v1/resources.go).

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::api::name::Name;
use crate::api::quantity::{Format, Quantity, QuantityError};

/// Amounts of resources by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Amounts(BTreeMap<Name, Quantity>);

impl Amounts {
    /// The amounts of a list of the API, or which of them is none and why.
    pub fn of(list: Option<&BTreeMap<String, Text>>) -> Result<Amounts, (String, QuantityError)> {
        let read = |(name, text): (&String, &Text)| match Quantity::of(text) {
            Ok(amount) => Ok((Name::from(name), amount)),
            Err(error) => Err((name.clone(), error)),
        };
        list.into_iter().flatten().map(read).collect::<Result<_, _>>().map(Amounts)
    }

    /// The amounts of a list that is known to be valid; what is not valid is left out.
    pub fn of_valid(list: Option<&BTreeMap<String, Text>>) -> Amounts {
        let read = |(name, text): (&String, &Text)| Some((Name::from(name), Quantity::of(text).ok()?));
        Amounts(list.into_iter().flatten().filter_map(read).collect())
    }

    /// As a list of the API; none if it is empty.
    pub fn to_list(&self) -> Option<BTreeMap<String, Text>> {
        let text = |(name, amount): (&Name, &Quantity)| (String::from(name), amount.to_text());
        (!self.0.is_empty()).then(|| self.0.iter().map(text).collect())
    }

    /// True if there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The amount of a resource, if it is listed.
    pub fn get(&self, name: &str) -> Option<Quantity> {
        self.0.get(name).copied()
    }

    /// Sets the amount of a resource.
    pub fn set(&mut self, name: impl Into<Name>, amount: Quantity) {
        self.0.insert(name.into(), amount);
    }

    /// Sets a number of things.
    pub fn set_count(&mut self, name: impl Into<Name>, count: i64) {
        self.set(name, Quantity::from_value(count, Format::DecimalSi));
    }

    /// The names of the resources, sorted.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.0.keys()
    }

    /// Names and amounts, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, Quantity)> {
        self.0.iter().map(|(name, amount)| (name, *amount))
    }

    /// Adds all amounts of another list.
    pub fn add(&mut self, other: &Amounts) {
        for (name, amount) in &other.0 {
            match self.0.get_mut(name) {
                Some(sum) => *sum = sum.plus(*amount),
                None => {
                    self.0.insert(name.clone(), *amount);
                }
            }
        }
    }

    /// Adds all amounts of another list several times.
    pub fn add_times(&mut self, other: &Amounts, times: i64) {
        self.add(&Amounts(other.0.iter().map(|(name, amount)| (name.clone(), amount.times(times))).collect()));
    }

    /// Takes the larger amount of each resource.
    pub fn max(&mut self, other: &Amounts) {
        for (name, amount) in &other.0 {
            if self.0.get(name).is_none_or(|present| present < amount) {
                self.0.insert(name.clone(), *amount);
            }
        }
    }

    /// What is left after another list is taken away, never less than nothing (`SubtractWithNonNegativeResult`).
    pub fn above(&self, other: &Amounts) -> Amounts {
        let rest = |(name, amount): (&Name, &Quantity)| {
            let rest = other.0.get(name).map_or(*amount, |taken| amount.minus(*taken));
            (name.clone(), if rest > Quantity::ZERO { rest } else { Quantity::ZERO })
        };
        Amounts(self.0.iter().map(rest).collect())
    }

    /// Only the resources whose names pass.
    pub fn mask(&self, keep: impl Fn(&Name) -> bool) -> Amounts {
        Amounts(self.0.iter().filter(|(name, _)| keep(name)).map(|(name, amount)| (name.clone(), *amount)).collect())
    }

    /// Without the resources of which there is nothing.
    pub fn without_zeros(mut self) -> Amounts {
        self.0.retain(|_, amount| !amount.is_zero());
        self
    }

    /// The names of the resources of which there is more than `limit` allows.
    pub fn exceeding(&self, limit: &Amounts) -> Vec<Name> {
        let exceeds = |(name, amount): &(&Name, &Quantity)| limit.0.get(*name).is_some_and(|most| *amount > most);
        self.0.iter().filter(exceeds).map(|(name, _)| name.clone()).collect()
    }

    /// The names of the resources of which there is less than nothing.
    pub fn negative(&self) -> Vec<Name> {
        self.0.iter().filter(|(_, amount)| amount.is_negative()).map(|(name, _)| name.clone()).collect()
    }
}

/// As messages show it: `cpu=1,memory=1Gi`.
impl fmt::Display for Amounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, amount)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{name}={amount}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(pairs: &[(&str, &str)]) -> Amounts {
        let mut amounts = Amounts::default();
        for (name, text) in pairs {
            amounts.set(*name, Quantity::parse(text).expect("an amount"));
        }
        amounts
    }

    #[test]
    fn sums_keep_the_way_in_which_amounts_were_written() {
        let mut sum = amounts(&[("memory", "0"), ("cpu", "100m")]);
        sum.add(&amounts(&[("memory", "1Gi"), ("cpu", "900m"), ("pods", "1")]));
        assert_eq!(sum.to_string(), "cpu=1,memory=1Gi,pods=1");
    }

    #[test]
    fn what_is_taken_away_leaves_nothing_at_the_least() {
        let rest = amounts(&[("cpu", "1"), ("memory", "1Gi")]).above(&amounts(&[("cpu", "2"), ("memory", "256Mi")]));
        assert_eq!(rest.to_string(), "cpu=0,memory=768Mi");
        assert_eq!(rest.without_zeros().to_string(), "memory=768Mi");
    }

    #[test]
    fn only_what_is_limited_can_be_exceeded() {
        let used = amounts(&[("cpu", "2"), ("memory", "1Gi"), ("pods", "3")]);
        assert_eq!(used.exceeding(&amounts(&[("cpu", "1500m"), ("pods", "3")])), ["cpu"]);
    }
}
