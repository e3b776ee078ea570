//! What to do about an error of the server or the connection.
//!
//! | the error says | [`Remedy`] | then |
//! | --- | --- | --- |
//! | deadlock, lock wait, conflict | `Repeat` | the transaction once more, for some seconds |
//! | connection lost, shut-down | `Reconnect` | once more on a new one, for some seconds |
//! | disk full, read-only | `Later` | `Unavailable` at once: it lasts longer than seconds |
//! | unknown | `Probe` | repeat, then look for a row that brings it about |
//! | a value | `Data` | look for the row, leave it out |
//! | no right | `Permission` | `Configuration`, for an administrator |
//! | login, database, certificate | `Configure` | `Configuration`, for an administrator |
//!
//! Only clear evidence may make a row be left out: an entry that is refused is kept aside, and one
//! that is repeated waits in its file. So the unknown is repeated first.
//!
//! Sources: "Server Error Message Reference" in MySQL's manual, "MariaDB Error Codes", the error
//! list of `TiDB`. Numbers from 1900 on can mean different things to MySQL and MariaDB.

use mysql_async::{DriverError, Error, IoError, ServerError};

use super::tls;
use crate::store::StoreError;

/// What an error asks for. See the table above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Repeat the transaction: the server rolled it back in favour of another one.
    Repeat,
    /// Connect again, then repeat.
    Reconnect,
    /// Tell the caller to come back later: room on the disk, a server that may be written to.
    Later,
    /// Repeat, and if it stays, find out whether a row is to blame: no error that we know.
    Probe,
    /// Leave a row out: its values cannot be stored.
    Data,
    /// Tell the caller that an administrator must grant a right.
    Permission,
    /// Tell the caller that configuration, account or tables must be changed.
    Configure,
}

/// Server error 1062: a value of a unique key is there already.
pub(super) const DUPLICATE: u16 = 1062;

/// Returns the server's own number of the error; `None` if it does not come from the server.
pub(super) fn code(error: &Error) -> Option<u16> {
    match error {
        Error::Server(ServerError { code, .. }) => Some(*code),
        _ => None,
    }
}

/// Returns `true` if no database is chosen (1046), it does not exist (1049), or a table does not
/// (1146).
pub(super) fn is_table_missing(error: &Error) -> bool {
    matches!(code(error), Some(1046 | 1049 | 1146))
}

/// Returns what the error asks for.
///
/// Errors of the network and the driver ask for a new connection, unless they are about the login
/// or TLS, which a repetition does not change.
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

/// Returns what an error of the server asks for: by its number if that is known here, else by the
/// class of its SQLSTATE, the first two of five characters.
fn server_remedy(error: &ServerError) -> Remedy {
    match error.code {
        // Deadlock and, with Galera, a commit that lost against another node's; lock wait; TiDB's
        // write conflicts.
        1213 | 1205 | 1020 | 1412 | 8002 | 8022 | 8028 | 9007 => Remedy::Repeat,
        // Shutting down; connection killed; statement interrupted; Galera node not ready; too many
        // connections; aborted connections; prepared statements gone; idle for too long (MySQL 8);
        // TiDB's storage away.
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
        | 4031
        | 9001..=9006 => Remedy::Reconnect,
        // The storage engine's own number 139: the row is too big for a page.
        1030 if error.message.contains("error 139") => Remedy::Data,
        // Disk or table full, error of the storage engine, read-only server (a replica after a
        // fail-over), Galera flow; memory, limits of the account, or the account locked.
        1021 | 1114 | 1026 | 1030 | 1290 | 1792 | 1836 | 1969 | 3024 | 5 | 1037 | 1038 | 1041
        | 1129 | 1130 | 1197 | 1226 | 1467 | 1594 | 1820 | 1862 | 3118 | 4151 => Remedy::Later,
        1044 | 1142 | 1143 | 1227 | 1370 => Remedy::Permission,
        code if is_of_data(code) => Remedy::Data,
        _ => match error.state.get(..2) {
            Some("22" | "23" | "44" | "45") => Remedy::Data,
            Some("40") => Remedy::Repeat,
            Some("08") => Remedy::Reconnect,
            Some("28" | "42" | "3D") => Remedy::Configure,
            // Keeping the entries and trying again loses nothing, but a row that brings this about
            // would keep all others out, too.
            _ => Remedy::Probe,
        },
    }
}

/// Returns `true` for errors that the values of one row can bring about, and that have no class of
/// their own, or one that says something else.
///
/// Triggers and constraints, which an administrator has made, run in the mode of their maker, which
/// may be strict.
fn is_of_data(code: u16) -> bool {
    matches!(
        code,
        // Row, packet, result, or undo record too large; TiDB's entry too large.
        1118 | 1153 | 1162 | 1301 | 1713 | 8025
        // Regular expression does not end, or is none: MariaDB; MySQL.
        | 1139 | 3685..=3700 | 3887 | 3900
        // Triggers: more rows than one, more than one in a subquery, none, no such case.
        | 1172 | 1242 | 1329 | 1339
        // Truncated; characters that are none, or cannot be converted.
        | 1265 | 1300 | 1366 | 1977 | 3854 | 3988
        // No default; wrong value, for a function, too.
        | 1364 | 1411 | 1525
        // Views and partitions that do not take it.
        | 1369 | 1526 | 1591 | 1748
        // Signals and checks.
        | 1644 | 3819 | 4025
        // JSON: paths; MariaDB's syntax and depth; values that a functional index cannot hold.
        | 3143 | 3149 | 3165 | 4035..=4045 | 3751..=3752 | 3903..=3907
    )
}

/// Returns the error for the caller: `what` was attempted, what to do about it, and the server's
/// words as the source.
///
/// Lasting ones become [`StoreError::Configuration`], all others [`StoreError::Unavailable`].
pub(super) fn store_error(store: &str, what: &str, error: Error) -> StoreError {
    let advice = advice(&error);
    with_advice(store, what, advice, error)
}

/// As [`store_error`], in the words of who only reads.
pub(super) fn read_error(store: &str, what: &str, error: Error) -> StoreError {
    let advice = match (code(&error), remedy(&error)) {
        (Some(1146), _) => "a table is missing; put it back, or let a run make it anew",
        (_, Remedy::Permission) => "the account needs select on the database",
        (_, Remedy::Repeat) => "the server prefers others again and again",
        (Some(_), Remedy::Later | Remedy::Probe) => "the server cannot answer now",
        _ => advice(&error),
    };
    with_advice(store, what, advice, error)
}

/// Returns what to do about an error.
fn advice(error: &Error) -> &'static str {
    match (error, remedy(error)) {
        (Error::Driver(DriverError::UnknownAuthPlugin { .. }), _) => {
            "the account logs in by a method that is not supported; give it a password"
        }
        (Error::Driver(DriverError::NoClientSslFlagFromServer), _) => {
            "the server does not offer TLS, and rows have passwords in them; set TLS up there, or say \
             ssl-mode=disabled if no other host can listen in between"
        }
        (Error::Server(ServerError { code: 1698, .. }), _) => {
            "user or password are not those of an account for this host; an account with unix_socket \
             logs in as the system's user of that name, through the socket (host localhost, no port)"
        }
        (Error::Server(ServerError { code: 1045, .. }), _) => {
            "user or password are not those of an account for this host"
        }
        (
            Error::Server(ServerError {
                code: 1046 | 1049, ..
            }),
            _,
        ) => "there is no such database; make it with `create database`",
        (Error::Server(ServerError { code: 1054, .. }), _) => "a column is missing; put it back",
        (Error::Server(ServerError { code: 1146, .. }), _) => {
            "a table is missing; put it back, or the next try makes it anew"
        }
        (_, Remedy::Permission) => {
            "the account needs select, insert, update and delete on the database"
        }
        (Error::Io(error), Remedy::Configure) => tls::advice(error),
        (_, Remedy::Configure | Remedy::Data) => "the server does not accept it",
        (_, Remedy::Repeat) => "the server prefers other writers again and again",
        // So looks a packet filter, which IPAddressDeny= of the shipped units is.
        (Error::Driver(DriverError::ConnectionClosed), _) => {
            "the server does not answer; on another host, the unit must allow it (IPAddressAllow=)"
        }
        (_, Remedy::Reconnect) => "the server is not there",
        (_, Remedy::Later | Remedy::Probe) => "the server cannot write now",
    }
}

/// Returns the error of this text, with the server's words as the source.
fn with_advice(store: &str, what: &str, advice: &str, error: Error) -> StoreError {
    let store = store.to_owned();
    let problem = format!("{what}: {advice}");
    let is_lasting = matches!(
        remedy(&error),
        Remedy::Permission | Remedy::Configure | Remedy::Data
    );
    let source = Some(cause(error));
    if is_lasting {
        StoreError::Configuration {
            store,
            problem,
            source,
        }
    } else {
        StoreError::Unavailable {
            store,
            problem,
            source,
        }
    }
}

/// Returns what the server, the system or the driver says, without what the driver puts around
/// it: its errors repeat the text of their causes.
pub(super) fn cause(error: Error) -> Box<dyn std::error::Error + Send + Sync> {
    match error {
        Error::Server(error) => error.into(),
        Error::Io(IoError::Io(error)) => error.into(),
        Error::Io(IoError::Tls(error)) => error.into(),
        Error::Driver(error) => error.into(),
        Error::Other(error) => error,
        Error::Url(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error_chain::error_chain;

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
            (1030, "HY000", Remedy::Later),
            (1226, "42000", Remedy::Later),
            (1105, "HY000", Remedy::Probe),
            (1242, "21000", Remedy::Data),
            (1136, "21S01", Remedy::Probe),
            (1265, "01000", Remedy::Data),
            (1139, "42000", Remedy::Data),
            (1118, "42000", Remedy::Data),
            (1153, "08S01", Remedy::Data),
            (1369, "44000", Remedy::Data),
            (1411, "HY000", Remedy::Data),
            (1452, "23000", Remedy::Data),
            (3140, "22032", Remedy::Data),
            (3699, "HY000", Remedy::Data),
            (3819, "HY000", Remedy::Data),
            (4025, "23000", Remedy::Data),
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

    #[test]
    fn row_too_big_for_the_engine_is_no_outage() {
        for (number, want) in [(139, Remedy::Data), (28, Remedy::Later)] {
            let error = ServerError {
                code: 1030,
                state: "HY000".to_owned(),
                message: format!("Got error {number} \"…\" from storage engine InnoDB"),
            };
            assert_eq!(
                remedy(&Error::Server(error)),
                want,
                "engine's error {number}"
            );
        }
    }

    #[test]
    fn what_the_server_says_is_said_once() {
        let error = ServerError {
            code: 1045,
            state: "28000".to_owned(),
            message: "Access denied".to_owned(),
        };
        let io = std::io::Error::other("no route");
        for (error, want) in [
            (Error::Server(error), "Access denied"),
            (Error::Io(IoError::Io(io)), "no route"),
            (Error::Driver(DriverError::ConnectionClosed), "closed"),
        ] {
            let text = error_chain(&store_error("mysql://h", "cannot open", error));
            assert_eq!(text.matches(want).count(), 1, "{text}");
        }
    }

    #[test]
    fn a_reader_is_told_nothing_about_writing() {
        for code in [
            5, 1021, 1044, 1046, 1054, 1105, 1142, 1146, 1205, 1213, 1290, 1365, 4031,
        ] {
            let error = ServerError {
                code,
                state: "HY000".to_owned(),
                message: String::new(),
            };
            let text = read_error("mysql://h", "cannot read", Error::Server(error)).to_string();
            for word in ["write", "insert", "store", "batch"] {
                assert!(!text.contains(word), "{code}: {text}");
            }
        }
    }

    #[test]
    fn a_packet_filter_is_thought_of() {
        let error = Error::Driver(DriverError::ConnectionClosed);
        let text = error_chain(&store_error("mysql://h", "cannot open", error));
        assert!(text.contains("IPAddressAllow="), "{text}");
    }
}
