//! Users and groups that only a test sees: files to mount over `/etc/passwd` and `/etc/group`.

use std::fs;
use std::path::Path;

/// The accounts of this machine, and those of a test.
pub(crate) struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    pub(crate) fn of_this_machine() -> Accounts {
        let read = |path: &str| {
            let mut text = fs::read_to_string(path).unwrap();
            if !text.ends_with('\n') {
                text.push('\n');
            }
            text
        };
        Accounts {
            passwd: read("/etc/passwd"),
            group: read("/etc/group"),
        }
    }

    /// Adds a user who cannot log in, with a group of the same name and number.
    pub(crate) fn add_user(&mut self, name: &str, id: u32) {
        let line = format!("{name}:x:{id}:{id}::/nonexistent:/usr/sbin/nologin\n");
        replace(&mut self.passwd, name, id, &line);
        self.add_group(name, id, &[]);
    }

    pub(crate) fn add_group(&mut self, name: &str, id: u32, members: &[&str]) {
        let line = format!("{name}:x:{id}:{}\n", members.join(","));
        replace(&mut self.group, name, id, &line);
    }

    /// Writes both files into `dir`.
    pub(crate) fn write(&self, dir: &Path) {
        fs::write(dir.join("passwd"), &self.passwd).unwrap();
        fs::write(dir.join("group"), &self.group).unwrap();
    }
}

/// Puts `line` in the place of those that have its name or number: of two, programs use the first.
fn replace(file: &mut String, name: &str, id: u32, line: &str) {
    let id = id.to_string();
    let is_other = |line: &&str| {
        let mut fields = line.split(':');
        fields.next() != Some(name) && fields.nth(1).map(str::trim_end) != Some(&id)
    };
    *file = file.split_inclusive('\n').filter(is_other).collect();
    file.push_str(line);
}

#[test]
fn a_name_or_number_that_the_machine_has_too_is_the_tests_own() {
    // root:x:0:0:root:/root:/bin/bash
    // fastsecure:x:1001:site1,site2
    let mut accounts = Accounts {
        passwd: "root:x:0:0::/root:/bin/sh\napache:x:48:48::/:/bin/false\n\
                 other:x:64000:7::/:/bin/false\n"
            .to_owned(),
        group: "root:x:0:\napache:x:48:\nfastsecure:x:1001:root,apache\nsame:x:64100:\n".to_owned(),
    };
    accounts.add_user("apache", 64_000);
    accounts.add_group("fastsecure", 64_100, &["apache", "site1"]);
    assert_eq!(
        accounts.passwd,
        "root:x:0:0::/root:/bin/sh\napache:x:64000:64000::/nonexistent:/usr/sbin/nologin\n"
    );
    assert_eq!(
        accounts.group,
        "root:x:0:\napache:x:64000:\nfastsecure:x:64100:apache,site1\n"
    );
}
