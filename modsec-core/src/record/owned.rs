//! Records that outlive the bytes they were read from.

use super::{
    Alert, Body, Endpoint, Engine, Header, MatchedRule, Record, Request, Response, Text, Upload,
};

/// Copies what borrows.
trait IntoOwned {
    /// The same type with bytes of its own.
    type Owned;

    /// Copies the bytes that are borrowed; takes those that are owned already.
    fn owned(self) -> Self::Owned;
}

impl Record<'_> {
    /// Copies what is borrowed, so that the record may outlive the entry it was read from.
    ///
    /// ```
    /// use modsec_core::{Record, format};
    ///
    /// fn read(path: &std::path::Path) -> Result<Record<'static>, Box<dyn std::error::Error>> {
    ///     let bytes = std::fs::read(path)?;
    ///     Ok(format::decode(&bytes)?.into_owned())
    /// }
    /// ```
    pub fn into_owned(self) -> Record<'static> {
        Record {
            time: self.time,
            local_time: self.local_time,
            unique_id: self.unique_id.owned(),
            client: self.client.owned(),
            server: self.server.owned(),
            request: self.request.owned(),
            response: self.response.owned(),
            alerts: self.alerts.owned(),
            matched_rules: self.matched_rules.owned(),
            engine: self.engine.owned(),
            interrupted: self.interrupted,
            scores: self.scores,
            uploads: self.uploads.owned(),
            flags: self.flags,
        }
    }
}

impl<T: IntoOwned> IntoOwned for Option<T> {
    type Owned = Option<T::Owned>;

    fn owned(self) -> Self::Owned {
        self.map(T::owned)
    }
}

impl<T: IntoOwned> IntoOwned for Vec<T> {
    type Owned = Vec<T::Owned>;

    fn owned(self) -> Self::Owned {
        self.into_iter().map(T::owned).collect()
    }
}

impl IntoOwned for Text<'_> {
    type Owned = Text<'static>;

    fn owned(self) -> Text<'static> {
        self.into_owned()
    }
}

impl IntoOwned for (Text<'_>, Text<'_>) {
    type Owned = (Text<'static>, Text<'static>);

    fn owned(self) -> Self::Owned {
        (self.0.owned(), self.1.owned())
    }
}

/// Says which fields of a struct borrow, and which are copied as they are.
macro_rules! into_owned {
    ($($name:ident { $($borrows:ident),* ; $($copied:ident),* })*) => {
        $(
            impl IntoOwned for $name<'_> {
                type Owned = $name<'static>;

                fn owned(self) -> $name<'static> {
                    $name {
                        $($borrows: self.$borrows.owned(),)*
                        $($copied: self.$copied,)*
                    }
                }
            }
        )*
    };
}

into_owned! {
    Endpoint { text; ip, port }
    Request { line, method, uri, protocol, headers, body, form; }
    Response { status_line, headers, body; status }
    Header { name, value; }
    Body { kept; len }
    Alert {
        raw, detail, file, rule_id, rev, msg, data, ver, tags;
        action, phase, line, severity, maturity, accuracy, verified
    }
    MatchedRule { id, directive; matched, logs }
    Upload { name, content_type; index, size }
    Engine {
        apache_errors, handler, stopwatch2, producer, server, sensor_id, webapp_info, other;
        mode, intercepted_phase, stopwatch
    }
}
