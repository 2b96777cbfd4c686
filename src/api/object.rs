//! Any object, by reference: what moves through etcd, watches and caches.

use std::rc::Rc;

use super::kind::{Kind, each_kind};
use super::meta::{Meta, ObjectKey};

/// A kind of object as a Rust type.
pub trait Resource: Sized + Clone + 'static {
    /// The kind.
    const KIND: Kind;
    /// The metadata.
    fn meta(&self) -> &Meta;
    /// The metadata, to be changed before the object is sent.
    fn meta_mut(&mut self) -> &mut Meta;
    /// The object as this type, if it is of this kind.
    fn of(object: &Object) -> Option<&Rc<Self>>;
    /// This as any object.
    fn into_object(self: Rc<Self>) -> Object;

    /// This as any object.
    fn boxed(self) -> Object {
        Rc::new(self).into_object()
    }
}

macro_rules! objects {
    ($($kind:ident in $module:ident),* $(,)?) => {
        /// An object of any kind, shared by reference. Never changes once shared: a change is a new object.
        #[derive(Clone, Debug)]
        #[allow(missing_docs, reason = "one variant for each kind")]
        pub enum Object { $($kind(Rc<super::$module::$kind>)),* }

        impl Object {
            /// The kind.
            pub fn kind(&self) -> Kind {
                match self { $(Object::$kind(_) => Kind::$kind),* }
            }

            /// The metadata.
            pub fn meta(&self) -> &Meta {
                match self { $(Object::$kind(object) => &object.meta),* }
            }

            /// This object's own copy of the metadata to change; the rest is copied too if it was shared.
            pub fn meta_mut(&mut self) -> &mut Meta {
                match self { $(Object::$kind(object) => &mut Rc::make_mut(object).meta),* }
            }

            /// True if both are the very same version in memory.
            pub fn same(&self, other: &Object) -> bool {
                match (self, other) {
                    $((Object::$kind(left), Object::$kind(right)) => Rc::ptr_eq(left, right),)*
                    _ => false,
                }
            }
        }

        $(impl Resource for super::$module::$kind {
            const KIND: Kind = Kind::$kind;
            fn meta(&self) -> &Meta { &self.meta }
            fn meta_mut(&mut self) -> &mut Meta { &mut self.meta }
            fn of(object: &Object) -> Option<&Rc<Self>> {
                match object { Object::$kind(object) => Some(object), _ => None }
            }
            fn into_object(self: Rc<Self>) -> Object { Object::$kind(self) }
        })*
    };
}

each_kind!(objects);

impl Object {
    /// Where the object is found.
    pub fn key(&self) -> ObjectKey {
        let meta = self.meta();
        ObjectKey { kind: self.kind(), namespace: meta.namespace.clone(), name: meta.name.clone() }
    }

    /// The object as a certain type, if it is of that kind.
    pub fn get<R: Resource>(&self) -> Option<&Rc<R>> {
        R::of(self)
    }
}

#[cfg(test)]
mod tests {
    use crate::api::event::Event;
    use crate::api::meta::Meta;
    use crate::api::pod::{ContainerStatus, Pod};

    #[test]
    fn what_a_cluster_holds_most_of_fits_the_sizes_in_which_memory_is_given_out() {
        // Allocators give out 112, 128, 224 bytes among other sizes; sixteen of them are the counts of references.
        assert!(size_of::<Meta>() <= 56);
        assert!(size_of::<ContainerStatus>() <= 128 - 16);
        assert!(size_of::<Event>() <= 128 - 16);
        assert!(size_of::<Pod>() <= 224 - 16);
    }
}
