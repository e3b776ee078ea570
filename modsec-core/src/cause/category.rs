//! The kind of attack that a detection is about.

use super::kind::rule_number;
use crate::record::Alert;

/// The kind of attack that a rule is made against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Category {
    /// SQL injection.
    Sqli,
    /// Cross-site scripting.
    Xss,
    /// Execution of commands on the server.
    Rce,
    /// Inclusion or reading of local files, path traversal.
    Lfi,
    /// Inclusion of files from elsewhere.
    Rfi,
    /// Code for PHP.
    Php,
    /// Code for Java.
    Java,
    /// Other injections: templates, LDAP, Node.js, server-side requests.
    Injection,
    /// A session id that the attacker chose.
    SessionFixation,
    /// A request that HTTP or the site's policy does not allow.
    Protocol,
    /// A security scanner that names itself.
    Scanner,
    /// A crawler, script or other program that is not welcome.
    Bot,
    /// A response that tells too much.
    DataLeak,
    /// A file that should not be uploaded.
    Upload,
    /// More requests than allowed.
    Dos,
    /// A client that a list says not to trust.
    Reputation,
    /// Malware and web shells on the server.
    Malware,
}

use Category::{
    Bot, DataLeak, Dos, Injection, Java, Lfi, Malware, Php, Protocol, Rce, Reputation, Rfi,
    Scanner, SessionFixation, Sqli, Upload, Xss,
};

/// Words of tags, in lower case. A tag of the Core Rule Set 3 and 4 is such a word; one of release 2
/// ends with it, behind a slash; other rule sets use the short ones.
const TAGS: [(&str, Category); 54] = [
    ("attack-sqli", Sqli),
    ("attack-xss", Xss),
    ("attack-rce", Rce),
    ("attack-lfi", Lfi),
    ("attack-rfi", Rfi),
    ("attack-injection-php", Php),
    ("attack-injection-java", Java),
    ("attack-java", Java),
    ("attack-injection-generic", Injection),
    ("attack-injection-nodejs", Injection),
    ("attack-ssrf", Injection),
    ("attack-ssti", Injection),
    ("attack-ldap", Injection),
    ("attack-fixation", SessionFixation),
    ("attack-protocol", Protocol),
    ("attack-deprecated-header", Protocol),
    ("attack-multipart-header", Protocol),
    ("attack-reputation-scanner", Scanner),
    ("attack-reputation-crawler", Bot),
    ("attack-reputation-scripting", Bot),
    ("attack-reputation-ip", Reputation),
    ("attack-disclosure", DataLeak),
    ("attack-dos", Dos),
    ("sql_injection", Sqli),
    ("sqli", Sqli),
    ("xss", Xss),
    ("command_injection", Rce),
    ("rce", Rce),
    ("file_injection", Lfi),
    ("dir_traversal", Lfi),
    ("lfi", Lfi),
    ("remote_file_inclusion", Rfi),
    ("rfi", Rfi),
    ("php_injection", Php),
    ("php", Php),
    ("java", Java),
    ("ldap_injection", Injection),
    ("ssi_injection", Injection),
    ("cf_injection", Injection),
    ("email_injection", Injection),
    ("session_fixation", SessionFixation),
    ("response_splitting", Protocol),
    ("request_smuggling", Protocol),
    ("protocol", Protocol),
    ("security_scanner", Scanner),
    ("scanner", Scanner),
    ("malicious", Bot),
    ("bad_robot", Bot),
    ("bot", Bot),
    ("bots", Bot),
    ("leakage", DataLeak),
    ("trojan", Malware),
    ("malware", Malware),
    ("upload", Upload),
];

/// Segments in the middle of tags of release 2 of the Core Rule Set, such as
/// `OWASP_CRS/PROTOCOL_VIOLATION/EVASION`.
const GROUPS: [(&str, Category); 4] = [
    ("protocol_violation", Protocol),
    ("policy", Protocol),
    ("leakage", DataLeak),
    ("malicious_software", Malware),
];

/// What names of files contain, in lower case: releases 3 and 4, then 2.
const FILES: [(&str, Category); 29] = [
    ("-910-ip-reputation", Reputation),
    ("-911-method", Protocol),
    ("-912-dos", Dos),
    ("-913-scanner", Scanner),
    ("-920-protocol", Protocol),
    ("-921-protocol", Protocol),
    ("-922-multipart", Protocol),
    ("-930-application-attack-lfi", Lfi),
    ("-931-application-attack-rfi", Rfi),
    ("-932-application-attack-rce", Rce),
    ("-933-application-attack-php", Php),
    ("-934-application-attack", Injection),
    ("-941-application-attack-xss", Xss),
    ("-942-application-attack-sqli", Sqli),
    ("-943-application-attack-session", SessionFixation),
    ("-944-application-attack-java", Java),
    ("-950-data-leakages", DataLeak),
    ("-951-data-leakages", DataLeak),
    ("-952-data-leakages", DataLeak),
    ("-953-data-leakages", DataLeak),
    ("-954-data-leakages", DataLeak),
    ("-955-web-shells", Malware),
    ("crs_20_protocol", Protocol),
    ("crs_21_protocol", Protocol),
    ("crs_30_http_policy", Protocol),
    ("crs_35_bad_robots", Bot),
    ("crs_41_sql_injection", Sqli),
    ("crs_41_xss", Xss),
    ("crs_50_outbound", DataLeak),
];

/// Rules about uploaded files, which carry the tags of what is in the files.
const UPLOADS: [u32; 4] = [932_180, 933_110, 933_111, 933_220];

impl Category {
    /// All of them.
    pub(crate) const ALL: [Category; 17] = [
        Sqli,
        Xss,
        Rce,
        Lfi,
        Rfi,
        Php,
        Java,
        Injection,
        SessionFixation,
        Protocol,
        Scanner,
        Bot,
        DataLeak,
        Upload,
        Dos,
        Reputation,
        Malware,
    ];

    /// Returns the category of a detection: by the tags of its rule, else by the rule's file.
    ///
    /// `None` if neither says, as for most rules of one's own.
    pub fn of(alert: &Alert<'_>) -> Option<Category> {
        if rule_number(alert).is_some_and(|id| UPLOADS.contains(&id)) {
            return Some(Upload);
        }
        alert
            .tags
            .iter()
            .find_map(|tag| by_tag(tag.as_bytes()))
            .or_else(|| {
                let file = alert.file.as_ref()?.as_bytes().to_ascii_lowercase();
                let holds = |part: &str| memchr::memmem::find(&file, part.as_bytes()).is_some();
                let (_, category) = FILES.iter().find(|(part, _)| holds(part))?;
                Some(*category)
            })
    }

    /// Returns the name as in JSON, in the database and in filters, such as `sqli`.
    pub fn name(self) -> &'static str {
        match self {
            Sqli => "sqli",
            Xss => "xss",
            Rce => "rce",
            Lfi => "lfi",
            Rfi => "rfi",
            Php => "php",
            Java => "java",
            Injection => "injection",
            SessionFixation => "session_fixation",
            Protocol => "protocol",
            Scanner => "scanner",
            Bot => "bot",
            DataLeak => "data_leak",
            Upload => "upload",
            Dos => "dos",
            Reputation => "reputation",
            Malware => "malware",
        }
    }
}

/// Returns the category that a tag stands for: its last segment counts first, then the ones
/// before it, the last first. Segments are divided by slashes and compared in any case; `None`
/// if none is known.
fn by_tag(tag: &[u8]) -> Option<Category> {
    let mut segments = tag.rsplit(|byte| *byte == b'/');
    let is_same = |segment: &[u8], word: &str| segment.eq_ignore_ascii_case(word.as_bytes());
    let last = segments.next()?;
    if let Some((_, category)) = TAGS.iter().find(|(word, _)| is_same(last, word)) {
        return Some(*category);
    }
    segments.find_map(|segment| {
        let (_, category) = GROUPS.iter().find(|(word, _)| is_same(segment, word))?;
        Some(*category)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_first_then_the_file() {
        let category = |id: &'static str, file: &'static str, tags: &[&'static str]| {
            Category::of(&Alert {
                rule_id: Some(id.into()),
                file: (!file.is_empty()).then(|| file.into()),
                tags: tags.iter().map(|tag| (*tag).into()).collect(),
                ..Alert::default()
            })
        };
        let crs_2 = "/crs/base_rules/modsecurity_crs_41_sql_injection_attacks.conf";
        for (id, file, tags, want) in [
            (
                "942100",
                "",
                &["application-multi", "attack-sqli", "OWASP_CRS"][..],
                Some(Sqli),
            ),
            (
                "942100",
                "",
                &["OWASP_CRS", "OWASP_CRS/ATTACK-SQLI"],
                Some(Sqli),
            ),
            ("944100", "", &["OWASP_CRS/ATTACK-JAVA"], Some(Java)),
            (
                "981173",
                crs_2,
                &["OWASP_CRS/WEB_ATTACK/SQL_INJECTION"],
                Some(Sqli),
            ),
            (
                "950005",
                "",
                &["OWASP_CRS/WEB_ATTACK/FILE_INJECTION", "WASCTC/WASC-33"],
                Some(Lfi),
            ),
            (
                "990002",
                "",
                &["OWASP_CRS/AUTOMATION/SECURITY_SCANNER"],
                Some(Scanner),
            ),
            (
                "960015",
                "",
                &["OWASP_CRS/PROTOCOL_VIOLATION/MISSING_HEADER_ACCEPT"],
                Some(Protocol),
            ),
            (
                "960032",
                "",
                &["OWASP_CRS/POLICY/METHOD_NOT_ALLOWED"],
                Some(Protocol),
            ),
            (
                "970003",
                "",
                &["OWASP_CRS/LEAKAGE/ERRORS_SQL"],
                Some(DataLeak),
            ),
            ("981173", crs_2, &[], Some(Sqli)),
            ("933110", "", &["attack-injection-php"], Some(Upload)),
            (
                "210492",
                "/etc/cwaf/rules/02_Global_Generic.conf",
                &["CWAF", "SQLi"],
                Some(Sqli),
            ),
            ("10", "/etc/own.conf", &["local/one"], None),
            ("942100", "", &[], None),
        ] {
            assert_eq!(category(id, file, tags), want, "{id} {file} {tags:?}");
        }
    }
}
