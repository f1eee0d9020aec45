//! A module bound to a service, with all that does not change while it is at work.

use std::sync::Arc;

use crate::dump::{DumpSink, Role};
use crate::module::Module;

/// What does not change while a module is at work.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub(crate) module: Module,
    pub(crate) service: Arc<str>,
    pub(crate) options: Arc<str>,
    pub(crate) role: Role,
    /// A pick over the upper threshold counts.
    pub(crate) takes_overloaded: bool,
    /// Where dumps of failing calls go.
    pub(crate) dumps: Option<DumpSink>,
}
