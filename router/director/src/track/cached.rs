//! Whether a connection is in the flow cache.

/// Epochs are 1 to this.
pub(crate) const EPOCHS: u8 = 31;

/// Where a connection stands: an epoch, and whether it was placed in it or found to be none for the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cached(u8);

impl Cached {
    const PLACED: u8 = 1 << 7;
    /// The direction was placed open: requests, replies.
    const OPEN: [u8; 2] = [1 << 5, 1 << 6];
    pub(crate) const NO: Self = Self(0);

    /// It was placed; `open`: requests and replies pass in the cache from the next one on, since none was known to be
    /// on its way through the director.
    pub(crate) fn placed(epoch: u8, open: [bool; 2]) -> Self {
        let mark = |at: usize| if open[at] { Self::OPEN[at] } else { 0 };
        Self(epoch | Self::PLACED | mark(0) | mark(1))
    }

    pub(crate) fn refused(epoch: u8) -> Self {
        Self(epoch)
    }

    pub(crate) fn is_of(self, epoch: u8) -> bool {
        self.0 & EPOCHS == epoch
    }

    /// The cache may have it.
    #[inline]
    pub(crate) fn is_placed(self) -> bool {
        self.0 & Self::PLACED != 0
    }

    /// Whether a direction was placed open, and none of its packets has come here since.
    #[inline]
    pub(crate) fn is_open(self, is_reply: bool) -> bool {
        self.0 & Self::OPEN[usize::from(is_reply)] != 0
    }

    /// A packet of the direction has come here.
    pub(crate) fn close(&mut self, is_reply: bool) {
        self.0 &= !Self::OPEN[usize::from(is_reply)];
    }
}
