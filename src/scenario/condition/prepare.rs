//! From an expression as it is written to the one that is evaluated, which means the same.
//!
//! What macros go over is led through `order`, and macros over all objects of a kind become questions to `tally`, each by its
//! place among the expression's macros.

use std::collections::BTreeSet;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue};

use crate::api::kind::Kind;

use super::expression::list_name;
use super::order::IN_ORDER;
use super::tally::{Macro, TALLY, kind_listed};

/// An expression that can be evaluated.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The expression.
    pub expression: IdedExpr,
    /// The macros of which it wants the values.
    pub macros: Vec<Macro>,
    /// The kinds whose lists it still goes through by itself.
    pub lists: BTreeSet<Kind>,
}

impl Prepared {
    /// Of an expression whose names are all known.
    pub fn from(expression: &IdedExpr) -> Prepared {
        let mut preparing = Preparing::default();
        let expression = preparing.expression(expression);
        Prepared { expression, macros: preparing.macros, lists: preparing.lists }
    }
}

#[derive(Default)]
struct Preparing {
    /// Variables of the macros around the present place.
    scope: Vec<String>,
    macros: Vec<Macro>,
    lists: BTreeSet<Kind>,
}

impl Preparing {
    fn expression(&mut self, expression: &IdedExpr) -> IdedExpr {
        let expr = match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) => expression.expr.clone(),
            Expr::Ident(_) => match kind_listed(&expression.expr, &self.scope) {
                Some(kind) => {
                    self.lists.insert(kind);
                    Expr::Ident(list_name(kind))
                }
                None => expression.expr.clone(),
            },
            Expr::Select(select) => {
                let mut select = select.clone();
                select.operand = Box::new(self.expression(&select.operand));
                Expr::Select(select)
            }
            Expr::List(list) => {
                let mut list = list.clone();
                list.elements = self.all(&list.elements);
                Expr::List(list)
            }
            Expr::Call(call) => self.call(call),
            Expr::Map(map) => {
                let mut map = map.clone();
                map.entries.iter_mut().for_each(|entry| self.entry(&mut entry.expr));
                Expr::Map(map)
            }
            Expr::Struct(literal) => {
                let mut literal = literal.clone();
                literal.entries.iter_mut().for_each(|entry| self.entry(&mut entry.expr));
                Expr::Struct(literal)
            }
            Expr::Comprehension(macro_call) => match Macro::of(macro_call, &self.scope) {
                Some(found) => self.tallied(found),
                None => {
                    let range = self.range(&macro_call.iter_range);
                    let body = self.body(macro_call);
                    Expr::Comprehension(Box::new(ComprehensionExpr { iter_range: range, ..body }))
                }
            },
        };
        IdedExpr { id: expression.id, expr }
    }

    fn all(&mut self, expressions: &[IdedExpr]) -> Vec<IdedExpr> {
        expressions.iter().map(|expression| self.expression(expression)).collect()
    }

    fn entry(&mut self, entry: &mut EntryExpr) {
        match entry {
            EntryExpr::StructField(field) => field.value = self.expression(&field.value),
            EntryExpr::MapEntry(pair) => {
                pair.key = self.expression(&pair.key);
                pair.value = self.expression(&pair.value);
            }
        }
    }

    fn call(&mut self, call: &CallExpr) -> Expr {
        let counted = match (call.func_name.as_str(), &call.target, call.args.as_slice()) {
            ("size", Some(target), []) => Macro::count(&target.expr, &self.scope),
            ("size", None, [argument]) => Macro::count(&argument.expr, &self.scope),
            _ => None,
        };
        if let Some(counted) = counted {
            return self.tallied(counted);
        }
        let target = call.target.as_ref().map(|target| Box::new(self.expression(target)));
        Expr::Call(CallExpr { func_name: call.func_name.clone(), target, args: self.all(&call.args) })
    }

    /// The question for the value of a macro.
    fn tallied(&mut self, mut found: Macro) -> Expr {
        found.reword(|question| *question = self.body(question));
        let index = LiteralValue::Int(i64::try_from(self.macros.len()).unwrap_or(i64::MAX).into());
        self.macros.push(found);
        called(TALLY, IdedExpr { id: 0, expr: Expr::Literal(index) })
    }

    /// What a macro goes over, in order. The lists of all objects are long and need not be looked at for that.
    fn range(&mut self, range: &IdedExpr) -> IdedExpr {
        let prepared = self.expression(range);
        if self.is_list(&range.expr) {
            return prepared;
        }
        IdedExpr { id: prepared.id, expr: called(IN_ORDER, prepared) }
    }

    /// Whether an expression is certainly a list.
    fn is_list(&self, expression: &Expr) -> bool {
        match expression {
            Expr::List(_) => true,
            Expr::Ident(_) => kind_listed(expression, &self.scope).is_some(),
            Expr::Call(call) => call.target.is_none() && call.func_name == "podsOf",
            Expr::Comprehension(inner) => matches!(inner.accu_init.expr, Expr::List(_)),
            _ => false,
        }
    }

    /// A macro with all but what it goes over prepared.
    fn body(&mut self, macro_call: &ComprehensionExpr) -> ComprehensionExpr {
        let accu_init = self.expression(&macro_call.accu_init);
        let outside = self.scope.len();
        self.scope.extend([macro_call.iter_var.clone(), macro_call.accu_var.clone()]);
        self.scope.extend(macro_call.iter_var2.clone());
        let [loop_cond, loop_step, result] =
            [&macro_call.loop_cond, &macro_call.loop_step, &macro_call.result].map(|part| self.expression(part));
        self.scope.truncate(outside);
        ComprehensionExpr {
            iter_range: macro_call.iter_range.clone(),
            iter_var: macro_call.iter_var.clone(),
            iter_var2: macro_call.iter_var2.clone(),
            accu_var: macro_call.accu_var.clone(),
            accu_init,
            loop_cond,
            loop_step,
            result,
        }
    }
}

fn called(function: &str, argument: IdedExpr) -> Expr {
    Expr::Call(CallExpr { func_name: function.to_owned(), target: None, args: vec![argument] })
}
