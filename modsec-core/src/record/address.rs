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

/// IPv6 prefixes whose addresses are given to clients one by one, or in networks of another size
/// than elsewhere: first bits, their number, and how many bits at least make one client.
#[cfg(feature = "recidive")]
const SHARED: [(Ipv6Addr, u8, u8); 10] = [
    // Loopback, unspecified, IPv4-compatible and IPv4-translated addresses (RFC 4291, RFC 2765).
    (Ipv6Addr::UNSPECIFIED, 8, 128),
    // All of IPv4 behind a NAT64 translator (RFC 6052, RFC 8215).
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96, 128),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, 128),
    // Teredo: all clients of one server share the first 64 bits (RFC 4380).
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, 128),
    // Overlay identifiers (RFC 7343).
    (Ipv6Addr::new(0x2001, 0x20, 0, 0, 0, 0, 0, 0), 28, 128),
    // 6to4: the site of one IPv4 address has 48 bits (RFC 3056).
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, 48),
    // Unique local addresses: one cable of many hosts (RFC 4193).
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, 128),
    // All hosts on a link (RFC 4291), and what went before (RFC 3879).
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, 128),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, 128),
    // Multicast; no client has such an address.
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, 128),
];

/// Returns how many bits of `address` a network must have at least to hold no other client; 0 where
/// a site has a network of its own.
#[cfg(feature = "recidive")]
pub(crate) fn one_client(address: Ipv6Addr) -> u8 {
    let shares = |(prefix, bits, _): &&(Ipv6Addr, u8, u8)| {
        (prefix.to_bits() ^ address.to_bits()) >> (128 - u32::from(*bits)) == 0
    };
    SHARED.iter().find(shares).map_or(0, |(_, _, least)| *least)
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
