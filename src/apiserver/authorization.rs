//! Whether a user may do what a request asks.
//!
//! The point at which rules are asked. Without rules everybody may do everything, as with
//! `--authorization-mode=AlwaysAllow`.

use std::fmt;

use crate::api::kind::Kind;

use super::protocol::{Operation, Part, User};
use super::status::{Reason, Status};

/// Decides whether users may do what they ask.
pub trait Authorizer: fmt::Debug {
    /// True if the user may do this.
    fn allows(&self, user: &User, attributes: &Attributes<'_>) -> bool;
}

/// What a user asks to do, as rules name it (apiserver, authorizer: `Attributes`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attributes<'a> {
    /// As `get`, `list`, `create`.
    pub verb: &'static str,
    /// The kind.
    pub kind: Kind,
    /// The subresource, such as `status`; empty for the object itself.
    pub subresource: &'static str,
    /// The namespace; empty for all or for kinds without one.
    pub namespace: &'a str,
    /// The object's name; empty where a request is about more than one, or the name is still to be made.
    pub name: &'a str,
}

/// Lets everybody do everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct AlwaysAllow;

impl Authorizer for AlwaysAllow {
    fn allows(&self, _user: &User, _attributes: &Attributes<'_>) -> bool {
        true
    }
}

impl<'a> Attributes<'a> {
    /// What an operation asks to do.
    pub fn of(operation: &'a Operation) -> Attributes<'a> {
        let (namespace, name) = match operation {
            Operation::Get { key }
            | Operation::Patch { key, .. }
            | Operation::Delete { key, .. }
            | Operation::GetScale { key }
            | Operation::SetScale { key, .. }
            | Operation::Bind { key, .. }
            | Operation::Evict { key, .. } => (key.namespace.as_str(), key.name.as_str()),
            Operation::List { scope, .. }
            | Operation::Watch { scope, .. }
            | Operation::DeleteCollection { scope, .. } => (scope.namespace.as_deref().unwrap_or_default(), ""),
            Operation::Metrics { namespace, .. } => (namespace.as_str(), ""),
            Operation::Create { object, .. } | Operation::Update { object, .. } => {
                (object.meta().namespace.as_str(), object.meta().name.as_str())
            }
        };
        let subresource = match operation {
            Operation::Update { part, .. } | Operation::Patch { part, .. } => match part {
                Part::Main => "",
                Part::Status => "status",
                Part::Finalize => "finalize",
                Part::Resize => "resize",
            },
            Operation::GetScale { .. } | Operation::SetScale { .. } => "scale",
            Operation::Bind { .. } => "binding",
            Operation::Evict { .. } => "eviction",
            _ => "",
        };
        Attributes { verb: operation.verb(), kind: operation.kind(), subresource, namespace, name }
    }

    /// What a user is told who may not (apiserver, responsewriters: `forbiddenMessage`).
    pub fn forbidden(&self, user: &User) -> Status {
        let row = self.kind.row();
        let resource = match self.subresource {
            "" => row.plural.to_owned(),
            subresource => format!("{}/{subresource}", row.plural),
        };
        let place = match self.namespace {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace \"{namespace}\""),
        };
        let why = format!(
            "User \"{}\" cannot {} resource \"{resource}\" in API group \"{}\" {place}",
            user.name, self.verb, row.group
        );
        let message = match self.name {
            "" => format!("{} is forbidden: {why}", row.qualified_plural()),
            name => format!("{} \"{name}\" is forbidden: {why}", row.qualified_plural()),
        };
        Status::about(Reason::Forbidden, self.kind, self.name, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::meta::ObjectKey;
    use crate::api::name::Name;
    use crate::apiserver::protocol::{DeleteOptions, Scope};

    fn check(operation: Operation, message: &str) {
        let user = User { name: Name::of("jane"), groups: Vec::new() };
        assert_eq!(Attributes::of(&operation).forbidden(&user).message, message);
    }

    #[test]
    fn refusals_read_as_the_real_ones() {
        check(
            Operation::Delete { key: ObjectKey::new(Kind::Pod, "a", "web-1"), options: DeleteOptions::default() },
            "pods \"web-1\" is forbidden: User \"jane\" cannot delete resource \"pods\" in API group \"\" in the namespace \"a\"",
        );
        check(
            Operation::Watch { watch: 1, scope: Scope::all(Kind::Deployment), after: None, bookmarks: true },
            "deployments.apps is forbidden: User \"jane\" cannot watch resource \"deployments\" in API group \"apps\" at the cluster scope",
        );
        check(
            Operation::Evict { key: ObjectKey::new(Kind::Pod, "a", "web-1"), options: DeleteOptions::default() },
            "pods \"web-1\" is forbidden: User \"jane\" cannot create resource \"pods/eviction\" in API group \"\" in the namespace \"a\"",
        );
    }
}
