//! Values that may have a password in them: the URL of a store.
//!
//! They are shown in `--check-config`, in help and in messages, so they are masked there. Which
//! options these are is said once, where the option is defined: clap's `hide_env_values`.

use clap::Arg;

/// Returns `true` if the option's value must not be shown: its definition hides that of its
/// variable.
pub(super) fn is_secret(arg: &Arg) -> bool {
    arg.is_hide_env_values_set()
}

/// Returns the URL without user and password.
///
/// What is not clearly a URL without a password is left out but for its scheme: a mistyped
/// password can end up anywhere.
///
/// ```text
/// mysql://waf:secret@db:3306/waf?ssl-ca=/x   mysql://***@db:3306/waf?***
/// mysql://waf:secret/waf                     mysql:***        `secret` is no port
/// sqlite:/srv/waf.db                         sqlite:/srv/waf.db
/// secret                                     ***
/// ```
pub(super) fn masked(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once(':') else {
        return "***".to_owned();
    };
    let word = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric());
    if scheme == "sqlite" {
        return url.to_owned();
    }
    if !word(scheme) {
        return "***".to_owned();
    }
    let (login, place) = match rest.strip_prefix("//").map(|rest| rest.rsplit_once('@')) {
        Some(Some((_, place))) => ("***@", place),
        Some(None) => ("", rest.trim_start_matches('/')),
        None => return format!("{scheme}:***"),
    };
    let (place, more) = match place.split_once('?') {
        Some((place, _)) => (place, "?***"),
        None => (place, ""),
    };
    let host = place.split_once('/').map_or(place, |(host, _)| host);
    let port = host.rsplit_once(':').map_or("", |(_, port)| port);
    let numeric = port.bytes().all(|b| b.is_ascii_digit() || b == b']');
    if numeric {
        format!("{scheme}://{login}{place}{more}")
    } else {
        format!("{scheme}:***")
    }
}

/// Returns `true` if the URL has a password, even an empty one, between `:` and the last `@`.
pub(super) fn has_password(url: &str) -> bool {
    let login = url
        .split_once("://")
        .and_then(|(_, rest)| rest.rsplit_once('@'));
    login.is_some_and(|(login, _)| login.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_found_and_never_shown() {
        for (url, shown, has) in [
            ("sqlite:/srv/waf.db", "sqlite:/srv/waf.db", false),
            (
                "mysql://db.example.org/waf",
                "mysql://db.example.org/waf",
                false,
            ),
            ("mysql://[::1]:3306/waf", "mysql://[::1]:3306/waf", false),
            ("mysql://waf@db:3306/waf", "mysql://***@db:3306/waf", false),
            (
                "mysql://waf:secret@db:3306/waf",
                "mysql://***@db:3306/waf",
                true,
            ),
            (
                "mysql://waf:sec@r/et@db/waf?socket=/x",
                "mysql://***@db/waf?***",
                true,
            ),
            ("mysql://waf:secret/waf", "mysql:***", false),
            ("mysql:secret", "mysql:***", false),
            ("s ecret:secret", "***", false),
            ("secret", "***", false),
        ] {
            assert_eq!(masked(url), shown, "{url}");
            assert_eq!(has_password(url), has, "{url}");
        }
    }
}
