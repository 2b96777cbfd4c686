//! Macros over mappings, in a certain order.
//!
//! The mappings of the CEL crate are hash maps with a random seed, and a macro over one (`labels.map(key, ...)`) meets its keys in
//! their order, which differs from run to run. So what a macro goes over is led through a function that turns a mapping into
//! the list of its keys, sorted. The name of the function cannot be written in CEL.

use std::sync::Arc;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr};
use cel::objects::Key;
use cel::{Context, ExecutionError, Value};

use super::expression::kind_of_list;

/// What the function is called.
const IN_ORDER: &str = "@inOrder";

/// Adds the function to a context.
pub(super) fn add(context: &mut Context<'static, 'static>) {
    // The name is none of CEL's own, so it can be added.
    let _ = context.add_function(IN_ORDER, |value: Value| -> Result<Value, ExecutionError> { Ok(in_order(value)) });
}

fn in_order(value: Value) -> Value {
    let Value::Map(map) = value else { return value };
    let mut keys: Vec<&Key> = map.map.keys().collect();
    keys.sort_unstable();
    let as_value = |key: &Key| match key {
        Key::Int(number) => Value::Int(*number),
        Key::Uint(number) => Value::UInt(*number),
        Key::Bool(truth) => Value::Bool(*truth),
        Key::String(text) => Value::String(Arc::clone(text)),
    };
    Value::List(Arc::new(keys.into_iter().map(as_value).collect()))
}

/// The same expression, with macros that meet keys in their order.
pub(super) fn ordered(expression: &IdedExpr) -> IdedExpr {
    let all = |expressions: &[IdedExpr]| expressions.iter().map(ordered).collect();
    let expr = match &expression.expr {
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => expression.expr.clone(),
        Expr::Select(select) => {
            let mut select = select.clone();
            select.operand = Box::new(ordered(&select.operand));
            Expr::Select(select)
        }
        Expr::List(list) => {
            let mut list = list.clone();
            list.elements = all(&list.elements);
            Expr::List(list)
        }
        Expr::Call(call) => {
            let target = call.target.as_ref().map(|target| Box::new(ordered(target)));
            Expr::Call(CallExpr { func_name: call.func_name.clone(), target, args: all(&call.args) })
        }
        Expr::Map(map) => {
            let mut map = map.clone();
            map.entries.iter_mut().for_each(|entry| order_entry(&mut entry.expr));
            Expr::Map(map)
        }
        Expr::Struct(literal) => {
            let mut literal = literal.clone();
            literal.entries.iter_mut().for_each(|entry| order_entry(&mut entry.expr));
            Expr::Struct(literal)
        }
        Expr::Comprehension(macro_call) => Expr::Comprehension(Box::new(ordered_macro(macro_call))),
    };
    IdedExpr { id: expression.id, expr }
}

fn order_entry(entry: &mut EntryExpr) {
    match entry {
        EntryExpr::StructField(field) => field.value = ordered(&field.value),
        EntryExpr::MapEntry(pair) => {
            pair.key = ordered(&pair.key);
            pair.value = ordered(&pair.value);
        }
    }
}

fn ordered_macro(macro_call: &ComprehensionExpr) -> ComprehensionExpr {
    let mut range = ordered(&macro_call.iter_range);
    if !is_list(&range.expr) {
        let id = range.id;
        let call = CallExpr { func_name: IN_ORDER.to_owned(), target: None, args: vec![range] };
        range = IdedExpr { id, expr: Expr::Call(call) };
    }
    ComprehensionExpr {
        iter_range: range,
        iter_var: macro_call.iter_var.clone(),
        iter_var2: macro_call.iter_var2.clone(),
        accu_var: macro_call.accu_var.clone(),
        accu_init: ordered(&macro_call.accu_init),
        loop_cond: ordered(&macro_call.loop_cond),
        loop_step: ordered(&macro_call.loop_step),
        result: ordered(&macro_call.result),
    }
}

/// Whether an expression is certainly a list, so that it need not be looked at: the lists of all objects are long.
fn is_list(expression: &Expr) -> bool {
    match expression {
        Expr::List(_) => true,
        Expr::Ident(name) => kind_of_list(name).is_some(),
        Expr::Call(call) => call.target.is_none() && call.func_name == "podsOf",
        Expr::Comprehension(inner) => matches!(inner.accu_init.expr, Expr::List(_)),
        _ => false,
    }
}
