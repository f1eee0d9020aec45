//! Whether a connection is in the flow cache.

/// Where a connection stands: an epoch, and whether it was placed in it or found to be none for the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cached(u8);

impl Cached {
    const PLACED: u8 = 1 << 7;
    pub(crate) const NO: Self = Self(0);

    pub(crate) fn placed(epoch: u8) -> Self {
        Self(epoch | Self::PLACED)
    }

    pub(crate) fn refused(epoch: u8) -> Self {
        Self(epoch)
    }

    pub(crate) fn is_of(self, epoch: u8) -> bool {
        self.0 & !Self::PLACED == epoch
    }

    /// The cache may have it.
    #[inline]
    pub(crate) fn is_placed(self) -> bool {
        self.0 & Self::PLACED != 0
    }
}
