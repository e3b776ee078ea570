//! What the texts of ModSecurity 2 start with.
//!
//! A rule's text starts with what was done, or, if the rule has `nolog,auditlog`, with the sentence
//! of its operator. A notice of the engine has no metadata. Both escape or leave out what the client
//! sent. An error of libxml2 during validation quotes the document as it is, line feeds included, and
//! so may what a Lua script passes to `m.log`: of these it is not known where they end. Sources:
//! `re_operators.c`, `msc_reqbody.c`, `apache2_io.c`, `persist_dbm.c`, `msc_logging.c`, `msc_lua.c`.

use crate::record::{Alert, MatchedRule};

/// Sentences of operators (`re_operators.c`), without the word `Warning.` in front. They quote names
/// of arguments with `log_escape_nq`, which leaves no LF.
const SENTENCES: [&[u8]; 24] = [
    b"CC# match ",
    b"CPF# match ",
    b"File \"",
    b"Found ",
    b"Fuzzy hash ",
    b"Geo lookup for \"",
    b"Gsb lookup for \"",
    b"IPmatch: ",
    b"IPmatchFromFile: ",
    b"Invalid URL Encoding: ",
    b"Invalid UTF-8 encoding: ",
    b"Error validating UTF-8 decoding at ",
    b"Match of \"",
    b"Matched phrase \"",
    b"Operator ",
    b"Pattern match \"",
    b"RBL lookup of ",
    b"Request URI ",
    b"SSN# match ",
    b"String match ",
    b"Unconditional match in SecAction.",
    b"XML: ",
    b"detected SQLi using libinjection",
    b"detected XSS using libinjection",
];

/// Notices of the engine, logged by `msr_log` at level 3 or lower. They have no metadata.
const NOTICES: [&[u8]; 26] = [
    b"Audit log: ",
    b"Error reading request body: ",
    b"Exec: ",
    b"Execution error",
    b"Failed to ",
    b"Geo Lookup: ",
    b"Input filter: ",
    b"Internal Error",
    b"Internal error",
    b"JSON parser error: ",
    b"JSON parsing error",
    b"Multipart parser error: ",
    b"Multipart parsing error",
    b"Multipart: ",
    b"Output filter: ",
    b"Request body ",
    b"Rule ",
    b"SecArgumentsLimit exceeded",
    b"SecRuleScript: ",
    b"URLENCODED parsing error",
    b"Unable to allocate memory ",
    b"Unknown request body processor: ",
    b"XML document tree could not be found ",
    b"XML parser error: ",
    b"XML parsing error",
    b"collection",
];

/// Returns `true` for a text that may quote the client as he is, so that where it ends, and what
/// metadata it has, is his to say.
pub(in crate::format) fn may_quote(alert: &Alert<'_>) -> bool {
    let starts = |known: &[&[u8]]| {
        let text = alert.raw.as_bytes();
        known.iter().any(|start| text.starts_with(start))
    };
    let is_known =
        alert.action.is_some() || starts(&SENTENCES) || (starts(&NOTICES) && !alert.has_metadata());
    !is_known
}

/// Returns `true` if the text of a matched rule is what a Lua script returned: also as it is.
pub(in crate::format) fn has_script(rules: &[MatchedRule<'_>]) -> bool {
    rules.iter().filter(|rule| rule.matched).any(|rule| {
        let directive = rule.directive.as_bytes();
        let inspects = memchr::memmem::find(directive, b"@inspectFile ").is_some();
        directive.starts_with(b"SecRuleScript ")
            || (inspects && memchr::memmem::find(directive, b".lua\"").is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn what_an_error_of_validation_starts_with_is_not_known() {
        for (text, want) in [
            ("Warning. anything", false),
            ("Access denied with code 403 (phase 2). anything", false),
            (
                "Pattern match \"x\" at ARGS:a. [file \"/f\"] [line \"1\"] [id \"7\"]",
                false,
            ),
            (
                "Match of \"validateSchema x\" against \"XML\" required.",
                false,
            ),
            (
                "XML: Schema validation failed. [file \"/f\"] [line \"1\"] [id \"7\"]",
                false,
            ),
            ("JSON parsing error: parse error: premature EOF\n", false),
            ("XML parsing error: XML: Failed parsing document.", false),
            (
                "Rule 7f01 [id \"7\"][file \"/f\"][line \"1\"] - Execution error - PCRE limits exceeded (-8): (null)",
                false,
            ),
            ("Multipart: Invalid boundary: x [id \"7\"]", true),
            (
                "Element 'a': 'x' is not a valid value of the atomic type 'xs:integer'.",
                true,
            ),
            (
                "Element 'a': 'x [file \"/f\"] [line \"1\"] [id \"7\"]",
                true,
            ),
            ("No declaration for element a", true),
            (
                "Value \"x\" for attribute a of b is not among the enumerated set",
                true,
            ),
            ("Lua: Script execution failed: x", true),
            ("a script says x", true),
            ("", true),
        ] {
            let alert = parse(text.as_bytes(), &mut false);
            assert_eq!(may_quote(&alert), want, "input {text:?}");
        }
    }

    #[test]
    fn rules_whose_text_a_script_returns() {
        for (directive, matched, want) in [
            ("SecRuleScript \"/x.lua\" \"phase:2,id:12\"", true, true),
            ("SecRuleScript \"/x.lua\" \"phase:2,id:12\"", false, false),
            (
                "SecRule \"FILES_TMPNAMES\" \"@inspectFile /x.lua\" \"id:12\"",
                true,
                true,
            ),
            (
                "SecRule \"FILES_TMPNAMES\" \"@inspectFile /x.pl\" \"id:12\"",
                true,
                false,
            ),
            ("SecRule \"ARGS\" \"@rx x.lua\" \"id:12\"", true, false),
        ] {
            let rule = MatchedRule {
                id: None,
                matched,
                logs: true,
                directive: directive.into(),
            };
            assert_eq!(has_script(&[rule]), want, "directive {directive:?}");
        }
    }
}
