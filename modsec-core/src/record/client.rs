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

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::{Networks, NetworksError, Record, Request, parse_ip, parse_network};

/// The header in which a trusted proxy names the client.
///
/// Only one can be right: a proxy sets one of them and passes the client's own spelling of the
/// other on, untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ClientHeader {
    /// `X-Real-IP`: one address, replaced by the proxy.
    #[default]
    RealIp,
    /// `X-Forwarded-For`: a list to which every proxy appends the address that it saw.
    ForwardedFor,
}

/// A text names no [`ClientHeader`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a header this program reads, choose X-Real-IP or X-Forwarded-For")]
pub struct ParseClientHeaderError {
    text: String,
}

impl ClientHeader {
    /// Returns the usual spelling of the header's name.
    pub fn name(self) -> &'static str {
        match self {
            ClientHeader::RealIp => "X-Real-IP",
            ClientHeader::ForwardedFor => "X-Forwarded-For",
        }
    }
}

impl fmt::Display for ClientHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ClientHeader {
    type Err = ParseClientHeaderError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [ClientHeader::RealIp, ClientHeader::ForwardedFor]
            .into_iter()
            .find(|header| header.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| ParseClientHeaderError {
                text: text.to_owned(),
            })
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
        match self.header {
            ClientHeader::RealIp => parse_ip(trim(value)),
            ClientHeader::ForwardedFor => self.rightmost_untrusted(value),
        }
    }

    /// Walks `client, proxy, proxy` from the right, past those that are trusted. Whatever stands
    /// left of the first other word was written by a stranger.
    fn rightmost_untrusted(&self, list: &[u8]) -> Option<IpAddr> {
        for hop in list.rsplit(|&byte| byte == b',') {
            let address = parse_ip(trim(hop))?;
            if !self.networks.contains(address) {
                return Some(address);
            }
        }
        None
    }
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
    }
}
