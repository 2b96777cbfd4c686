//! `metav1.Status`: how the API says that a request failed.

use std::fmt;

use crate::api::kind::Kind;
use crate::api::validation::error::{ErrorList, FieldError};

/// Why a request failed, in one word (`metav1.StatusReason`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the API's own words")]
pub enum Reason {
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Expired,
    Invalid,
    BadRequest,
    MethodNotAllowed,
    UnsupportedMediaType,
    NotAcceptable,
    RequestEntityTooLarge,
    ServerTimeout,
    Timeout,
    TooManyRequests,
    InternalError,
    ServiceUnavailable,
}

impl Reason {
    /// The HTTP status code that goes with the reason.
    pub fn code(self) -> u16 {
        match self {
            Reason::BadRequest => 400,
            Reason::Unauthorized => 401,
            Reason::Forbidden => 403,
            Reason::NotFound => 404,
            Reason::MethodNotAllowed => 405,
            Reason::NotAcceptable => 406,
            Reason::AlreadyExists | Reason::Conflict => 409,
            Reason::Gone | Reason::Expired => 410,
            Reason::RequestEntityTooLarge => 413,
            Reason::UnsupportedMediaType => 415,
            Reason::Invalid => 422,
            Reason::TooManyRequests => 429,
            Reason::InternalError => 500,
            Reason::ServiceUnavailable => 503,
            Reason::ServerTimeout | Reason::Timeout => 504,
        }
    }
}

/// A request's failure (`metav1.Status` with status Failure).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// Why, in one word.
    pub reason: Reason,
    /// Why, in a sentence: the API server's own text.
    pub message: String,
    /// What it is about, as far as known.
    pub details: Option<Box<Details>>,
    /// Where a list may go on all the same (`metadata.continue`).
    pub continue_token: Option<Box<str>>,
}

/// What a failure is about.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Details {
    /// The object's name.
    pub name: String,
    /// The API group.
    pub group: String,
    /// The resource or kind.
    pub kind: String,
    /// Single causes: reason, message, field.
    pub causes: Vec<(String, String, String)>,
    /// When to try again, in seconds; zero if not said.
    pub retry_after_seconds: u32,
}

impl Status {
    /// A failure without details.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Status { reason, message: message.into(), details: None, continue_token: None }
    }

    /// A failure about one object.
    pub fn about(reason: Reason, kind: Kind, name: &str, message: impl Into<String>) -> Self {
        let row = kind.row();
        let details = Details {
            name: name.to_owned(),
            group: row.group.to_owned(),
            kind: row.plural.to_owned(),
            ..Details::default()
        };
        Status { details: Some(Box::new(details)), ..Status::new(reason, message) }
    }

    /// True if a creation failed because the object's namespace is being deleted: it is of no use to try again.
    pub fn is_namespace_terminating(&self) -> bool {
        let causes = self.details.iter().flat_map(|details| &details.causes);
        causes.into_iter().any(|(reason, _, _)| reason == "NamespaceTerminating")
    }

    /// `pods "x" not found`.
    pub fn not_found(kind: Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", kind.row().qualified_plural());
        Status::about(Reason::NotFound, kind, name, message)
    }

    /// `pods "x" already exists`.
    pub fn already_exists(kind: Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", kind.row().qualified_plural());
        Status::about(Reason::AlreadyExists, kind, name, message)
    }

    /// `Operation cannot be fulfilled on pods "x": ...`.
    pub fn conflict(kind: Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.row().qualified_plural());
        Status::about(Reason::Conflict, kind, name, message)
    }

    /// `pods "x" is forbidden: ...`.
    pub fn forbidden(kind: Kind, name: &str, why: impl fmt::Display) -> Self {
        let message = format!("{} \"{name}\" is forbidden: {why}", kind.row().qualified_plural());
        Status::about(Reason::Forbidden, kind, name, message)
    }

    /// `Deployment.apps "x" is invalid: ...`, with one cause for each error.
    pub fn invalid(kind: Kind, name: &str, errors: &ErrorList) -> Self {
        let row = kind.row();
        let qualified = if row.group.is_empty() { row.name.to_owned() } else { format!("{}.{}", row.name, row.group) };
        let cause = |error: &FieldError| (error.kind.reason().to_owned(), error.body(), error.path.clone());
        let details = Details {
            name: name.to_owned(),
            group: row.group.to_owned(),
            kind: row.name.to_owned(),
            causes: errors.0.iter().map(cause).collect(),
            retry_after_seconds: 0,
        };
        let message = errors.is_invalid_message(&qualified, name);
        Status { details: Some(Box::new(details)), ..Status::new(Reason::Invalid, message) }
    }

    /// `Timeout: ...`, with the advice to try again after some seconds.
    pub fn timeout(message: &str, retry_after_seconds: u32) -> Self {
        let details = Details { retry_after_seconds, ..Details::default() };
        Status { details: Some(Box::new(details)), ..Status::new(Reason::Timeout, format!("Timeout: {message}")) }
    }

    /// What is said to those who want to see a revision that is not there yet (apiserver, storage/errors.go:
    /// `NewTooLargeResourceVersionError`).
    pub fn too_large_revision(wanted: u64, current: u64, retry_after_seconds: u32) -> Self {
        let message = format!("Too large resource version: {wanted}, current: {current}");
        let mut status = Status::timeout(&message, retry_after_seconds);
        if let Some(details) = &mut status.details {
            let (reason, message) = ("ResourceVersionTooLarge", "Too large resource version");
            details.causes.push((reason.to_owned(), message.to_owned(), String::new()));
        }
        status
    }

    /// `Internal error occurred: ...`.
    pub fn internal(error: &str) -> Self {
        let causes = vec![(String::new(), error.to_owned(), String::new())];
        let details = Details { causes, ..Details::default() };
        let message = format!("Internal error occurred: {error}");
        Status { details: Some(Box::new(details)), ..Status::new(Reason::InternalError, message) }
    }

    /// True for the failures after which the same request may be sent again as it is.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.reason,
            Reason::ServerTimeout | Reason::Timeout | Reason::TooManyRequests | Reason::ServiceUnavailable
        )
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}
