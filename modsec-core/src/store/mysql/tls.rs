//! Whether a connection is encrypted, and whether the server has to prove who it is.
//!
//! Rows have session cookies and passwords in them. Through a Unix socket and on the loopback
//! interface no other host sees them. To any other host the connection is encrypted and the
//! server's certificate verified with its name, unless the administrator says otherwise.
//!
//! | settings | this machine | another host |
//! | --- | --- | --- |
//! | none, or `ssl-mode=preferred` | plain text | verified |
//! | `ssl` | encrypted | verified |
//! | `ssl-ca=…` | verified | verified |
//! | `ssl-mode=required`, `skip-ssl-verify-server-cert` | encrypted | encrypted |
//! | `ssl-mode=verify-ca`, `verify-identity`, `ssl-verify-server-cert` | verified | verified |
//! | `ssl-mode=disabled`, `skip-ssl` | plain text | plain text |
//!
//! `PREFERRED`, which is what MySQL's own programs do if nothing is said, falls back to plain text
//! when a host in between wants it to; so it counts as nothing said. `ssl-mode` (MySQL) beats `ssl`
//! and `ssl-verify-server-cert` (MariaDB). A setting that only weakens the connection must be
//! spelled out: there is no fallback from encrypted to plain text.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use mysql_async::{IoError, SslOpts};
use rustls::CertificateError;

use crate::named_file;

/// Files with the certificates of the authorities that the system trusts: Debian, Red Hat, SUSE,
/// others. The first that can be read counts.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Largest file of certificates that is read, in bytes. The systems' own are a quarter of a
/// megabyte.
const MAX_ROOTS: u64 = 16 * 1024 * 1024;

/// What one source, URL or option file, says about encryption. Not checked yet.
#[derive(Default, Clone)]
pub(super) struct Tls {
    /// `ssl-ca`: path of the authority's certificate.
    pub(super) ca: Option<String>,
    /// `ssl-mode`, MySQL's word.
    mode: Option<String>,
    /// `ssl`, MariaDB's word: whether to encrypt.
    ssl: Option<String>,
    /// `ssl-verify-server-cert`, MariaDB's word: whether to verify.
    verify: Option<String>,
}

/// How a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Nothing is encrypted.
    Plain,
    /// Encrypted, without a look at the certificate: another host can pose as the server.
    Encrypted,
    /// Encrypted, and the server has a certificate for the name by which it is reached.
    Verified,
}

/// Why a setting is not used: what is wrong, and what the system said, if it was asked.
pub(super) type SettingError = (String, Option<io::Error>);

impl Tls {
    /// Takes over a parameter of a URL or an option file, `None` standing for a name alone. Returns
    /// `false` if it is about something else.
    ///
    /// As in MariaDB's option files, a switch alone means on, and `skip-` or `disable-` before it
    /// turns its value around: `skip-ssl=0` is `ssl=1`.
    pub(super) fn set(&mut self, key: &str, value: Option<String>) -> bool {
        let negated = |value: Option<String>| match value.as_deref().map(parse_bool) {
            None | Some(Some(true)) => Some("0".to_owned()),
            Some(Some(false)) => Some("1".to_owned()),
            Some(None) => value,
        };
        let alone = |value: Option<String>| Some(value.unwrap_or_else(|| "1".to_owned()));
        match key {
            "ssl-ca" => self.ca = value,
            "ssl-mode" => self.mode = value,
            "ssl" | "enable-ssl" => self.ssl = alone(value),
            "skip-ssl" | "disable-ssl" => self.ssl = negated(value),
            "ssl-verify-server-cert" | "enable-ssl-verify-server-cert" => {
                self.verify = alone(value);
            }
            "skip-ssl-verify-server-cert" | "disable-ssl-verify-server-cert" => {
                self.verify = negated(value);
            }
            _ => return false,
        }
        true
    }

    /// Puts URL and option file together. A URL that says anything about encryption does not want
    /// the file's weaker words; the authority may still come from there.
    pub(super) fn or(self, file: Tls) -> Tls {
        let Tls {
            ca,
            mode,
            ssl,
            verify,
        } = &self;
        if [ca, mode, ssl, verify].iter().all(|said| said.is_none()) {
            return file;
        }
        Tls {
            ca: self.ca.or(file.ca),
            ..self
        }
    }

    /// Returns what the driver needs for a TCP connection to `host`; `None` for plain text.
    ///
    /// # Errors
    ///
    /// An unknown word, or an authority's file that cannot be read or has no certificate.
    pub(super) fn options(&self, host: &str) -> Result<Option<SslOpts>, SettingError> {
        let mode = self
            .mode(is_local(host))
            .map_err(|what| (what.into(), None))?;
        Ok(match mode {
            Mode::Plain => None,
            Mode::Encrypted => Some(SslOpts::default().with_danger_accept_invalid_certs(true)),
            // The driver cannot leave the name alone once it looks at the certificate, so
            // VERIFY_CA is as strict as VERIFY_IDENTITY.
            Mode::Verified => Some(self.verifying()?),
        })
    }

    /// Checks the words of the options, before anything connects.
    ///
    /// # Errors
    ///
    /// The words that an option may have, if it has another.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        self.mode(true).map(drop)
    }

    /// Returns how a connection is protected; `is_local` says that it does not leave the machine.
    /// The table above has the cases.
    fn mode(&self, is_local: bool) -> Result<Mode, &'static str> {
        let switch = |said: &Option<String>| match said.as_deref().map(parse_bool) {
            None => Ok(None),
            Some(Some(value)) => Ok(Some(value)),
            Some(None) => Err("ssl and ssl-verify-server-cert are 1 or 0"),
        };
        let (ssl, verify) = (switch(&self.ssl)?, switch(&self.verify)?);
        let mode = self.mode.as_deref();
        let mode = mode.map(|mode| mode.to_ascii_lowercase().replace('_', "-"));
        let default_mode = match (is_local && self.ca.is_none(), ssl) {
            (false, _) => Mode::Verified,
            (true, Some(true)) => Mode::Encrypted,
            (true, _) => Mode::Plain,
        };
        match mode.as_deref() {
            Some("disabled") => Ok(Mode::Plain),
            Some("preferred") => Ok(default_mode),
            Some("required") => Ok(Mode::Encrypted),
            Some("verify-ca" | "verify-identity") => Ok(Mode::Verified),
            Some(_) => {
                Err("ssl-mode is one of disabled, preferred, required, verify_ca, verify_identity")
            }
            None => Ok(match (ssl, verify) {
                (Some(false), _) => Mode::Plain,
                (_, Some(true)) => Mode::Verified,
                (_, Some(false)) => Mode::Encrypted,
                (_, None) => default_mode,
            }),
        }
    }

    /// Returns options that verify the server by the authority that is named, else by those that
    /// the system trusts, else by those that the program was built with.
    fn verifying(&self) -> Result<SslOpts, SettingError> {
        let roots = match &self.ca {
            Some(path) => Some(read_authority(Path::new(path))?),
            None => SYSTEM_ROOTS.iter().find_map(|path| {
                let contents = named_file::read_plain(Path::new(path), MAX_ROOTS).ok()?;
                Some(contents.bytes)
            }),
        };
        let ssl = SslOpts::default();
        Ok(match roots {
            Some(roots) => ssl
                .with_disable_built_in_roots(true)
                .with_root_certs(vec![roots.into()]),
            None => ssl,
        })
    }
}

/// Reads what `ssl-ca` names: certificates as PEM, or one as DER.
///
/// A file without a certificate is refused here, so that the mistake is named, and not an unknown
/// issuer when the connection is made.
fn read_authority(path: &Path) -> Result<Vec<u8>, SettingError> {
    let wrong = |what, error| {
        let path = path.display();
        (format!("ssl-ca {path} {what}"), error)
    };
    let contents = named_file::read_plain(path, MAX_ROOTS);
    let bytes = contents
        .map_err(|error| wrong("cannot be read, name another file", Some(error)))?
        .bytes;
    let pem = memchr::memmem::find(&bytes, b"-----BEGIN CERTIFICATE-----").is_some();
    if pem || bytes.first() == Some(&0x30) {
        Ok(bytes)
    } else {
        Err(wrong(
            "has no certificate in it; name the file with that of the server's authority",
            None,
        ))
    }
}

/// Returns `true` if what goes to `host` does not leave the machine.
fn is_local(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// Reads a switch as MariaDB does: 1, on, true; 0, off, false; in any case.
fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "on" | "true" => Some(true),
        "0" | "off" | "false" => Some(false),
        _ => None,
    }
}

/// Returns what to do about a connection that could not be encrypted.
pub(super) fn advice(error: &IoError) -> &'static str {
    match certificate_error(error) {
        Some(CertificateError::UnknownIssuer) => {
            "the server's certificate is of no authority that is trusted; name the authority's \
             certificate with ssl-ca, or say ssl-mode=required to encrypt and trust any server"
        }
        Some(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "the server's certificate is for another name; connect to the name that is in it, or \
             say ssl-mode=required to encrypt and trust any server"
        }
        Some(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the server's certificate has expired; renew it there"
        }
        Some(_) => {
            "the server's certificate cannot be verified; give the server another one, or say \
             ssl-mode=required to encrypt and trust any server"
        }
        None => "no encrypted connection; do ssl-mode and ssl-ca fit the server's certificate?",
    }
}

/// Returns what rustls has against the certificate, wherever it is in the chain of causes. An I/O
/// error hides its inner one from `source`, so that is looked into.
fn certificate_error(error: &IoError) -> Option<&CertificateError> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        let here: &(dyn Error + 'static) = match inner {
            Some(inner) => inner,
            None => error,
        };
        if let Some(rustls::Error::InvalidCertificate(error)) = here.downcast_ref() {
            return Some(error);
        }
        cause = here.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(settings: &[(&str, Option<&str>)], is_local: bool) -> Result<Mode, &'static str> {
        let mut tls = Tls::default();
        for (key, value) in settings {
            assert!(tls.set(key, value.map(str::to_owned)), "{key}");
        }
        tls.mode(is_local)
    }

    #[test]
    fn beyond_the_machine_only_clear_words_weaken_the_connection() {
        use Mode::{Encrypted, Plain, Verified};
        for (settings, remote, here) in [
            (&[][..], Verified, Plain),
            (&[("ssl-mode", Some("PREFERRED"))], Verified, Plain),
            (&[("ssl-mode", Some("DISABLED"))], Plain, Plain),
            (&[("ssl-mode", Some("Required"))], Encrypted, Encrypted),
            (&[("ssl-mode", Some("VERIFY_CA"))], Verified, Verified),
            (&[("ssl-mode", Some("verify-identity"))], Verified, Verified),
            (&[("ssl-ca", Some("/ca.pem"))], Verified, Verified),
            (&[("ssl", None)], Verified, Encrypted),
            (&[("ssl", Some("ON"))], Verified, Encrypted),
            (&[("ssl", Some("0"))], Plain, Plain),
            (&[("skip-ssl", None)], Plain, Plain),
            (&[("skip-ssl", Some("0"))], Verified, Encrypted),
            (&[("disable-ssl", Some("1"))], Plain, Plain),
            (&[("ssl-verify-server-cert", None)], Verified, Verified),
            (
                &[("ssl-verify-server-cert", Some("off"))],
                Encrypted,
                Encrypted,
            ),
            (
                &[("skip-ssl-verify-server-cert", None)],
                Encrypted,
                Encrypted,
            ),
            (
                &[("ssl", None), ("ssl-ca", Some("/ca.pem"))],
                Verified,
                Verified,
            ),
            (
                &[("ssl-mode", Some("required")), ("ssl-ca", Some("/ca.pem"))],
                Encrypted,
                Encrypted,
            ),
        ] {
            assert_eq!(mode(settings, false), Ok(remote), "remote: {settings:?}");
            assert_eq!(mode(settings, true), Ok(here), "here: {settings:?}");
        }
        for settings in [
            [("ssl-mode", Some("secret"))],
            [("ssl", Some("maybe"))],
            [("skip-ssl", Some("maybe"))],
            [("ssl-verify-server-cert", Some(""))],
        ] {
            assert!(mode(&settings, true).is_err(), "{settings:?}");
        }
    }

    #[test]
    fn words_in_the_url_stand_above_all_words_in_the_file() {
        let said = |key: &str, value: &str| {
            let mut tls = Tls::default();
            tls.set(key, Some(value.to_owned()));
            tls
        };
        let file = || {
            let mut tls = said("ssl-mode", "disabled");
            tls.set("ssl-ca", Some("/ca.pem".to_owned()));
            tls
        };
        assert_eq!(Tls::default().or(file()).mode(false), Ok(Mode::Plain));
        let both = said("ssl-verify-server-cert", "1").or(file());
        assert_eq!(both.mode(false), Ok(Mode::Verified));
        assert_eq!(both.ca.as_deref(), Some("/ca.pem"));
    }

    #[test]
    fn only_loopback_is_here() {
        for (host, want) in [
            ("localhost", true),
            ("LocalHost", true),
            ("127.0.0.1", true),
            ("127.8.9.10", true),
            ("[::1]", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("192.0.2.1", false),
            ("[2001:db8::1]", false),
            ("0.0.0.0", false),
            ("localhost.example.org", false),
            ("127.0.0.1.example.org", false),
            ("", false),
        ] {
            assert_eq!(is_local(host), want, "{host:?}");
        }
    }

    #[test]
    fn an_authority_must_be_a_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        for (text, works) in [
            ("-----BEGIN CERTIFICATE-----\n…", true),
            ("\u{30}\u{82}", true),
            ("", false),
            ("-----BEGIN PRIVATE KEY-----\n", false),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read_authority(&path).is_ok(), works, "{text:?}");
        }
        let (what, error) = read_authority(dir.path()).unwrap_err();
        assert!(what.starts_with("ssl-ca /") && error.is_some(), "{what}");
    }
}
