//! `recidive` beside `modsec-parser`: what that takes charge of is counted, whatever a site user
//! does to the directory into which it is moved.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../modsec-core/tests/machine/inotify.rs"]
mod inotify;
#[expect(
    dead_code,
    reason = "each test binary uses another part of this module"
)]
mod site;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use self::inotify::can_follow;
use self::site::{Running, Site, Sqlite, until};

const ATTACKS: u32 = 600;
/// How long the last attack may take to be counted once the parser has stored all.
const PATIENCE: Duration = Duration::from_secs(20);
const PRIVATE: &str = ".modsec-parser";
/// User and group id of an account that is on every system and owns nothing.
const NOBODY: u32 = 65534;

const ONE_INSTANCE: &str = r#"echo 1 > /proc/sys/user/max_inotify_instances && exec "$0" "$@""#;

/// A storage directory in which site users may write, both programs, and the attacks.
struct Scene {
    site: Site<Sqlite>,
    written: u32,
}

impl Scene {
    /// `None` if this account cannot be two users, or nothing can be followed.
    fn new() -> Option<Scene> {
        if !rustix::process::geteuid().is_root() {
            let _ = writeln!(
                std::io::stderr(),
                "skipped: only root may give a directory away"
            );
            return None;
        }
        if !can_follow() {
            return None;
        }
        let site = Site::with_sqlite();
        fs::set_permissions(site.tree(), fs::Permissions::from_mode(0o777)).unwrap();
        Some(Scene { site, written: 0 })
    }

    fn private(&self) -> PathBuf {
        self.site.tree().join(PRIVATE)
    }

    fn make_as_site_user(&self) {
        fs::create_dir(self.private()).unwrap();
        give_away(&self.private());
    }

    /// Starts `recidive` on the storage directory alone, and waits until it watches.
    fn recidive(&self) -> Running {
        self.start_recidive(Command::new(Scene::program()))
    }

    /// The same, where the system has one inotify instance for it and no more.
    fn recidive_with_one_instance(&self) -> Running {
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-root-user", "sh", "-c", ONE_INSTANCE])
            .arg(Scene::program());
        self.start_recidive(command)
    }

    fn program() -> PathBuf {
        Path::new(env!("CARGO_BIN_EXE_modsec-parser")).with_file_name("recidive")
    }

    fn start_recidive(&self, mut command: Command) -> Running {
        let place = |name: &str| self.site.dir.path().join(name);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("MODSEC_CONFIG", "none")
            .env("WATCH_DIR", self.site.tree())
            .env("RECEDIVE_FILE", place("jail.log"))
            .env("LOG_FILE", place("recidive.dat"))
            .env("RECIDIVE_PID_FILE", place("recidive.pid"))
            .args(["-v", "--source", "storage-dir", "--threshold", "1"]);
        let running = self.site.start_logging_to(command, "recidive.log");
        until("recidive is ready", || running.log().contains("ready"));
        running
    }

    /// Starts the parser, and then keeps it from storing and removing anything: what it takes
    /// charge of stays in its directory until [`Store::go_on`].
    fn parser(&mut self) -> (Running, Store) {
        let running = self.site.follow(&[]);
        let (path, bytes) = self.site.announce(100);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        self.site.wait_for_rows();
        let store = rusqlite::Connection::open(self.site.dir.path().join("modsec.db")).unwrap();
        store.busy_timeout(site::LIMIT).unwrap();
        store.execute_batch("begin immediate").unwrap();
        (running, Store(store))
    }

    /// Writes attacks of clients who attack once.
    fn attack(&mut self, number: u32) {
        for _ in 0..number {
            let (path, bytes) = self.site.announce(100);
            let client = format!("10.0.{}.{}", self.written / 256, self.written % 256);
            self.written += 1;
            let entry = String::from_utf8(bytes).unwrap();
            let entry = entry.replace(" 192.0.2.7 ", &format!(" {client} "));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            // The other program may remove a directory that is empty for the moment.
            while fs::write(&path, &entry).is_err() {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
            }
        }
    }

    /// Counts the reported clients whose addresses begin so.
    fn counted(&self, network: &str) -> usize {
        let jail = self.site.dir.path().join("jail.log");
        let jail = fs::read_to_string(jail).unwrap_or_default();
        jail.lines()
            .filter(|line| line.starts_with(network))
            .count()
    }

    /// Waits until the parser has taken charge of all.
    fn wait_for_parser(&self) {
        let is_left = |path: &PathBuf| path.starts_with(self.site.tree().join("site1"));
        until("all is taken", || !self.site.left().iter().any(is_left));
    }

    /// Lets all be stored, and returns what both programs have logged.
    fn end(&self, store: Store, parser: Running, recidive: Running) -> (String, String) {
        store.go_on();
        self.site.wait_for_rows();
        (parser.stop(), recidive.stop())
    }

    /// Waits until all attacks are counted.
    fn check(&self) {
        self.wait_for_parser();
        let all = self.written as usize;
        let since = Instant::now();
        while self.counted("10.") < all {
            let counted = self.counted("10.");
            assert!(
                since.elapsed() < PATIENCE,
                "{counted} of {all} were counted"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(self.counted("10."), all);
    }
}

/// A store that cannot be written to.
struct Store(rusqlite::Connection);

impl Store {
    fn go_on(self) {
        self.0.execute_batch("rollback").unwrap();
    }
}

fn give_away(path: &Path) {
    std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
}

#[test]
fn a_directory_made_before_the_parser_starts_hides_no_attack() {
    let Some(mut scene) = Scene::new() else {
        return;
    };
    scene.make_as_site_user();
    let recidive = scene.recidive();
    // It looks at this directory by now.
    let (new, claimed) = ("new", "1-1.20260304-050607-theirs");
    fs::write(scene.private().join(new), site::entry("theirs", 100)).unwrap();
    fs::rename(scene.private().join(new), scene.private().join(claimed)).unwrap();
    until("what is in it is counted", || {
        scene.counted("192.0.2.7") == 1
    });
    let (parser, store) = scene.parser();
    scene.attack(ATTACKS);
    scene.check();
    let (parser, recidive) = scene.end(store, parser, recidive);
    assert!(recidive.contains("uid=65534"), "{recidive}");
    assert!(parser.contains("moved aside"), "{parser}");
}

#[test]
fn a_directory_put_in_the_place_of_the_parsers_hides_no_attack() {
    let Some(mut scene) = Scene::new() else {
        return;
    };
    let (parser, store) = scene.parser();
    let recidive = scene.recidive();
    scene.attack(ATTACKS / 3);
    fs::rename(scene.private(), scene.site.tree().join("elsewhere")).unwrap();
    scene.make_as_site_user();
    scene.attack(ATTACKS / 3);
    scene.wait_for_parser();
    fs::rename(scene.private(), scene.site.tree().join("again")).unwrap();
    fs::write(scene.private(), "").unwrap();
    scene.attack(ATTACKS / 3);
    scene.check();
    scene.end(store, parser, recidive);
}

#[test]
fn the_parsers_first_directory_is_seen_at_once() {
    let Some(mut scene) = Scene::new() else {
        return;
    };
    let recidive = scene.recidive();
    let (parser, store) = scene.parser();
    scene.attack(ATTACKS);
    scene.check();
    scene.end(store, parser, recidive);
}

#[test]
fn without_inotify_what_the_parser_takes_is_counted_and_what_is_missing_said() {
    let Some(mut scene) = Scene::new() else {
        return;
    };
    let may_limit = Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "sh",
            "-c",
            ONE_INSTANCE,
            "true",
        ])
        .status();
    if !may_limit.is_ok_and(|status| status.success()) {
        let _ = writeln!(std::io::stderr(), "skipped: no user namespaces here");
        return;
    }
    let (parser, store) = scene.parser();
    let recidive = scene.recidive_with_one_instance();
    scene.attack(ATTACKS);
    scene.check();
    let (_, recidive) = scene.end(store, parser, recidive);
    assert!(
        recidive.contains("fs.inotify.max_user_instances"),
        "{recidive}"
    );
}
