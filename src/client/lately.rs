//! The last few values that were made, so that the next one that is equal can be the same in memory.

use std::rc::Rc;

use crate::api::event::{EventClass, EventType, ObjectReference, Reporter};
use crate::api::name::Name;

/// The last `N` values, in turn.
pub(super) struct Lately<T, const N: usize> {
    values: [Option<T>; N],
    next: usize,
}

impl<T, const N: usize> Default for Lately<T, N> {
    fn default() -> Self {
        Lately { values: [const { None }; N], next: 0 }
    }
}

impl<T: Clone, const N: usize> Lately<T, N> {
    /// One of the last values, if it is the one that is sought; else a new one, in place of the oldest.
    pub(super) fn share(&mut self, is_sought: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> T {
        if let Some(known) = self.values.iter().flatten().find(|value| is_sought(value)) {
            return known.clone();
        }
        let value = make();
        self.values[self.next] = Some(value.clone());
        self.next = (self.next + 1) % N;
        value
    }
}

/// What the last events of a recorder had in common with others.
pub(super) struct Classes {
    reporter: Rc<Reporter>,
    /// The reporter of events that stand for several, once there were any.
    of_several: Option<Rc<Reporter>>,
    lately: Lately<Rc<EventClass>, 8>,
}

impl Classes {
    /// The classes of what this reporter says.
    pub(super) fn new(reporter: Reporter) -> Self {
        Classes { reporter: reporter.into(), of_several: None, lately: Lately::default() }
    }

    /// The class of an event, which may stand for several: client-go makes such a one anew and leaves the reporter's name and instance out
    /// (`EventAggregate`).
    pub(super) fn share(
        &mut self,
        kind: EventType,
        reason: &Name,
        regarding: &ObjectReference,
        several: bool,
    ) -> Rc<EventClass> {
        let reporter = if several {
            let reporter = &*self.reporter;
            let of_several = || Rc::new(Reporter { source_only: true, instance: Name::EMPTY, ..reporter.clone() });
            &*self.of_several.get_or_insert_with(of_several)
        } else {
            &self.reporter
        };
        let is_it = |it: &Rc<EventClass>| {
            it.kind == kind
                && it.reason == *reason
                && it.field_path == regarding.field_path
                && it.involved_kind == regarding.kind
                && it.involved_api_version == regarding.api_version
                && Rc::ptr_eq(&it.reporter, reporter)
        };
        let make = || {
            Rc::new(EventClass {
                kind,
                reason: reason.clone(),
                reporter: reporter.clone(),
                involved_api_version: regarding.api_version.clone(),
                involved_kind: regarding.kind.clone(),
                field_path: regarding.field_path.clone(),
            })
        };
        self.lately.share(is_it, make)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_as_long_as_no_more_than_so_many_others_came_between() {
        let mut lately: Lately<Rc<u32>, 2> = Lately::default();
        let mut get = |number: u32| lately.share(|value| **value == number, || Rc::new(number));
        let first = get(1);
        assert!(Rc::ptr_eq(&first, &get(1)));
        get(2);
        assert!(Rc::ptr_eq(&first, &get(1)));
        get(3);
        let again = get(1);
        assert!(*again == 1 && !Rc::ptr_eq(&first, &again), "the oldest had to go");
    }
}
