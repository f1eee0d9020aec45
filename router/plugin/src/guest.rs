//! What a module's Store holds: its grants, its bounds, its log.

use std::sync::Arc;

use tracing::{debug, error, info, warn};
use uvs_director::{Instant, splitmix64};
use wasmtime::component::{Linker, WasmStr};
use wasmtime::{ResourceLimiter, StoreContextMut, Trap};

use crate::policy::Policy;

/// What a Store holds for its guest.
pub(crate) struct Guest {
    pub(crate) module: String,
    pub(crate) service: Arc<str>,
    pub(crate) policy: Policy,
    pub(crate) now: Instant,
    pub(crate) random: u64,
    pub(crate) memory_bytes: usize,
    pub(crate) table_elements: usize,
    /// Whether space was refused during the current call.
    pub(crate) denied: bool,
    pub(crate) log: LogBudget,
}

impl ResourceLimiter for Guest {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if total > self.policy.memory_bytes {
            self.denied = true;
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_add(desired.saturating_sub(current));
        if total > self.policy.table_elements {
            self.denied = true;
            return Ok(false);
        }
        self.table_elements = total;
        Ok(true)
    }

    // A component is several core instances (adapters, shims); these bounds are far above what tools emit.
    fn instances(&self) -> usize {
        64
    }

    fn tables(&self) -> usize {
        32
    }

    fn memories(&self) -> usize {
        8
    }
}

/// Grants what the contract grants, and nothing else.
pub(crate) fn grant(linker: &mut Linker<Guest>, policy: &Policy) -> wasmtime::Result<()> {
    let toll = policy.fuel_per_import;
    let mut root = linker.root();
    root.func_wrap("log", move |mut store: StoreContextMut<'_, Guest>, (level, message): (u8, WasmStr)| {
        charge(&mut store, toll)?;
        if store.data_mut().may_log() {
            let text = message.to_str(&store)?.into_owned();
            charge(&mut store, text.len() as u64)?;
            store.data_mut().log(level, &text);
        }
        Ok(())
    })?;
    root.func_wrap("random", move |mut store: StoreContextMut<'_, Guest>, ()| {
        charge(&mut store, toll)?;
        Ok((splitmix64(&mut store.data_mut().random),))
    })?;
    root.func_wrap("now-ms", move |mut store: StoreContextMut<'_, Guest>, ()| {
        charge(&mut store, toll)?;
        Ok((store.data().now.as_millis(),))
    })?;
    Ok(())
}

fn charge(store: &mut StoreContextMut<'_, Guest>, toll: u64) -> wasmtime::Result<()> {
    match store.get_fuel()?.checked_sub(toll) {
        Some(left) => store.set_fuel(left),
        None => Err(Trap::OutOfFuel.into()),
    }
}

#[derive(Debug, Default)]
pub(crate) struct LogBudget {
    window_start: Instant,
    lines: u32,
    /// Since the last line that was let through.
    suppressed: u64,
    /// Since the host last took note.
    pub(crate) suppressed_total: u64,
    /// The latest line, until the host takes note.
    pub(crate) said: Option<String>,
}

impl Guest {
    fn may_log(&mut self) -> bool {
        let log = &mut self.log;
        if self.now - log.window_start >= self.policy.log_window {
            log.window_start = self.now;
            log.lines = 0;
        }
        if log.lines >= self.policy.log_lines {
            log.suppressed += 1;
            log.suppressed_total += 1;
            return false;
        }
        log.lines += 1;
        true
    }

    fn log(&mut self, level: u8, text: &str) {
        let text = printable(cut(text, self.policy.log_message_bytes));
        let (service, module) = (&*self.service, self.module.as_str());
        let suppressed = core::mem::take(&mut self.log.suppressed);
        if suppressed > 0 {
            warn!(service, module, "{suppressed} lines of the scheduler's log were left out");
        }
        match level {
            0 => error!(service, module, "scheduler: {text}"),
            1 => warn!(service, module, "scheduler: {text}"),
            2 => info!(service, module, "scheduler: {text}"),
            _ => debug!(service, module, "scheduler: {text}"),
        }
        self.log.said = Some(text);
    }
}

/// The longest prefix of at most `max` bytes.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// Text from a module, fit for a line of a log or a terminal: no control characters, not too long.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::new();
    for c in cut(text, 4096).chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_module_cannot_forge_log_lines() {
        assert_eq!(printable("a\nERROR b\u{1b}[2J\r"), "a\\nERROR b\\u{1b}[2J\\r");
        assert_eq!(printable("größer"), "größer");
        assert_eq!(cut("größer", 3), "gr", "cut between characters, not inside one");
    }
}
