//! Names of hosts on a command line, put into addresses before anybody else reads it.
//!
//! ipvsadm takes names for virtual services and real servers, and for IPv4 only. Here a name that has IPv6 addresses
//! alone is good too.

use core::net::IpAddr;

use uvs_director::spec::Protocol;

use crate::address::{host_and_port, ipv4};
use crate::execute::split_words;
use crate::options::{Name, Options};
use crate::settings;

/// All addresses of a host; none for a name that nobody knows.
pub type Lookup<'l> = &'l mut dyn FnMut(&str) -> Vec<IpAddr>;

/// The command line with addresses for the names of hosts. A name without an address stays: parsing refuses it, in
/// ipvsadm's words. So does whatever else is wrong.
pub fn with_addresses(args: &[&str], lookup: Lookup<'_>) -> Vec<String> {
    let mut words: Vec<String> = args.iter().map(|word| (*word).to_owned()).collect();
    if args.first() == Some(&settings::OPTION) {
        return words;
    }
    let mut options = Options::new(args);
    while let Some(Ok((name, value))) = options.next() {
        let is_host =
            matches!(name, Name::TcpService | Name::UdpService | Name::SctpService | Name::RealServer);
        if let (true, Some(value)) = (is_host, value)
            && let Some(address) = address_of(value, lookup)
        {
            let word = &mut words[options.taken() - 1];
            word.truncate(word.len() - value.len());
            word.push_str(&address);
        }
    }
    words
}

/// The same for each line of the rules that `-R` reads; lines without names of hosts stay as they are.
pub fn with_addresses_in_rules(rules: &str, lookup: Lookup<'_>) -> String {
    let mut text = String::with_capacity(rules.len());
    for line in rules.lines() {
        let words = split_words(line);
        let borrowed: Vec<&str> = words.iter().map(String::as_str).collect();
        let changed = with_addresses(&borrowed, lookup);
        if changed == words {
            text.push_str(line);
        } else {
            let quoted: Vec<String> = changed.iter().map(|word| quote(word)).collect();
            text.push_str(&quoted.join(" "));
        }
        text.push('\n');
    }
    text
}

/// A word as [`split_words`] reads it.
fn quote(word: &str) -> String {
    let mut quoted = String::with_capacity(word.len() + 2);
    quoted.push('"');
    for letter in word.chars() {
        if matches!(letter, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted.push('"');
    quoted
}

/// `host[:port]` with an address for the host; `None`: it has no name in it, or one without an address.
fn address_of(text: &str, lookup: Lookup<'_>) -> Option<String> {
    // Whatever can be read without a look-up, or never.
    if text.starts_with('[') || host_and_port(text, Protocol::Tcp).is_some() {
        return None;
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let digits_only = host.bytes().all(|byte| byte.is_ascii_digit());
    if digits_only || host.contains([':', '/']) || ipv4(host).is_some() {
        return None;
    }
    let addresses = lookup(host);
    // The first of IPv4, as ipvsadm.
    let address = addresses.iter().find(|addr| addr.is_ipv4()).or_else(|| addresses.first())?;
    Some(match (address, port) {
        (IpAddr::V6(address), Some(port)) => format!("[{address}]:{port}"),
        (address, Some(port)) => format!("{address}:{port}"),
        (address, None) => address.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(name: &str) -> Vec<IpAddr> {
        let addresses: &[&str] = match name {
            "www" => &["10.0.0.100", "10.0.0.101"],
            "both" => &["2001:db8::1", "10.0.0.7"],
            "six" => &["2001:db8::6"],
            _ => &[],
        };
        addresses.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn names_of_hosts_become_addresses_wherever_they_stand() {
        let cases = [
            ("-A -t www:80 -s rr", "-A -t 10.0.0.100:80 -s rr", "a word of its own"),
            ("-A -twww:http", "-A -t10.0.0.100:http", "behind a letter"),
            ("-At www:80", "-At 10.0.0.100:80", "after a cluster"),
            ("-At=www:80", "-At=10.0.0.100:80", "behind a cluster"),
            ("-A --tcp-service=www:80", "-A --tcp-service=10.0.0.100:80", "behind a long name"),
            ("-a -u both:53 -r www", "-a -u 10.0.0.7:53 -r 10.0.0.100", "IPv4 first; no port"),
            ("-a --sctp-service six:5 -r six", "-a --sctp-service [2001:db8::6]:5 -r 2001:db8::6", "IPv6"),
            ("-A -t nobody:80", "-A -t nobody:80", "unknown: left to the parser"),
            ("-A -t 10.0.0.1:80 -s www", "-A -t 10.0.0.1:80 -s www", "a scheduler is no host"),
            ("-A -t 10.1:80", "-A -t 10.1:80", "inet_aton's forms are no names"),
            ("-A -t 10.0.0.1:nosuchport", "-A -t 10.0.0.1:nosuchport", "a wrong port is no name"),
            ("-A -t [www]:80", "-A -t [www]:80", "brackets hold addresses"),
            ("-A -t 80", "-A -t 80", "digits only"),
            ("-A -t www:80 --nosuch", "-A -t 10.0.0.100:80 --nosuch", "what is wrong stays"),
            ("-L -- -t www", "-L -- -t www", "no option any more"),
            ("--sysctl -t www", "--sysctl -t www", "settings"),
        ];
        for (line, want, why) in cases {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(with_addresses(&words, &mut hosts).join(" "), want, "{why}");
        }
    }

    #[test]
    fn rules_keep_their_lines_and_their_meaning() {
        let rules = "-A -t www:80 -s rr\n# www\n\n-a -t www:80 -r \"10.0.0.1\" -m\n-A -t 10.0.0.9:80 -s 'a b'\n-A -t www:81 -s 'a\"\\ b'";
        let text = with_addresses_in_rules(rules, &mut hosts);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 6);
        let meant = |line: &str| split_words(line).join("|");
        assert_eq!(meant(lines[0]), "-A|-t|10.0.0.100:80|-s|rr");
        assert_eq!((lines[1], lines[2]), ("# www", ""));
        assert_eq!(meant(lines[3]), "-a|-t|10.0.0.100:80|-r|10.0.0.1|-m");
        assert_eq!(lines[4], "-A -t 10.0.0.9:80 -s 'a b'");
        assert_eq!(meant(lines[5]), "-A|-t|10.0.0.100:81|-s|a\"\\ b");
    }

    #[test]
    fn a_name_is_looked_up_where_it_matters_and_nowhere_else() {
        let mut asked = Vec::new();
        with_addresses(&["-a", "-t", "10.0.0.1:80", "-r", "www:8080", "-w", "5"], &mut |name| {
            asked.push(name.to_owned());
            hosts(name)
        });
        assert_eq!(asked, ["www"]);
    }
}
