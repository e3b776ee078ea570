//! What to do about an error of the server or the connection.

use mysql_async::{DriverError, Error, IoError, ServerError};

use crate::store::StoreError;

/// What an error asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Repeat the transaction: the server rolled it back in favour of another one.
    Repeat,
    /// Connect again, then repeat.
    Reconnect,
    /// Tell the caller to come back later: room on the disk, a server that may be written to.
    Later,
    /// Leave a row out.
    Data,
    /// Let an administrator give a right.
    Permission,
    /// Let somebody change the configuration or the tables.
    Configure,
}

/// Server error 1062: a value of a unique key is there already.
pub(super) const DUPLICATE: u16 = 1062;

/// Returns the server's own number of the error.
pub(super) fn code(error: &Error) -> Option<u16> {
    match error {
        Error::Server(ServerError { code, .. }) => Some(*code),
        _ => None,
    }
}

/// Tells what the error asks for.
pub(super) fn remedy(error: &Error) -> Remedy {
    match error {
        Error::Server(error) => server_remedy(error),
        Error::Io(IoError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
            Remedy::Configure
        }
        // Certificates that do not fit, above all.
        Error::Io(IoError::Tls(_))
        | Error::Url(_)
        | Error::Driver(
            DriverError::UnknownAuthPlugin { .. }
            | DriverError::MysqlOldPasswordDisabled
            | DriverError::CleartextPluginDisabled
            | DriverError::NoClientSslFlagFromServer,
        ) => Remedy::Configure,
        Error::Io(_) | Error::Driver(_) | Error::Other(_) => Remedy::Reconnect,
    }
}

fn server_remedy(error: &ServerError) -> Remedy {
    match error.code {
        // Deadlock and, with Galera, a commit that lost against another node's; lock wait; TiDB's
        // write conflicts.
        1213 | 1205 | 1020 | 1412 | 8002 | 8022 | 8028 | 9007 => Remedy::Repeat,
        // Shutting down; connection killed; statement interrupted; Galera node not ready; too many
        // connections; aborted connections; prepared statements gone; TiDB's storage away.
        1053
        | 1243
        | 1615
        | 1927
        | 3169
        | 1317
        | 1047
        | 1040
        | 1203
        | 1152
        | 1158..=1161
        | 1184
        | 9001..=9006 => Remedy::Reconnect,
        // Disk or table full, error of the storage engine, read-only server (a replica after a
        // fail-over), Galera flow.
        1021 | 1114 | 1026 | 1030 | 1290 | 1792 | 1836 | 1969 | 3024 => Remedy::Later,
        1044 | 1142 | 1143 | 1227 | 1370 => Remedy::Permission,
        // Signals of triggers, checks of constraints and characters that cannot be converted: they
        // have no class of their own.
        1644 | 3819 | 4025 | 1366 | 1364 | 1118 | 1153 | 1526 | 1300 | 1977 | 3854 | 3988 => {
            Remedy::Data
        }
        _ => match error.state.get(..2) {
            Some("22" | "23" | "45") => Remedy::Data,
            Some("40") => Remedy::Repeat,
            Some("08") => Remedy::Reconnect,
            Some("28" | "42" | "3D") => Remedy::Configure,
            // Not known to us: keeping the entries and trying again loses nothing.
            _ => Remedy::Later,
        },
    }
}

/// Returns the error for the caller. What was to be done stands in `what`.
pub(super) fn store_error(store: &str, what: &str, error: Error) -> StoreError {
    let store = store.to_owned();
    let advice = match (&error, remedy(&error)) {
        (Error::Driver(DriverError::UnknownAuthPlugin { .. }), _) => {
            "the account logs in by a method that is not supported; give it a password"
        }
        (Error::Driver(DriverError::NoClientSslFlagFromServer), _) => {
            "the server does not offer TLS; set it up there, or say ssl-mode=disabled"
        }
        (
            Error::Server(ServerError {
                code: 1045 | 1698, ..
            }),
            _,
        ) => "user or password are not those of an account for this host",
        (Error::Server(ServerError { code: 1049, .. }), _) => {
            "there is no such database; make it with `create database`"
        }
        (
            Error::Server(ServerError {
                code: 1054 | 1146, ..
            }),
            _,
        ) => "a table or column is missing; put it back",
        (_, Remedy::Permission) => {
            "the account needs select, insert, update and delete on the database"
        }
        (Error::Io(_), Remedy::Configure) => {
            "no encrypted connection; do ssl-mode and ssl-ca fit the server's certificate?"
        }
        (_, Remedy::Configure | Remedy::Data) => "the server does not accept it",
        (_, Remedy::Repeat) => "the server prefers other writers again and again",
        (_, Remedy::Reconnect) => "the server is not there",
        (_, Remedy::Later) => "the server cannot write now",
    };
    let problem = format!("{what}: {advice}");
    match remedy(&error) {
        Remedy::Permission | Remedy::Configure | Remedy::Data => StoreError::Configuration {
            store,
            problem,
            source: Some(error.into()),
        },
        Remedy::Repeat | Remedy::Reconnect | Remedy::Later => StoreError::Unavailable {
            store,
            problem,
            source: Some(error.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_remedy() {
        for (code, state, want) in [
            (1213, "40001", Remedy::Repeat),
            (1205, "HY000", Remedy::Repeat),
            (1047, "08S01", Remedy::Reconnect),
            (1053, "08S01", Remedy::Reconnect),
            (1040, "08004", Remedy::Reconnect),
            (1114, "HY000", Remedy::Later),
            (1290, "HY000", Remedy::Later),
            (1105, "HY000", Remedy::Later),
            (1406, "22001", Remedy::Data),
            (1264, "22003", Remedy::Data),
            (1366, "HY000", Remedy::Data),
            (DUPLICATE, "23000", Remedy::Data),
            (1644, "45000", Remedy::Data),
            (3988, "HY000", Remedy::Data),
            (1142, "42000", Remedy::Permission),
            (1045, "28000", Remedy::Configure),
            (1049, "42000", Remedy::Configure),
            (1054, "42S22", Remedy::Configure),
        ] {
            let error = ServerError {
                code,
                state: state.to_owned(),
                message: String::new(),
            };
            assert_eq!(remedy(&Error::Server(error)), want, "error {code}");
        }
    }
}
