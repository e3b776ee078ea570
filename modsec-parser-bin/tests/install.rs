//! `make install` puts everything where a system looks for it, and `make uninstall` takes it away.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FILES: [&str; 29] = [
    "etc/logrotate.d/modsec-tools",
    "etc/modsec-tools/config.toml",
    "opt/waf/bin/modsec-parser",
    "opt/waf/bin/recidive",
    "opt/waf/bin/watch-dir",
    "opt/waf/lib/systemd/system/modsec-parser-once.service",
    "opt/waf/lib/systemd/system/modsec-parser-once.timer",
    "opt/waf/lib/systemd/system/modsec-parser.service",
    "opt/waf/lib/systemd/system/recidive.service",
    "opt/waf/lib/systemd/system/watch-dir.service",
    "opt/waf/lib/sysusers.d/modsec-tools.conf",
    "opt/waf/lib/tmpfiles.d/modsec-tools.conf",
    "opt/waf/share/bash-completion/completions/recidive",
    "opt/waf/share/doc/modsec-tools/CHANGELOG.md",
    "opt/waf/share/doc/modsec-tools/LICENSE-APACHE",
    "opt/waf/share/doc/modsec-tools/LICENSE-MIT",
    "opt/waf/share/doc/modsec-tools/README.md",
    "opt/waf/share/doc/modsec-tools/README.ru.md",
    "opt/waf/share/doc/modsec-tools/benches/README.md",
    "opt/waf/share/doc/modsec-tools/examples/server/README.md",
    "opt/waf/share/doc/modsec-tools/examples/server/apache/mpm_itk.conf",
    "opt/waf/share/doc/modsec-tools/examples/server/troubleshooting.md",
    "opt/waf/share/doc/modsec-tools/fail2ban/action.d/modsec-recidive-nftables.conf",
    "opt/waf/share/doc/modsec-tools/fail2ban/filter.d/modsec-recidive.conf",
    "opt/waf/share/fish/vendor_completions.d/watch-dir.fish",
    "opt/waf/share/man/man5/modsec-logs.5",
    "opt/waf/share/man/man5/modsec-tools.toml.5",
    "opt/waf/share/man/man8/modsec-parser.8",
    "opt/waf/share/zsh/site-functions/_watch-dir",
];

fn make(target: &str, root: &Path, release: &Path) {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = Command::new("make")
        .current_dir(top)
        .arg(target)
        .arg("PREFIX=/opt/waf")
        .arg(format!("DESTDIR={}", root.display()))
        .arg(format!("RELEASE={}", release.display()))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn files(dir: &Path, root: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, root, found);
        } else {
            found.push(path.strip_prefix(root).unwrap().to_owned());
        }
    }
}

#[test]
fn everything_is_installed_below_the_prefix_and_can_be_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (root, release) = (dir.path().join("root"), dir.path().join("release"));
    fs::create_dir(&release).unwrap();
    for program in ["modsec-parser", "recidive", "watch-dir"] {
        // Stands for the program, so that no release build is needed.
        fs::copy("/bin/true", release.join(program)).unwrap();
    }
    make("install", &root, &release);
    let mut found = Vec::new();
    files(&root, &root, &mut found);
    found.sort();
    for file in FILES {
        assert!(
            found.contains(&PathBuf::from(file)),
            "{file} is missing in {found:?}"
        );
    }
    for unit in found
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "service"))
    {
        let text = fs::read_to_string(root.join(unit)).unwrap();
        assert!(
            text.contains("ExecStart=/opt/waf/bin/"),
            "{}",
            unit.display()
        );
    }
    for program in ["modsec-parser", "recidive", "watch-dir"] {
        let page = root.join(format!("opt/waf/share/man/man8/{program}.8"));
        let page = fs::read_to_string(page).unwrap();
        assert!(page.contains("\n.SH \"SEE ALSO\"\n"), "{program}");
    }
    make("uninstall", &root, &release);
    let mut left = Vec::new();
    files(&root, &root, &mut left);
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_target_directory_of_cargo_is_where_programs_are_looked_for_and_packages_made() {
    let dir = tempfile::tempdir().unwrap();
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for (number, variable) in ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"]
        .iter()
        .enumerate()
    {
        let target = dir.path().join(number.to_string());
        fs::create_dir_all(target.join("release")).unwrap();
        for program in ["modsec-parser", "recidive", "watch-dir"] {
            fs::copy("/bin/true", target.join("release").join(program)).unwrap();
        }
        let make = |arguments: &[&str]| {
            let mut make = Command::new("make");
            // There is nothing to build: what would be is there.
            make.current_dir(top).arg("CARGO=true").args(arguments);
            make.env_remove("CARGO_TARGET_DIR")
                .env_remove("CARGO_BUILD_TARGET_DIR");
            let output = make.env(variable, &target).output().unwrap();
            let err = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{variable} {arguments:?}: {err}");
        };
        let root = target.join("root");
        make(&[
            "install",
            "PREFIX=/usr",
            &format!("DESTDIR={}", root.display()),
        ]);
        let installed = fs::read(root.join("usr/bin/recidive")).unwrap();
        assert!(installed == fs::read("/bin/true").unwrap(), "{variable}");
        if Command::new("dpkg-shlibdeps")
            .arg("--version")
            .output()
            .is_err()
        {
            eprintln!("skipped: the Debian package (dpkg-dev is not installed)");
            continue;
        }
        make(&["deb"]);
        let mut packages = Vec::new();
        files(&target.join("debian"), &target, &mut packages);
        assert_eq!(packages.len(), 1, "{variable}: {packages:?}");
        let mut contents = Command::new("dpkg-deb");
        let contents = contents
            .arg("-c")
            .arg(target.join(&packages[0]))
            .output()
            .unwrap();
        let contents = String::from_utf8(contents.stdout).unwrap();
        for file in [
            "./usr/bin/recidive",
            "./etc/fail2ban/filter.d/modsec-recidive.conf",
            "./usr/share/doc/modsec-tools/fail2ban/jail.d/modsec-recidive.conf",
            "./usr/share/doc/modsec-tools/examples/server/README.md",
            "./usr/share/doc/modsec-tools/examples/server/apache/vhosts.conf",
            "./usr/share/doc/modsec-tools/examples/data/audit/site1/20260304/20260304-0506/\
             20260304-050610-aaeTklRUgdPADTZKk1LU5AAAAAo",
        ] {
            let has = contents
                .lines()
                .any(|line| line.ends_with(&format!(" {file}")));
            assert!(has, "{variable}: {file} is missing in {contents}");
        }
        // What is there would beat jails of the administrator.
        assert!(!contents.contains("./etc/fail2ban/jail.d"), "{contents}");
    }
}

#[test]
fn a_configuration_that_was_changed_survives_installing_and_uninstalling() {
    let dir = tempfile::tempdir().unwrap();
    let (root, release) = (dir.path().join("root"), dir.path().join("release"));
    let config = root.join("etc/modsec-tools/config.toml");
    fs::create_dir(&release).unwrap();
    for program in ["modsec-parser", "recidive", "watch-dir"] {
        fs::copy("/bin/true", release.join(program)).unwrap();
    }
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(&config, "storage-dir = '/srv'\n").unwrap();
    for target in ["install", "uninstall"] {
        make(target, &root, &release);
        let text = fs::read_to_string(&config).unwrap();
        assert_eq!(text, "storage-dir = '/srv'\n", "{target}");
    }
}
