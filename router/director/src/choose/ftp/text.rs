//! What an FTP client and server say about data connections (RFC 959, RFC 2428).
//!
//! ```text
//!   PASV                    227 Entering Passive Mode (h1,h2,h3,h4,p1,p2)
//!   EPSV [1|2]              229 Entering Extended Passive Mode (|||port|)
//!   PORT h1,h2,h3,h4,p1,p2
//!   EPRT |1 or 2|address|port|
//! ```
//!
//! A line is understood only when all of the part that matters is in one segment.

use core::net::Ipv4Addr;
use core::ops::Range;

use uvs_wire::Address;

use crate::base::record::Passive;

/// A client's command about data connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// The server shall listen.
    Passive(Passive),
    /// The client listens there.
    Active(Address, u16),
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// `None`: its own address (extended format).
    pub(super) addr: Option<Address>,
    pub(super) port: u16,
    /// The bytes of the segment that say so.
    pub(super) text: Range<usize>,
}

/// The last command about data connections in a segment of the client's.
pub(super) fn command(payload: &[u8], v4: bool) -> Option<Command> {
    payload.split_inclusive(|&byte| byte == b'\n').filter_map(|line| command_line(line, v4)).next_back()
}

fn command_line(line: &[u8], v4: bool) -> Option<Command> {
    if v4 && is_word(line, b"PASV\r\n") {
        return Some(Command::Passive(Passive::Pasv));
    }
    let (word, rest) = line.split_at_checked(4)?;
    if word.eq_ignore_ascii_case(b"EPSV") {
        let own = if v4 { b" 1\r" } else { b" 2\r" };
        let understood = rest.starts_with(b"\r") || rest.starts_with(own);
        return understood.then_some(Command::Passive(Passive::Epsv));
    }
    let (addr, port) = if v4 && word.eq_ignore_ascii_case(b"PORT") {
        let spaces = spaces(rest)?;
        let (addr, port, _) = comma_format(&rest[spaces..])?;
        (addr, port)
    } else if word.eq_ignore_ascii_case(b"EPRT") {
        let spaces = spaces(rest)?;
        let (addr, port, _) = extended_format(&rest[spaces..])?;
        (addr?, port)
    } else {
        return None;
    };
    (addr.is_v4() == v4).then_some(Command::Active(addr, port))
}

/// The answer to a passive command in a segment of the server's.
pub(super) fn offer(payload: &[u8], passive: Passive) -> Option<Offer> {
    let mut start = 0;
    payload.split_inclusive(|&byte| byte == b'\n').find_map(|line| {
        let at = start;
        start += line.len();
        let mut offer = offer_line(line, passive)?;
        offer.text = at + offer.text.start..at + offer.text.end;
        Some(offer)
    })
}

fn offer_line(line: &[u8], passive: Passive) -> Option<Offer> {
    const CODE: usize = 4;
    match passive {
        Passive::Pasv if line.starts_with(b"227 ") => {
            // The parenthesis is missing in what some servers write (RFC 1123, 4.1.2.6).
            let start = CODE + line[CODE..].iter().position(u8::is_ascii_digit)?;
            let (addr, port, len) = comma_format(&line[start..])?;
            Some(Offer { addr: Some(addr), port, text: start..start + len })
        }
        Passive::Epsv if line.starts_with(b"229 ") => {
            let start = CODE + line[CODE..].iter().position(|&byte| byte == b'(')? + 1;
            let (_, port, len) = extended_format(&line[start..])?;
            Some(Offer { addr: None, port, text: start..start + len })
        }
        _ => None,
    }
}

/// What a server at `addr` would have written.
pub(super) fn offer_text(passive: Passive, addr: Address, port: u16) -> String {
    match (passive, addr.to_v4()) {
        (Passive::Pasv, Some(addr)) => {
            let ([a, b, c, d], [high, low]) = (addr.octets(), port.to_be_bytes());
            format!("{a},{b},{c},{d},{high},{low}")
        }
        _ => format!("|||{port}|"),
    }
}

fn is_word(line: &[u8], word: &[u8]) -> bool {
    line.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

fn spaces(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&byte| byte != b' ').filter(|&count| count > 0)
}

/// A number and how many bytes it takes. Something must follow: it may go on in the next segment.
fn number(bytes: &[u8]) -> Option<(u16, usize)> {
    let len = bytes.iter().position(|byte| !byte.is_ascii_digit())?;
    let number = core::str::from_utf8(&bytes[..len]).ok()?.parse().ok()?;
    Some((number, len))
}

/// `h1,h2,h3,h4,p1,p2`, and its length.
fn comma_format(bytes: &[u8]) -> Option<(Address, u16, usize)> {
    let (mut fields, mut at) = ([0u8; 6], 0);
    for (index, field) in fields.iter_mut().enumerate() {
        if index > 0 {
            (bytes.get(at)? == &b',').then_some(())?;
            at += 1;
        }
        let (value, len) = number(&bytes[at..])?;
        *field = u8::try_from(value).ok()?;
        at += len;
    }
    let [a, b, c, d, high, low] = fields;
    let port = u16::from_be_bytes([high, low]);
    (port != 0).then_some((Address::v4(Ipv4Addr::new(a, b, c, d)), port, at))
}

/// `|family|address|port|` with any printable delimiter, address and family perhaps missing, and its length.
fn extended_format(bytes: &[u8]) -> Option<(Option<Address>, u16, usize)> {
    let delimiter = *bytes.first().filter(|byte| byte.is_ascii_graphic())?;
    let mut at = 0;
    let mut fields = [&bytes[..0]; 3];
    for field in &mut fields {
        let rest = &bytes[at + 1..];
        let len = rest.iter().position(|&byte| byte == delimiter)?;
        *field = &rest[..len];
        at += 1 + len;
    }
    let [family, text, port] = fields.map(|field| core::str::from_utf8(field).ok());
    let addr = match (family?, text?) {
        ("", "") => None,
        ("1", text) => Some(Address::v4(text.parse().ok()?)),
        ("2", text) => Some(Address::v6(text.parse().ok()?)),
        _ => return None,
    };
    let port = port?;
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|&port| port != 0 && is_number)?;
    Some((addr, port, at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_understood_whole_or_not_at_all() {
        let v4 = |text: &str| Address::v4(text.parse().unwrap());
        let active = |addr, port| Some(Command::Active(addr, port));
        let passive = |kind| Some(Command::Passive(kind));
        let there = Address::v6("fd00:c::2".parse().unwrap());
        let cases: [(&str, bool, Option<Command>); 24] = [
            ("PASV\r\n", true, passive(Passive::Pasv)),
            ("pasv\r\n", true, passive(Passive::Pasv)),
            ("TYPE I\r\nPASV\r\n", true, passive(Passive::Pasv)),
            ("PASV\r\nPORT 10,1,0,2,117,55\r\n", true, active(v4("10.1.0.2"), 30007)),
            ("PASV\r\n", false, None),
            ("CWD PASV\r\n", true, None),
            ("PASV", true, None),
            ("EPSV\r\n", true, passive(Passive::Epsv)),
            ("EPSV 1\r\n", true, passive(Passive::Epsv)),
            ("EPSV 2\r\n", true, None),
            ("EPSV 2\r\n", false, passive(Passive::Epsv)),
            ("EPSV ALL\r\n", true, None),
            ("PORT 10,1,0,2,117,55\r\n", true, active(v4("10.1.0.2"), 30007)),
            ("port   10,1,0,2,0,21\r\n", true, active(v4("10.1.0.2"), 21)),
            ("PORT 10,1,0,2,117,55", true, None),
            ("PORT 10,1,0,2,117,", true, None),
            ("PORT 10,1,0,256,117,55\r\n", true, None),
            ("PORT 10,1,0,2,0,0\r\n", true, None),
            ("PORT10,1,0,2,117,55\r\n", true, None),
            ("EPRT |1|10.1.0.2|30007|\r\n", true, active(v4("10.1.0.2"), 30007)),
            ("EPRT !2!fd00:c::2!30007!\r\n", false, active(there, 30007)),
            ("EPRT |2|fd00:c::2|30007|\r\n", true, None),
            ("EPRT |||30007|\r\n", true, None),
            ("EPRT |1|10.1.0.2|+7|\r\n", true, None),
        ];
        for (text, family, want) in cases {
            assert_eq!(command(text.as_bytes(), family), want, "{text:?}");
        }
    }

    #[test]
    fn offers_are_found_where_they_stand() {
        let rip = Some(Address::v4(Ipv4Addr::new(192, 168, 10, 11)));
        let pasv = Passive::Pasv;
        type Found = Option<(Option<Address>, u16, &'static str)>;
        let cases: [(&'static str, Passive, Found); 12] = [
            (
                "227 Entering Passive Mode (192,168,10,11,195,80).\r\n",
                pasv,
                Some((rip, 50000, "192,168,10,11,195,80")),
            ),
            ("227 =192,168,10,11,195,80\r\n", pasv, Some((rip, 50000, "192,168,10,11,195,80"))),
            ("200 OK\r\n227 (192,168,10,11,195,80)\r\n", pasv, Some((rip, 50000, "192,168,10,11,195,80"))),
            ("227 (192,168,10,11,195,80", pasv, None),
            ("227 (192,168,10,11,195", pasv, None),
            ("226 Done (192,168,10,11,195,80)\r\n", pasv, None),
            ("227 (192,168,10,11,195,80)\r\n", Passive::Epsv, None),
            ("229 Extended (|||50000|)\r\n", Passive::Epsv, Some((None, 50000, "|||50000|"))),
            (
                "229 (!1!192.168.10.11!50000!)\r\n",
                Passive::Epsv,
                Some((None, 50000, "!1!192.168.10.11!50000!")),
            ),
            ("229 (|||50000", Passive::Epsv, None),
            ("229 (|||0|)\r\n", Passive::Epsv, None),
            ("229 (|||65536|)\r\n", Passive::Epsv, None),
        ];
        for (text, passive, want) in cases {
            let found = offer(text.as_bytes(), passive);
            let found = found.map(|offer| (offer.addr, offer.port, &text[offer.text]));
            assert_eq!(found, want, "{text:?}");
        }
        assert_eq!(offer_text(pasv, Address::v4(Ipv4Addr::new(10, 0, 0, 100)), 50000), "10,0,0,100,195,80");
        assert_eq!(offer_text(Passive::Epsv, Address::v6("fd00::1".parse().unwrap()), 50000), "|||50000|");
    }
}
