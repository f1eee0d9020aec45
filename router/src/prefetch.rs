//! Telling the processor what will be read soon.

/// Whether this processor can be told.
pub(crate) const AVAILABLE: bool = cfg!(target_arch = "x86_64");

/// Has the cache line fetched that `at` lies in, and does not wait for it.
#[inline]
pub(crate) fn fetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

        #[expect(unsafe_code, reason = "the compiler offers no other way to say so")]
        // SAFETY: it is a hint, which reads nothing and faults at no address; every x86-64 has it (SSE).
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(at.cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
