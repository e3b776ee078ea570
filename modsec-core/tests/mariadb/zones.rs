//! What a session with another time zone sees of `created_at`, and that what the guide says of it is
//! so.

use chrono::{TimeZone as _, Utc};
use modsec_core::store::Batch;
use modsec_core::store::contract::row;
use mysql_async::prelude::Queryable as _;

use super::{Database, run};

const GUIDE: &str = include_str!("../../../examples/server/troubleshooting.md");

#[test]
fn a_session_sees_the_instant_in_its_own_zone_and_the_guides_remedy_shows_utc() {
    run(async {
        let Some(db) = Database::shared().await else {
            return;
        };
        let mut store = db.try_open().await.unwrap();
        let mut stored = row(0);
        stored.created_at = Some(Utc.with_ymd_and_hms(2026, 8, 22, 8, 15, 0).unwrap());
        store.insert(&Batch::new(None, vec![stored])).await.unwrap();
        let mut conn = db.connect().await;
        let shown = "select cast(created_at as char) from logs";
        let twice = "select cast(convert_tz(created_at, '+00:00', '+05:00') as char) from logs";
        // What the guide says, for UTC and likewise for another zone.
        let (_, remedy) = GUIDE.split_once("MySQL: `SET time_zone = '").unwrap();
        let utc = remedy.split('\'').next().unwrap();
        for (zone, query, want) in [
            ("+05:00", shown, "2026-08-22 13:15:00"),
            ("-03:30", shown, "2026-08-22 04:45:00"),
            ("+05:00", twice, "2026-08-22 18:15:00"),
            (utc, shown, "2026-08-22 08:15:00"),
        ] {
            let set = format!("SET time_zone = '{zone}'");
            conn.query_drop(set).await.unwrap();
            let got: Option<String> = conn.query_first(query).await.unwrap();
            assert!(
                got.as_deref().is_some_and(|got| got.starts_with(want)),
                "{zone}: {got:?}"
            );
            // Conditions are read in the same zone.
            let count = format!("select count(*) from logs where created_at >= '{want}'");
            let count: Option<u32> = conn.query_first(count).await.unwrap();
            assert_eq!(count, Some(u32::from(query == shown)), "{zone}");
        }
    });
}
