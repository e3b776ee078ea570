//! What an alert means, and for which one a transaction was blocked or reported.
//!
//! With anomaly scoring, the rule that blocks says nothing about the request: nearly every blocked
//! transaction names 949110 (`981176` in the Core Rule Set 2.2), and 980130 besides. What was wrong
//! with the request is in other alerts. This module tells them apart.
//!
//! ```text
//! Alert  ─► kind, target, points, paranoia level, category         Meaning
//! Record ─► the cause, who blocked, the threshold, the outcome     Analysis
//! ```
//!
//! All of it is computed from one [`Record`](crate::Record), without a database, a file or a clock. What an entry
//! does not say is `None`, never guessed.
//!
//! ```
//! use modsec_core::cause::{Analysis, Category, Outcome};
//!
//! let entry = b"--3fa0c41b-A--
//! [03/Feb/2024:10:11:12 +0100] Zb4kQH8AAAEAAB1cR0MAAAAA 192.0.2.10 40112 198.51.100.4 80
//! --3fa0c41b-B--
//! GET /item?id=1%27 HTTP/1.1
//!
//! --3fa0c41b-H--
//! Message: Warning. Pattern match \"x\" at ARGS:id. [file \"/crs/rules/REQUEST-942-APPLICATION-ATTACK-SQLI.conf\"] [line \"1\"] [id \"942100\"] [msg \"SQL Injection\"] [severity \"CRITICAL\"] [tag \"attack-sqli\"] [tag \"paranoia-level/1\"]
//! Message: Access denied with code 403 (phase 2). Operator GE matched 5 at TX:anomaly_score. [file \"/crs/rules/REQUEST-949-BLOCKING-EVALUATION.conf\"] [line \"1\"] [id \"949110\"] [msg \"Inbound Anomaly Score Exceeded (Total Score: 5)\"]
//! Action: Intercepted (phase 2)
//!
//! --3fa0c41b-Z--
//! ";
//! let record = modsec_core::format::decode(entry)?;
//! let analysis = Analysis::of(&record);
//! let cause = analysis.cause.unwrap();
//! assert_eq!(record.alerts[cause].rule_id.as_ref().unwrap(), "942100");
//! assert_eq!(analysis.alerts[cause].category, Some(Category::Sqli));
//! assert_eq!(analysis.alerts[cause].target.as_ref().unwrap().text, "ARGS:id");
//! assert_eq!(record.alerts[analysis.blocked_by.unwrap()].rule_id.as_ref().unwrap(), "949110");
//! assert_eq!((analysis.threshold, analysis.is_sole), (Some(5), Some(true)));
//! assert_eq!(analysis.outcome, Some(Outcome::Blocked));
//! # Ok::<(), modsec_core::format::Defect>(())
//! ```

mod analysis;
mod category;
mod kind;
mod path;
mod points;
mod target;

pub use self::analysis::{Analysis, Meaning, Outcome};
pub use self::category::Category;
pub use self::kind::Kind;
pub use self::path::{path, path_template};
pub use self::points::{Direction, Points, PointsSource};
pub use self::target::{Target, TargetSource};

#[cfg(all(test, feature = "serde"))]
mod tests {
    use serde::Serialize;

    use super::*;

    /// JSON of a value and the column of a row use one word.
    #[test]
    fn serde_writes_the_names() {
        fn check<T: Copy + Serialize>(values: &[T], name: fn(T) -> &'static str) {
            for value in values {
                assert_eq!(serde_json::to_value(value).unwrap(), name(*value));
            }
        }
        use Category::{
            Bot, DataLeak, Dos, Injection, Java, Lfi, Malware, Php, Protocol, Rce, Reputation, Rfi,
            Scanner, SessionFixation, Sqli, Upload, Xss,
        };
        let categories = [
            Bot,
            DataLeak,
            Dos,
            Injection,
            Java,
            Lfi,
            Malware,
            Php,
            Protocol,
            Rce,
            Reputation,
            Rfi,
            Scanner,
            SessionFixation,
            Sqli,
            Upload,
            Xss,
        ];
        check(&categories, Category::name);
        let kinds = [
            Kind::Detection,
            Kind::BlockingEvaluation,
            Kind::Correlation,
            Kind::Notice,
        ];
        check(&kinds, Kind::name);
        check(&[Direction::Inbound, Direction::Outbound], Direction::name);
        check(
            &[PointsSource::Rule, PointsSource::Severity],
            PointsSource::name,
        );
        check(
            &[TargetSource::Sentence, TargetSource::LogData],
            TargetSource::name,
        );
        check(&[Outcome::Blocked, Outcome::Detected], Outcome::name);
    }
}
