//! What a `[[check]]` asks over HTTP, gRPC and DNS.

use core::ops::RangeInclusive;

use uvs_check::probe::{check_name, record_type, response_code};
use uvs_check::spec::{Dns, Grpc, Http, HttpVersion};

use crate::check::Reader;
use crate::read::Table;
use crate::suggest::nearest;
use crate::tls::tls;

impl Reader<'_> {
    pub(crate) fn http(&self, secure: bool) -> Http {
        let table = self.table;
        let method = table.parsed("method", "GET", |text| {
            let known = ["GET", "HEAD", "OPTIONS", "POST", "PUT"];
            if known.contains(&text) {
                return Ok(text.to_owned());
            }
            let near = nearest(text, known).map_or(String::new(), |near| format!(", perhaps {near}"));
            Err(format!("method {text:?} is none of {}{near}", known.join(", ")))
        });
        let path = http_path(table);
        let host = http_host(table);
        let expect = self.pattern();
        if let Some(method) = method.as_ref().filter(|method| method.value == "HEAD" && expect.is_some()) {
            let what = "an answer to HEAD has no body to search";
            table.doc.error(&method.at, what, "use GET, or remove expect");
        }
        let versions = [("1.1", HttpVersion::Http1), ("2", HttpVersion::Http2)];
        let version =
            table.choice("version", &versions, &[("h2", "2"), ("h2c", "2"), ("1", "1.1"), ("1.0", "1.1")]);
        let version = version.map_or(HttpVersion::Any, |found| found.value);
        let tls = secure.then(|| tls(table));
        let status = table.list("status", "200-299", read_status);
        Http {
            method: method.map_or("GET".to_owned(), |method| method.value),
            path: path.unwrap_or_else(|| "/".to_owned()),
            host,
            status: status.map_or(vec![200..=299], |all| all.into_iter().map(|range| range.value).collect()),
            body: expect,
            version,
            tls,
        }
    }

    pub(crate) fn grpc(&self) -> Grpc {
        let table = self.table;
        let secure = table.boolean("tls").unwrap_or(false);
        if !secure {
            for key in ["sni", "verify", "ca", "expiry_warning"].into_iter().filter(|key| table.has(key)) {
                let what = format!("{key} is of TLS, which the check does not speak");
                table.doc.error(&table.place(key), what, "add tls = true, or remove it");
            }
        }
        let service = table.parsed("service_name", "my.package.Service", |text| {
            match text.len() <= 255 && text.chars().all(|c| c.is_ascii_graphic()) {
                true => Ok(text.to_owned()),
                false => Err(format!("service_name {text:?} is no name of a service")),
            }
        });
        Grpc {
            service: service.map_or_else(String::new, |service| service.value),
            host: http_host(table),
            tls: secure.then(|| tls(table)),
        }
    }

    pub(crate) fn dns(&self) -> Option<Dns> {
        let table = self.table;
        table.require("query", "\"www.example.org\"");
        let name = table.parsed("query", "www.example.org", |text| match check_name(text) {
            Ok(()) => Ok(text.to_owned()),
            Err(error) => Err(format!("query {error}")),
        });
        let record = table.parsed("record", "AAAA", |text| {
            record_type(text)
                .ok_or_else(|| format!("record {text:?} is no type of records, such as A, MX or TYPE65"))
        });
        let codes = table.list("rcode", "NOERROR", |text| {
            let known = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];
            response_code(text).ok_or_else(|| {
                let near = nearest(text, known).map_or(String::new(), |near| format!(", perhaps {near}"));
                format!("rcode {text:?} is no code of a response, such as {}{near}", known.join(", "))
            })
        });
        let codes = codes.map_or(vec![0], |codes| codes.into_iter().map(|code| code.value).collect());
        let transport = table.choice("transport", &[("udp", false), ("tcp", true)], &[]);
        let expect = self.pattern();
        if let (Some(_), false) = (&expect, codes.contains(&0)) {
            let key = if table.has("expect") { "expect" } else { "expect_regex" };
            let what = format!("{key} wants a record, and no rcode that is a success comes with one");
            table.doc.error(&table.place(key), what, "remove it, or add \"NOERROR\" to rcode");
        }
        Some(Dns {
            name: name?.value,
            // A
            record: record.map_or(1, |record| record.value),
            codes,
            expect,
            tcp: transport.is_some_and(|transport| transport.value),
        })
    }
}

/// The path of a request; of a check, or of a destination in its place.
pub(crate) fn http_path(table: &Table<'_>) -> Option<String> {
    let path = table.parsed("path", "/health", |text| {
        let plain = |c: char| c.is_ascii_graphic() && c != '#';
        match text.starts_with('/') && text.chars().all(plain) {
            true => Ok(text.to_owned()),
            false => Err(format!("path {text:?} is not one: it begins with / and has no blanks")),
        }
    });
    path.map(|path| path.value)
}

/// The host that a request names; of a check, or of a destination in its place.
pub(crate) fn http_host(table: &Table<'_>) -> Option<String> {
    let host = table.parsed("host", "www.example.org", |text| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        match !text.is_empty() && text.len() <= 255 && text.chars().all(plain) {
            true => Ok(text.to_owned()),
            false => Err(format!("host {text:?} is not the name of one")),
        }
    });
    host.map(|host| host.value)
}

fn read_status(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let code = |text: &str| text.trim().parse::<u16>().ok().filter(|code| (100..=599).contains(code));
    match (code(first), code(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(format!("status {text:?} is no status from 100 to 599, and no range of them")),
    }
}
