//! Longest prefix match over a set that does not change: the prefixes are laid out as ranges that do not overlap, each
//! with the prefix that is longest there, and a look-up is a binary search.
//!
//! ```text
//!   0.0.0.0/0        |-----------------------------------|
//!   10.0.0.0/8             |----------------|
//!   10.1.0.0/16                |----|
//!   ranges           |  /0  | /8 |/16 | /8  |    /0      |
//! ```

use uvs_wire::Address;

/// A prefix: its first and its last address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(super) first: u128,
    pub(super) last: u128,
}

impl Span {
    /// The prefix of all addresses that agree with `network` where `mask` has ones.
    pub(super) const fn new(network: u128, mask: u128) -> Self {
        Self { first: network & mask, last: network | !mask }
    }

    #[inline]
    pub(super) const fn holds(&self, addr: u128) -> bool {
        self.first <= addr && addr <= self.last
    }

    #[inline]
    pub(crate) fn contains(&self, addr: Address) -> bool {
        let (hi, lo) = addr.halves();
        self.holds(u128::from(hi) << 64 | u128::from(lo))
    }

    /// Whether all its addresses are of IPv4.
    pub(super) fn is_v4(&self) -> bool {
        self.first >> 32 == 0xffff && self.last >> 32 == 0xffff
    }

    /// How many addresses it has, less one.
    pub(super) const fn size(&self) -> u128 {
        self.last - self.first
    }
}

/// Ranges by their first address, and what is found in each.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    first: Vec<u128>,
    found: Vec<Option<u32>>,
}

impl Ranges {
    /// Of prefixes, and what is found in each; of equal ones the first counts.
    pub(super) fn new(mut prefixes: Vec<(Span, Option<u32>)>) -> Self {
        // Each behind those that hold it.
        prefixes.sort_by_key(|(span, _)| (span.first, core::cmp::Reverse(span.last)));
        prefixes.dedup_by_key(|(span, _)| *span);
        let mut ranges = Self::default();
        ranges.begin(0, None);
        let mut around: Vec<(Span, Option<u32>)> = Vec::new();
        for (span, found) in prefixes {
            ranges.end(&mut around, |outer| outer.last < span.first);
            ranges.begin(span.first, found);
            around.push((span, found));
        }
        ranges.end(&mut around, |_| true);
        ranges
    }

    /// From `first` on, another one counts.
    fn begin(&mut self, first: u128, found: Option<u32>) {
        if self.first.last() == Some(&first) {
            self.found.pop();
        } else {
            self.first.push(first);
        }
        self.found.push(found);
    }

    /// Behind the prefixes that are over, the one around them counts again.
    fn end(&mut self, around: &mut Vec<(Span, Option<u32>)>, is_over: impl Fn(&Span) -> bool) {
        while let Some((span, _)) = around.pop_if(|(span, _)| is_over(span)) {
            if let Some(next) = span.last.checked_add(1) {
                self.begin(next, around.last().and_then(|(_, found)| *found));
            }
        }
    }

    /// What is found by the longest prefix that holds `wanted`.
    #[inline]
    pub(super) fn find(&self, wanted: u128) -> Option<u32> {
        let behind = self.first.partition_point(|first| *first <= wanted);
        *self.found.get(behind.checked_sub(1)?)?
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(network: u128, len: u32) -> Span {
        Span::new(network, u128::MAX.checked_shl(128 - len).unwrap_or(0))
    }

    #[test]
    fn no_prefix_finds_nothing() {
        assert_eq!(Ranges::default().find(7), None);
        assert_eq!(Ranges::new(vec![]).find(7), None);
    }

    #[test]
    fn the_edges_of_the_address_space_belong_to_it() {
        let ranges = Ranges::new(vec![
            (span(0, 0), Some(0)),
            (span(u128::MAX, 128), Some(1)),
            (span(0, 128), Some(2)),
        ]);
        let found: Vec<_> = [0, 1, u128::MAX - 1, u128::MAX].map(|at| ranges.find(at)).into();
        assert_eq!(found, [Some(2), Some(0), Some(0), Some(1)]);
    }

    proptest! {
        /// Few bits, so that prefixes nest, touch and repeat.
        #[test]
        fn it_finds_what_a_search_through_all_finds(
            prefixes in proptest::collection::vec((0..256u128, 120..=128u32), 0..40),
        ) {
            let prefixes: Vec<_> = prefixes.iter().map(|&(network, len)| (span(network, len), len)).collect();
            let numbered = prefixes.iter().zip(0..).map(|((span, _), n)| (*span, Some(n))).collect();
            let ranges = Ranges::new(numbered);
            for wanted in 0..260 {
                let holds = |(_, (span, _)): &(usize, &(Span, u32))| span.first <= wanted && wanted <= span.last;
                let longest = prefixes.iter().enumerate().filter(holds).max_by_key(|(n, (_, len))| (*len, core::cmp::Reverse(*n)));
                let want = longest.map(|(n, _)| u32::try_from(n).expect("few"));
                prop_assert_eq!(ranges.find(wanted), want, "{}", wanted);
            }
        }
    }
}
