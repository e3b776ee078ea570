//! A day without trouble.

use std::time::Duration;

use crate::servers::{Connections, Setting};
use crate::stage::{JAIL, MERGED, Stage};
use crate::traffic::Traffic;
use crate::{until, world};

#[test]
fn every_record_is_stored_once_and_exactly_the_offenders_are_banned() {
    let name = "calm::every_record_is_stored_once_and_exactly_the_offenders_are_banned";
    world::alone(name, |world| {
        let setting = Setting {
            connections: Connections::Mixed,
            parts: "ABCFHKZ",
            error_log: "@DIR@/error.log",
            last_site: "",
            clients: 100_000,
        };
        let mut stage = Stage::start(world, &setting);
        let traffic = Traffic::start(6, Duration::ZERO, &setting);
        until("requests", || traffic.count() >= 4000);
        let attacks = stage.finish(traffic, &[MERGED.to_owned()]);
        for (client, (lines, want)) in stage.lines(&[JAIL.to_owned()], &attacks) {
            assert_eq!(lines, want, "lines in the jail file for {client}");
        }
        stage.check_silence();
    });
}
