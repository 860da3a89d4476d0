//! What is done with a request before its page: who may ask, how much, how long; and the headers of
//! every answer.
//!
//! The listener has no authentication, so a page that a browser shows must not be able to ask for a
//! visitor: requests are answered only under names that cannot be made to point here by somebody
//! else's DNS (an address, localhost, the advertised host), nothing but reading is possible, and no
//! answer may be framed, sniffed or combined with anything from elsewhere. `/metrics`, `/livez` and
//! `/readyz` are for machines, which may know this one by any name; but names of topics and groups stand in
//! `/metrics`, so that what comes from a browser is answered there under the same names only.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::{sync::Semaphore, time::timeout};

use super::limits;
use crate::metrics::{IntakeProbe, Limit};

/// Nothing is loaded that this listener does not serve itself, and no script or style stands in a page.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(&str, &str); 7] = [
    ("content-security-policy", CONTENT_POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    // A page shows records and is out of date at once.
    ("cache-control", "no-store"),
];

/// Shared by all requests for the console and its API.
pub struct Guard {
    /// Lower case, without port.
    advertised: String,
    turns: Semaphore,
    probe: IntakeProbe,
}

impl Guard {
    /// `advertised`: host:port as others are told.
    pub fn new(advertised: &str, probe: IntakeProbe) -> Guard {
        let host = advertised.rsplit_once(':').map_or(advertised, |(host, _)| host);
        Guard { advertised: host.to_ascii_lowercase(), turns: Semaphore::new(limits::REQUESTS_MAX), probe }
    }

    /// An address, localhost, or the advertised host; any port.
    fn is_ours(&self, authority: &str) -> bool {
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        let host = authority.host().to_ascii_lowercase();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        // A name and a password before the host are nothing that a browser sends.
        !authority.as_str().contains('@')
            && (address.parse::<IpAddr>().is_ok() || host == "localhost" || host == self.advertised)
    }

    fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), (StatusCode, String)> {
        if method != Method::GET && method != Method::HEAD {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "only GET: this listener changes nothing".into()));
        }
        if uri.path_and_query().map_or(0, |asked| asked.as_str().len()) > limits::URI_BYTES_MAX {
            let text = format!("the address is longer than {} bytes", limits::URI_BYTES_MAX);
            return Err((StatusCode::URI_TOO_LONG, text));
        }
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().unwrap_or_default(),
            (None, _) | (Some(_), Some(_)) => "",
        };
        let target_is_ours = uri.authority().is_none_or(|target| self.is_ours(target.as_str()));
        if !self.is_ours(host) || !target_is_ours {
            let text = format!(
                "this console answers under an address, localhost or its advertised name {:?}, not under {host:?}; \
                 http_advertised sets the name",
                self.advertised
            );
            return Err((StatusCode::MISDIRECTED_REQUEST, text));
        }
        Ok(())
    }
}

/// What every browser sends along and its pages cannot leave out, and what no scraper sends.
const BROWSER_HEADERS: [&str; 3] = ["accept-language", "sec-fetch-mode", "sec-fetch-site"];

/// A browser's request, as far as one can tell.
fn is_of_a_browser(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    agent.starts_with("Mozilla/") || BROWSER_HEADERS.iter().any(|name| headers.contains_key(*name))
}

/// Lets scrapers through under any name, and browsers under ours.
pub async fn guard_metrics(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    if is_of_a_browser(request.headers())
        && let Err(refusal) = guard.check(request.method(), request.uri(), request.headers())
    {
        return refusal.into_response();
    }
    next.run(request).await
}

/// Lets a request through, or says why not; either way the answer carries its headers.
pub async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let checked = guard.check(request.method(), request.uri(), request.headers());
    let mut response = match checked {
        Err(refusal) => refusal.into_response(),
        Ok(()) => match guard.turns.try_acquire() {
            Err(_) => {
                guard.probe.refused_at(Limit::ConsoleRequests);
                busy("too many requests at once")
            }
            Ok(_turn) => match timeout(limits::ANSWER_WITHIN, next.run(request)).await {
                Ok(response) => response,
                Err(_) => busy("the brokers did not answer in time"),
            },
        },
    };
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn busy(why: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], format!("{why}; try again\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_else_controls_are_answered() {
        let guard = Guard::new("N1.example.com:7080", IntakeProbe::default());
        let ours = [
            "127.0.0.1:7080",
            "10.1.2.3",
            "[::1]:7080",
            "[::1]",
            "localhost:7080",
            "LOCALHOST",
            "n1.example.com",
            "n1.EXAMPLE.com:80",
        ];
        for host in ours {
            assert!(guard.is_ours(host), "{host}");
        }
        let strange = [
            "",
            "evil.example.com",
            "n1.example.com.evil.org:7080",
            "127.0.0.1.nip.io",
            "localhost.evil.org",
            "localhost@evil.org",
            "user@localhost",
            "127.0.0.1 evil",
            "[::1",
            "::1",
            "1",
            "0x7f000001",
            ":7080",
        ];
        for host in strange {
            assert!(!guard.is_ours(host), "{host}");
        }
    }

    #[test]
    fn an_advertised_ipv6_address_keeps_its_colons() {
        assert_eq!(Guard::new("[2001:db8::1]:7080", IntakeProbe::default()).advertised, "[2001:db8::1]");
    }
}
