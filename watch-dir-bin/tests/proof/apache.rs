//! A real Apache with MPM-ITK and `ModSecurity`, which writes the layout per user.

#[path = "../../../modsec-parser-bin/tests/index/apache_server.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use self::server::{Apache, attack};
use super::super::daemon::{Daemon, LIMIT, attributes, until};
use super::{COLLECTOR, GROUP, Stage, USERS, result};

/// Requests to each of three sites.
const REQUESTS: usize = 1667;

const DIRECTIVES: &str = r#"
User mswowner
Group mswowner
SecAuditEngine RelevantOnly
SecAuditLogRelevantStatus "^403"
SecAuditLog "@DIR@/index.log"
SecAuditLogStorageDir "@DIR@/audit"
"#;

fn walk(path: &Path, directories: &mut Vec<PathBuf>, entries: &mut usize) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, directories, entries);
            directories.push(path);
        } else {
            *entries += 1;
        }
    }
}

#[test]
fn no_record_of_a_real_apache_is_lost_and_no_owner_locked_out() {
    let Some(stage) = Stage::new("no_record_of_a_real_apache") else {
        return;
    };
    if !Apache::is_there() {
        return;
    }
    // The storage directory belongs to root and only root writes there.
    let mut arguments = vec!["--check-interval", "1"];
    arguments.extend(USERS.iter().flat_map(|(user, _)| ["--site-user", user]));
    let daemon = Daemon::start(&stage.place, &mut stage.watch_dir(&arguments));
    until("the users' directories", || {
        USERS
            .iter()
            .all(|(user, _)| stage.place.tree().join(user).exists())
    });
    let sites = USERS.map(|(user, _)| (user, user));
    let (dir, shell) = (stage.place.dir.path(), stage.inside("sh"));
    let apache = Apache::start(dir, shell, &sites, DIRECTIVES);
    thread::scope(|scope| {
        for port in apache.ports.clone() {
            scope.spawn(move || attack(port, REQUESTS));
        }
    });
    // Apache logs a request after its answer, the line of the index last of all.
    let all = REQUESTS * USERS.len();
    until("a line in the index for each request", || {
        let index = fs::read_to_string(stage.place.path("index.log")).unwrap_or_default();
        index.lines().count() == all && index.ends_with('\n')
    });
    drop(apache);
    let (status, stderr) = daemon.stop();
    assert!(status.success(), "{stderr}");

    for (user, uid) in USERS {
        let (mut directories, mut entries) = (vec![stage.place.tree().join(user)], 0);
        walk(
            &stage.place.tree().join(user),
            &mut directories,
            &mut entries,
        );
        assert_eq!(entries, REQUESTS, "{user}");
        for directory in directories {
            assert_eq!(
                attributes(&directory),
                (0o2770, uid, GROUP),
                "{}",
                directory.display()
            );
        }
    }
    // The flat directories created before the layout was known are in nobody's way.
    for day in fs::read_dir(stage.place.tree()).unwrap() {
        let day = day.unwrap().path();
        if !USERS.iter().any(|(user, _)| day.ends_with(user)) {
            Command::new("rm").arg("-r").arg(day).status().unwrap();
        }
    }
    assert_eq!(result(stage.act_as(COLLECTOR, "collect", "")), [all as u64]);
}
