//! Who may see the page, and who may change something.
//!
//! A browser is also the tool of every other page that it shows. What comes from such a page is told from what comes
//! from ours by the name that the browser called the director by (`Host`: a stranger's name that was made to point here
//! is refused), by where a request came from (`Origin`, `Sec-Fetch-Site`), and by its type, which no form can send.
//! There are no cookies: a browser adds nothing by itself that would make a request a permitted one.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, ORIGIN};
use nix::libc::O_NONBLOCK;
use subtle::ConstantTimeEq as _;

use super::answer::JSON;

/// The shortest token, in characters.
const TOKEN_MIN: usize = 16;
/// The longest, in bytes.
const TOKEN_MAX: usize = 4096;
/// Everybody's rights to a file.
const OTHERS: u32 = 0o007;

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Somebody at that address, who changes something only with the token.
    Anybody(IpAddr),
    /// A process on this host that may control the director, as the kernel says.
    Process {
        /// Its process id.
        pid: i32,
        /// Its effective user.
        uid: u32,
    },
}

/// A secret in a file.
#[derive(Clone, Debug)]
pub struct Token(PathBuf);

impl Token {
    /// The token in that file, which is looked at now.
    ///
    /// # Errors
    /// It cannot be used as it is; a sentence with a way out.
    pub fn at(path: &Path) -> Result<Self, String> {
        let token = Self(path.to_owned());
        token.read().map(|_| token)
    }

    fn read(&self) -> Result<Vec<u8>, String> {
        let shown = self.0.display();
        let make = format!("make one with `(umask 077; head -c 32 /dev/urandom | base64 > {shown})`");
        let failed =
            |error: std::io::Error| format!("the token file {shown} cannot be read: {error}; {make}");
        // Not to wait for whoever writes into a pipe.
        let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(&self.0);
        let file: File = file.map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() {
            return Err(format!("the token file {shown} is no file; {make}"));
        }
        if found.mode() & OTHERS != 0 {
            let mode = found.mode() & 0o777;
            return Err(format!(
                "everybody may use the token file {shown} (mode {mode:o}); chmod 600 {shown}"
            ));
        }
        let mut text = Vec::new();
        file.take(TOKEN_MAX as u64 + 1).read_to_end(&mut text).map_err(failed)?;
        let token = text.trim_ascii();
        match token.len() {
            TOKEN_MIN..=TOKEN_MAX if token.iter().all(u8::is_ascii_graphic) => Ok(token.to_vec()),
            _ => Err(format!(
                "the token in {shown} is not {TOKEN_MIN} to {TOKEN_MAX} letters, digits and signs without blanks; {make}"
            )),
        }
    }

    /// Whether this is it, in a time that does not say how much of it is right. Reads the file: a new token counts at
    /// once.
    ///
    /// # Errors
    /// The file is not as it should be.
    pub(super) fn is(&self, said: &[u8]) -> Result<bool, String> {
        Ok(self.read()?.as_slice().ct_eq(said).into())
    }
}

/// The token that a request has with it.
pub(super) fn bearer(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    Some(value.strip_prefix(b"Bearer ").unwrap_or_default().trim_ascii().to_vec())
}

/// The name in `Host`, without its port and in lower case.
fn name(host: &str) -> String {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Whether the director is called by a name of its own. An address is: whoever shows another page under it has that
/// address.
///
/// # Errors
/// A sentence for whoever stands before it.
pub(super) fn check_host(headers: &HeaderMap, hosts: &[String]) -> Result<(), String> {
    let mut all = headers.get_all(HOST).iter();
    let (Some(host), None) = (all.next().and_then(|host| host.to_str().ok()), all.next()) else {
        return Err("a request has one Host".to_owned());
    };
    let name = name(host);
    let is_own = name == "localhost" || name.parse::<IpAddr>().is_ok() || hosts.contains(&name);
    is_own.then_some(()).ok_or_else(|| {
        format!("this director does not go by the name {name:?}: open it by its address, or add the name to hosts under [http]")
    })
}

/// Whether a request to the API comes from a page of ours, or from a program.
///
/// # Errors
/// Why not.
pub(super) fn check_origin(headers: &HeaderMap) -> Result<(), String> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(origin) = text(ORIGIN.as_str()) {
        let host = text(HOST.as_str()).unwrap_or("");
        // Before the director may be a proxy that speaks TLS.
        let own = ["http://", "https://"].iter().filter_map(|scheme| origin.strip_prefix(scheme));
        if !own.into_iter().any(|origin| origin.eq_ignore_ascii_case(host)) {
            return Err(format!("a page of {origin} may not speak to this director"));
        }
    }
    if let Some(site) = text("sec-fetch-site").filter(|site| !matches!(*site, "same-origin" | "none")) {
        return Err(format!("a page of another site ({site}) may not speak to this director"));
    }
    let is_json = text(CONTENT_TYPE.as_str()).is_some_and(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(JSON))
    });
    is_json.then_some(()).ok_or_else(|| format!("a request has the Content-Type {JSON}"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        all.iter().map(header).collect()
    }

    #[test]
    fn the_director_goes_by_addresses_and_by_the_names_it_was_given() {
        let hosts = ["director.example".to_owned()];
        for host in [
            "127.0.0.1",
            "127.0.0.1:9180",
            "[::1]:9180",
            "[::1]",
            "localhost",
            "LOCALHOST:1",
            "localhost.",
            "192.0.2.1:80",
            "director.example:9180",
            "Director.Example.",
        ] {
            assert_eq!(check_host(&headers(&[("host", host)]), &hosts), Ok(()), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:9180",
            "example",
            "[evil]",
            "a:b:1",
        ] {
            assert!(check_host(&headers(&[("host", host)]), &hosts).is_err(), "{host}");
        }
        assert!(check_host(&headers(&[]), &hosts).is_err(), "none");
        let mut two = headers(&[("host", "localhost")]);
        two.append(HOST, HeaderValue::from_static("evil.example"));
        assert!(check_host(&two, &hosts).is_err(), "two");
    }

    #[test]
    fn pages_of_others_may_not_speak() {
        let (host, json) = (("host", "127.0.0.1:9180"), ("content-type", "application/json"));
        let good: &[&[(&str, &str)]] = &[
            &[],
            &[("origin", "http://127.0.0.1:9180")],
            &[("origin", "https://127.0.0.1:9180"), ("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none")],
        ];
        for more in good {
            assert_eq!(check_origin(&headers(&[&[host, json], *more].concat())), Ok(()), "{more:?}");
        }
        let bad: &[&[(&str, &str)]] = &[
            &[("origin", "http://evil.example")],
            &[("origin", "http://127.0.0.1:9181")],
            &[("origin", "http://127.0.0.1:9180.evil.example")],
            &[("origin", "null")],
            &[("origin", "")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
        ];
        for more in bad {
            assert!(check_origin(&headers(&[&[host, json], *more].concat())).is_err(), "{more:?}");
        }
        for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""] {
            assert!(check_origin(&headers(&[host, ("content-type", kind)])).is_err(), "{kind}");
        }
        assert_eq!(
            check_origin(&headers(&[host, ("content-type", "Application/JSON; charset=utf-8")])),
            Ok(())
        );
    }

    #[test]
    fn a_token_is_a_secret_or_none_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let write = |text: &[u8], mode: u32| {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            Token::at(&file)
        };
        assert!(Token::at(&file).unwrap_err().contains("/dev/urandom"), "none");
        let token = write(b"0123456789abcdef\n", 0o640).unwrap();
        assert_eq!(token.is(b"0123456789abcdef"), Ok(true));
        for wrong in [&b""[..], b"0123456789abcde", b"0123456789abcdeF", b"0123456789abcdef\n"] {
            assert_eq!(token.is(wrong), Ok(false), "{wrong:?}");
        }
        for mode in [0o604, 0o602, 0o666] {
            assert!(write(b"0123456789abcdef", mode).unwrap_err().contains("chmod 600"), "{mode:o}");
        }
        for text in [&b""[..], b"0123456789abcde", b"0123456789 abcdef", &[b'x'; TOKEN_MAX + 1], &[0xFF; 32]]
        {
            assert!(write(text, 0o600).is_err(), "{} bytes", text.len());
        }
        assert!(token.is(b"0123456789abcdef").is_err(), "it is looked at again");
        write(b"another-token-of-24-chars", 0o600).unwrap();
        assert_eq!(
            (token.is(b"0123456789abcdef"), token.is(b"another-token-of-24-chars")),
            (Ok(false), Ok(true))
        );
        assert!(Token::at(folder.path()).unwrap_err().contains("is no file"));
        assert_eq!(bearer(&headers(&[("authorization", "Bearer abc ")])), Some(b"abc".to_vec()));
        assert_eq!(
            bearer(&headers(&[("authorization", "Basic abc")])),
            Some(Vec::new()),
            "which is never right"
        );
        assert_eq!(bearer(&headers(&[])), None);
    }
}
