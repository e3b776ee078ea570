//! Whether an alert is about the request, or bookkeeping of the rule set.

use super::Target;
use crate::record::Alert;

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Kind {
    /// A rule found something in the request or the response.
    Detection,
    /// A rule compared the anomaly score with its threshold: 949 and 959 of the Core Rule Set,
    /// 981176 and its like of release 2.2, any rule whose operator looks at a score.
    BlockingEvaluation,
    /// A rule that sums the transaction up at its end: 980 of the Core Rule Set, 981201 to 981205
    /// of release 2.2.
    Correlation,
    /// The engine itself reports something: a body that cannot be parsed, a limit. No rule stands
    /// behind it.
    Notice,
}

/// Files of the Core Rule Set with nothing but bookkeeping, by how their names begin.
const FILES: [(&[u8], Kind); 6] = [
    (b"REQUEST-949-BLOCKING-EVALUATION", Kind::BlockingEvaluation),
    (
        b"RESPONSE-959-BLOCKING-EVALUATION",
        Kind::BlockingEvaluation,
    ),
    (b"RESPONSE-980-CORRELATION", Kind::Correlation),
    (
        b"modsecurity_crs_49_inbound_blocking",
        Kind::BlockingEvaluation,
    ),
    (
        b"modsecurity_crs_59_outbound_blocking",
        Kind::BlockingEvaluation,
    ),
    (b"modsecurity_crs_60_correlation", Kind::Correlation),
];

/// Ids of the same rules, for alerts that name no file. Release 2.2 has detections from 959005 to
/// 959151, so those of 959 are named one by one. The last two are of Comodo's rule set.
const IDS: [(u32, u32, Kind); 8] = [
    (949_000, 949_999, Kind::BlockingEvaluation),
    (959_100, 959_101, Kind::BlockingEvaluation),
    (980_000, 980_999, Kind::Correlation),
    (981_174, 981_176, Kind::BlockingEvaluation),
    (981_200, 981_200, Kind::BlockingEvaluation),
    (981_201, 981_205, Kind::Correlation),
    (214_930, 214_930, Kind::BlockingEvaluation),
    (214_940, 214_940, Kind::BlockingEvaluation),
];

impl Kind {
    /// Returns the kind of an alert: by the rule's file, else by its id, else by what its operator
    /// looked at.
    pub fn of(alert: &Alert<'_>) -> Kind {
        Kind::with_target(alert, Target::of(alert).as_ref())
    }

    /// Does what [`Kind::of`] does, for an alert of which it is known what it looked at.
    pub(super) fn with_target(alert: &Alert<'_>, target: Option<&Target<'_>>) -> Kind {
        if alert.rule_id.is_none() && !alert.has_metadata() {
            return Kind::Notice;
        }
        let by_file = file_name(alert)
            .and_then(|name| FILES.iter().find(|(start, _)| name.starts_with(start)));
        if let Some((_, kind)) = by_file {
            return *kind;
        }
        let id = rule_number(alert);
        let within = |(first, last, _): &&(u32, u32, Kind)| {
            id.is_some_and(|id| (*first..=*last).contains(&id))
        };
        match IDS.iter().find(within) {
            Some((.., kind)) => *kind,
            None if target.is_some_and(Target::is_score) => Kind::BlockingEvaluation,
            None => Kind::Detection,
        }
    }

    /// Returns `true` for bookkeeping of a rule set: neither about the request nor the engine's.
    pub fn is_bookkeeping(self) -> bool {
        matches!(self, Kind::BlockingEvaluation | Kind::Correlation)
    }

    /// Returns the name as in JSON and in the database, such as `blocking_evaluation`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Detection => "detection",
            Kind::BlockingEvaluation => "blocking_evaluation",
            Kind::Correlation => "correlation",
            Kind::Notice => "notice",
        }
    }
}

/// Returns the name of the file that the alert's rule stands in, without directories.
pub(super) fn file_name<'a>(alert: &'a Alert<'_>) -> Option<&'a [u8]> {
    let file = alert.file.as_ref()?.as_bytes();
    let start = memchr::memrchr(b'/', file).map_or(0, |slash| slash + 1);
    file.get(start..)
}

/// Returns the id of the alert's rule, if it is a number.
pub(super) fn rule_number(alert: &Alert<'_>) -> Option<u32> {
    alert.rule_id.as_ref()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(id: &'static str, file: &'static str, detail: &'static str) -> Kind {
        Kind::of(&Alert {
            rule_id: (!id.is_empty()).then(|| id.into()),
            file: (!file.is_empty()).then(|| file.into()),
            detail: detail.into(),
            ..Alert::default()
        })
    }

    #[test]
    fn bookkeeping_is_known_by_file_id_or_what_it_looks_at() {
        let crs = |name: &str| format!("/usr/share/modsecurity-crs/rules/{name}.conf").leak();
        for (id, file, detail, want) in [
            (
                "942100",
                "",
                "detected SQLi using libinjection",
                Kind::Detection,
            ),
            ("949110", "", "", Kind::BlockingEvaluation),
            (
                "949111",
                crs("REQUEST-949-BLOCKING-EVALUATION"),
                "",
                Kind::BlockingEvaluation,
            ),
            ("959100", "", "", Kind::BlockingEvaluation),
            (
                "959101",
                crs("RESPONSE-959-BLOCKING-EVALUATION"),
                "",
                Kind::BlockingEvaluation,
            ),
            (
                "959006",
                "/crs/modsecurity_crs_40_generic_attacks.conf",
                "",
                Kind::Detection,
            ),
            ("959070", "", "", Kind::Detection),
            ("980130", "", "", Kind::Correlation),
            (
                "980170",
                crs("RESPONSE-980-CORRELATION"),
                "",
                Kind::Correlation,
            ),
            ("981176", "", "", Kind::BlockingEvaluation),
            ("981204", "", "", Kind::Correlation),
            ("981231", "", "", Kind::Detection),
            (
                "",
                "/crs/modsecurity_crs_49_inbound_blocking.conf",
                "",
                Kind::BlockingEvaluation,
            ),
            (
                "",
                "/etc/own.conf",
                "Pattern match \"x\" at ARGS:a.",
                Kind::Detection,
            ),
            (
                "10",
                "/etc/own.conf",
                "Operator GE matched 5 at TX:anomaly_score.",
                Kind::BlockingEvaluation,
            ),
            (
                "10",
                "/etc/own.conf",
                "Operator GE matched 7 at TX:blocking_inbound_anomaly_score.",
                Kind::BlockingEvaluation,
            ),
            (
                "10",
                "",
                "Operator GE matched 7 at TX:INCOMING_POINTS.",
                Kind::BlockingEvaluation,
            ),
            (
                "10",
                "",
                "Operator GE matched 3 at TX:sqli_select_statement_count.",
                Kind::Detection,
            ),
            (
                "10",
                "",
                "Pattern match \"x\" at ARGS:anomaly_score.",
                Kind::Detection,
            ),
            ("", "", "Multipart parsing error: x", Kind::Notice),
        ] {
            assert_eq!(kind(id, file, detail), want, "{id} {file} {detail}");
        }
    }
}
