//! The hash functions of the kernel's schedulers.

/// Multiplicative hashing (Knuth, The Art of Computer Programming, volume 3, 6.4) with the constant of kernels since
/// 4.7: the upper `bits` of `value` times the golden ratio. `bits` is 1 to 32.
///
/// ```
/// assert_eq!(uvs_sdk::hash_32(1, 8), 0x61);
/// ```
pub const fn hash_32(value: u32, bits: u32) -> u32 {
    value.wrapping_mul(0x61c8_8647) >> (32 - bits)
}

/// SipHash-1-3 (Aumasson, Bernstein 2012; one round for each word, three at the end) over whole words and a last
/// incomplete one, `tail`, of `tail_len` bytes, 0 to 7; the other bytes of `tail` are 0.
///
/// The kernel's `hsiphash` on 64-bit machines is the lower half of this.
pub fn siphash13(key: [u64; 2], words: &[u64], tail: u64, tail_len: u64) -> u64 {
    let mut state = Sip([
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ]);
    let length = words.len() as u64 * 8 + tail_len;
    for &word in words {
        state.absorb(word);
    }
    state.absorb(length << 56 | tail);
    state.0[2] ^= 0xff;
    state.round();
    state.round();
    state.round();
    let [a, b, c, d] = state.0;
    a ^ b ^ c ^ d
}

struct Sip([u64; 4]);

impl Sip {
    fn absorb(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.0[0] ^= word;
    }

    fn round(&mut self) {
        let [a, b, c, d] = &mut self.0;
        *a = a.wrapping_add(*b);
        *b = b.rotate_left(13) ^ *a;
        *a = a.rotate_left(32);
        *c = c.wrapping_add(*d);
        *d = d.rotate_left(16) ^ *c;
        *a = a.wrapping_add(*d);
        *d = d.rotate_left(21) ^ *a;
        *c = c.wrapping_add(*b);
        *b = b.rotate_left(17) ^ *c;
        *c = c.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn siphash_is_that_of_the_standard_library() {
        use core::hash::Hasher;
        // The standard library's hasher is SipHash-1-3 with the key 0.
        for len in 0..40_usize {
            let bytes: std::vec::Vec<u8> = (0..len).map(|i| u8::try_from(i * 37 % 251).unwrap()).collect();
            let mut std13 = std::collections::hash_map::DefaultHasher::new();
            std13.write(&bytes);
            let words: std::vec::Vec<u64> =
                bytes.chunks_exact(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap())).collect();
            let rest = bytes.chunks_exact(8).remainder();
            let tail = rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
            let got = siphash13([0, 0], &words, tail, rest.len() as u64);
            assert_eq!(got, std13.finish(), "{len} bytes");
        }
    }
}
