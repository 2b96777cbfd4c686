//! Which versions of a Service's slices the cache must show before it can be trusted.
//!
//! The real controller keeps this in memory and loses it on a restart (endpointslice/util, `EndpointSliceTracker`).
//! Without it a sync that comes before its predecessor's writes are seen would write them again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::api::meta::{ObjectKey, Uid};
use crate::api::network::EndpointSlice;

/// The generation that was written last; none for a slice that was deleted.
type Expected = BTreeMap<Uid, Option<i64>>;

/// The expectations of all Services.
#[derive(Default)]
pub struct Tracker {
    services: RefCell<BTreeMap<ObjectKey, Expected>>,
}

impl Tracker {
    /// True if the cache is behind what was written: a slice is missing, too old, or still there.
    pub fn is_stale(&self, service: &ObjectKey, slices: &[Rc<EndpointSlice>]) -> bool {
        let services = self.services.borrow();
        let Some(expected) = services.get(service) else {
            return false;
        };
        let behind = |slice: &Rc<EndpointSlice>| match expected.get(&slice.meta.uid) {
            Some(Some(generation)) => *generation > slice.meta.generation,
            Some(None) => true,
            None => false,
        };
        let missing = |(uid, generation): (&Uid, &Option<i64>)| {
            generation.is_some() && !slices.iter().any(|slice| slice.meta.uid == *uid)
        };
        slices.iter().any(behind) || expected.iter().any(missing)
    }

    /// Notes a write.
    pub fn wrote(&self, service: &ObjectKey, slice: &EndpointSlice) {
        let mut services = self.services.borrow_mut();
        services.entry(service.clone()).or_default().insert(slice.meta.uid, Some(slice.meta.generation));
    }

    /// Notes a slice that is right as it is, if nothing is known of it.
    pub fn found(&self, service: &ObjectKey, slice: &EndpointSlice) {
        let mut services = self.services.borrow_mut();
        let expected = services.entry(service.clone()).or_default();
        expected.entry(slice.meta.uid).or_insert(Some(slice.meta.generation));
    }

    /// Notes a deletion.
    pub fn deletes(&self, service: &ObjectKey, slice: &EndpointSlice) {
        self.services.borrow_mut().entry(service.clone()).or_default().insert(slice.meta.uid, None);
    }

    /// True if the cache shows a slice that was not written by this controller, or a later version of it.
    pub fn is_foreign(&self, service: &ObjectKey, slice: &EndpointSlice) -> bool {
        let services = self.services.borrow();
        let expected = services.get(service).and_then(|expected| expected.get(&slice.meta.uid));
        !matches!(expected, Some(Some(generation)) if *generation >= slice.meta.generation)
    }

    /// Notes that a slice is gone; true if it was known and not deleted by this controller.
    pub fn deleted_by_others(&self, service: &ObjectKey, slice: &EndpointSlice) -> bool {
        let mut services = self.services.borrow_mut();
        let expected = services.get_mut(service).and_then(|expected| expected.remove(&slice.meta.uid));
        expected.is_some_and(|generation| generation.is_some())
    }

    /// Forgets a Service.
    pub fn forget(&self, service: &ObjectKey) {
        self.services.borrow_mut().remove(service);
    }
}
