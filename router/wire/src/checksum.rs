//! The Internet checksum (RFC 1071), its incremental update (RFC 1624), and CRC32c (RFC 9260, appendix A).
//!
//! ```text
//! checksum field = ! (w0 + w1 + .. + wn)     in ones' complement, over 16-bit words
//! an edit m -> m': field' = ! (!field + !m + m')            (RFC 1624, equation 3)
//! ```

use crate::Address;
use crate::field::put16;

/// A ones' complement sum in progress.
///
/// Every piece but the last must have an even length, as in the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Sum(u64);

impl Sum {
    /// The empty sum.
    #[inline]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Adds bytes; an odd last byte counts as if a zero followed it.
    #[inline]
    pub fn add_bytes(self, bytes: &[u8]) -> Self {
        // The ones' complement sum does not depend on the byte order (RFC 1071, 2.B), so the words are
        // added as the machine loads them and the result is turned once. 32-bit words into 64-bit
        // sums need no carry, which lets the compiler use vectors.
        let (words, tail) = bytes.as_chunks::<4>();
        let mut sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
        if !tail.is_empty() {
            let mut word = [0; 4];
            word[..tail.len()].copy_from_slice(tail);
            sum += u64::from(u32::from_ne_bytes(word));
        }
        Self(self.0 + u64::from(u16::from_be(fold(sum))))
    }

    /// Adds a 16-bit word.
    #[inline]
    pub const fn add_u16(self, word: u16) -> Self {
        Self(self.0 + word as u64)
    }

    /// Adds two 16-bit words.
    #[inline]
    pub const fn add_u32(self, words: u32) -> Self {
        Self(self.0 + (words >> 16) as u64 + (words & 0xffff) as u64)
    }

    /// Adds the sum of another piece.
    #[inline]
    pub const fn add(self, other: Self) -> Self {
        Self(self.0 + fold(other.0) as u64)
    }

    /// The sum in 16 bits, as virtio's NEEDS_CSUM wants it of the pseudo-header.
    #[inline]
    pub const fn fold(self) -> u16 {
        fold(self.0)
    }

    /// The checksum: the complement of the sum. Over bytes that hold a right checksum it is 0.
    #[inline]
    pub const fn finish(self) -> u16 {
        !fold(self.0)
    }
}

/// Folds a sum to 16 bits with end-around carry. It is 0 only for a sum of nothing but zeros.
#[inline]
const fn fold(sum: u64) -> u16 {
    let (sum, carry) = ((sum >> 32) as u32).overflowing_add((sum & 0xffff_ffff) as u32);
    let sum = sum + carry as u32;
    // Added to itself with its halves swapped, the upper half is their sum and the carry of the lower.
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// The sum of the pseudo-header (RFC 9293, 3.1; RFC 8200, 8.1); `src` tells the family.
///
/// `len` is that of the transport header and its payload.
#[inline]
pub fn pseudo_header(src: Address, dst: Address, protocol: u8, len: u32) -> Sum {
    let sum = if src.is_v4() {
        Sum::new().add_u32(src.v4_bits()).add_u32(dst.v4_bits())
    } else {
        Sum::new().add_bytes(&src.octets()).add_bytes(&dst.octets())
    };
    sum.add_u16(u16::from(protocol)).add_u32(len)
}

/// The difference that an edit makes to a checksum (RFC 1624), gathered once and applied to each
/// checksum that covers the edited words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Edit(u64);

impl Edit {
    /// No change.
    #[inline]
    pub const fn new() -> Self {
        Self(0)
    }

    /// A 16-bit word changed.
    #[inline]
    pub const fn word(self, old: u16, new: u16) -> Self {
        Self(self.0 + !old as u64 + new as u64)
    }

    /// An address changed: 4 bytes of difference if both are IPv4, else 16.
    #[inline(always)]
    pub fn address(self, old: Address, new: Address) -> Self {
        if old.is_v4() && new.is_v4() {
            return self.bits(old.v4_bits(), new.v4_bits());
        }
        // As below, with all ones for the complement of each of the four pairs of words.
        let words = |addr: Address| {
            let (hi, lo) = addr.halves();
            (hi >> 32) + (hi & 0xffff_ffff) + (lo >> 32) + (lo & 0xffff_ffff)
        };
        Self(self.0 + 4 * 0xffff_ffff - words(old) + words(new))
    }

    /// Two words changed. 65536 is 1 in this arithmetic, so they may be added as one number.
    #[inline]
    const fn bits(self, old: u32, new: u32) -> Self {
        Self(self.0 + !old as u64 + new as u64)
    }

    /// Bytes at an even offset changed; a last odd byte must be the last of the covered data.
    #[inline]
    pub fn edit_bytes(self, old: &[u8], new: &[u8]) -> Self {
        self.word(Sum::new().add_bytes(old).fold(), Sum::new().add_bytes(new).fold())
    }

    /// The updated checksum (RFC 1624, equation 3).
    ///
    /// For a canonical checksum this is what recomputing gives. UDP's rule that 0 is written as 0xffff is
    /// left to the caller.
    #[inline]
    pub const fn apply(self, checksum: u16) -> u16 {
        !fold(!checksum as u64 + self.0)
    }

    /// The updated sum where the field holds the uncomplemented sum of the pseudo-header (virtio's
    /// NEEDS_CSUM). Only edits of the pseudo-header belong here.
    #[inline]
    pub const fn apply_partial(self, sum: u16) -> u16 {
        fold(sum as u64 + self.0)
    }
}

/// Completes a checksum whose field holds the sum of the pseudo-header: the field at
/// `start + offset` becomes the checksum of everything from `start` on (virtio's NEEDS_CSUM).
///
/// A result of 0 is written as 0xffff if `zero_is_none`, as UDP asks. Returns false, and changes nothing,
/// if the field is not inside `bytes`.
pub fn complete(bytes: &mut [u8], start: usize, offset: usize, zero_is_none: bool) -> bool {
    let Some(covered) = bytes.get_mut(start..) else { return false };
    if covered.len() < offset.saturating_add(2) {
        return false;
    }
    let sum = Sum::new().add_bytes(covered).finish();
    put16(covered, offset, if sum == 0 && zero_is_none { 0xffff } else { sum });
    true
}

/// CRC32c (Castagnoli) of the bytes, as SCTP uses it. On the wire it is little-endian.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    Crc32c::new().update(bytes).finish()
}

/// CRC32c over several pieces.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(crate) struct Crc32c(u32);

impl Crc32c {
    pub(crate) const fn new() -> Self {
        Self(!0)
    }

    /// Adds the next piece.
    pub(crate) fn update(self, bytes: &[u8]) -> Self {
        let (words, tail) = bytes.as_chunks::<8>();
        let mut crc = self.0;
        for word in words {
            let [a, b, c, d, e, f, g, h] = (u64::from_le_bytes(*word) ^ u64::from(crc)).to_le_bytes();
            crc = table(7, a)
                ^ table(6, b)
                ^ table(5, c)
                ^ table(4, d)
                ^ table(3, e)
                ^ table(2, f)
                ^ table(1, g)
                ^ table(0, h);
        }
        for &byte in tail {
            crc = crc >> 8 ^ table(0, crc.to_le_bytes()[0] ^ byte);
        }
        Self(crc)
    }

    pub(crate) const fn finish(self) -> u32 {
        !self.0
    }
}

/// The CRC32c after an edit, without reading the rest of the message.
///
/// The CRC is linear: the difference of two CRCs is the CRC (without the initial and final complement) of
/// the difference of the messages, and the zeros that follow the difference only multiply it. Like
/// [`Edit`], this keeps a wrong checksum wrong. `old` and `new` are as long as each other, and `after` is
/// the number of bytes that follow them.
pub(crate) fn crc32c_edit(crc: u32, old: &[u8], new: &[u8], after: usize) -> u32 {
    debug_assert_eq!(old.len(), new.len());
    let mut difference = 0u32;
    for (old, new) in old.iter().zip(new) {
        difference = difference >> 8 ^ table(0, difference.to_le_bytes()[0] ^ old ^ new);
    }
    let mut rest = after;
    for power in &POWERS {
        if rest == 0 {
            break;
        }
        if rest & 1 == 1 {
            difference = multiply(difference, *power);
        }
        rest >>= 1;
    }
    debug_assert_eq!(rest, 0, "an SCTP packet is shorter than 2^17 bytes");
    crc ^ difference
}

#[inline]
fn table(row: usize, byte: u8) -> u32 {
    TABLES[row][usize::from(byte)]
}

/// The polynomial 0x1edc6f41 with its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Row `n` is the remainder of a byte that `n` more bytes follow (slicing by eight).
static TABLES: [[u32; 256]; 8] = {
    let mut tables = [[0u32; 256]; 8];
    let mut byte = 0u32;
    while byte < 256 {
        let mut crc = byte;
        let mut bit = 0;
        while bit < 8 {
            crc = times_x(crc);
            bit += 1;
        }
        tables[0][byte as usize] = crc;
        byte += 1;
    }
    let mut row = 1;
    while row < 8 {
        let mut byte = 0;
        while byte < 256 {
            let crc = tables[row - 1][byte];
            tables[row][byte] = crc >> 8 ^ tables[0][(crc & 0xff) as usize];
            byte += 1;
        }
        row += 1;
    }
    tables
};

/// `POWERS[k]` is x^(8 * 2^k): what `2^k` zero bytes multiply a remainder by.
static POWERS: [u32; 17] = {
    // x^8 in reversed bits: x^0 is the top bit.
    let mut powers = [1 << 23; 17];
    let mut k = 1;
    while k < 17 {
        powers[k] = multiply(powers[k - 1], powers[k - 1]);
        k += 1;
    }
    powers
};

/// Multiplies a remainder by x.
const fn times_x(crc: u32) -> u32 {
    if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 }
}

/// The product of two remainders.
const fn multiply(a: u32, b: u32) -> u32 {
    let (mut product, mut shifted, mut mask) = (0, b, 1u32 << 31);
    while mask != 0 {
        if a & mask != 0 {
            product ^= shifted;
        }
        shifted = times_x(shifted);
        mask >>= 1;
    }
    product
}

#[cfg(test)]
mod tests;
