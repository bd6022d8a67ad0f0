//! hyper's errors, read down to their cause and said so that somebody can act on them.

use std::error::Error;
use std::io;

use rustls::{CertificateError, InvalidMessage};
use warmstep_addresses::NameError;

use crate::dns::LookupError;
use crate::error::Fault;
use crate::text::one_line;

/// The fault of a request that got no answer.
pub(crate) fn of_request(
    host: &str,
    scheme: &str,
    error: &hyper_util::client::legacy::Error,
) -> Fault {
    let host = host.to_owned();
    if let Some(lookup) = find::<LookupError>(error) {
        return match lookup {
            LookupError::Name(NameError::None) => Fault::NoHost { host },
            LookupError::Refused(refusal) => refusal.clone().into(),
            LookupError::Name(NameError::Failed(_)) => {
                Fault::Unreachable { host, reason: one_line(&lookup.to_string(), 200) }
            }
        };
    }
    if let Some(tls) = find::<rustls::Error>(error) {
        return Fault::Tls { reason: tls_reason(&host, tls), host };
    }
    if let Some(http) = find::<hyper::Error>(error)
        && (http.is_parse() || http.is_parse_too_large())
    {
        let advice = if scheme == "http" { ", and does it speak plain HTTP" } else { "" };
        return Fault::Protocol { reason: format!("{http}; is a registry there{advice}?"), host };
    }
    let reason = reason(error);
    if error.is_connect() {
        Fault::Unreachable { host, reason }
    } else {
        Fault::Cut { host, reason }
    }
}

/// The fault of an answer that stopped.
pub(crate) fn of_body(host: &str, error: &hyper::Error) -> Fault {
    let host = host.to_owned();
    if error.is_parse() {
        return Fault::Protocol { host, reason: one_line(&error.to_string(), 200) };
    }
    Fault::Cut { host, reason: reason(error) }
}

fn tls_reason(host: &str, error: &rustls::Error) -> String {
    match error {
        // What TLS makes of an answer in plain text.
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => format!(
            "it does not speak TLS; if it is a plain HTTP registry, set plain_http = true for {host}"
        ),
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            // The latter is an authority of the same name with another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
                "its certificate is from an unknown authority; if it is yours, set ca for {host}"
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name".to_owned()
            }
            other => format!("its certificate is not valid: {}", one_line(&other.to_string(), 200)),
        },
        other => one_line(&other.to_string(), 200),
    }
}

/// The innermost cause, in words.
fn reason(error: &(dyn Error + 'static)) -> String {
    if let Some(error) = find::<io::Error>(error) {
        return match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused; is it running?".to_owned(),
            io::ErrorKind::TimedOut => "no answer to the attempt to connect".to_owned(),
            io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
            _ => one_line(&error.to_string(), 200),
        };
    }
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    one_line(&innermost.to_string(), 200)
}

/// The last error of type `T` in a chain: the one nearest to the cause.
///
/// An `io::Error` that wraps another error skips it in its `source`, so it is looked into.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut found = None;
    let mut current = Some(error);
    while let Some(error) = current {
        found = error.downcast_ref::<T>().or(found);
        current = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    found
}
