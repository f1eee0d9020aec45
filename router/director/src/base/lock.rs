//! Locks that outlive a panic of their holder.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock whose data stays sound when a holder panics (every update leaves it consistent).
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    #[cfg(test)]
    taken::note::<T>();
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which locks are taken, for tests that say which ones may be.
#[cfg(test)]
pub(crate) mod taken {
    use std::cell::RefCell;

    thread_local! {
        static TAKEN: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn note<T: ?Sized>() {
        TAKEN.with_borrow_mut(|taken| taken.push(core::any::type_name::<T>()));
    }

    /// What this thread's locks are around that `work` took, in order, by the last name of its type.
    pub(crate) fn by<R>(work: impl FnOnce() -> R) -> (R, Vec<&'static str>) {
        TAKEN.take();
        let result = work();
        let name = |path: &'static str| path.rsplit("::").next().unwrap_or(path);
        (result, TAKEN.take().into_iter().map(name).collect())
    }
}
