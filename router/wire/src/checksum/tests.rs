use super::*;
use crate::field::get16;
use crate::testing::{naive_checksum, naive_crc32c, naive_pseudo_header};
use proptest::prelude::*;
use std::vec::Vec;

#[test]
fn known_sums() {
    let cases: [(&[u8], u16, &str); 7] = [
        (&[], 0xffff, "nothing"),
        (&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7], 0x220d, "RFC 1071, section 3"),
        (&[0xff, 0xff], 0, "all ones"),
        (&[0xff], 0x00ff, "one odd byte"),
        (&[0, 0, 0], 0xffff, "zeros"),
        (&[0x12, 0x34, 0x56], !(0x1234 + 0x5600), "three bytes"),
        (&[0xff, 0xff, 0, 1], 0xfffe, "end-around carry"),
    ];
    for (bytes, want, why) in cases {
        assert_eq!(Sum::new().add_bytes(bytes).finish(), want, "{why}");
    }
}

#[test]
fn known_crcs() {
    let cases: [(&[u8], u32, &str); 4] = [
        (b"123456789", 0xe306_9283, "the check value"),
        (&[0; 32], 0x8a91_36aa, "RFC 3720, B.4: zeros"),
        (&[0xff; 32], 0x62a8_ab43, "RFC 3720, B.4: ones"),
        (b"", 0, "nothing"),
    ];
    for (bytes, want, why) in cases {
        assert_eq!(crc32c(bytes), want, "{why}");
    }
}

#[test]
fn the_longest_packet_does_not_overflow() {
    let bytes = std::vec![0xff; 0x1_0000 + 40];
    assert_eq!(Sum::new().add_bytes(&bytes).finish(), 0);
    assert_eq!(Sum::new().add_bytes(&bytes[1..]).finish(), naive_checksum(&bytes[1..]));
}

proptest! {
    #[test]
    fn a_sum_is_that_of_the_words(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(Sum::new().add_bytes(&bytes).finish(), naive_checksum(&bytes));
    }

    #[test]
    fn a_sum_may_be_made_in_pieces(
        a in proptest::collection::vec(any::<[u8; 2]>(), 0..40),
        word: u16,
        words: u32,
        b in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let a = a.concat();
        let mut whole = a.clone();
        whole.extend(word.to_be_bytes());
        whole.extend(words.to_be_bytes());
        whole.extend(&b);
        let sum = Sum::new().add_bytes(&a).add_u16(word).add_u32(words).add_bytes(&b);
        prop_assert_eq!(sum.finish(), naive_checksum(&whole));
        let sum = Sum::new().add_bytes(&b).add(Sum::new().add_bytes(&a).add_u16(word).add_u32(words));
        prop_assert_eq!(sum.fold(), !naive_checksum(&whole));
    }

    #[test]
    fn the_pseudo_header_is_that_of_its_family(
        v4: bool, src: [u8; 16], dst: [u8; 16], protocol: u8, len: u16,
    ) {
        let address = |octets: [u8; 16]| if v4 {
            Address::v4([octets[0], octets[1], octets[2], octets[3]].into())
        } else {
            Address::from_octets(octets)
        };
        let (src, dst) = (address(src), address(dst));
        prop_assert_eq!(
            pseudo_header(src, dst, protocol, u32::from(len)).finish(),
            naive_checksum(&naive_pseudo_header(src, dst, protocol, usize::from(len)))
        );
    }

    #[test]
    fn an_edit_is_what_recomputing_gives(
        mut data in proptest::collection::vec(any::<u8>(), 8..120),
        at: proptest::sample::Index,
        new in proptest::collection::vec(any::<u8>(), 1..16),
        extreme in prop_oneof![Just(None), Just(Some(0u8)), Just(Some(0xffu8))],
    ) {
        // Never all zeros: no packet is, and zero has two forms there.
        data[0] |= 1;
        let at = 2 + at.index(data.len() - 2) / 2 * 2;
        let at = at.min(data.len() - 1);
        let length = new.len().min(data.len() - at);
        if let Some(extreme) = extreme {
            data[at..at + length].fill(extreme);
        }
        let before = naive_checksum(&data);
        let old: Vec<u8> = data[at..at + length].to_vec();
        data[at..at + length].copy_from_slice(&new[..length]);
        // Odd pieces are padded, so they stand for whole words only at the end of the data.
        prop_assume!(at % 2 == 0 && (length % 2 == 0 || at + length == data.len()));
        let edit = Edit::new().edit_bytes(&old, &new[..length]);
        prop_assert_eq!(edit.apply(before), naive_checksum(&data));
        prop_assert_eq!(edit.apply_partial(!before), !naive_checksum(&data));
    }

    #[test]
    fn addresses_and_words_are_edited_as_bytes_are(
        v4: bool, old: [u8; 16], new: [u8; 16], words: (u16, u16), checksum: u16,
    ) {
        let address = |octets: [u8; 16]| if v4 {
            Address::v4([octets[0], octets[1], octets[2], octets[3]].into())
        } else {
            Address::from_octets(octets)
        };
        let edit = Edit::new().address(address(old), address(new)).word(words.0, words.1);
        let (mut before, mut after) = (old[..if v4 { 4 } else { 16 }].to_vec(), new[..if v4 { 4 } else { 16 }].to_vec());
        before.extend(words.0.to_be_bytes());
        after.extend(words.1.to_be_bytes());
        let bytes = Edit::new().edit_bytes(&before, &after);
        prop_assume!(checksum != 0xffff);
        prop_assert_eq!(edit.apply(checksum), bytes.apply(checksum));
        prop_assert_eq!(edit.apply_partial(!checksum), bytes.apply_partial(!checksum));
    }

    #[test]
    fn a_wrong_checksum_stays_wrong_by_as_much(
        mut data in proptest::collection::vec(any::<u8>(), 8..60), new: u16, fault in 1..0xffffu16,
    ) {
        data[0] |= 1;
        let right = naive_checksum(&data);
        let wrong = Sum::new().add_u16(right).add_u16(fault).fold();
        let old = get16(&data, 2);
        put16(&mut data, 2, new);
        let edited = Edit::new().word(old, new).apply(wrong);
        prop_assert_eq!(
            edited % 0xffff,
            Sum::new().add_u16(naive_checksum(&data)).add_u16(fault).fold() % 0xffff
        );
        prop_assert_ne!(edited % 0xffff, naive_checksum(&data) % 0xffff);
    }

    #[test]
    fn the_crc_is_that_of_the_bits(
        bytes in proptest::collection::vec(any::<u8>(), 0..300), cut: proptest::sample::Index,
    ) {
        let (a, b) = bytes.split_at(cut.index(bytes.len() + 1));
        prop_assert_eq!(crc32c(&bytes), naive_crc32c(&bytes));
        prop_assert_eq!(Crc32c::new().update(a).update(b).finish(), naive_crc32c(&bytes));
    }

    #[test]
    fn a_crc_is_edited_without_reading_the_rest(
        mut bytes in proptest::collection::vec(any::<u8>(), 4..3000),
        at: proptest::sample::Index,
        new: [u8; 2],
        fault: u32,
    ) {
        let at = at.index(bytes.len() - 2);
        let old = [bytes[at], bytes[at + 1]];
        let before = crc32c(&bytes) ^ fault;
        bytes[at..at + 2].copy_from_slice(&new);
        let after = bytes.len() - at - 2;
        prop_assert_eq!(crc32c_edit(before, &old, &new, after), crc32c(&bytes) ^ fault);
    }

    #[test]
    fn completing_a_partial_sum_makes_the_checksum(
        data in proptest::collection::vec(any::<u8>(), 8..100), pseudo in 1..=0xffffu16,
    ) {
        let mut bytes = std::vec![0xaa; 5];
        bytes.extend(&data);
        put16(&mut bytes, 5 + 6, pseudo);
        prop_assert!(complete(&mut bytes, 5, 6, false));
        // Verified as a receiver does: sum of everything and the pseudo-header.
        let mut all = pseudo.to_be_bytes().to_vec();
        all.extend(&bytes[5..]);
        prop_assert_eq!(naive_checksum(&all), 0);
    }
}

#[test]
fn completing_outside_the_bytes_changes_nothing() {
    for (start, offset) in [(0, 9), (9, 0), (11, 0), (8, 2), (usize::MAX, 0), (2, usize::MAX)] {
        let mut bytes = [1; 10];
        assert!(!complete(&mut bytes, start, offset, true), "{start} + {offset}");
        assert_eq!(bytes, [1; 10]);
    }
}
