//! Why no answer came: told apart by the types in the error's chain, never by its text.

use std::{error::Error, io};

use hyper_util::client::legacy;

use super::dial::DialTimeout;
use crate::{egress::ResolveError, outcome::Fault};

/// The fault behind `error`. The client's errors name no URL.
pub(super) fn fault(error: &legacy::Error) -> Fault {
    if let Some(error) = cause::<ResolveError>(error) {
        return match error {
            ResolveError::Lookup { .. } => Fault::Dns(error.to_string()),
            ResolveError::Refused { .. } => Fault::Egress(error.to_string()),
        };
    }
    if let Some(error) = cause::<rustls::Error>(error) {
        return Fault::Tls(error.to_string());
    }
    if let Some(DialTimeout(limit)) = cause(error) {
        return Fault::Timeout(*limit);
    }
    match io_kind(error) {
        Some(io::ErrorKind::ConnectionReset) => {
            Fault::ConnectionLost("the receiver reset the connection".to_owned())
        }
        Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe) => {
            Fault::ConnectionLost("the receiver closed the connection".to_owned())
        }
        _ if error.is_connect() => Fault::ConnectionRefused(innermost(error)),
        _ => Fault::ConnectionLost(innermost(error)),
    }
}

/// Whether the receiver has said that it did not process the request and will not: a refused stream, or a stream
/// above the last one that a connection being given up still serves (RFC 9113, 6.8 and 8.7). A connection that just
/// ends says nothing of the kind.
pub(super) fn is_unprocessed(error: &legacy::Error) -> bool {
    cause::<h2::Error>(error).is_some_and(|error| {
        error.is_remote()
            && match error.reason() {
                // Not to be made worse by asking again at once.
                Some(h2::Reason::ENHANCE_YOUR_CALM) => false,
                Some(h2::Reason::REFUSED_STREAM) => true,
                _ => error.is_go_away(),
            }
    })
}

/// The kind of the innermost I/O error, the one that says what happened to the connection.
fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    chain(error).filter_map(|error| error.downcast_ref::<io::Error>()).last().map(io::Error::kind)
}

/// The first error of type `T` in the chain.
fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    chain(error).find_map(|error| error.downcast_ref())
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

/// An error and what caused it; errors wrapped in an [`io::Error`] or an [`h2::Error`] are looked into.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error = *error;
        if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            return Some(inner);
        }
        match error.downcast_ref::<h2::Error>().and_then(h2::Error::get_io) {
            Some(inner) => Some(inner),
            None => error.source(),
        }
    })
}
