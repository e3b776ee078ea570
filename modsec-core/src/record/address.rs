//! Addresses as audit logs spell them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::text::Text;

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
#[non_exhaustive]
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
const SHARED: [(Ipv6Addr, u8, u8); 7] = [
    // Loopback, unspecified, IPv4-compatible and IPv4-translated addresses (RFC 4291, RFC 2765), and
    // all of IPv4 behind a NAT64 translator: 64:ff9b::/96 (RFC 6052), 64:ff9b:1::/48 (RFC 8215).
    (Ipv6Addr::UNSPECIFIED, 8, 128),
    // Protocols with addresses of their own (RFC 2928): among them Teredo, where all clients of one
    // server share the first 64 bits (RFC 4380), and identifiers of hosts (RFC 7343, RFC 9374).
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, 128),
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

/// Returns how many bits a network around `address` must have at least: as many as make one client
/// there, and enough to leave out the prefixes of [`SHARED`] that `address` is not in.
pub(crate) fn one_client(address: Ipv6Addr) -> u8 {
    let least = |(prefix, bits, least): &(Ipv6Addr, u8, u8)| {
        let differ = prefix.to_bits() ^ address.to_bits();
        match u8::try_from(differ.leading_zeros()) {
            Ok(same) if same < *bits => same + 1,
            _ => *least,
        }
    };
    SHARED.iter().map(least).max().unwrap_or(0)
}

/// Returns the IPv4 address of the host that `address` stands for: behind a NAT64 translator with
/// the well-known prefix (RFC 6052), of a 6to4 site (RFC 3056), or of a Teredo client (RFC 4380).
///
/// `None` for one that cannot be seen from elsewhere, such as `10.0.0.1` or `127.0.0.1`: the RFCs
/// forbid it, so somebody made it up. Where a translator of one's own prefix (`64:ff9b:1::/48`)
/// puts the address is not known.
pub(super) fn embedded_ipv4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let embedded = match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => [high, low],
        // All bits are turned over, so that no translator on the way changes them.
        [0x2001, 0, _, _, _, _, high, low] => [!high, !low],
        _ => return None,
    };
    let [high, low] = embedded.map(u16::to_be_bytes);
    let address = Ipv4Addr::new(high[0], high[1], low[0], low[1]);
    let is_inner = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_unspecified()
        || address.is_broadcast()
        || address.is_multicast()
        // Addresses shared by a provider's customers (RFC 6598).
        || (address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64);
    (!is_inner).then_some(address)
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
    fn an_ipv4_address_is_found_in_what_stands_for_it() {
        for (text, want) in [
            ("64:ff9b::192.0.2.7", Some("192.0.2.7")),
            ("64:ff9b::1:c000:207", None),
            ("64:ff9b:1::192.0.2.7", None),
            ("2002:c000:207::", Some("192.0.2.7")),
            ("2002:c000:207:1:2:3:4:5", Some("192.0.2.7")),
            // Server 203.0.113.1, port 40000, client 192.0.2.45 (RFC 4380, section 4).
            ("2001:0:cb00:7101:8000:63bf:3fff:fdd2", Some("192.0.2.45")),
            ("64:ff9b::127.0.0.1", None),
            ("64:ff9b::10.0.0.1", None),
            ("64:ff9b::100.64.0.1", None),
            ("2002:7f00:1::", None),
            ("2002:c0a8:1::", None),
            ("2002::", None),
            ("2001:db8::192.0.2.7", None),
            ("fe80::5efe:192.0.2.7", None),
        ] {
            let want = want.map(|want| want.parse::<Ipv4Addr>().unwrap());
            assert_eq!(embedded_ipv4(text.parse().unwrap()), want, "input {text:?}");
        }
    }

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
