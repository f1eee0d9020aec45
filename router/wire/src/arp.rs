//! ARP for IPv4 over Ethernet (RFC 826).
//!
//! ```text
//! 0       2       4   5   6       8           14          18          24          28
//! +-------+-------+---+---+-------+-----------+-----------+-----------+-----------+
//! | htype | ptype | 6 | 4 | oper. |sender MAC | sender IP |target MAC | target IP |
//! +-------+-------+---+---+-------+-----------+-----------+-----------+-----------+
//! ```

use core::net::Ipv4Addr;

use crate::ParseError;
use crate::field::array;

/// Length of a message.
pub const LEN: usize = 28;

/// Ethernet, IPv4, and the lengths of their addresses.
const FIXED: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// What a message does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Asks for the MAC address of the target.
    Request,
    /// Tells the MAC address of the sender.
    Reply,
}

/// An ARP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpRepr {
    /// Request or reply.
    pub operation: Operation,
    /// MAC address of the sender.
    pub sender_mac: [u8; 6],
    /// IP address of the sender; 0.0.0.0 in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// MAC address of the target; of no meaning in a request.
    pub target_mac: [u8; 6],
    /// IP address of the target; that of the sender in an announcement.
    pub target_ip: Ipv4Addr,
}

impl ArpRepr {
    /// Parses a message; padding may follow it.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below 28 bytes; [`ParseError::Malformed`] for other hardware, protocols
    /// or operations.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let Some(bytes) = bytes.first_chunk::<LEN>() else { return Err(ParseError::Truncated) };
        if bytes[..6] != FIXED {
            return Err(ParseError::Malformed);
        }
        let operation = match bytes[6..8] {
            [0, 1] => Operation::Request,
            [0, 2] => Operation::Reply,
            _ => return Err(ParseError::Malformed),
        };
        Ok(Self {
            operation,
            sender_mac: array(bytes, 8),
            sender_ip: array(bytes, 14).into(),
            target_mac: array(bytes, 18),
            target_ip: array(bytes, 24).into(),
        })
    }

    /// Writes the message into the first 28 bytes.
    ///
    /// # Panics
    /// If the buffer is shorter.
    pub fn emit(&self, buffer: &mut [u8]) {
        buffer[..6].copy_from_slice(&FIXED);
        buffer[6..8].copy_from_slice(match self.operation {
            Operation::Request => &[0, 1],
            Operation::Reply => &[0, 2],
        });
        buffer[8..14].copy_from_slice(&self.sender_mac);
        buffer[14..18].copy_from_slice(&self.sender_ip.octets());
        buffer[18..24].copy_from_slice(&self.target_mac);
        buffer[24..28].copy_from_slice(&self.target_ip.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REQUEST: [u8; LEN] =
        [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 254];

    #[test]
    fn a_request_is_read() {
        let arp = ArpRepr::parse(&REQUEST).unwrap();
        assert_eq!(arp.operation, Operation::Request);
        assert_eq!(arp.sender_mac, [2, 0, 0, 0, 0, 1]);
        assert_eq!(arp.sender_ip, Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(arp.target_ip, Ipv4Addr::new(10, 0, 0, 254));
        assert_eq!(ArpRepr::parse(&REQUEST[..27]), Err(ParseError::Truncated));
    }

    #[test]
    fn what_is_not_ipv4_over_ethernet_is_malformed() {
        let cases = [
            (1, 6, "IEEE 802 hardware"),
            (3, 0xdd, "another protocol"),
            (4, 8, "MAC length"),
            (5, 16, "IP length"),
            (6, 1, "operation 257"),
            (7, 0, "operation 0"),
            (7, 3, "RARP"),
        ];
        for (at, value, why) in cases {
            let mut bytes = REQUEST;
            bytes[at] = value;
            assert_eq!(ArpRepr::parse(&bytes), Err(ParseError::Malformed), "{why}");
        }
    }

    proptest! {
        #[test]
        fn emit_then_parse_is_the_same(reply: bool, a: [u8; 6], b: [u8; 4], c: [u8; 6], d: [u8; 4]) {
            let arp = ArpRepr {
                operation: if reply { Operation::Reply } else { Operation::Request },
                sender_mac: a,
                sender_ip: b.into(),
                target_mac: c,
                target_ip: d.into(),
            };
            let mut buffer = [0xaa; 60];
            arp.emit(&mut buffer);
            prop_assert_eq!(ArpRepr::parse(&buffer), Ok(arp));
            prop_assert!(buffer[LEN..].iter().all(|byte| *byte == 0xaa));
        }
    }
}
