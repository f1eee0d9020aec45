//! What an entry keeps of its past, in one byte: an entry fills two cache lines, and there is no room for more.

use crate::base::view::Origin;

/// How an entry came to be; and of a template, whether it places nothing any more, since its destination was gone or
/// quiesced when it was asked. No index of the table has an invalid one; it stays in listings until its time is up, as
/// in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Past(u8);

impl Past {
    const INVALID: u8 = 1 << 7;

    pub(crate) const fn new(origin: Origin) -> Self {
        Self(origin as u8)
    }

    pub(crate) fn origin(self) -> Origin {
        let index = usize::from(self.0 & !Self::INVALID);
        Origin::ALL.get(index).copied().unwrap_or(Origin::Scheduled)
    }

    pub(crate) fn is_invalid(self) -> bool {
        self.0 & Self::INVALID != 0
    }

    /// Says that it is invalid from now on, and whether it was not before.
    pub(crate) fn invalidate(&mut self) -> bool {
        let was = self.is_invalid();
        self.0 |= Self::INVALID;
        !was
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_past_keeps_its_origin_whatever_becomes_of_it() {
        for origin in Origin::ALL {
            let mut past = Past::new(origin);
            assert_eq!((past.origin(), past.is_invalid()), (origin, false));
            assert!(past.invalidate() && !past.invalidate(), "{origin:?}: only once");
            assert_eq!((past.origin(), past.is_invalid()), (origin, true));
        }
    }
}
