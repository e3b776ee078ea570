//! Addresses as audit logs spell them.

use std::net::{IpAddr, Ipv6Addr};

use crate::text::Text;

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint<'a> {
    /// The address as logged: IPv4, IPv6 without brackets, IPv4-mapped, zoned, or `unix:`.
    pub text: Text<'a>,
    /// The address, if it is one; see [`parse_ip`].
    pub ip: Option<IpAddr>,
    /// The port; 0 occurs.
    pub port: Option<u16>,
}

/// Parses an address as audit logs and proxy headers spell it.
///
/// A zone (`fe80::1%eth0`) is dropped, and an IPv4-mapped address (`::ffff:192.0.2.1`) becomes the
/// IPv4 address it stands for, so that one client has one address. Brackets, ports, spaces and
/// anything else around the address make it `None`.
pub fn parse_ip(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    match text.split_once('%') {
        // Only IPv6 has zones, and an empty zone is none.
        Some((address, zone)) if !zone.is_empty() && !zone.contains(char::is_whitespace) => {
            address.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
        }
        Some(_) => None,
        None => text.parse::<IpAddr>().ok(),
    }
    .map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_address() {
        for (text, want) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("fe80::1%eth0", Some("fe80::1")),
            ("::1", Some("::1")),
            ("192.0.2.1%eth0", None),
            ("fe80::1%", None),
            ("fe80::1% x", None),
            ("[2001:db8::1]", None),
            ("192.0.2.1:80", None),
            ("192.0.2.01", None),
            (" 192.0.2.1", None),
            ("unix:", None),
            ("1.2.3.4/e", None),
            ("", None),
        ] {
            let want = want.map(|want| want.parse::<IpAddr>().unwrap());
            assert_eq!(parse_ip(text.as_bytes()), want, "input {text:?}");
        }
    }
}
