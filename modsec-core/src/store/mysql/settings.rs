//! Where to connect, as one source says it, before it is checked.
//!
//! ```text
//! command line: --store mysql://waf@db/logs?ssl-ca=/etc/ca.pem     beats
//! option file:  [client] / [modsec-parser], the later line wins     beats
//! defaults:     host localhost, port 3306, user $USER, or who runs the program
//! ```
//!
//! Two settings are not taken over one by one. A `socket` of the file counts only if the URL names
//! no other host and no port, and of what the file says about TLS only `ssl-ca` counts once the URL
//! says anything about it.

use std::fmt;

use super::tls::Tls;

/// Where to connect, from one source: `None` is what it does not say. Values are not checked yet.
#[derive(Default, Clone)]
pub(super) struct Settings {
    /// Name or address; of IPv6 in brackets, as in a URL.
    pub(super) host: Option<String>,
    /// TCP port in decimal.
    pub(super) port: Option<String>,
    /// Account name.
    pub(super) user: Option<String>,
    /// Password in clear. Never shown.
    pub(super) password: Option<String>,
    /// Path of a Unix socket, in place of TCP.
    pub(super) socket: Option<String>,
    /// The database in which the tables are.
    pub(super) database: Option<String>,
    /// What is said about encryption.
    pub(super) tls: Tls,
}

impl fmt::Debug for Settings {
    /// Shows the host alone: password and URL must not get into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Returns these settings, from the URL, and of `file` what they leave open.
    ///
    /// ```text
    /// URL                     file                    result
    /// mysql://                socket=/run/s           socket /run/s
    /// mysql://db.example.org  socket=/run/s           TCP to db.example.org
    /// mysql://localhost:3307  socket=/run/s           TCP to localhost:3307
    /// mysql://u@              user=v, password=secret user u, password secret
    /// ```
    pub(super) fn or(self, file: Settings) -> Settings {
        // As with MySQL's programs, a socket is only for the machine itself: one from the file must
        // not redirect a URL that names another host.
        let local = matches!(
            self.host.as_deref().or(file.host.as_deref()),
            None | Some("localhost")
        );
        Settings {
            socket: self
                .socket
                .or(file.socket.filter(|_| local && self.port.is_none())),
            host: self.host.or(file.host),
            port: self.port.or(file.port),
            user: self.user.or(file.user),
            password: self.password.or(file.password),
            database: self.database.or(file.database),
            tls: self.tls.or(file.tls),
        }
    }
}
