//! Values of keepalived.conf, each as keepalived reads it.

use core::net::IpAddr;

use crate::remark::Remarks;
use crate::tree::Node;

/// The value of a statement; without one keepalived does not start.
pub(crate) fn required<'n>(node: &'n Node, remarks: &mut Remarks) -> Option<&'n str> {
    let value = node.argument(0);
    if value.is_none() {
        remarks.source(
            &node.at,
            format!("{} has no value: keepalived does not start with this", node.keyword()),
        );
    }
    value
}

/// A whole number within a range. Out of it the statement counts for nothing.
pub(crate) fn number(node: &Node, min: u64, max: u64, remarks: &mut Remarks) -> Option<u64> {
    let text = required(node, remarks)?;
    number_of(node, text, min, max, remarks)
}

/// The same of a word.
pub(crate) fn number_of(node: &Node, text: &str, min: u64, max: u64, remarks: &mut Remarks) -> Option<u64> {
    let keyword = node.keyword();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, after) = text.split_at(digits);
    let value = digits.parse::<u64>().ok().filter(|value| (min..=max).contains(value));
    let Some(value) = value else {
        let text = format!("{keyword} {text} is no number from {min} to {max}: it is ignored");
        remarks.source(&node.at, text);
        return None;
    };
    if !after.is_empty() {
        remarks.source(&node.at, format!("{keyword} {text} is read as {value}"));
    }
    Some(value)
}

/// A time in seconds with up to six places, in microseconds.
pub(crate) fn timer(node: &Node, min: u64, remarks: &mut Remarks) -> Option<u64> {
    /// keepalived's own bound, in seconds.
    const MAX: u64 = 4_294_967_295 / 1000;
    let text = required(node, remarks)?;
    let keyword = node.keyword();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let cut = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole_digits, fraction_digits) = (cut(whole), cut(fraction));
    let seconds = match &whole[..whole_digits] {
        "" if !text.starts_with('.') || fraction_digits == 0 => None,
        "" => Some(0),
        digits => digits.parse::<u64>().ok().filter(|seconds| *seconds <= MAX),
    };
    let mut places: String = fraction.chars().take(fraction_digits.min(6)).collect();
    while places.len() < 6 {
        places.push('0');
    }
    let micros = seconds.zip(places.parse::<u64>().ok()).map(|(seconds, part)| seconds * 1_000_000 + part);
    let Some(micros) = micros.filter(|micros| *micros >= min) else {
        remarks
            .source(&node.at, format!("{keyword} {text} is no time in seconds that it takes: it is ignored"));
        return None;
    };
    if whole_digits < whole.len() || fraction_digits < fraction.len() || fraction_digits > 6 {
        let read = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
        let read = read.trim_end_matches('0').trim_end_matches('.');
        remarks.source(
            &node.at,
            format!("{keyword} {text} is read as {read}: a number of seconds is all it takes"),
        );
    }
    Some(micros)
}

/// On or off; on without a value.
pub(crate) fn switch(node: &Node, remarks: &mut Remarks) -> Option<bool> {
    match node.argument(0) {
        None | Some("on" | "true" | "yes") => Some(true),
        Some("off" | "false" | "no") => Some(false),
        Some(other) => {
            let text = format!("{} {other} is neither on nor off: it is ignored", node.keyword());
            remarks.source(&node.at, text);
            None
        }
    }
}

/// A flag that takes no value: whatever stands behind it, it is on.
pub(crate) fn flag(node: &Node, remarks: &mut Remarks) -> bool {
    if let Some(value) = node.argument(0) {
        let text = format!("{} {value}: it takes no value here, and is on", node.keyword());
        remarks.source(&node.at, text);
    }
    true
}

/// An address, without what may be attached to it.
pub(crate) fn address(node: &Node, text: &str, remarks: &mut Remarks) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let bare = text.split(['/', '-']).next().unwrap_or(text);
    match bare.parse() {
        Ok(address) => {
            remarks.source(
                &node.at,
                format!("{text} is read as {address}: a length or range does not belong here"),
            );
            Some(address)
        }
        Err(_) => {
            remarks.source(&node.at, format!("{text} is no IP address: {} is ignored", node.keyword()));
            None
        }
    }
}

/// A port, of 0 to 65535, behind an address.
pub(crate) fn port(node: &Node, text: &str, remarks: &mut Remarks) -> Option<u16> {
    let port = number_of(node, text, 0, 65535, remarks)?;
    u16::try_from(port).ok()
}

/// Says that a statement is not known where it stands.
pub(crate) fn unknown(node: &Node, place: &str, remarks: &mut Remarks) {
    // What has no statement was named already.
    if node.words.is_empty() {
        return;
    }
    let what = if node.block.is_some() { "the block is" } else { "it is" };
    remarks.source(&node.at, format!("{} is no keyword of {place}: {what} ignored", node.keyword()));
}
