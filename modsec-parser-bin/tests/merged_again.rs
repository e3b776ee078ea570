//! The merged log read again: a body that looks like whole entries of others makes no rows and no
//! bans, whoever reads it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../modsec-core/tests/machine/inotify.rs"]
mod inotify;
#[expect(
    dead_code,
    reason = "each test binary uses another part of this module"
)]
mod site;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use self::inotify::can_follow;
use self::site::{Running, Site, Sqlite, until};

/// Who would be banned for what the other one sends.
const INNOCENT: &str = "203.0.113.7";
const ATTACKER: &str = "198.51.100.66";
/// Whose attacks come last: what was sent before has been counted by then.
const LAST: &str = "192.0.2.77";
/// The exit status if an entry was cut off.
const WITH_DEFECTS: i32 = 3;

/// An entry as ModSecurity 2 writes it into a file of its own.
fn entry(boundary: &str, id: &str, client: &str, body: Option<&str>, status: u32) -> String {
    let body = body.map_or(String::new(), |body| format!("--{boundary}-C--\n{body}\n"));
    let action = match status {
        403 => "Action: Intercepted (phase 2)\n",
        _ => "",
    };
    let time = chrono::Utc::now().format("%d/%b/%Y:%H:%M:%S.000001 +0000");
    format!(
        "--{boundary}-A--\n[{time}] {id} {client} 40000 192.0.2.200 80\n\
         --{boundary}-B--\nPOST /{id} HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n{body}\
         --{boundary}-F--\nHTTP/1.1 {status} X\n\n\
         --{boundary}-H--\nMessage: Warning. [file \"/r.conf\"] [line \"1\"] [id \"1001\"]\n{action}\
         Stopwatch: 1700000000000000 1830 (- - -)\n\n--{boundary}-Z--\n"
    )
}

/// A request that ends its own entry, writes eleven blocked ones of somebody else, and leaves a last
/// one open, which takes what the engine writes behind the body.
fn attack() -> String {
    let forged: String = (0..11)
        .map(|n| {
            entry(
                &format!("f00000{n:02x}"),
                &format!("f{n}"),
                INNOCENT,
                None,
                403,
            ) + "\n"
        })
        .collect();
    let open = entry("deadbeef", "f99", INNOCENT, Some("@@"), 200);
    let (open, _) = open.split_once("@@").unwrap();
    let body = format!(
        "z\n--1a2b3c4d-F--\nHTTP/1.1 200 OK\n\n--1a2b3c4d-H--\nServer: x\n\n--1a2b3c4d-Z--\n\n\
         {forged}{open}{}",
        "p\n".repeat(150_000)
    );
    entry("1a2b3c4d", "hostile", ATTACKER, Some(&body), 200)
}

struct Scene {
    site: Site<Sqlite>,
}

impl Scene {
    fn new() -> Scene {
        let site = Site::with_sqlite();
        fs::create_dir_all(site.tree().join("site1/20260304/20260304-0506")).unwrap();
        Scene { site }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.site.dir.path().join(name)
    }

    fn put(&self, id: &str, entry: &str) {
        let dir = self.site.tree().join("site1/20260304/20260304-0506");
        let name = format!("20260304-050607-{id}");
        // The minute is long over, so an empty directory may be removed at any moment.
        while fs::write(dir.join(&name), entry).is_err() {
            let _ = fs::create_dir_all(&dir);
        }
    }

    /// Puts the attack there, and then ten attacks of the last client.
    fn put_all(&self) {
        self.put("hostile", &attack());
        self.put_last();
    }

    fn put_last(&self) {
        for n in 0..10 {
            let id = format!("last{n}");
            self.put(&id, &entry(&format!("0000000{n}"), &id, LAST, None, 403));
        }
    }

    /// Returns hash, client, status, interception and flags of the rows.
    fn rows(&self, database: &str) -> BTreeSet<String> {
        let database = rusqlite::Connection::open(self.path(database)).unwrap();
        database.busy_timeout(site::LIMIT).unwrap();
        let query = "select printf('%s %s %s %s %s %s', hex(entry_hash), unique_id, client_ip, \
                     responce_header, intercepted, flags) from logs";
        let mut rows = database.prepare(query).unwrap();
        let rows = rows.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    fn count(&self, database: &str) -> i64 {
        let query = "select count(*) from logs";
        let database = rusqlite::Connection::open(self.path(database)).unwrap();
        let count = database.query_row(query, [], |row| row.get(0));
        count.unwrap_or(0)
    }

    /// The parser without the storage directory.
    fn parser(&self, database: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_modsec-parser"));
        command
            .env_clear()
            .env("MODSEC_CONFIG", "none")
            .env("HOME", self.site.dir.path())
            .current_dir(self.site.dir.path())
            .args(["--store", &format!("sqlite:{database}")]);
        command
    }

    fn recidive(&self) -> Command {
        let mut command = Command::new(recidive());
        command
            .env_clear()
            .env("MODSEC_CONFIG", "none")
            .env("WATCH_DIR", self.site.tree())
            .env("MERGED_LOG_FILE", &self.site.log)
            .env("RECEDIVE_FILE", self.path("jail.log"))
            .env("LOG_FILE", self.path("recidive.dat"))
            .env("RECIDIVE_PID_FILE", self.path("recidive.pid"));
        command
    }

    /// Starts `recidive` and waits until it watches.
    fn follow_with_recidive(&self, source: &str) -> Running {
        let mut command = self.recidive();
        command.args(["-v", "--source", source]);
        let running = self.site.start_logging_to(command, "recidive.log");
        until("recidive is ready", || running.log().contains("ready"));
        running
    }

    fn jail(&self) -> String {
        fs::read_to_string(self.path("jail.log")).unwrap_or_default()
    }
}

fn recidive() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_modsec-parser")).with_file_name("recidive")
}

fn has_recidive() -> bool {
    if !recidive().exists() {
        let _ = writeln!(std::io::stderr(), "skipped: recidive is not built");
    }
    recidive().exists()
}

#[test]
fn a_body_of_whole_entries_bans_nobody_else() {
    if !has_recidive() || !can_follow() {
        return;
    }
    for source in ["storage-dir", "merged-log", "storage-dir,merged-log"] {
        let scene = Scene::new();
        let recidive = scene.follow_with_recidive(source);
        let parser = scene.site.follow(&[]);
        scene.put("hostile", &attack());
        until("the attack is stored", || scene.count("modsec.db") == 1);
        scene.put_last();
        until("the last attacks are counted", || {
            scene.jail().contains(LAST)
        });
        until("all is stored", || scene.count("modsec.db") == 11);
        parser.stop();
        recidive.stop();
        let jail = scene.jail();
        assert!(!jail.contains(INNOCENT), "{source}: {jail}");
        assert_eq!(jail.lines().count(), 1, "{source}: {jail}");
    }
}

/// Lets the parser merge and store the attacks, also cut off, with bytes behind the end, with a
/// length that reaches beyond it, and large. Returns the rows.
fn merged() -> (Scene, BTreeSet<String>) {
    let scene = Scene::new();
    scene.put_all();
    let named = |id: &str| attack().replacen(" hostile ", &format!(" {id} "), 1);
    scene.put("cut", &named("cut")[..150_000]);
    scene.put("more", &(named("more") + "\n\n--00000000-A--\n"));
    let chunked = "Transfer-Encoding: chunked";
    let beyond = named("beyond").replacen(chunked, "Content-Length: 301000", 1);
    scene.put("beyond", &beyond);
    // Too large for memory.
    scene.put(
        "large",
        &named("large").replacen("p\n", &"p\n".repeat(400_000), 1),
    );
    run(scene.site.command().args(["--stale-after", "0"]));
    let rows = scene.rows("modsec.db");
    assert_eq!(rows.len(), 15, "{rows:#?}");
    assert!(!rows.iter().any(|row| row.contains(INNOCENT)), "{rows:#?}");
    let hostile = rows.iter().find(|row| row.contains(" hostile "));
    assert!(hostile.unwrap().contains("ambiguous"), "{rows:#?}");
    (scene, rows)
}

fn run(command: &mut Command) {
    let ran = command.output().unwrap();
    assert_eq!(ran.status.code(), Some(WITH_DEFECTS), "{ran:?}");
}

#[test]
fn a_database_made_again_from_the_merged_log_is_the_same() {
    let (scene, rows) = merged();
    run(scene.parser("again.db").arg(&scene.site.log));
    assert_eq!(scene.rows("again.db"), rows);
    // From a pipe.
    let packed = Command::new("gzip").arg("-k").arg(&scene.site.log).status();
    assert!(packed.unwrap().success());
    let piped = fs::File::open(scene.path("merged.log.gz")).unwrap();
    run(scene.parser("piped.db").arg("-").stdin(piped));
    assert_eq!(scene.rows("piped.db"), rows);
}

#[test]
fn who_follows_the_merged_log_stores_the_same_also_from_its_middle() {
    let (scene, rows) = merged();
    let log = fs::read(&scene.site.log).unwrap();
    let (first, second) = log.split_at(log.len() / 2);
    fs::write(scene.path("grows.log"), first).unwrap();
    let follow = || {
        let mut command = scene.parser("followed.db");
        command.args(["--follow", "grows.log", "--offset-file", "offset"]);
        scene.site.start(command)
    };
    let following = follow();
    until("the first half is stored", || {
        scene.count("followed.db") > 0
    });
    following.stop();
    let mut grows = fs::File::options();
    let mut grows = grows.append(true).open(scene.path("grows.log")).unwrap();
    grows.write_all(second).unwrap();
    let following = follow();
    until("all is stored", || scene.count("followed.db") == 15);
    following.stop();
    assert_eq!(scene.rows("followed.db"), rows);
}

#[test]
fn a_replay_of_the_merged_log_counts_nobody_else() {
    if !has_recidive() {
        return;
    }
    let (scene, _) = merged();
    let mut replay = scene.recidive();
    let ran = replay
        .args(["replay", "--json"])
        .arg(&scene.site.log)
        .output();
    let report: serde_json::Value = serde_json::from_slice(&ran.unwrap().stdout).unwrap();
    assert_eq!(report["entries"], 15, "{report}");
    assert_eq!(report["attacks"], 10, "{report}");
}
