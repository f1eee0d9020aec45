//! TLS over a connection: who the server is, which protocol it picks, and what is said of all that goes wrong.

use std::io;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, Error, client::Resumption};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate::{Verifier, wrong};
use super::trust::Trusts;
use super::{Stage, fail, unmade};
use crate::net::{Remote, Stream, Target};
use crate::outcome::Verdict;
use crate::spec::Tls;
use crate::text::shown;

/// The names of protocols (RFC 7301).
pub(super) const H2: &[u8] = b"h2";
pub(super) const HTTP11: &[u8] = b"http/1.1";

/// What is offered to a server, by ALPN.
pub(super) type Protocols = &'static [&'static [u8]];

/// Makes handshakes.
#[derive(Debug)]
pub(super) struct Handshakes {
    provider: Arc<CryptoProvider>,
    trusts: Trusts,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self { provider: Arc::new(ring::default_provider()), trusts: Trusts::default() }
    }
}

/// What a probe does that waits for certificates to be read: the server has no part in it.
pub(super) const READING: &str = "reading the certificates that are trusted";

impl Handshakes {
    /// What is needed for a handshake, before there is a connection: a server is not asked for nothing.
    pub(super) async fn prepare(
        &self,
        tls: &Tls,
        host: Option<&str>,
        target: &Target,
        protocols: Protocols,
        stage: &Arc<Stage>,
    ) -> Result<Prepared, Verdict> {
        let trust = if tls.verify {
            stage.is(READING);
            Some(self.trusts.get(tls.ca.as_ref(), &self.provider).await.map_err(unmade)?)
        } else {
            None
        };
        let name = name(tls, host, target).map_err(unmade)?;
        let verifier = Verifier { trust, provider: Arc::clone(&self.provider), stage: Arc::clone(stage) };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| unmade(error.to_string()))?;
        let mut config =
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
        // Each probe is a handshake of its own: a ticket would keep it from what it is to look at.
        config.resumption = Resumption::disabled();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Prepared { connector: TlsConnector::from(Arc::new(config)), name })
    }
}

/// Whom the certificate has to name: what is given as SNI, else the host, else the address that is asked.
fn name(tls: &Tls, host: Option<&str>, target: &Target) -> Result<ServerName<'static>, String> {
    match tls.sni.as_deref().or_else(|| host.map(without_port)) {
        Some(name) => ServerName::try_from(name.to_owned()).map_err(|error| format!("{name:?}: {error}")),
        None => Ok(ServerName::IpAddress(target.address.into())),
    }
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn without_port(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    match host.split_once(':') {
        // More than one colon: an IPv6 address.
        Some((name, port)) if !port.contains(':') => name,
        _ => host,
    }
}

/// A handshake that can be made.
pub(super) struct Prepared {
    connector: TlsConnector,
    name: ServerName<'static>,
}

/// A connection under TLS.
pub(super) struct Secured {
    pub(super) stream: TlsStream<Box<dyn Stream>>,
    /// Whether the server has picked HTTP/2.
    pub(super) h2: bool,
}

impl Prepared {
    /// Makes the handshake.
    pub(super) async fn shake(self, stream: Box<dyn Stream>, stage: &Stage) -> Result<Secured, Verdict> {
        stage.is("waiting for the TLS handshake");
        let stream = self.connector.connect(self.name, stream).await.map_err(|error| failed(&error))?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(H2);
        Ok(Secured { stream, h2 })
    }
}

fn failed(error: &io::Error) -> Verdict {
    if let Some(said) = said(error) {
        return fail(said);
    }
    match Remote::from(error) {
        Remote::Closed => fail("closed in the TLS handshake"),
        Remote::Reset => fail("reset in the TLS handshake"),
        other => fail(other.to_string()),
    }
}

/// What TLS says of the server in an error of its stream, if that comes from there.
pub(super) fn said(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::InvalidCertificate(error) => wrong(error),
        Error::AlertReceived(alert) => format!("it ends TLS with the alert {}", alert_name(*alert)),
        Error::InvalidMessage(_) => "the answer is not TLS".to_owned(),
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            "its TLS messages are out of order".to_owned()
        }
        Error::NoCertificatesPresented => "it shows no certificate".to_owned(),
        Error::PeerIncompatible(why) => format!("its TLS is not one that uvs speaks: {why:?}"),
        Error::PeerMisbehaved(why) => format!("its TLS is wrong: {why:?}"),
        Error::DecryptError => "what it encrypts cannot be decrypted".to_owned(),
        other => shown(other.to_string().as_bytes()),
    })
}

/// The name of an alert as in RFC 8446, such as `handshake_failure`.
fn alert_name(alert: AlertDescription) -> String {
    let Some(name) = alert.as_str() else { return u8::from(alert).to_string() };
    let mut words = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !words.is_empty() {
            words.push('_');
        }
        words.push(c.to_ascii_lowercase());
    }
    words.replace("recognised", "recognized")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_without_its_port() {
        let cases = [
            ("a.example", "a.example"),
            ("a.example:8443", "a.example"),
            ("192.0.2.1:443", "192.0.2.1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
        ];
        for (host, name) in cases {
            assert_eq!(without_port(host), name);
        }
    }

    #[test]
    fn alerts_have_the_names_of_the_standard() {
        assert_eq!(alert_name(AlertDescription::HandshakeFailure), "handshake_failure");
        assert_eq!(alert_name(AlertDescription::UnrecognisedName), "unrecognized_name");
        assert_eq!(alert_name(AlertDescription::Unknown(200)), "200");
    }
}
