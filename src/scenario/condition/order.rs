//! Macros over mappings, in a certain order.
//!
//! The mappings of the CEL crate are hash maps with a random seed, and a macro over one (`labels.map(key, ...)`) meets its keys in
//! their order, which differs from run to run. So what a macro goes over is led through a function that turns a mapping into
//! the list of its keys, sorted. The name of the function cannot be written in CEL.

use cel::common::types::{CelList, CelMapKey};
use cel::common::value::{CowVal, Val};
use cel::{Context, ExecutionError, FunctionContext};

use super::functions::Native;
use super::value::fields;

/// What the function is called.
pub(super) const IN_ORDER: &str = "@inOrder";

/// Adds the function to a context.
pub(super) fn add(context: &mut Context<'static, 'static>) {
    let function: Native = Box::new(in_order);
    // The name is none of CEL's own, so it can be added.
    let _ = context.add_function(IN_ORDER, function);
}

fn in_order<'b, 'v>(call: &mut FunctionContext<'b, 'v>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let Some(value) = call.args.first() else { return Err(ExecutionError::invalid_argument_count(1, 0)) };
    let Some(map) = fields(value.as_ref()) else { return Ok(value.clone()) };
    let mut keys: Vec<&CelMapKey<'v>> = map.inner().keys().collect();
    keys.sort_unstable();
    let as_value = |key: &CelMapKey<'v>| -> Box<dyn Val + 'v> {
        match key {
            CelMapKey::Int(number) => number.clone_as_boxed(),
            CelMapKey::UInt(number) => number.clone_as_boxed(),
            CelMapKey::Bool(truth) => truth.clone_as_boxed(),
            CelMapKey::String(text) => text.clone_as_boxed(),
        }
    };
    Ok(CowVal::owned(CelList::from(keys.into_iter().map(as_value).collect::<Vec<_>>())))
}
