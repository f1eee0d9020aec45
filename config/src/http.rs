//! `[http]`: the page, metrics and health over HTTP.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::control::{self, Control, Socket};
use crate::read::{Doc, Keys, Table};

pub(crate) const HTTP: Keys = &["listen", "page", "token_file", "hosts", "socket"];

/// Where the page is where nothing is said: on this machine only.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9180);
/// What a name of the DNS has at most, in bytes.
const HOST_MAX: usize = 253;

/// What is served over HTTP, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Http {
    /// Listened at for everything; `None`: at no address. Port 0 takes any free port.
    pub listen: Option<SocketAddr>,
    /// The same on a Unix socket, for those who may use the control socket.
    pub socket: Option<PathBuf>,
    /// Whether there is a page.
    pub page: bool,
    /// A file with what a browser has to know to change something; `None`: over `listen` nothing is changed.
    pub token_file: Option<PathBuf>,
    /// Names that the director may be called by, in lower case, beside addresses and `localhost`.
    pub hosts: Vec<String>,
}

pub(crate) fn http(root: &Table<'_>, doc: &Doc<'_>, control: &Control) -> Http {
    let Some(table) = root.section("http", HTTP) else { return Http::default() };
    let listen = table.parsed("listen", "127.0.0.1:9180", |text| {
        text.parse::<SocketAddr>()
            .map_err(|_| format!("HTTP address {text:?} is not an IP address and a port"))
    });
    let page = table.boolean("page").unwrap_or(false);
    let socket = table.parsed("socket", "/run/uvs/http.sock", |text| match control::parse_socket(text)? {
        Socket::At(path) => Ok(path),
        _ => Err(format!("HTTP socket {text:?} is no absolute path")),
    });
    let token_file = table.parsed("token_file", "/etc/uvs/page.token", |text| match text {
        "" => Err("the name of the token file is empty".to_owned()),
        name => Ok(PathBuf::from(name)),
    });
    let hosts = table.list("hosts", "director.example.net", host);
    if !HTTP.iter().any(|key| table.has(key)) {
        doc.error(
            &table.place("page"),
            "http says nothing",
            "add page = true, or listen = \"127.0.0.1:9180\"",
        );
    }
    if !page {
        for key in ["token_file", "hosts"].into_iter().filter(|key| table.has(key)) {
            doc.error(
                &table.place(key),
                format!("{key} without a page"),
                format!("add page = true, or remove {key}"),
            );
        }
    }
    let taken = match &control.socket {
        Socket::At(path) => Some(path.as_path()),
        Socket::Usual => Some(Path::new(control::USUAL)),
        Socket::None => None,
    };
    if let Some(found) = socket.as_ref().filter(|found| Some(found.value.as_path()) == taken) {
        let what = format!("{} is the control socket already", found.value.display());
        doc.error(&found.at, what, "write socket as in \"/run/uvs/http.sock\"");
    }
    let listen = match listen {
        Some(found) => {
            if page && !found.value.ip().to_canonical().is_loopback() {
                doc.warn(&found.at, open_to_all(found.value, token_file.is_some()), WAY_IN);
            }
            Some(found.value)
        }
        None => (page && !table.has("listen") && !table.has("socket")).then_some(DEFAULT),
    };
    Http {
        listen,
        socket: socket.map(|found| found.value),
        page,
        token_file: token_file.map(|found| doc.folder(&found.at).join(found.value)),
        hosts: hosts.unwrap_or_default().into_iter().map(|found| found.value).collect(),
    }
}

const WAY_IN: &str = "listen at 127.0.0.1:9180 and come over ssh (ssh -L 9180:127.0.0.1:9180 HOST), or put a proxy with \
    TLS and passwords before it";

fn open_to_all(listen: SocketAddr, token: bool) -> String {
    let clear = if token { ", and the token crosses the network unencrypted" } else { "" };
    format!("whoever can reach {listen} sees the page{clear}")
}

/// A name as it stands in a browser's address bar.
fn host(text: &str) -> Result<String, String> {
    if text.parse::<IpAddr>().is_ok() {
        return Err(format!("host {text:?} is an address, and those are always right"));
    }
    let fits = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    match text.len() <= HOST_MAX && text.split('.').all(fits) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(format!("host {text:?} is no name (without a port, without a slash)")),
    }
}
