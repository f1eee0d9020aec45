//! The files of the page, which are part of the program.

use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};

use super::answer::response;
use super::body::Body;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! file {
    ($path:literal, $kind:expr) => {
        (concat!("/page/", $path), $kind, include_str!(concat!("../../page/", $path)))
    };
}

const INDEX: &str = include_str!("../../page/index.html");

/// By path.
const FILES: &[(&str, &str, &str)] = &[
    file!("style.css", CSS),
    file!("icon.svg", SVG),
    file!("main.js", SCRIPT),
    file!("api.js", SCRIPT),
    file!("dom.js", SCRIPT),
    file!("words.js", SCRIPT),
    file!("chart.js", SCRIPT),
    file!("map.js", SCRIPT),
    file!("table.js", SCRIPT),
    file!("dialogs.js", SCRIPT),
    file!("views.js", SCRIPT),
    file!("details.js", SCRIPT),
];

/// What no page but ours may do with ours, and ours not either: nothing is loaded from elsewhere, no script or style
/// stands in a document, and no text becomes one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const HEADERS: [(&str, &str); 7] = [
    ("content-security-policy", POLICY),
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// The file of that path.
pub(super) fn file(path: &str) -> Option<Response<Body>> {
    let (kind, text) = match path {
        "/" => (HTML, INDEX),
        _ => FILES.iter().find(|(known, ..)| *known == path).map(|(_, kind, text)| (*kind, *text))?,
    };
    Some(response(StatusCode::OK, kind, Body::of(text)))
}

/// Adds what every answer to a browser has.
pub(super) fn secure(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(HTML));
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// A file that is not in the list is not found by the browser.
    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let mut there: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "index.html")
            .map(|name| format!("/page/{name}"))
            .collect();
        let mut served: Vec<String> = FILES.iter().map(|(path, ..)| (*path).to_owned()).collect();
        there.sort();
        served.sort();
        assert_eq!(served, there);
    }

    /// The policy would stop the page from working; what it needs is in its own files.
    #[test]
    fn the_page_has_nothing_inline_and_nothing_from_elsewhere() {
        for (path, _, text) in FILES.iter().chain([&("/", HTML, INDEX)]) {
            for part in [
                "<style",
                " style=",
                "javascript:",
                " onclick=",
                " onload=",
                "innerHTML",
                "eval(",
                "document.cookie",
            ] {
                assert!(!text.contains(part), "{part} in {path}");
            }
            for (at, _) in text.match_indices("://") {
                let (before, rest) = text.split_at(at);
                let is_a_name = before.ends_with("http") && rest.starts_with("://www.w3.org/");
                assert!(is_a_name, "{path} speaks of another place: {rest:.60}");
            }
        }
        let scripts = INDEX.matches("<script").count();
        assert_eq!(scripts, INDEX.matches("<script type=\"module\" src=\"/page/").count());
        let bytes: usize = FILES.iter().map(|(_, _, text)| text.len()).sum::<usize>() + INDEX.len();
        assert!(bytes < 200_000, "{bytes} bytes are loaded at each visit");
    }
}
