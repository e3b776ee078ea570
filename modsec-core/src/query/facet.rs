//! By what transactions can be counted.

/// By what transactions are counted in [`Query::top`](super::Query::top).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Facet {
    /// The rule that a transaction was blocked or reported for: column `ruleId`.
    Cause,
    /// Who sent the request: `client_ip`.
    Client,
    /// The host that he meant, in lower case: `Host`.
    Host,
    /// The site's account.
    Account,
    /// The host that wrote the entry.
    Sensor,
    /// `path_template`.
    Path,
    /// The cause's category.
    Category,
    /// `User_Agent`.
    Agent,
    /// `outcome`.
    Outcome,
    /// Rules that found something: `ruleId` of the alerts that are detections.
    Rule,
    /// What of the request they found it in: `target` of the alerts that are detections.
    Target,
}

/// The table that has a facet's column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    /// `logs`.
    Logs,
    /// The alerts that are detections.
    Detections,
}

impl Facet {
    /// All facets.
    pub const ALL: [Facet; 11] = [
        Facet::Cause,
        Facet::Client,
        Facet::Host,
        Facet::Account,
        Facet::Sensor,
        Facet::Path,
        Facet::Category,
        Facet::Agent,
        Facet::Outcome,
        Facet::Rule,
        Facet::Target,
    ];

    /// Returns the table that has the values, and the name of their column.
    pub(super) fn column(self) -> (Table, &'static str) {
        match self {
            Facet::Cause => (Table::Logs, "ruleId"),
            Facet::Client => (Table::Logs, "client_ip"),
            Facet::Host => (Table::Logs, "Host"),
            Facet::Account => (Table::Logs, "account"),
            Facet::Sensor => (Table::Logs, "sensor"),
            Facet::Path => (Table::Logs, "path_template"),
            Facet::Category => (Table::Logs, "category"),
            Facet::Agent => (Table::Logs, "User_Agent"),
            Facet::Outcome => (Table::Logs, "outcome"),
            Facet::Rule => (Table::Detections, "ruleId"),
            Facet::Target => (Table::Detections, "target"),
        }
    }

    /// Returns `true` if messages and categories belong to its values.
    pub(super) fn is_rule(self) -> bool {
        matches!(self, Facet::Cause | Facet::Rule)
    }
}
