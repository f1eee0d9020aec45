//! A server's certificate: whether it is believed, and until when.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::{DateTime, Decode as _};

use super::Stage;
use super::trust::Trust;
use crate::text::shown;

/// Verifies the certificate of one handshake, and notes when it expires, whether it is believed or not.
#[derive(Debug)]
pub(super) struct Verifier {
    /// `None`: any certificate will do.
    pub(super) trust: Option<Arc<Trust>>,
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) stage: Arc<Stage>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let validity = validity(end_entity);
        self.stage.expires(validity.map(|(_, until)| until));
        let Some(trust) = &self.trust else { return Ok(ServerCertVerified::assertion()) };
        // A server's own certificate in the file is as good as its issuer's, also where it is no issuer's, or one that
        // servers should not have (as `openssl req -x509` makes them).
        if trust.own.iter().any(|own| own == end_entity) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            let (from, until) = validity.ok_or(CertificateError::BadEncoding)?;
            let time = |seconds: i64| UnixTime::since_unix_epoch(Duration::from_secs(seconds.unsigned_abs()));
            let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            if seconds < from {
                return Err(CertificateError::NotValidYetContext { time: now, not_before: time(from) }.into());
            }
            if seconds > until {
                return Err(CertificateError::ExpiredContext { time: now, not_after: time(until) }.into());
            }
            return Ok(ServerCertVerified::assertion());
        }
        trust.chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Where any certificate will do, so will a key of a kind that is not taken any more.
        if self.trust.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.trust.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// From when until when it is valid, in seconds since 1970. `None`: it is no certificate.
fn validity(certificate: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let validity = certificate.tbs_certificate().validity();
    let seconds = |time: &x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).ok();
    Some((seconds(&validity.not_before)?, seconds(&validity.not_after)?))
}

/// The moment as people write it, as in 2026-12-05T10:00:00Z.
pub fn date(seconds: i64) -> String {
    let date = u64::try_from(seconds)
        .ok()
        .and_then(|seconds| DateTime::from_unix_duration(Duration::from_secs(seconds)).ok());
    date.map_or_else(|| format!("{seconds} s since 1970"), |date| date.to_string())
}

/// In how many seconds that is; less than 0: so long ago.
pub(super) fn from_now(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    seconds.saturating_sub(i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

/// What a success says of a certificate that expires soon, or that has and is not verified.
pub(super) fn soon(expires: i64) -> String {
    match from_now(expires) {
        gone @ ..0 => {
            format!("; its certificate expired {} ago, at {}", rough(gone.unsigned_abs()), date(expires))
        }
        left => format!("; its certificate expires in {}, at {}", rough(left.unsigned_abs()), date(expires)),
    }
}

/// So many seconds, in days or hours.
fn rough(seconds: u64) -> String {
    match seconds / 3600 {
        hours @ 0..48 => format!("{hours} h"),
        hours => format!("{} d", hours / 24),
    }
}

/// What is wrong with a certificate, in words.
pub(super) fn wrong(error: &CertificateError) -> String {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            let not_after = i64::try_from(not_after.as_secs()).unwrap_or(i64::MAX);
            format!("its certificate expired at {}", date(not_after))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            let not_before = i64::try_from(not_before.as_secs()).unwrap_or(i64::MAX);
            format!("its certificate is not valid before {}", date(not_before))
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names = match &presented[..] {
                [] => "no name (subject alternative name)".to_owned(),
                names => {
                    let names = names.join(", ").replace("DnsName(\"", "").replace("\")", "");
                    shown(names.as_bytes())
                }
            };
            format!("its certificate is not for {}, but for {names}", expected.to_str())
        }
        CertificateError::UnknownIssuer => {
            "its certificate comes from nobody that is trusted (see ca, and intermediate certificates)"
                .to_owned()
        }
        CertificateError::BadSignature => {
            "its certificate was not signed by the one of that name that is trusted (see ca)".to_owned()
        }
        CertificateError::Revoked => "its certificate is revoked".to_owned(),
        CertificateError::Other(why) if why.0.to_string().contains("CaUsedAsEndEntity") => {
            "its certificate is one of an issuer, and is not in ca itself".to_owned()
        }
        other => format!("its certificate is not accepted: {other}"),
    }
}
