//! `[http]`.

use super::{Case, prefixed};

pub(super) fn cases() -> Vec<Case> {
    vec![
        (
            "http without anything",
            prefixed("http = {}"),
            r#"
error: http says nothing
  where: edge.toml:1, http
  fix:   add page = true, or listen = "127.0.0.1:9180"
"#,
        ),
        (
            "an HTTP address without a port",
            prefixed("http.listen = '127.0.0.1'"),
            r#"
error: HTTP address "127.0.0.1" is not an IP address and a port
  where: edge.toml:1, http
  fix:   write listen as in "127.0.0.1:9180"
"#,
        ),
        (
            "a token without a page, and a name with a port",
            prefixed(
                "http = { listen = '127.0.0.1:9180', token_file = 'token', hosts = ['a.example:9180'] }",
            ),
            r#"
error: host "a.example:9180" is no name (without a port, without a slash)
  where: edge.toml:1, http
  fix:   write hosts as in "director.example.net"
error: token_file without a page
  where: edge.toml:1, http
  fix:   add page = true, or remove token_file
error: hosts without a page
  where: edge.toml:1, http
  fix:   add page = true, or remove hosts
"#,
        ),
        (
            "an address among the names",
            prefixed("http = { page = true, hosts = ['192.0.2.1'] }"),
            r#"
error: host "192.0.2.1" is an address, and those are always right
  where: edge.toml:1, http
  fix:   write hosts as in "director.example.net"
"#,
        ),
        (
            "the socket of requests",
            prefixed("http = { page = true, socket = '/run/uvs/uvs.sock' }"),
            r#"
error: /run/uvs/uvs.sock is the control socket already
  where: edge.toml:1, http
  fix:   write socket as in "/run/uvs/http.sock"
"#,
        ),
        (
            "no path",
            prefixed("http = { page = true, socket = 'none' }"),
            r#"
error: HTTP socket "none" is no absolute path
  where: edge.toml:1, http
  fix:   write socket as in "/run/uvs/http.sock"
"#,
        ),
    ]
}
