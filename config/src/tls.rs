//! TLS of a `[[check]]`: whom the server has to be, and how its certificate is verified.

use std::path::PathBuf;

use uvs_check::spec::Tls;
use uvs_director::Duration;

use crate::duration::Span;
use crate::read::Table;

const EXPIRY: Span = Span {
    key: "expiry_warning",
    min: Duration::ZERO,
    max: Duration::from_secs(365 * 86_400),
    note: " (0 is none)",
};

/// Reads it.
pub(crate) fn tls(table: &Table<'_>) -> Tls {
    let doc = table.doc;
    let usual = Tls::default();
    let sni = table.parsed("sni", "www.example.org", |text| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        match !text.is_empty() && text.len() <= 253 && text.chars().all(plain) {
            true => Ok(text.to_owned()),
            false => Err(format!("sni {text:?} is no name of a host, and no address")),
        }
    });
    let sni = sni.map(|sni| sni.value);
    let verify = table.boolean("verify").unwrap_or(usual.verify);
    let ca = path(table, "ca", "/etc/uvs/ca.pem");
    if !verify && ca.is_some() {
        let what = "ca says what to verify certificates with, and verify = false that they are not";
        doc.error(&table.place("ca"), what, "remove one of them");
    }
    if let Some(ca) = ca.as_ref().filter(|ca| verify && !ca.is_file()) {
        let what = format!("there is no file {} yet: the check cannot be made without it", ca.display());
        doc.warn(&table.place("ca"), what, "correct the path, or put certificates in PEM there");
    }
    let expiry_warning = table.duration(&EXPIRY).map_or(usual.expiry_warning, |found| found.value);
    Tls { sni, verify, ca, expiry_warning }
}

/// A path, from the folder of the file that names it.
pub(crate) fn path(table: &Table<'_>, key: &'static str, example: &str) -> Option<PathBuf> {
    let text = table.string(key, example)?;
    if text.value.is_empty() {
        table.doc.error(&text.at, format!("{key} is an empty path"), "name the file");
        return None;
    }
    let folder = table.doc.folder(&text.at);
    let joined = folder.join(text.value);
    Some(std::path::absolute(&joined).unwrap_or(joined))
}
