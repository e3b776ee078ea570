//! Part K: the rules that matched, one directive on a line.
//!
//! ```text
//! SecRule "ARGS" "@rx '" "phase:2,deny,id:100100"     a rule; or SecAction, SecRuleScript
//! SecRule "ARGS" "@rx x" "t:none"                     member of its chain
//! #SecRule "ARGS" "@rx y" "t:none"                    member that did not match
//!                                                     an empty line ends a chain
//! ```
//!
//! The text comes from the configuration alone, so that an id in it is certain. ModSecurity 2 writes the
//! directives anew (`msre_rule_generate_unparsed` in `re.c`), with `\"` and `\\` in their arguments, Coraza as
//! they were typed. All rules that matched are listed, also those with `pass,nolog`.
//!
//! The id is that of the last argument, `id:100100` or `id:'100100'`. A member of a chain has none;
//! its rule is the first of the chain. `logs` is what the actions leave: `log`, `auditlog` and
//! `nolog`, the last of them.

use memchr::memmem;

use super::lines::lines;
use crate::format::escape::quoted;
use crate::record::{MAX_MATCHED_RULES, MatchedRule};

/// Reads the rules, at most [`MAX_MATCHED_RULES`]; `capped` is set if there are more.
pub(in crate::format) fn read<'a>(content: &'a [u8], capped: &mut bool) -> Vec<MatchedRule<'a>> {
    let mut rules = Vec::new();
    for line in lines(content).filter(|line| !line.is_empty()) {
        let (directive, matched) = match line.strip_prefix(b"#") {
            Some(directive) => (directive, false),
            None => (line, true),
        };
        if !directive.starts_with(b"Sec") {
            continue;
        }
        if rules.len() == MAX_MATCHED_RULES {
            *capped = true;
            break;
        }
        let actions = actions(directive).unwrap_or_default();
        let mut rule = MatchedRule {
            id: None,
            matched,
            logs: true,
            directive: line.into(),
        };
        for action in split(actions) {
            if let Some(id) = action.strip_prefix(b"id:") {
                rule.id = Some(unquote(id).into());
            } else if action == b"nolog" {
                rule.logs = false;
            } else if action == b"log" || action == b"auditlog" {
                // The last word counts, and auditlog alone writes to the audit log too.
                rule.logs = true;
            }
        }
        rules.push(rule);
    }
    rules
}

/// Returns the last argument of a directive.
fn actions(directive: &[u8]) -> Option<&[u8]> {
    let mut rest = directive.get(memmem::find(directive, b" \"")? + 1..)?;
    loop {
        let (argument, behind) = quoted(rest)?;
        match behind.strip_prefix(b" ") {
            Some(next) if next.starts_with(b"\"") => rest = next,
            _ => return Some(argument),
        }
    }
}

/// Splits a list of actions at its commas, but for those inside single quotes.
fn split(actions: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut in_quotes = false;
    let mut escaped = false;
    actions
        .split(move |byte| {
            let comma = *byte == b',' && !in_quotes;
            if *byte == b'\'' && !escaped {
                in_quotes = !in_quotes;
            }
            escaped = *byte == b'\\' && !escaped;
            comma
        })
        .map(<[u8]>::trim_ascii)
}

/// Takes single quotes off a value that has them at both ends.
fn unquote(value: &[u8]) -> &[u8] {
    value
        .strip_prefix(b"'")
        .and_then(|value| value.strip_suffix(b"'"))
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_from_the_actions_only() {
        let content = br#"SecAction "phase:1,auditlog,id:900990,nolog,pass,t:none"

SecRule "ARGS|id:5" "@rx \",id:6," "phase:2,log,id:'942100',msg:'x, id:7, y',deny"
#SecRule "ARGS" "@rx y" "t:none,nolog"

SecRule "ARGS" "@rx z"
SecRuleScript "/x.lua" "phase:2,id:12,nolog,auditlog"
Message: [id "1"]
"#;
        let rules = read(content, &mut false);
        let got: Vec<_> = rules
            .iter()
            .map(|rule| {
                (
                    rule.id.as_ref().map(ToString::to_string),
                    rule.matched,
                    rule.logs,
                )
            })
            .collect();
        let id = |id: &str| Some(id.to_owned());
        assert_eq!(
            got,
            [
                (id("900990"), true, false),
                (id("942100"), true, true),
                (None, false, false),
                (None, true, true),
                (id("12"), true, true),
            ]
        );
    }
}
