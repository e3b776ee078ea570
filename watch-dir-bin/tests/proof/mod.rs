//! Several users at once, as on a real server: what must never happen to any of them.
//!
//! These tests need root, because they act as three users. The users exist only in a mount
//! namespace, in which other files take the place of `/etc/passwd` and `/etc/group`.

mod apache;
mod busy;
mod capabilities;
mod hostile;
mod many;
mod midnight;
mod moved;
mod numbers;
mod sticky;
mod users;
mod writer;

use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use super::accounts::Accounts;
use super::daemon::{Place, is_installed, is_root};
use super::executable::Executable;
use super::inotify::can_follow;

pub(crate) const OWNER: u32 = 64000;
pub(crate) const GROUP: u32 = 64100;
/// Site users; the first two are in the group.
pub(crate) const USERS: [(&str, u32); 3] = [
    ("mswsite1", 64001),
    ("mswsite2", 64002),
    ("mswsite3", 64003),
];
/// In the group, without a site: who collects the entries.
pub(crate) const COLLECTOR: u32 = 64004;

/// A place with users of its own.
pub(crate) struct Stage {
    pub(crate) place: Place,
    writer: Executable,
}

impl Stage {
    /// Prepares the users; `None`, with a message, where the test cannot run.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let possible = can_follow()
            && is_root(test)
            && is_installed("setpriv", "util-linux")
            && is_installed("unshare", "util-linux");
        if !possible {
            return None;
        }
        if !Command::new("unshare")
            .args(["-m", "true"])
            .status()
            .unwrap()
            .success()
        {
            let _ = writeln!(
                std::io::stderr(),
                "{test}: skipped, mount namespaces are not permitted here"
            );
            return None;
        }
        let place = Place::new();
        let mut accounts = Accounts::of_this_machine();
        let all = [("mswowner", OWNER), ("mswcollect", COLLECTOR)];
        for (name, id) in all.into_iter().chain(USERS) {
            accounts.add_user(name, id);
        }
        accounts.add_group("mswlogs", GROUP, &["mswcollect", "mswsite1", "mswsite2"]);
        accounts.write(&place.path(""));
        let writer = Executable::copy_of(std::env::current_exe().unwrap());
        Some(Self { place, writer })
    }

    /// Makes a command see the stage's users.
    pub(crate) fn inside(&self, program: &str) -> Command {
        let script = r#"mount --bind "$1" /etc/passwd && mount --bind "$2" /etc/group || exit 99
            shift 2; exec "$@""#;
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh"]);
        command
            .arg(self.place.path("passwd"))
            .arg(self.place.path("group"))
            .arg(program);
        command
    }

    /// The program under test, for the stage's owner and group.
    pub(crate) fn watch_dir(&self, arguments: &[&str]) -> Command {
        let mut command = self.inside(env!("CARGO_BIN_EXE_watch-dir"));
        self.place.arguments(&mut command);
        command.args([
            "--owner",
            "mswowner",
            "--group",
            "mswlogs",
            "--allow-uid-min",
            "1000",
        ]);
        command.args(arguments);
        command
    }

    /// A process that acts as `uid`; see [`writer::act`].
    pub(crate) fn act_as(&self, uid: u32, role: &str, argument: &str) -> Child {
        self.act_with(uid, role, argument, ("LC_ALL", "C"))
    }

    /// The same, with a variable.
    pub(crate) fn act_with(
        &self,
        uid: u32,
        role: &str,
        argument: &str,
        (name, value): (&str, &str),
    ) -> Child {
        let user = USERS
            .iter()
            .find(|(_, id)| *id == uid)
            .map_or("mswcollect", |(name, _)| name);
        let file = fs::read_to_string(self.place.path("group")).unwrap();
        let members = file
            .lines()
            .find(|line| line.starts_with("mswlogs:"))
            .unwrap();
        let groups = if members.contains(user) {
            vec![uid, GROUP]
        } else {
            vec![uid]
        };
        let groups: Vec<_> = groups.iter().map(ToString::to_string).collect();
        Command::new("setpriv")
            .args([format!("--reuid={uid}"), format!("--regid={uid}")])
            .arg(format!("--groups={}", groups.join(",")))
            .args(["--inh-caps=-all", "--"])
            .arg(self.writer.path())
            .args(["--exact", "proof::writer::act", "--nocapture"])
            .env(writer::ROLE, role)
            .env(writer::ARGUMENT, argument)
            .env(writer::TREE, self.place.tree())
            .env(name, value)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

/// Waits for what [`Stage::act_as`] started, and returns the numbers it reports.
pub(crate) fn result(child: Child) -> Vec<u64> {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, line) = text.split_once("RESULT ").expect("a result");
    line.lines()
        .next()
        .unwrap()
        .split(' ')
        .map(|number| number.parse().unwrap())
        .collect()
}
