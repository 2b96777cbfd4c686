//! Macros over all objects of a kind (`pods.all(p, ready(p))`): what each object adds is worked out when it has changed and
//! kept, so that asking again costs as much as has changed, however many objects there are.
//!
//! That is possible where what is asked of an object depends on nothing else. The value is the one that CEL's own evaluation
//! has, step by step over the list, with the errors that CEL would tell: of `all` and `exists` the last one, if nothing has
//! decided the answer; of the others the first.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use cel::common::ast::{ComprehensionExpr, Expr, LiteralValue};
use cel::common::types::{CelBool, CelInt, CelList};
use cel::common::value::Val;
use cel::{Context, ExecutionError, Value};

use crate::api::kind::Kind;

use super::expression::{Names, kind_of_list};
use super::functions::{self, Answer, truth, whole};
use super::objects::{Objects, Place};
use super::sight::{Sight, read};
use super::sources::Sources;
use super::value::{Owned, Subject};

/// What the function is called that gives the value of a macro kept; it cannot be written in CEL.
pub(super) const TALLY: &str = "@tally";

/// A macro over all objects of a kind.
#[derive(Clone, Debug)]
pub(super) struct Macro {
    kind: Kind,
    fold: Fold,
    /// What is asked of each object; none if they are but counted.
    question: Option<ComprehensionExpr>,
}

/// How what the objects add makes a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fold {
    /// Whether no object denies it.
    All,
    /// Whether an object affirms it.
    Exists,
    /// Whether exactly one does.
    One,
    /// What they add, as a list.
    List,
    /// How long that list is.
    Count,
}

impl Macro {
    /// A macro as CEL writes it out, if it goes over the list of a kind and what it asks of an object depends on nothing else.
    /// The variables of the macros around it are `scope`.
    pub fn of(macro_call: &ComprehensionExpr, scope: &[String]) -> Option<Macro> {
        let kind = kind_listed(&macro_call.iter_range.expr, scope)?;
        let fold = match &macro_call.accu_init.expr {
            Expr::Literal(LiteralValue::Boolean(first)) if *first.inner() => Fold::All,
            Expr::Literal(LiteralValue::Boolean(_)) => Fold::Exists,
            Expr::Literal(LiteralValue::Int(_)) => Fold::One,
            Expr::List(list) if list.elements.is_empty() => Fold::List,
            _ => return None,
        };
        let own = [macro_call.iter_var.as_str(), macro_call.accu_var.as_str()];
        let is_closed =
            macro_call.iter_var2.is_none() && Names::sources_of(&macro_call.loop_step, &own) == Ok(Sources::NONE);
        is_closed.then(|| Macro { kind, fold, question: Some(macro_call.clone()) })
    }

    /// The number of objects of a kind, or of what a macro lists.
    pub fn count(of: &Expr, scope: &[String]) -> Option<Macro> {
        match of {
            Expr::Comprehension(macro_call) => {
                let counted = Macro::of(macro_call, scope).filter(|found| found.fold == Fold::List)?;
                Some(Macro { fold: Fold::Count, ..counted })
            }
            listed => Some(Macro { kind: kind_listed(listed, scope)?, fold: Fold::Count, question: None }),
        }
    }

    /// The kind over whose objects it goes.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Gives what is asked of each object another form with the same meaning.
    pub fn reword(&mut self, reword: impl FnOnce(&mut ComprehensionExpr)) {
        self.question.as_mut().map(reword);
    }
}

/// The kind whose objects a variable lists, unless a macro has a variable of that name.
pub(super) fn kind_listed(expression: &Expr, scope: &[String]) -> Option<Kind> {
    match expression {
        Expr::Ident(name) if !scope.contains(name) => kind_of_list(name),
        _ => None,
    }
}

/// What the objects add to a macro's value, as far as it was worked out.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Up to which change of the objects.
    seen: u64,
    /// What those add that add something, other than the value that the macro has without any.
    parts: BTreeMap<Place, Option<Owned>>,
    failing: BTreeMap<Place, ExecutionError>,
}

impl Tally {
    /// The macro's value now.
    pub fn value(&mut self, of: &Macro, objects: &Objects, context: &Context<'static, 'static>) -> Answer {
        let Some(question) = &of.question else { return Ok(count(objects.len())) };
        match objects.since(self.seen) {
            Some(changed) => changed.for_each(|(place, subject)| self.look(of.fold, question, place, subject, context)),
            None => {
                *self = Tally::default();
                objects.all().for_each(|(place, subject)| self.look(of.fold, question, place, Some(subject), context));
            }
        }
        self.seen = objects.newest();
        self.sum(of.fold)
    }

    /// Works out what an object adds now.
    fn look(
        &mut self,
        fold: Fold,
        question: &ComprehensionExpr,
        place: &Place,
        subject: Option<&Subject>,
        context: &Context<'static, 'static>,
    ) {
        self.parts.remove(place);
        self.failing.remove(place);
        let Some(subject) = subject else { return };
        match added(question, subject, context) {
            Ok(value) => {
                let truth = value.downcast_ref::<CelBool>().map(|truth| *truth.inner());
                let part = match fold {
                    Fold::All => (truth == Some(false)).then_some(None),
                    Fold::Exists => (truth == Some(true)).then_some(None),
                    Fold::One => value.downcast_ref::<CelInt>().filter(|one| *one.inner() != 0).map(|_| None),
                    Fold::List => first_of(value.as_ref()).map(Some),
                    Fold::Count => first_of(value.as_ref()).map(|_| None),
                };
                if let Some(part) = part {
                    self.parts.insert(place.clone(), part);
                }
            }
            Err(error) => {
                self.failing.insert(place.clone(), error);
            }
        }
    }

    fn sum(&self, fold: Fold) -> Answer {
        let decided = matches!(fold, Fold::All | Fold::Exists);
        let error = match decided {
            true if !self.parts.is_empty() => None,
            true => self.failing.last_key_value(),
            false => self.failing.first_key_value(),
        };
        if let Some((_, error)) = error {
            return Err(error.clone());
        }
        Ok(match fold {
            Fold::All => truth(self.parts.is_empty()),
            Fold::Exists => truth(!self.parts.is_empty()),
            Fold::One => truth(self.parts.len() == 1),
            Fold::List => Box::new(CelList::from(self.parts.values().flatten().cloned().collect::<Vec<_>>())),
            Fold::Count => count(self.parts.len()),
        })
    }
}

/// A step of a macro for one object, as the first one.
fn added(question: &ComprehensionExpr, subject: &Subject, context: &Context<'static, 'static>) -> Answer {
    let mut scope = context.new_inner_scope();
    scope.add_variable_as_val(&question.accu_var, Value::resolve_val(&question.accu_init, context)?.into_owned());
    scope.add_variable_as_val(&question.iter_var, subject.boxed());
    let value = Value::resolve_val(&question.loop_step, &scope)?;
    Ok(value.into_owned())
}

fn first_of(list: &(dyn Val + 'static)) -> Option<Owned> {
    list.downcast_ref::<CelList<'_>>()?.inner().first().cloned()
}

fn count(number: usize) -> Owned {
    whole(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Adds the function that gives the values of macros kept to a context.
pub(super) fn add(context: &mut Context<'static, 'static>, sight: &Arc<RwLock<Sight>>) {
    let sight = Arc::clone(sight);
    functions::add(context, TALLY, move |arguments| {
        let index =
            arguments.first().and_then(|index| index.downcast_ref::<CelInt>()).map_or(-1, |index| *index.inner());
        let known = usize::try_from(index).ok().and_then(|index| read(&sight).tallied.get(index).cloned());
        known.unwrap_or_else(|| Err(ExecutionError::function_error(TALLY, "there is no such macro")))
    });
}
