//! The client behind proxies that the administrator trusts.
//!
//! Everybody can send `X-Forwarded-For`. It means something only if the connection (part A) comes
//! from a proxy that writes the header itself, so nothing is read from it otherwise.
//!
//! ```text
//! part A     10.0.0.2                                           a trusted proxy
//! header     X-Forwarded-For: 203.0.113.9, 198.51.100.7, 10.0.0.1
//!                             `- said by    `- appended   `- appended by 10.0.0.2: trusted too,
//!                                the client    by 10.0.0.1   so one further to the left
//! client     198.51.100.7
//! ```
//!
//! An address may have a port, as Azure and some load balancers of AWS write it:
//! `203.0.113.9:43210`, `[2001:db8::5]:443`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::{Networks, NetworksError, Record, Request, parse_ip, parse_network};

/// The header in which a trusted proxy names the client.
///
/// Only one can be right: a proxy sets one of them and passes the client's own spelling of the
/// other on, untouched.
///
/// ```
/// use modsec_core::record::ClientHeader;
///
/// let header: ClientHeader = "cf-connecting-ip".parse()?;
/// assert_eq!((header.to_string().as_str(), header.is_list()), ("cf-connecting-ip", false));
/// # Ok::<(), modsec_core::record::ParseClientHeaderError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ClientHeader {
    /// `X-Real-IP`: one address, replaced by the proxy.
    #[default]
    RealIp,
    /// `X-Forwarded-For`: a list to which every proxy appends the address that it saw.
    ForwardedFor,
    /// Another one: a list if its name ends with `Forwarded-For`, otherwise one address.
    Other(Box<str>),
}

/// A text names no [`ClientHeader`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseClientHeaderError {
    /// A header with a grammar of its own.
    #[error(
        "the header Forwarded is not read, let the proxy set X-Forwarded-For or X-Real-IP and name that"
    )]
    Forwarded,
    /// No header has such a name.
    #[error(
        "{0:?} is not the name of a header, choose one like X-Real-IP, X-Forwarded-For or CF-Connecting-IP"
    )]
    NoName(String),
}

impl ClientHeader {
    /// Returns the usual spelling of the header's name, or the one that was given.
    pub fn name(&self) -> &str {
        match self {
            ClientHeader::RealIp => "X-Real-IP",
            ClientHeader::ForwardedFor => "X-Forwarded-For",
            ClientHeader::Other(name) => name,
        }
    }

    /// Returns `true` if the header is a list of addresses, of which the last one that is no trusted
    /// proxy's counts. Of the others, a value with more than one address is not used.
    pub fn is_list(&self) -> bool {
        let name = self.name().as_bytes();
        let end = name.len().checked_sub(FORWARDED_FOR.len());
        end.and_then(|end| name.get(end..))
            .is_some_and(|end| end.eq_ignore_ascii_case(FORWARDED_FOR))
    }
}

/// How the name of a header ends that is a list.
const FORWARDED_FOR: &[u8] = b"forwarded-for";

impl fmt::Display for ClientHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ClientHeader {
    type Err = ParseClientHeaderError;

    /// Reads the name of a header, in any case: a token of HTTP (RFC 9110, section 5.6.2).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if text.eq_ignore_ascii_case("Forwarded") {
            return Err(ParseClientHeaderError::Forwarded);
        }
        if text.is_empty() || !text.bytes().all(is_token) {
            return Err(ParseClientHeaderError::NoName(text.to_owned()));
        }
        let known = [ClientHeader::RealIp, ClientHeader::ForwardedFor]
            .into_iter()
            .find(|header| header.name().eq_ignore_ascii_case(text));
        Ok(known.unwrap_or_else(|| ClientHeader::Other(text.into())))
    }
}

/// Whose word is taken for a client's address, and in which header.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrustedProxies {
    /// Addresses of the proxies, as part A shows them.
    pub networks: Networks,
    /// Where they name the client.
    pub header: ClientHeader,
}

/// A network of proxies as a user names it: `CIDR`, or `none` for the wish to trust nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustedProxyArg {
    /// A network to trust.
    Network(IpNet),
    /// No network; what takes the place of the default.
    None,
}

impl TrustedProxyArg {
    /// The networks that are trusted where nobody says otherwise, as words with a comma between.
    pub const DEFAULT: &str = "127.0.0.0/8,::1";
}

impl FromStr for TrustedProxyArg {
    type Err = NetworksError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(TrustedProxyArg::None),
            network => parse_network(network).map(TrustedProxyArg::Network),
        }
    }
}

impl TrustedProxies {
    /// Trusts the networks among `words`; without any word the default.
    pub fn named(words: &[TrustedProxyArg], header: ClientHeader) -> Self {
        let networks = words.iter().filter_map(|word| match word {
            TrustedProxyArg::Network(network) => Some(*network),
            TrustedProxyArg::None => None,
        });
        TrustedProxies {
            networks: if words.is_empty() {
                Networks::loopback()
            } else {
                networks.collect()
            },
            header,
        }
    }
}

impl Default for TrustedProxies {
    /// Trusts the host itself, and `X-Real-IP`.
    fn default() -> Self {
        TrustedProxies {
            networks: Networks::loopback(),
            header: ClientHeader::default(),
        }
    }
}

impl TrustedProxies {
    /// Returns the address of the client; `None` if part A has no address.
    ///
    /// That is part A's address, or, if that is a trusted proxy's, the one in the proxy's header
    /// (part B). A header that is absent, repeated, or holds anything but an address where the
    /// client's should stand, is not used: part A's address stands.
    pub fn client(&self, record: &Record<'_>) -> Option<IpAddr> {
        let peer = record.client.as_ref()?.ip?;
        if !self.networks.contains(peer) {
            return Some(peer);
        }
        Some(self.named_by_proxy(&record.request).unwrap_or(peer))
    }

    /// Returns the address that the trusted proxy's header names. `None` if the header is
    /// absent, stands there more than once, or has anything but an address where the client's
    /// should be.
    fn named_by_proxy(&self, request: &Request<'_>) -> Option<IpAddr> {
        let name = self.header.name().as_bytes();
        let mut values = request
            .headers
            .iter()
            .filter(|header| header.name.as_bytes().eq_ignore_ascii_case(name))
            .map(|header| header.value.as_bytes());
        let value = values.next()?;
        // Where an engine keeps repeats apart it does not keep their order, so nobody knows which
        // one the proxy wrote.
        if values.next().is_some() {
            return None;
        }
        if self.header.is_list() {
            self.rightmost_untrusted(value)
        } else {
            parse_host(trim(value))
        }
    }

    /// Walks `client, proxy, proxy` from the right, past those that are trusted. Whatever stands
    /// left of the first other word was written by a stranger.
    fn rightmost_untrusted(&self, list: &[u8]) -> Option<IpAddr> {
        for hop in list.rsplit(|&byte| byte == b',') {
            let address = parse_host(trim(hop))?;
            if !self.networks.contains(address) {
                return Some(address);
            }
        }
        None
    }
}

/// Reads an address that may have a port: `203.0.113.9:43210`, `[2001:db8::5]:443`, `[2001:db8::5]`.
fn parse_host(text: &[u8]) -> Option<IpAddr> {
    let (address, port) = match text.strip_prefix(b"[") {
        Some(text) => {
            let end = memchr::memchr(b']', text)?;
            let address = text.get(..end).filter(|address| address.contains(&b':'))?;
            (address, text.get(end + 1..)?)
        }
        // Only IPv4 has a port behind its only colon.
        None => match memchr::memchr(b':', text) {
            Some(at) if memchr::memrchr(b':', text) == Some(at) => text.split_at_checked(at)?,
            _ => (text, &[][..]),
        },
    };
    let is_port = |port: &[u8]| {
        let digits = port
            .strip_prefix(b":")
            .and_then(|it| std::str::from_utf8(it).ok());
        // A sign would be read, too.
        digits.is_some_and(|it| !it.starts_with('+') && it.parse::<u16>().is_ok())
    };
    parse_ip(address).filter(|_| port.is_empty() || is_port(port))
}

/// Takes off what HTTP calls optional white space.
fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !blank(byte));
    let end = value.iter().rposition(|byte| !blank(byte));
    match (start, end) {
        (Some(start), Some(end)) => value.get(start..=end).unwrap_or_default(),
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Endpoint, Header};

    fn client(proxies: &TrustedProxies, peer: &str, headers: &[(&str, &str)]) -> Option<String> {
        let record = Record {
            client: Some(Endpoint {
                text: peer.into(),
                ip: parse_ip(peer.as_bytes()),
                port: Some(40112),
            }),
            request: Request {
                headers: headers
                    .iter()
                    .map(|&(name, value)| Header {
                        name: name.into(),
                        value: value.into(),
                    })
                    .collect(),
                ..Request::default()
            },
            ..Record::default()
        };
        proxies.client(&record).map(|ip| ip.to_string())
    }

    fn proxies(header: ClientHeader) -> TrustedProxies {
        TrustedProxies {
            networks: Networks::parse_list("127.0.0.0/8\n198.51.100.0/24")
                .unwrap()
                .into_iter()
                .collect(),
            header,
        }
    }

    #[test]
    fn one_address_is_taken_from_a_trusted_proxy_only() {
        let proxies = proxies(ClientHeader::RealIp);
        for (peer, headers, want) in [
            (
                "192.0.2.1",
                &[("X-Real-IP", "203.0.113.9")][..],
                "192.0.2.1",
            ),
            ("127.0.0.1", &[("X-Real-IP", "203.0.113.9")], "203.0.113.9"),
            (
                "127.0.0.1",
                &[("x-REAL-ip", "\t203.0.113.9 ")],
                "203.0.113.9",
            ),
            (
                "::ffff:127.0.0.1",
                &[("X-Real-IP", "203.0.113.9")],
                "203.0.113.9",
            ),
            ("127.0.0.1", &[("X-Real-IP", "2001:db8::9")], "2001:db8::9"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &[("X-Real-IP2", "203.0.113.9")], "127.0.0.1"),
            (
                "127.0.0.1",
                &[("X-Forwarded-For", "203.0.113.9")],
                "127.0.0.1",
            ),
            (
                "127.0.0.1",
                &[("X-Real-IP", "203.0.113.9, 203.0.113.8")],
                "127.0.0.1",
            ),
            (
                "127.0.0.1",
                &[("X-Real-IP", "203.0.113.9"), ("x-real-ip", "203.0.113.8")],
                "127.0.0.1",
            ),
            (
                "127.0.0.1",
                &[("X-Real-IP", "203.0.113.9 203.0.113.8")],
                "127.0.0.1",
            ),
            ("127.0.0.1", &[("X-Real-IP", "$(id)")], "127.0.0.1"),
            ("127.0.0.1", &[("X-Real-IP", "1.2.3.4/e")], "127.0.0.1"),
            ("127.0.0.1", &[("X-Real-IP", "203.0.113.9\r")], "127.0.0.1"),
            ("127.0.0.1", &[("X-Real-IP", "")], "127.0.0.1"),
        ] {
            assert_eq!(
                client(&proxies, peer, headers).as_deref(),
                Some(want),
                "from {peer} with {headers:?}"
            );
        }
        assert_eq!(
            client(&proxies, "unix:", &[("X-Real-IP", "203.0.113.9")]),
            None
        );
    }

    #[test]
    fn a_list_is_read_from_the_right_past_trusted_proxies() {
        let proxies = proxies(ClientHeader::ForwardedFor);
        for (value, want) in [
            ("203.0.113.9", "203.0.113.9"),
            ("192.0.2.66, 203.0.113.9", "203.0.113.9"),
            ("192.0.2.66,203.0.113.9 , 198.51.100.4", "203.0.113.9"),
            ("garbage, 203.0.113.9, 198.51.100.4", "203.0.113.9"),
            ("203.0.113.9, garbage, 198.51.100.4", "127.0.0.1"),
            ("203.0.113.9,", "127.0.0.1"),
            ("198.51.100.5, 198.51.100.4", "127.0.0.1"),
            ("unknown", "127.0.0.1"),
        ] {
            let headers = [("x-forwarded-for", value)];
            assert_eq!(
                client(&proxies, "127.0.0.1", &headers).as_deref(),
                Some(want),
                "{value:?}"
            );
        }
    }

    #[test]
    fn a_header_is_chosen_by_its_name_in_any_case() {
        assert_eq!("x-real-ip".parse(), Ok(ClientHeader::RealIp));
        assert_eq!("X-Forwarded-For".parse(), Ok(ClientHeader::ForwardedFor));
        assert!("Forwarded".parse::<ClientHeader>().is_err());
        for (name, is_list) in [
            ("CF-Connecting-IP", false),
            ("True-Client-IP", false),
            ("X-Original-Forwarded-For", true),
            ("x-forwarded-for", true),
            ("For", false),
        ] {
            let header: ClientHeader = name.parse().unwrap();
            assert!(header.name().eq_ignore_ascii_case(name));
            assert_eq!(header.is_list(), is_list, "{name}");
        }
        for bad in ["", "X Real IP", "X-Real-IP:", "X-Réal-IP", "a,b"] {
            assert!(bad.parse::<ClientHeader>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_may_have_a_port() {
        for (text, want) in [
            ("203.0.113.9:43210", Some("203.0.113.9")),
            ("203.0.113.9", Some("203.0.113.9")),
            ("[2001:db8::5]:443", Some("2001:db8::5")),
            ("[2001:db8::5]", Some("2001:db8::5")),
            ("2001:db8::5", Some("2001:db8::5")),
            ("[::ffff:203.0.113.9]:1", Some("203.0.113.9")),
            // An address, whatever was meant.
            ("2001:db8::5:443", Some("2001:db8::5:443")),
            ("203.0.113.9:", None),
            ("203.0.113.9:0x1", None),
            ("203.0.113.9:+1", None),
            ("203.0.113.9:65536", None),
            ("203.0.113.9:1:2", None),
            ("203.0.113.9]:1", None),
            ("[203.0.113.9]:1", None),
            ("[2001:db8::5", None),
            ("[2001:db8::5]443", None),
            ("[2001:db8::5]:", None),
            (":443", None),
            ("unknown:1", None),
            ("", None),
        ] {
            let got = parse_host(text.as_bytes()).map(|ip| ip.to_string());
            assert_eq!(got.as_deref(), want, "{text:?}");
        }
    }

    #[test]
    fn a_load_balancer_names_clients_with_their_ports() {
        let log = include_bytes!("../../tests/data/field/proxy-port/entry.log");
        let clients = |header: &str| -> Vec<String> {
            let proxies = TrustedProxies {
                networks: Networks::parse_list("10.0.0.0/8")
                    .unwrap()
                    .into_iter()
                    .collect(),
                header: header.parse().unwrap(),
            };
            let entries = crate::serial_log::read(&log[..]).map(|item| match item.unwrap() {
                crate::serial_log::Item::Entry(entry) => entry,
                other => panic!("{other:?}"),
            });
            entries
                .map(|entry| {
                    proxies
                        .client(&entry.decode().unwrap())
                        .unwrap()
                        .to_string()
                })
                .collect()
        };
        let balancer = "10.0.0.5";
        assert_eq!(
            clients("X-Forwarded-For"),
            [
                balancer,
                balancer,
                "203.0.113.77",
                "203.0.113.78",
                "2001:db8::5",
                balancer
            ]
        );
        let mut want = [balancer; 6];
        want[5] = "203.0.113.79";
        assert_eq!(clients("cf-connecting-ip"), want);
    }
}
