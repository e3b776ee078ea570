//! A bound on the text of all alerts of one entry.
//!
//! A record keeps 1,024 alerts at the most, but a client can make each of them long: libmodsecurity
//! bounds neither `msg` nor the name of a variable. So that a row has a size that the readers can count
//! on, the texts of all alerts together have one as well.

use crate::record::{Alert, MAX_ALERT_TEXT};
use crate::text::Text;

/// Cuts the texts of `alerts` so that all together have at most [`MAX_ALERT_TEXT`] bytes. Each
/// alert has the same share, so that a flood of long ones takes nothing from the others, which say
/// what the engine did. `capped` is set if something was cut.
pub(super) fn bound(alerts: &mut [Alert<'_>], capped: &mut bool) {
    if alerts.iter().map(len).sum::<usize>() <= MAX_ALERT_TEXT {
        return;
    }
    *capped = true;
    let share = MAX_ALERT_TEXT / alerts.len().max(1);
    for alert in alerts.iter_mut().filter(|alert| len(alert) > share) {
        let mut left = share;
        texts(alert).for_each(|text| cut(text, &mut left));
        alert.tags.retain(|tag| {
            let fits = tag.len() <= left;
            left -= if fits { tag.len() } else { 0 };
            fits
        });
    }
}

/// Returns the bytes of all texts of an alert, without `raw`, which stays in the entry.
fn len(alert: &Alert<'_>) -> usize {
    let Alert {
        rule_id,
        msg,
        detail,
        data,
        file,
        rev,
        ver,
        tags,
        ..
    } = alert;
    let texts = [rule_id, msg, data, file, rev, ver].into_iter().flatten();
    texts.chain(tags).chain([detail]).map(Text::len).sum()
}

/// Returns the texts that [`len`] counts but the tags, the most telling first: those are cut
/// last.
fn texts<'t, 'a>(alert: &'t mut Alert<'a>) -> impl Iterator<Item = &'t mut Text<'a>> {
    let Alert {
        rule_id,
        msg,
        detail,
        data,
        file,
        rev,
        ver,
        ..
    } = alert;
    [rule_id, msg]
        .into_iter()
        .flatten()
        .chain([detail])
        .chain([data, file, rev, ver].into_iter().flatten())
}

/// Cuts a text to the bytes that are left, and takes its length from them.
fn cut(text: &mut Text<'_>, left: &mut usize) {
    if text.len() > *left {
        text.truncate(*left);
    }
    *left -= text.len();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::MAX_ALERTS;

    fn alert(len: usize) -> Alert<'static> {
        Alert {
            rule_id: Some("100100".into()),
            detail: Text::from("d".repeat(len / 2)),
            tags: vec![Text::from("t".repeat(len / 2)), "a".into()],
            ..Alert::default()
        }
    }

    #[test]
    fn as_many_alerts_as_an_entry_may_have_are_whole_if_the_engine_cut_them() {
        let mut alerts = vec![alert(1010); MAX_ALERTS];
        let (want, mut capped) = (alerts.clone(), false);
        bound(&mut alerts, &mut capped);
        assert!(alerts == want && !capped);
    }

    #[test]
    fn a_flood_of_long_alerts_is_cut_and_leaves_short_ones_whole() {
        let mut alerts = vec![alert(8000); MAX_ALERTS - 1];
        alerts.push(alert(100));
        let mut capped = false;
        bound(&mut alerts, &mut capped);
        assert!(capped);
        assert!(alerts.iter().map(len).sum::<usize>() <= MAX_ALERT_TEXT);
        assert_eq!(alerts.last(), Some(&alert(100)));
        let first = alerts.first().unwrap();
        assert_eq!(first.rule_id.as_ref().unwrap(), "100100");
        assert_eq!(first.detail.len(), MAX_ALERT_TEXT / MAX_ALERTS - 6);
        assert!(first.tags.is_empty());
    }

    #[test]
    fn a_single_long_alert_has_the_whole_share() {
        let mut alerts = vec![alert(2 * MAX_ALERT_TEXT)];
        let mut capped = false;
        bound(&mut alerts, &mut capped);
        assert!(capped);
        assert_eq!(alerts.iter().map(len).sum::<usize>(), MAX_ALERT_TEXT);
    }
}
