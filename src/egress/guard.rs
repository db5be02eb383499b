//! Which URLs and addresses a target may have. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use url::{Host, Url};

use super::ranges::{special_purpose, stands_for};

/// The ports on which public addresses are reached unless the config says otherwise: https, and its usual
/// alternative.
pub const DEFAULT_PORTS: [u16; 2] = [443, 8443];

/// The port of plain http (RFC 9110, 4.2.1), which `egress.allow_http` opens together with the scheme.
const HTTP_PORT: u16 = 80;

/// What the config opens beyond public addresses over https.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Ranges that may be dialled although they are not public, on any port.
    pub allow: Vec<IpNet>,
    /// Whether plain http may be used.
    pub allow_http: bool,
    /// The ports on which public addresses may be dialled.
    pub ports: Vec<u16>,
}

/// How far a URL may reach, by its scheme and port. These and the host are a connection's place in the pool of idle
/// ones, so one that was made with one reach never serves a URL of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Public addresses and the ranges of `egress.allow`: the port is one of `egress.ports`.
    Public,
    /// Only the ranges of `egress.allow`, where any port may be used.
    OpenedOnly,
}

/// Why an address may be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grounds {
    /// It is public.
    Public,
    /// It lies in this range of `egress.allow`.
    Opened(IpNet),
}

/// Why a target may not be reached. Names the setting that would change it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An `http` URL.
    #[error("plain http is not allowed; use https, or set egress.allow_http = true")]
    PlainHttp,
    /// An address in a denied range.
    #[error("{address} is not a public address ({range}); to open it, add its range to egress.allow")]
    Address {
        /// The address.
        address: IpAddr,
        /// Which range it is in and the document that defines it.
        range: &'static str,
    },
    /// A public address behind a port that is only for opened ranges.
    #[error(
        "{address}, a public address, with a port that is not in egress.ports; add the port there, or the address's range to egress.allow, where any port may be used"
    )]
    ClosedPort {
        /// The address.
        address: IpAddr,
    },
    /// A URL with a port on which nothing can be reached.
    #[error(
        "port {port} is not in egress.ports ({}); add it there, or the receiver's range to egress.allow, where any port may be used",
        listed(.open)
    )]
    Port {
        /// The port.
        port: u16,
        /// Those that are open.
        open: Vec<u16>,
    },
}

impl Default for Guard {
    fn default() -> Self {
        Self { allow: Vec::new(), allow_http: false, ports: DEFAULT_PORTS.to_vec() }
    }
}

impl Guard {
    /// How far `url` reaches.
    #[must_use]
    pub fn reach(&self, url: &Url) -> Reach {
        let plain = self.allow_http && url.scheme() == "http";
        let open = |port| self.ports.contains(&port) || (plain && port == HTTP_PORT);
        if url.port_or_known_default().is_some_and(open) { Reach::Public } else { Reach::OpenedOnly }
    }

    /// Judges what can be judged before a name is resolved: the scheme, the port, and the host where it is an
    /// address.
    ///
    /// # Errors
    /// Says what is refused, and which setting opens it.
    pub fn check_url(&self, url: &Url) -> Result<(), Refusal> {
        if url.scheme() == "http" && !self.allow_http {
            return Err(Refusal::PlainHttp);
        }
        let reach = self.reach(url);
        let judged = match url.host() {
            Some(Host::Ipv4(address)) => self.check_address(address.into(), reach).map(drop),
            Some(Host::Ipv6(address)) => self.check_address(address.into(), reach).map(drop),
            Some(Host::Domain(_)) if reach == Reach::OpenedOnly && self.allow.is_empty() => {
                return Err(self.closed_port(url));
            }
            Some(Host::Domain(_)) | None => Ok(()),
        };
        judged.map_err(|refusal| match refusal {
            Refusal::ClosedPort { .. } => self.closed_port(url),
            refusal => refusal,
        })
    }

    fn closed_port(&self, url: &Url) -> Refusal {
        Refusal::Port { port: url.port_or_known_default().unwrap_or_default(), open: self.ports.clone() }
    }

    /// Judges an address that is about to be dialled for a URL of this reach.
    ///
    /// # Errors
    /// Names the address, and the range that it is in or the setting that its port needs.
    pub fn check_address(&self, address: IpAddr, reach: Reach) -> Result<Grounds, Refusal> {
        // A mapped address is dialled over IPv4, so only ranges of IPv4 can open it.
        let dialled = address.to_canonical();
        let judged = stands_for(dialled);
        let opened = self.allow.iter().find(|net| net.contains(&judged) || net.contains(&dialled));
        match (opened, special_purpose(judged), reach) {
            (Some(net), _, _) => Ok(Grounds::Opened(*net)),
            (None, Some(range), _) => Err(Refusal::Address { address, range }),
            (None, None, Reach::OpenedOnly) => Err(Refusal::ClosedPort { address }),
            (None, None, Reach::Public) => Ok(Grounds::Public),
        }
    }
}

fn listed(ports: &[u16]) -> String {
    if ports.is_empty() {
        return "none".to_owned();
    }
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(guard: &Guard, url: &str) -> Result<(), Refusal> {
        guard.check_url(&Url::parse(url).unwrap())
    }

    fn opened(allow: &str) -> Guard {
        Guard { allow: vec![allow.parse().unwrap()], ..Guard::default() }
    }

    #[test]
    fn public_addresses_and_names_pass_on_the_usual_ports() {
        for url in [
            "https://93.184.215.14/",
            "https://[2606:4700::1111]/",
            "https://hooks.example/",
            "https://hooks.example:8443/",
        ] {
            assert_eq!(check(&Guard::default(), url), Ok(()), "{url}");
        }
    }

    #[test]
    fn another_port_is_refused_with_the_ones_that_are_open() {
        let port = |port| Err(Refusal::Port { port, open: vec![443, 8443] });
        for host in ["hooks.example", "93.184.215.14", "[2606:4700::1111]"] {
            assert_eq!(check(&Guard::default(), &format!("https://{host}:8080/")), port(8080), "{host}");
            assert_eq!(check(&Guard::default(), &format!("https://{host}:80/")), port(80), "{host}");
        }
    }

    #[test]
    fn an_address_that_is_not_public_is_refused_as_such_whatever_its_port() {
        let refused = check(&Guard::default(), "https://10.1.2.3:9000/");
        assert!(matches!(refused, Err(Refusal::Address { .. })), "{refused:?}");
    }

    #[test]
    fn an_opened_range_takes_any_port_and_leaves_the_others_shut() {
        let guard = opened("10.0.0.0/8");
        assert_eq!(check(&guard, "https://10.1.2.3:9000/"), Ok(()));
        assert!(matches!(check(&guard, "https://93.184.215.14:9000/"), Err(Refusal::Port { .. })));
        // Where the name leads is not known yet.
        assert_eq!(check(&guard, "https://hooks.internal:9000/"), Ok(()));
        let reach = guard.reach(&Url::parse("https://hooks.internal:9000/").unwrap());
        assert!(guard.check_address("10.1.2.3".parse().unwrap(), reach).is_ok());
        let public = "93.184.215.14".parse().unwrap();
        assert_eq!(guard.check_address(public, reach), Err(Refusal::ClosedPort { address: public }));
    }

    #[test]
    fn plain_http_brings_its_own_port_and_no_other() {
        let guard = Guard { allow_http: true, ..Guard::default() };
        assert_eq!(check(&guard, "http://hooks.example/"), Ok(()));
        assert!(check(&guard, "http://hooks.example:8080/").is_err());
        assert!(check(&guard, "https://hooks.example:80/").is_err());
        assert_eq!(check(&Guard::default(), "http://hooks.example/"), Err(Refusal::PlainHttp));
    }

    #[test]
    fn a_mapped_address_is_opened_by_ranges_of_ipv4_only() {
        let mapped = "::ffff:10.0.0.1".parse().unwrap();
        assert!(opened("10.0.0.0/8").check_address(mapped, Reach::Public).is_ok());
        assert!(opened("::/0").check_address(mapped, Reach::Public).is_err());
    }
}
