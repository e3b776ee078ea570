//! The option files of MySQL's own programs (`~/.my.cnf`).
//!
//! ```text
//! [client]                       for all programs; ours, too
//! user = waf
//! password = 'p#w'               quotes keep # and spaces
//! host = db.example.org          # a comment
//! ssl-ca = /etc/mysql/ca.pem
//!
//! [modsec-parser]                for us alone
//! database = logs
//!
//! [mysqldump]                    passed over
//! ```
//!
//! Only what a connection needs is understood: `host`, `port`, `user`, `password`, `socket`,
//! `database`, `ssl-ca`, `ssl-mode`, and MariaDB's `ssl` and `ssl-verify-server-cert`. A dash may
//! be written as an underscore. Source: "Using Option Files" in MySQL's reference manual.
//!
//! `!include` lines are not followed, and everything else in the file is passed over: it belongs to
//! other programs, so nothing in it is an error.

use super::settings::Settings;

/// The groups that concern us. As with MySQL's programs, what comes later in the file wins.
const GROUPS: [&str; 2] = ["client", "modsec-parser"];

/// What is in an option file.
pub(super) struct OptionFile {
    /// What it says about a connection.
    pub(super) settings: Settings,
    /// The line, counted from 1, and the key since which the values make no sense.
    pub(super) wrong: Option<(usize, String)>,
    /// `true` if there is something in it, and none of it in a group that concerns us.
    pub(super) is_for_others: bool,
}

/// Reads the text of an option file. Never fails; what is not understood is passed over.
pub(super) fn parse(text: &str) -> OptionFile {
    let mut file = OptionFile {
        settings: Settings::default(),
        wrong: None,
        is_for_others: false,
    };
    let mut group = None;
    let mut has_ours = false;
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if let Some(name) = line.strip_prefix('[') {
            let name = name.split(']').next().unwrap_or_default().trim();
            group = Some(name).filter(|name| GROUPS.contains(name));
            has_ours |= group.is_some();
        } else if !line.is_empty() && !line.starts_with(['#', ';', '!']) {
            file.is_for_others = true;
            if group.is_none() {
                continue;
            }
            let (key, value) = match line.split_once('=') {
                Some((key, value)) => (key.trim(), Some(value)),
                None => (line, None),
            };
            set(&mut file.settings, key, value.map(unquote));
            match file.settings.check_values() {
                Ok(_) => file.wrong = None,
                Err(_) => {
                    file.wrong.get_or_insert_with(|| (number, key.to_owned()));
                }
            }
        }
    }
    file.is_for_others &= !has_ours;
    file
}

/// Takes one line over. `value` is `None` for a name without `=`, which unsets what came before.
fn set(settings: &mut Settings, key: &str, value: Option<String>) {
    match key.replace('_', "-").as_str() {
        "host" => settings.host = value,
        "port" => settings.port = value,
        "user" => settings.user = value,
        "password" => settings.password = value,
        "socket" => settings.socket = value,
        "database" => settings.database = value,
        key => {
            settings.tls.set(key, value);
        }
    }
}

/// Undoes quotes, escapes and a comment at the end of the line.
///
/// `'p#w'  # comment` gives `p#w`; `p\sw` gives `p w`.
fn unquote(value: &str) -> String {
    let value = without_comment(value).trim();
    let inner = ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(value);
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => push_escaped(&mut plain, chars.next()),
            c => plain.push(c),
        }
    }
    plain
}

/// Appends what a backslash followed by `escaped` stands for: `\b`, `\t`, `\n`, `\r`, `\s` (a
/// space), `\\`, and quotes. Any other backslash stands for itself, as in `C:\program`.
fn push_escaped(plain: &mut String, escaped: Option<char>) {
    match escaped {
        Some('b') => plain.push('\u{8}'),
        Some('t') => plain.push('\t'),
        Some('n') => plain.push('\n'),
        Some('r') => plain.push('\r'),
        Some('s') => plain.push(' '),
        Some(quoted @ ('\\' | '"' | '\'')) => plain.push(quoted),
        // Any other backslash stands for itself.
        other => plain.extend(['\\'].into_iter().chain(other)),
    }
}

/// Returns the value up to a `#` outside of quotes. A quote behind a backslash opens and closes
/// nothing.
fn without_comment(value: &str) -> &str {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in value.char_indices() {
        match (c, quote) {
            _ if escaped => escaped = false,
            ('\\', _) => escaped = true,
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            ('#', None) => return &value[..at],
            _ => {}
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_follows_the_manual() {
        for (value, want) in [
            ("secret", "secret"),
            ("  secret  ", "secret"),
            ("\"a b \"", "a b "),
            ("'a\"b'", "a\"b"),
            ("a # comment", "a"),
            ("'a#b' # comment", "a#b"),
            ("\"a#b\"", "a#b"),
            (r"a\sb\tc\\d", "a b\tc\\d"),
            (r"C:\program", r"C:\program"),
            (r"'a\'b'", "a'b"),
            ("a=b", "a=b"),
            ("", ""),
            ("\"", "\""),
            ("пароль", "пароль"),
        ] {
            assert_eq!(unquote(value), want, "input {value:?}");
        }
    }

    #[test]
    fn only_our_groups_count_and_the_last_one_wins() {
        let file = parse(
            "user = outside\n\
             [mysqld]\nuser=mysql\nport=1\n\
             [client]\n; a comment\nuser=client\npassword='first'\nhost = db.example.org\n\
             [mysql]\npassword=other\n\
             [ modsec-parser ]\npassword = \"s e c\"\nssl_ca=/etc/ca.pem\nssl-ca\n!include x\n\
             [clientele]\nhost=no\n",
        );
        assert!(!file.is_for_others && file.wrong.is_none());
        let settings = file.settings;
        assert_eq!(settings.user.as_deref(), Some("client"));
        assert_eq!(settings.password.as_deref(), Some("s e c"));
        assert_eq!(settings.host.as_deref(), Some("db.example.org"));
        assert_eq!(settings.port, None);
        assert_eq!(settings.tls.ca, None);
    }

    #[test]
    fn the_line_of_a_value_that_makes_no_sense_is_known() {
        for (text, want) in [
            ("[client]\nuser=x\n\nport = abc\n", Some((4, "port"))),
            ("[client]\nport=0\nssl_mode=no\n", Some((2, "port"))),
            (
                "[client]\nport=0\nport=1\nssl-mode=no\n",
                Some((4, "ssl-mode")),
            ),
            ("[client]\nssl=maybe\n", Some((2, "ssl"))),
            ("[mysqld]\nport=abc\n", None),
        ] {
            let wrong = parse(text).wrong;
            let wrong = wrong.as_ref().map(|(line, key)| (*line, key.as_str()));
            assert_eq!(wrong, want, "{text:?}");
        }
    }

    #[test]
    fn a_file_without_a_group_of_ours_is_for_others() {
        for (text, want) in [
            ("", false),
            ("# a comment\n\n", false),
            ("[client]\n", false),
            ("[mysqld]\nport=1\n[modsec-parser]\n", false),
            ("user=waf\npassword=secret\n", true),
            ("[mysqld]\nport=1\n", true),
        ] {
            assert_eq!(parse(text).is_for_others, want, "{text:?}");
        }
    }
}
