//! What is in `examples/server` is accepted by the programs that it is for.
//!
//! Each is given the files with their places moved below a directory of the test's own, and users
//! that every system has; nothing is started, and nothing outside of it is touched.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const MODULES: &str = "/usr/lib/apache2/modules";
const LOADED: [&str; 7] = [
    "mpm_prefork",
    "mpm_itk",
    "authz_core",
    "dir",
    "unique_id",
    "remoteip",
    "security2",
];

/// A directory of the test's own.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Returns an example with its places below this directory.
    fn moved(&self, name: &str) -> String {
        let dir = self.0.path().to_str().unwrap();
        let mut text = example(name);
        for place in ["/var/", "/run/", "/srv/", "/etc/"] {
            for before in [" ", "file:"] {
                text = text.replace(
                    &format!("{before}{place}"),
                    &format!("{before}{dir}{place}"),
                );
            }
        }
        text.replace("AssignUserId site1 site1", "AssignUserId daemon daemon")
            .replace("AssignUserId site2 site2", "AssignUserId bin bin")
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

fn server() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/server")
}

fn example(name: &str) -> String {
    fs::read_to_string(server().join(name)).unwrap()
}

/// Runs a program; `None` with a message if it is not installed.
fn run(command: &mut Command, package: &str) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            skip(package);
            None
        }
        Err(error) => panic!("{command:?}: {error}"),
    }
}

fn skip(what: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {what} is not installed");
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn apache_accepts_the_configuration_with_and_without_remoteip() {
    let there = ["mpm_itk.so", "mod_security2.so"]
        .iter()
        .all(|name| Path::new(MODULES).join(name).exists());
    if !there {
        skip(
            "Apache with MPM-ITK and ModSecurity (apache2 libapache2-mpm-itk libapache2-mod-security2)",
        );
        return;
    }
    let place = Place::new();
    for dir in [
        "var/log/apache2/modsec_audit",
        "var/lib/modsecurity/tmp",
        "var/lib/modsecurity/data",
        "run/apache2-mutex",
        "srv/www/site1",
        "srv/www/site2",
    ] {
        fs::create_dir_all(place.path(dir)).unwrap();
    }
    let top = place.0.path().display();
    let mut text = format!(
        "ServerRoot {top}\nDefaultRuntimeDir {top}\nErrorLog {top}/error.log\nServerName localhost\n\
         User www-data\nGroup www-data\n"
    );
    for module in LOADED {
        let file = if module == "mpm_itk" {
            format!("{module}.so")
        } else {
            format!("mod_{module}.so")
        };
        writeln!(text, "LoadModule {module}_module {MODULES}/{file}").unwrap();
    }
    for name in ["mod_security", "mpm_itk", "vhosts"] {
        text += &place.moved(&format!("apache/{name}.conf"));
    }
    let remoteip = place.moved("apache/remoteip.conf");
    for (name, extra) in [("without", ""), ("with", remoteip.as_str())] {
        let path = place.write(name, &format!("{text}{extra}"));
        let mut command = Command::new("apache2");
        let Some(output) = run(command.arg("-t").arg("-f").arg(path), "apache2") else {
            return;
        };
        let said = said(&output);
        assert!(output.status.success(), "{name}: {said}");
        assert!(said.contains("Syntax OK"), "{name}: {said}");
    }
    // It looks at the directives, and does not only pass over them.
    let wrong = text.replace("SecAuditLogParts ABIJFHKZ", "SecAuditLogParts 12");
    let path = place.write("wrong", &wrong);
    let output = run(
        Command::new("apache2").arg("-t").arg("-f").arg(path),
        "apache2",
    );
    assert!(!output.unwrap().status.success());
}

#[test]
fn nginx_accepts_the_site() {
    let place = Place::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("listen {};", free.local_addr().unwrap());
    drop(free);
    let site = place
        .moved("nginx/site.conf")
        .replace("listen 80;", &listen);
    assert!(site.contains(&listen));
    let top = place.0.path().display();
    let conf = place.write(
        "nginx.conf",
        &format!(
            "pid {top}/pid;\nerror_log {top}/error.log;\nevents {{}}\nhttp {{\naccess_log off;\n\
             client_body_temp_path {top}/b;\nproxy_temp_path {top}/p;\nfastcgi_temp_path {top}/f;\n\
             uwsgi_temp_path {top}/u;\nscgi_temp_path {top}/s;\n{site}}}\n"
        ),
    );
    let mut command = Command::new("nginx");
    command.args(["-t", "-e"]).arg(place.path("first.log"));
    let Some(output) = run(command.arg("-c").arg(conf), "nginx") else {
        return;
    };
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn fail2ban_accepts_the_jail_beside_the_shipped_files() {
    let installed = Path::new("/etc/fail2ban/fail2ban.conf");
    if !installed.exists() {
        skip("fail2ban");
        return;
    }
    let place = Place::new();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recidive-bin/deploy");
    for name in [
        "action.d/modsec-recidive-nftables.conf",
        "filter.d/modsec-recidive.conf",
        "jail.d/modsec-recidive.conf",
    ] {
        let text = fs::read_to_string(shipped.join(name)).unwrap();
        place.write(name, &text);
    }
    let log = place.write("var/log/modsec_recedive/modsec_recedive.log", "");
    place.write(
        "jail.d/modsec-recidive.local",
        &place.moved("fail2ban/modsec-recidive.local"),
    );
    // Its defaults, without the jails that a distribution turns on.
    for file in fs::read_dir("/etc/fail2ban").unwrap() {
        let (name, path) = file.map(|file| (file.file_name(), file.path())).unwrap();
        if path.extension() == Some(OsStr::new("conf")) {
            symlink(path, place.0.path().join(name)).unwrap();
        }
    }
    for file in fs::read_dir("/etc/fail2ban/action.d").unwrap() {
        let (name, path) = file.map(|file| (file.file_name(), file.path())).unwrap();
        // A package of ours may be installed here.
        if !name.to_string_lossy().starts_with("modsec-") {
            symlink(path, place.0.path().join("action.d").join(name)).unwrap();
        }
    }
    let client = |arguments: &[&str]| {
        let mut command = Command::new("fail2ban-client");
        run(
            command.arg("-c").arg(place.0.path()).args(arguments),
            "fail2ban",
        )
    };
    let Some(output) = client(&["-t"]) else {
        return;
    };
    assert!(output.status.success(), "{}", said(&output));
    let dump = said(&client(&["-d"]).unwrap());
    for wanted in [log.to_str().unwrap(), "198.51.100.0/24", "modsec-recidive"] {
        assert!(dump.contains(wanted), "{wanted}: {dump}");
    }
}

#[test]
fn systemd_accepts_the_drop_ins() {
    let place = Place::new();
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let units = [
        ("modsec-parser-bin", "modsec-parser"),
        ("modsec-parser-bin", "modsec-parser-once"),
        ("watch-dir-bin", "watch-dir"),
    ];
    for (folder, unit) in units {
        let text = fs::read_to_string(top.join(format!("{folder}/deploy/{unit}.service"))).unwrap();
        // The programs need not be installed for the rest to be checked.
        let text = text.replace("/usr/bin/watch-dir", env!("CARGO_BIN_EXE_modsec-parser"));
        let text = text.replace(
            "/usr/bin/modsec-parser",
            env!("CARGO_BIN_EXE_modsec-parser"),
        );
        let path = place.write(&format!("{unit}.service"), &text);
        let drop_in = format!("{unit}.service.d/site.conf");
        place.write(&drop_in, &example(&format!("systemd/{drop_in}")));
        let mut command = Command::new("systemd-analyze");
        command.env(
            "SYSTEMD_UNIT_PATH",
            format!("{}:", place.0.path().display()),
        );
        command.args(["verify", "--man=no"]).arg(&path);
        let complaints = |command: &mut Command| -> Option<Vec<String>> {
            let output = run(command, "systemd")?;
            let said = said(&output);
            let ours = said.lines().filter(|line| line.contains(unit));
            Some(ours.map(str::to_owned).collect())
        };
        let Some(found) = complaints(&mut command) else {
            return;
        };
        assert!(found.is_empty(), "{found:?}");
        // The drop-in is read, and not only the unit.
        place.write(&drop_in, "[Service]\nNoSuchKey=1\n");
        let found = complaints(&mut command).unwrap();
        assert!(
            found.iter().any(|line| line.contains("NoSuchKey")),
            "{unit}: {found:?}"
        );
    }
}

#[test]
fn tmpfiles_makes_the_directories_with_their_modes() {
    use std::os::unix::fs::PermissionsExt;
    if !rustix::process::geteuid().is_root() {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: only root may give directories away"
        );
        return;
    }
    let place = Place::new();
    place.write(
        "etc/passwd",
        "root:x:0:0::/:/bin/sh\nrecidive:x:990:990::/:/bin/sh\n",
    );
    place.write("etc/group", "root:x:0:\nrecidive:x:990:\n");
    fs::create_dir_all(place.path("var/log/apache2")).unwrap();
    fs::set_permissions(
        place.path("var/log/apache2"),
        PermissionsExt::from_mode(0o750),
    )
    .unwrap();
    place.write("etc/tmpfiles.d/modsecurity.conf", &example("tmpfiles.conf"));
    let mut command = Command::new("systemd-tmpfiles");
    command.arg("--create").arg("modsecurity.conf");
    command.arg(format!("--root={}", place.0.path().display()));
    let Some(output) = run(&mut command, "systemd") else {
        return;
    };
    assert!(output.status.success(), "{}", said(&output));
    for (path, mode) in [
        ("var/log/apache2", 0o751),
        ("var/log/apache2/modsec_audit", 0o755),
        ("var/log/modsec_recedive", 0o750),
        ("var/lib/modsecurity/tmp", 0o1733),
        ("var/lib/modsecurity/data", 0o1733),
        ("run/apache2-mutex", 0o755),
    ] {
        let meta = fs::metadata(place.path(path)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, mode, "{path}");
    }
}

#[test]
fn logrotate_accepts_the_rule_beside_those_of_the_distributions() {
    let place = Place::new();
    // Two rules for one file: logrotate leaves out the second.
    let mut rules = String::new();
    for logs in ["var/log/apache2", "var/log/httpd", "srv/audit"] {
        for log in ["modsec_audit.log", "modsec_index.log", "watch_dir.log"] {
            place.write(&format!("{logs}/{log}"), "");
        }
    }
    for logs in ["var/log/apache2/*.log", "var/log/httpd/*log"] {
        writeln!(rules, "{} {{\n\tdaily\n}}", place.path(logs).display()).unwrap();
    }
    let example = place.moved("logrotate.conf");
    let dir = place.0.path().display();
    rules += &example.replace("\n/", &format!("\n{dir}/"));
    let rule = place.write("rule", &rules);
    let mut command = Command::new("logrotate");
    command
        .arg("--debug")
        .arg("--state")
        .arg(place.path("state"));
    let Some(output) = run(command.arg(rule), "logrotate") else {
        return;
    };
    let said = said(&output);
    assert!(
        output.status.success() && !said.contains("error:"),
        "{said}"
    );
    for log in ["modsec_audit.log", "modsec_index.log", "watch_dir.log"] {
        let log = place.path("srv/audit").join(log);
        assert!(said.contains(log.to_str().unwrap()), "{said}");
    }
}

#[test]
fn the_shell_accepts_the_scripts() {
    for script in ["accounts.sh", "database.sh"] {
        let mut command = Command::new("sh");
        let output = command.arg("-n").arg(server().join(script)).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{script}: {}", said(&output));
    }
}

/// What the set-up in a whole Debian shows (`make deb-test`), as far as it can be read.
#[test]
fn the_guides_commands_name_files_that_are_here_and_prove_the_harmless_too() {
    for name in ["README.md", "redhat.md"] {
        let guide = example(name);
        let (_, section) = guide.split_once("## In this order\n").unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        let blocks: Vec<&str> = section.split("```").skip(1).step_by(2).collect();
        let [set_up, proofs] = blocks[..] else {
            panic!("{name}: {blocks:?}");
        };
        for line in set_up.lines().skip(1) {
            let mut words = line
                .split_whitespace()
                .skip_while(|word| *word != "cp" && *word != "sh");
            words.next();
            let files = words.take_while(|word| !word.starts_with(['/', '&', '~']));
            for file in files.filter(|word| !word.starts_with('-')) {
                // Red Hat's begins in the directory of the sources.
                let is_here =
                    server().join(file).exists() || server().join("../..").join(file).exists();
                assert!(is_here, "{name}: {line}: there is no {file}");
            }
        }
        let mut sh = Command::new("sh");
        let output = sh
            .args(["-n", "-c", &blocks.join("\n").replace("sh\n", "\n")])
            .output();
        assert!(output.unwrap().status.success(), "{name}");
        let asked = proofs.lines().filter(|line| line.starts_with("curl "));
        let wanted: Vec<&str> = asked
            .map(|line| line.rsplit("# ").next().unwrap())
            .collect();
        assert_eq!(wanted, ["200", "403"], "a 403 alone may be anything's");
        // The proof comes from an address that is counted.
        assert!(!proofs.contains("127.0.0.1") && !proofs.contains("localhost"));
    }
    for (file, needed) in [
        ("apache/vhosts.conf", "Require all granted"),
        ("apache/mod_security.conf", "\nSecRuleEngine On\n"),
    ] {
        assert!(example(file).contains(needed), "{file}: {needed}");
    }
}

#[test]
fn modsec_parser_accepts_the_configuration_file() {
    let output = Command::new(env!("CARGO_BIN_EXE_modsec-parser"))
        .arg("--check-config")
        .arg("--config")
        .arg(server().join("config.toml"))
        .env_clear()
        .output()
        .unwrap();
    // 1: this machine has not all that it names.
    assert_ne!(output.status.code(), Some(2), "{output:?}");
    let said = said(&output);
    assert!(said.contains("client-header = \"X-Real-IP\""), "{said}");
}
