//! Bounds on the structure of a component, looked at before it is compiled.
//!
//! A compiler's work grows with more than the size of its input: a branch of two bytes may carry a thousand values,
//! and a loop may have to carry each local. What compilers emit is far below these bounds (`docs/contract.md` names
//! them); the time and the memory of a compilation are bounded besides ([`Compiler`](crate::Compiler)).

use wasmparser::{BlockType, FunctionBody, Operator, Parser, Payload};

use crate::error::LoadReason;

/// Functions of all core modules of a component.
pub(crate) const FUNCTIONS_MAX: u64 = 100_000;
/// Types of all core modules of a component.
pub(crate) const TYPES_MAX: u64 = 20_000;
/// Parameters of a function or block.
pub(crate) const PARAMS_MAX: usize = 100;
/// Results of a function or block.
pub(crate) const RESULTS_MAX: usize = 16;
/// Locals of a function.
pub(crate) const LOCALS_MAX: u64 = 20_000;
/// Bytes of a function's body: 2 MiB.
pub(crate) const BODY_MAX: u64 = 2 << 20;
/// Values that the branches of a function carry, all together; a `br_table` counts for each of its targets.
pub(crate) const BRANCH_VALUES_MAX: u64 = 100_000;
/// Targets of all `br_table`s of a function.
pub(crate) const TARGETS_MAX: u64 = 100_000;
/// Locals times loops of a function.
pub(crate) const LOOP_LOCALS_MAX: u64 = 4_000_000;
/// Core modules and components in one another or side by side.
pub(crate) const MODULES_MAX: u64 = 64;

/// Refuses a component that is larger in one of these respects. One that is no valid WebAssembly passes, or is refused
/// as such: to say what is wrong with it is the validator's work.
///
/// # Errors
/// [`LoadReason::TooComplex`] and [`LoadReason::Invalid`].
pub(crate) fn check(bytes: &[u8]) -> Result<(), LoadReason> {
    let mut functions = 0;
    let mut types = 0;
    let mut modules = 0;
    // Of the core modules and components around the present section, the innermost last: parameters and results.
    let mut scopes: Vec<Vec<(usize, usize)>> = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(invalid)? {
            Payload::Version { .. } => {
                modules += 1;
                bound("core modules and components", modules, MODULES_MAX)?;
                scopes.push(Vec::new());
            }
            Payload::End(_) => drop(scopes.pop()),
            Payload::TypeSection(section) => {
                types += u64::from(section.count());
                bound("types", types, TYPES_MAX)?;
                for group in section {
                    for ty in group.map_err(invalid)?.types() {
                        let arity = match &ty.composite_type.inner {
                            wasmparser::CompositeInnerType::Func(it) => {
                                (it.params().len(), it.results().len())
                            }
                            _ => (0, 0),
                        };
                        bound("a type with parameters", arity.0 as u64, PARAMS_MAX as u64)?;
                        bound("a type with results", arity.1 as u64, RESULTS_MAX as u64)?;
                        if let Some(scope) = scopes.last_mut() {
                            scope.push(arity);
                        }
                    }
                }
            }
            Payload::FunctionSection(section) => {
                functions += u64::from(section.count());
                bound("functions", functions, FUNCTIONS_MAX)?;
            }
            Payload::CodeSectionEntry(body) => check_body(&body, scopes.last().map_or(&[], Vec::as_slice))?,
            _ => {}
        }
    }
    Ok(())
}

fn check_body(body: &FunctionBody<'_>, types: &[(usize, usize)]) -> Result<(), LoadReason> {
    bound("a function with bytes", body.range().len() as u64, BODY_MAX)?;
    let mut locals = 0;
    for group in body.get_locals_reader().map_err(invalid)? {
        locals += u64::from(group.map_err(invalid)?.0);
        bound("a function with locals", locals, LOCALS_MAX)?;
    }
    let (mut loops, mut values, mut targets) = (0, 0, 0);
    // How many values a branch to each label carries, the innermost last. The outermost is the function itself.
    let mut labels = vec![RESULTS_MAX as u64];
    for operator in body.get_operators_reader().map_err(invalid)? {
        let carried = |labels: &[u64], depth: u32| {
            // A branch to nowhere is the validator's matter.
            labels.iter().rev().nth(depth as usize).copied().unwrap_or_default()
        };
        match operator.map_err(invalid)? {
            Operator::Loop { blockty } => {
                labels.push(arity(blockty, types).0);
                loops += 1;
                bound("a function with locals times loops", locals * loops, LOOP_LOCALS_MAX)?;
            }
            Operator::Block { blockty } | Operator::If { blockty } => labels.push(arity(blockty, types).1),
            Operator::TryTable { try_table } => labels.push(arity(try_table.ty, types).1),
            Operator::End => drop(labels.pop()),
            Operator::Br { relative_depth }
            | Operator::BrIf { relative_depth }
            | Operator::BrOnNull { relative_depth }
            | Operator::BrOnNonNull { relative_depth }
            | Operator::BrOnCast { relative_depth, .. }
            | Operator::BrOnCastFail { relative_depth, .. } => {
                values += carried(&labels, relative_depth);
            }
            Operator::BrTable { targets: table } => {
                targets += u64::from(table.len());
                bound("a function with targets of br_table", targets, TARGETS_MAX)?;
                values += (u64::from(table.len()) + 1) * carried(&labels, table.default());
            }
            _ => continue,
        }
        bound("a function with values on its branches", values, BRANCH_VALUES_MAX)?;
    }
    Ok(())
}

/// Parameters and results of a block.
fn arity(block: BlockType, types: &[(usize, usize)]) -> (u64, u64) {
    match block {
        BlockType::Empty => (0, 0),
        BlockType::Type(_) => (0, 1),
        BlockType::FuncType(index) => {
            let (params, results) = types.get(index as usize).copied().unwrap_or_default();
            (params as u64, results as u64)
        }
    }
}

fn bound(what: &'static str, found: u64, limit: u64) -> Result<(), LoadReason> {
    if found > limit { Err(LoadReason::TooComplex { what, found, limit }) } else { Ok(()) }
}

fn invalid(error: wasmparser::BinaryReaderError) -> LoadReason {
    LoadReason::Invalid(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(core: &str) -> String {
        let bytes = wat::parse_str(format!("(component (core module {core}))")).unwrap();
        check(&bytes).map_or_else(|reason| reason.to_string(), |()| String::new())
    }

    #[test]
    fn what_makes_a_compiler_work_for_ever_is_refused_before_it_is_asked() {
        let times = |text: &str, n: usize| text.repeat(n);
        let cases = [
            (
                format!("(func (local {}))", times("i32 ", 20_001)),
                "has a function with locals: 20001, and the limit is 20000",
            ),
            (
                format!("(type (func (param {})))", times("i32 ", 101)),
                "has a type with parameters: 101, and the limit is 100",
            ),
            (
                format!("(type (func (result {})))", times("i32 ", 17)),
                "has a type with results: 17, and the limit is 16",
            ),
            (
                format!(
                    "(func (param i32) {} loop (param {}) {} {} end)",
                    times("i32.const 0 ", 100),
                    times("i32 ", 100),
                    times("local.get 0 br_if 0 ", 1001),
                    times("drop ", 100)
                ),
                "has a function with values on its branches: 100100, and the limit is 100000",
            ),
            (
                format!("(func (param i32) block local.get 0 br_table {} end)", times("0 ", 60_000))
                    .replace("end)", &format!("end block local.get 0 br_table {} end)", times("0 ", 60_000))),
                "has a function with targets of br_table: 119998, and the limit is 100000",
            ),
            (
                format!("(func (local {}) {})", times("i32 ", 20_000), times("loop end ", 201)),
                "has a function with locals times loops: 4020000, and the limit is 4000000",
            ),
            (times("(func)", 100_001), "has functions: 100001, and the limit is 100000"),
        ];
        for (core, want) in cases {
            assert_eq!(said(&core), want);
        }
        let modules = times("(core module)", 64);
        let bytes = wat::parse_str(format!("(component {modules})")).unwrap();
        let said = check(&bytes).unwrap_err().to_string();
        assert_eq!(said, "has core modules and components: 65, and the limit is 64");
    }

    #[test]
    fn the_limits_are_those_of_the_contract() {
        let contract = include_str!("../../../docs/contract.md");
        let rows = [
            ("core modules and components, in one another or side by side", MODULES_MAX),
            ("functions, of all core modules", FUNCTIONS_MAX),
            ("types, of all core modules", TYPES_MAX),
            ("parameters of a function or block", PARAMS_MAX as u64),
            ("results of a function or block", RESULTS_MAX as u64),
            ("bytes of a function's body", BODY_MAX),
            ("locals of a function", LOCALS_MAX),
            ("locals times loops of a function", LOOP_LOCALS_MAX),
            ("targets of all `br_table`s of a function", TARGETS_MAX),
            (
                "values that the branches of a function carry, a `br_table` counting for each target",
                BRANCH_VALUES_MAX,
            ),
        ];
        for (what, limit) in rows {
            assert!(contract.contains(&format!("| {what} | {limit} |")), "{what}: {limit}");
        }
        let policy = crate::Policy::default();
        let rows = [
            format!("| bytes of the file | {} MiB,", policy.module_bytes >> 20),
            format!("| time to compile | {} s,", policy.compile_time.as_secs()),
            format!("| memory to compile | {} GiB,", policy.compile_bytes >> 30),
        ];
        for row in rows {
            assert!(contract.contains(&row), "{row}");
        }
    }

    #[test]
    fn shipped_schedulers_are_far_below_the_bounds() {
        for (name, bytes) in crate::SHIPPED {
            check(bytes).unwrap_or_else(|reason| panic!("{name}: {reason}"));
        }
    }
}
