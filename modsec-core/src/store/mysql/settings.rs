//! Where to connect, before it is checked.

use std::fmt;

use super::tls::Tls;

/// Where to connect, from one source. Values are not checked yet.
#[derive(Default, Clone)]
pub(super) struct Settings {
    pub(super) host: Option<String>,
    pub(super) port: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) socket: Option<String>,
    pub(super) database: Option<String>,
    pub(super) tls: Tls,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Returns these settings, from the URL, and of `file` what they leave open.
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
