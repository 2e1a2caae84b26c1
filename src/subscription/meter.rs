//! Makes an expression pay for what it does.
//!
//! The interpreter cannot be interrupted, so the expression is rewritten before it runs: whatever costs more
//! than a step (a call, a list or map that is built, a turn of a loop) first charges a budget with the size of
//! what it touches. A budget that is used up makes every further charge an error, so that what is left of
//! the evaluation falls through quickly; the caller then asks [`exhausted`] before it believes any result,
//! because logic may swallow errors.

use std::cell::Cell;

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, ListExpr, LiteralValue, operators};
use cel::common::types::{
    CelBool, CelBytes, CelInt, CelList, CelMap, CelOptional, CelString, DYN_TYPE, INT_TYPE,
};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

/// Charges for its argument's size and returns it. No user can write the name.
const CHARGE: &str = "@charge";
/// Charges for one turn of a loop over its argument and returns true.
const TURN: &str = "@turn";
/// Bytes of text that cost one unit.
const BYTES_PER_UNIT: usize = 16;
/// What compiling a regular expression costs that repeats by count, or is not known beforehand: the interpreter
/// compiles it on every call, and `(a{1000}){20}` takes milliseconds.
const REGEX_UNITS_MAX: i64 = 10_000;
/// What compiling any other costs, beside its length.
const REGEX_UNITS: i64 = 100;
/// What each byte of it adds.
const REGEX_UNITS_PER_BYTE: i64 = 10;

thread_local! {
    /// What the evaluation on this thread may still spend. Evaluations do not nest and never wait.
    static LEFT: Cell<i64> = const { Cell::new(0) };
}

/// Sets what the next evaluation on this thread may spend, in units of about 50 ns.
pub(super) fn allow(units: i64) {
    LEFT.set(units);
}

/// Tells whether the evaluation since [`allow`] ran out of its budget.
pub(super) fn exhausted() -> bool {
    LEFT.get() < 0
}

/// Declares the functions that rewritten expressions call.
pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload(CHARGE, "charge_dyn", vec![DYN_TYPE], charge)?;
    env.add_overload(CHARGE, "charge_dyn_int", vec![DYN_TYPE, INT_TYPE], charge)?;
    env.add_overload(TURN, "turn_dyn_int", vec![DYN_TYPE, INT_TYPE], turn)
}

fn charge<'b, 'v>(mut args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    spend(&args)?;
    Ok(args.swap_remove(0))
}

fn turn<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    spend(&args)?;
    Ok(CowVal::owned(CelBool::from(true)))
}

fn spend(args: &[CowVal<'_, '_>]) -> Result<(), ExecutionError> {
    let left = LEFT.get();
    let fixed =
        args.get(1).and_then(|units| units.downcast_ref::<CelInt>()).map_or(0, |units| *units.inner());
    let left = if left < 0 { left } else { left - fixed - weigh(args[0].as_ref(), left) };
    LEFT.set(left);
    if left < 0 { Err(ExecutionError::function_error(CHARGE, "over the cost limit")) } else { Ok(()) }
}

/// Returns a value's size in units, looking no further than `most`.
fn weigh(value: &dyn Val, most: i64) -> i64 {
    let mut units = 1;
    if let Some(string) = value.downcast_ref::<CelString<'_>>() {
        units += text_units(string.inner().len());
    } else if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
        units += text_units(bytes.inner().len());
    } else if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        for item in list.inner() {
            if units > most {
                break;
            }
            units += weigh(item.as_ref(), most - units);
        }
    } else if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        for value in map.inner().values() {
            if units > most {
                break;
            }
            units += 1 + weigh(value.as_ref(), most - units);
        }
    } else if let Some(value) = value.downcast_ref::<CelOptional<'_>>().and_then(CelOptional::inner) {
        units += weigh(value, most);
    }
    units
}

fn text_units(bytes: usize) -> i64 {
    i64::try_from(bytes / BYTES_PER_UNIT).unwrap_or(i64::MAX / 2)
}

/// Calls whose cost does not grow with what they are given.
fn is_cheap(function: &str) -> bool {
    matches!(
        function,
        operators::CONDITIONAL
            | operators::LOGICAL_AND
            | operators::LOGICAL_OR
            | operators::LOGICAL_NOT
            | operators::NOT_STRICTLY_FALSE
            | operators::NEGATE
            | operators::SUBSTRACT
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO
            | operators::INDEX
            | operators::OPT_INDEX
            | operators::OPT_SELECT
    )
}

/// Rewrites an expression so that it pays; returns how many nodes it had.
pub(super) fn meter(expression: &mut IdedExpr) -> i64 {
    1 + match &mut expression.expr {
        Expr::Call(call) => meter_call(call),
        Expr::Select(select) => meter(&mut select.operand),
        Expr::List(list) => list.elements.iter_mut().map(meter_and_charge).sum(),
        Expr::Map(map) => map.entries.iter_mut().map(|entry| meter_entry(&mut entry.expr)).sum(),
        Expr::Struct(new) => new.entries.iter_mut().map(|entry| meter_entry(&mut entry.expr)).sum(),
        Expr::Comprehension(comprehension) => {
            let outside = meter(&mut comprehension.iter_range)
                + meter(&mut comprehension.accu_init)
                + meter(&mut comprehension.result);
            let inside = meter(&mut comprehension.loop_cond) + meter_step(&mut comprehension.loop_step);
            pay_turn(&mut comprehension.loop_step, &comprehension.iter_var, inside);
            outside + inside
        }
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => 0,
    }
}

/// Meters what a loop's step does. Its outermost shape is left as it is: the interpreter knows the steps of
/// the standard macros by it, and appends in place instead of copying the list on every turn.
fn meter_step(step: &mut IdedExpr) -> i64 {
    match &mut step.expr {
        Expr::Call(call) if call.target.is_none() && call.func_name == operators::ADD => {
            call.args.iter_mut().map(meter).sum()
        }
        Expr::Call(call) if call.target.is_none() && call.func_name == operators::CONDITIONAL => {
            call.args.iter_mut().map(meter_step).sum()
        }
        _ => meter(step),
    }
}

fn meter_call(call: &mut CallExpr) -> i64 {
    let cheap = is_cheap(&call.func_name);
    let is_regex = call.func_name == "matches";
    let mut nodes = 0;
    if let Some(target) = &mut call.target {
        nodes += meter(target);
        // A namespace such as `optional` is no value.
        if !cheap && !matches!(&target.expr, Expr::Ident(name) if name == "optional") {
            pay(target, 0);
        }
    }
    let last = call.args.len().saturating_sub(1);
    for (i, argument) in call.args.iter_mut().enumerate() {
        nodes += meter(argument);
        if !cheap {
            let fixed = if is_regex && i == last { regex_units(argument) } else { 0 };
            pay(argument, fixed);
        }
    }
    nodes
}

fn regex_units(pattern: &IdedExpr) -> i64 {
    match &pattern.expr {
        Expr::Literal(LiteralValue::String(text)) if !text.inner().contains('{') => {
            let bytes = i64::try_from(text.inner().len()).unwrap_or(i64::MAX);
            bytes.saturating_mul(REGEX_UNITS_PER_BYTE).saturating_add(REGEX_UNITS).min(REGEX_UNITS_MAX)
        }
        _ => REGEX_UNITS_MAX,
    }
}

fn meter_and_charge(expression: &mut IdedExpr) -> i64 {
    let nodes = meter(expression);
    pay(expression, 0);
    nodes
}

fn meter_entry(entry: &mut EntryExpr) -> i64 {
    match entry {
        EntryExpr::StructField(field) => meter_and_charge(&mut field.value),
        EntryExpr::MapEntry(entry) => meter_and_charge(&mut entry.key) + meter_and_charge(&mut entry.value),
    }
}

/// Makes a value be charged for. A literal costs what its node costs, unless there is a fixed price.
fn pay(expression: &mut IdedExpr, fixed: i64) {
    if fixed == 0 && matches!(expression.expr, Expr::Literal(_)) {
        return;
    }
    let value = std::mem::take(expression);
    let id = value.id;
    let args = if fixed == 0 { vec![value] } else { vec![value, int(id, fixed)] };
    *expression = call(id, CHARGE, args);
}

/// Makes each turn of a loop be charged for, before anything else in it: for the copy of the item that the
/// interpreter makes, and for the nodes of the step.
fn pay_turn(step: &mut IdedExpr, item: &str, nodes: i64) {
    let paid = |expression: &mut IdedExpr| {
        let value = std::mem::take(expression);
        let id = value.id;
        let item = IdedExpr { id, expr: Expr::Ident(item.to_owned()) };
        let turn = call(id, TURN, vec![item, int(id, nodes)]);
        let never = IdedExpr { id, expr: Expr::Literal(LiteralValue::Boolean(CelBool::from(false))) };
        *expression = call(id, operators::CONDITIONAL, vec![turn, value, never]);
    };
    match &mut step.expr {
        Expr::Call(call) if call.target.is_none() => {
            match (call.func_name.as_str(), call.args.as_mut_slice()) {
                (operators::LOGICAL_AND | operators::LOGICAL_OR, [_, operand]) => return paid(operand),
                (operators::CONDITIONAL, [guard, _, _]) => return paid(guard),
                (operators::ADD, [_, IdedExpr { expr: Expr::List(ListExpr { elements, .. }), .. }]) => {
                    if let Some(first) = elements.first_mut() {
                        return paid(first);
                    }
                }
                _ => {}
            }
        }
        _ => {}
    }
    paid(step);
}

fn call(id: u64, function: &str, args: Vec<IdedExpr>) -> IdedExpr {
    IdedExpr { id, expr: Expr::Call(CallExpr { func_name: function.to_owned(), target: None, args }) }
}

fn int(id: u64, value: i64) -> IdedExpr {
    IdedExpr { id, expr: Expr::Literal(LiteralValue::Int(CelInt::from(value))) }
}
