//! Names of users and groups, from `/etc/passwd` and `/etc/group`.
//!
//! Users from LDAP, NIS or SSSD are not in these files; their numeric ids work everywhere a name
//! does. The name service is not asked (getpwnam(3)): that would load foreign code into a process
//! with root's rights, and can block on a network while directories wait for their owner.
//!
//! ```
//! use modsec_core::accounts::Accounts;
//!
//! let dir = tempfile::tempdir()?;
//! std::fs::create_dir(dir.path().join("etc"))?;
//! std::fs::write(dir.path().join("etc/passwd"), "site1:x:1001:700::/:/bin/false\n")?;
//! std::fs::write(dir.path().join("etc/group"), "fastsecure:x:700:\n")?;
//!
//! let accounts = Accounts::below(dir.path())?;
//! assert_eq!(accounts.user("site1")?.uid, 1001);
//! assert_eq!(accounts.group("fastsecure")?, 700);
//! assert_eq!(accounts.members(700).count(), 1); // by primary group
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The users and groups of one machine, as the two files were when they were read.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    /// Users that have a line in `/etc/passwd`, in its order.
    users: Vec<Account>,
    /// Groups that have a line in `/etc/group`, in its order.
    groups: Vec<Group>,
}

/// One line of `/etc/group`, see group(5).
#[derive(Debug, Clone)]
struct Group {
    /// Its name.
    name: String,
    /// Group id.
    gid: u32,
    /// Login names of its members. Users who have it as their primary group need not be among
    /// them.
    members: Vec<String>,
}

/// One user: a line of `/etc/passwd`, see passwd(5), or a number without one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Account {
    /// Login name; the decimal id if it was given as a number that no name belongs to.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group; `None` if the user is known by number only.
    pub gid: Option<u32>,
}

/// Why a name could not be turned into an id.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// One of the two files cannot be read.
    #[error("cannot read {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Neither a name in `/etc/passwd` nor a number.
    #[error(
        "no user {name:?} in /etc/passwd: give another name, or the numeric id of a user from \
         LDAP or NIS{}", known("user", .present)
    )]
    NoUser {
        /// The name asked for.
        name: String,
        /// Users that web servers commonly run as and that do exist.
        present: Vec<String>,
    },
    /// Neither a name in `/etc/group` nor a number.
    #[error(
        "no group {name:?} in /etc/group: create it (groupadd {name}), give another name, or the \
         numeric id of a group from LDAP or NIS{}", known("group", .present)
    )]
    NoGroup {
        /// The name asked for.
        name: String,
        /// Groups that web servers commonly run as and that do exist.
        present: Vec<String>,
    },
}

/// Returns those of the names under which distributions run a web server that `is_known`, to be
/// suggested in an error message.
fn web_servers(is_known: impl Fn(&str) -> bool) -> Vec<String> {
    let names = ["apache", "www-data", "wwwrun", "http"].into_iter();
    names
        .filter(|name| is_known(name))
        .map(str::to_owned)
        .collect()
}

/// Words the suggestion at the end of an error message; nothing without names.
fn known(kind: &str, present: &[String]) -> String {
    if present.is_empty() {
        return String::new();
    }
    format!(
        "; the web server's {kind} here is probably {}",
        present.join(" or ")
    )
}

impl Accounts {
    /// Reads `etc/passwd` and `etc/group` below `root`, which is `/` except in tests.
    ///
    /// # Errors
    ///
    /// [`AccountError::Unreadable`] names the file. Lines that make no sense are skipped, and users
    /// whose name is not UTF-8: their number works.
    pub fn below(root: &Path) -> Result<Self, AccountError> {
        let read = |name: &str| {
            let path = root.join("etc").join(name);
            match fs::read(&path) {
                Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
                Err(source) => Err(AccountError::Unreadable { path, source }),
            }
        };
        Ok(Self {
            users: read("passwd")?.lines().filter_map(user_line).collect(),
            groups: read("group")?.lines().filter_map(group_line).collect(),
        })
    }

    /// Returns the user called `text`, or the one with that number, in the files or not. A name
    /// that is also a number means the name.
    ///
    /// # Errors
    ///
    /// [`AccountError::NoUser`] if it is neither; `-1` and 4294967295 are no numbers of users.
    pub fn user(&self, text: &str) -> Result<Account, AccountError> {
        let named = self.users.iter().find(|user| user.name == text);
        if let Some(user) = named {
            return Ok(user.clone());
        }
        let Some(uid) = id(text) else {
            return Err(AccountError::NoUser {
                name: text.to_owned(),
                present: web_servers(|name| self.users.iter().any(|user| user.name == name)),
            });
        };
        let by_number = self.users.iter().find(|user| user.uid == uid).cloned();
        Ok(by_number.unwrap_or_else(|| Account {
            name: uid.to_string(),
            uid,
            gid: None,
        }))
    }

    /// Returns the id of the group called `text`, or the number that `text` is, in the files or
    /// not.
    ///
    /// # Errors
    ///
    /// [`AccountError::NoGroup`] if it is neither.
    pub fn group(&self, text: &str) -> Result<u32, AccountError> {
        let named = self.groups.iter().find(|group| group.name == text);
        named
            .map(|group| group.gid)
            .or_else(|| id(text))
            .ok_or_else(|| AccountError::NoGroup {
                name: text.to_owned(),
                present: web_servers(|name| self.groups.iter().any(|group| group.name == name)),
            })
    }

    /// Returns all users, in the order of `/etc/passwd`.
    pub fn users(&self) -> impl Iterator<Item = &Account> {
        self.users.iter()
    }

    /// Returns the users in the group `gid`, by `/etc/group` or by their primary group, in the
    /// order of `/etc/passwd`. Members that `/etc/group` names but `/etc/passwd` does not are left
    /// out.
    pub fn members(&self, gid: u32) -> impl Iterator<Item = &Account> {
        let listed = move |name: &String| {
            self.groups
                .iter()
                .any(|group| group.gid == gid && group.members.contains(name))
        };
        self.users
            .iter()
            .filter(move |user| user.gid == Some(gid) || listed(&user.name))
    }

    /// Returns the name of the group `gid`; `None` of one that is known by number only.
    #[cfg(feature = "sqlite")]
    pub(crate) fn group_name(&self, gid: u32) -> Option<&str> {
        let group = self.groups.iter().find(|group| group.gid == gid)?;
        Some(&group.name)
    }

    /// Returns the groups that `user` is in, by `/etc/group` and by the primary group; `None` of a
    /// user who is known by number only.
    pub fn groups_of(&self, user: &Account) -> Option<Vec<u32>> {
        let listed = self
            .groups
            .iter()
            .filter(|group| group.members.contains(&user.name));
        let listed = listed.map(|group| group.gid);
        Some(listed.chain([user.gid?]).collect())
    }
}

/// Reads a decimal user or group id of digits only. 4294967295 is refused: chown(2) takes it for
/// "do not change".
pub(crate) fn id(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id != u32::MAX)
}

/// Reads a line of `/etc/passwd`: name, password, user id, group id. `None` for a comment, a broken
/// line, or a name that is not UTF-8.
fn user_line(line: &str) -> Option<Account> {
    // apache:x:48:48:Apache:/usr/share/httpd:/sbin/nologin
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
    // Another name than the user's, after which no directory of the user is called.
    if name.contains(char::REPLACEMENT_CHARACTER) {
        return None;
    }
    let uid = id(fields.nth(1)?)?;
    let gid = id(fields.next()?)?;
    Some(Account {
        name,
        uid,
        gid: Some(gid),
    })
}

/// Reads a line of `/etc/group`: name, password, group id, members.
fn group_line(line: &str) -> Option<Group> {
    // fastsecure:x:1001:site1,site2
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
    let gid = id(fields.nth(1)?)?;
    let members = fields.next().unwrap_or_default().split(',');
    let members = members
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    Some(Group { name, gid, members })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(
            root.path().join("etc/passwd"),
            b"root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\nwww-data:x:33:33::/:/\n\
             site1:x:1001:1001::/:/\nsite2:x:1002:700::/:/\n\xf0\nodd:x:-1:0::/:/\n\
             d\xf6m:x:1003:700::/:/\n",
        )
        .unwrap();
        fs::write(
            root.path().join("etc/group"),
            "root:x:0:\nfastsecure:x:700:site1,ghost,\nhuge:x:99999999999:\n",
        )
        .unwrap();
        Accounts::below(root.path()).unwrap()
    }

    #[test]
    fn names_and_numbers_give_ids() {
        let accounts = accounts();
        for (text, want) in [("site1", 1001), ("33", 33), ("4242", 4242), ("root", 0)] {
            assert_eq!(accounts.user(text).unwrap().uid, want, "{text}");
        }
        assert_eq!(accounts.user("33").unwrap().name, "www-data");
        assert_eq!(accounts.group("fastsecure").unwrap(), 700);
        assert_eq!(accounts.group("12").unwrap(), 12);
    }

    #[test]
    fn what_is_neither_name_nor_number_is_explained() {
        let accounts = accounts();
        for text in ["apache", "", "-1", "+5", "4294967295", "odd", "99999999999"] {
            assert!(accounts.user(text).is_err(), "{text:?}");
        }
        let text = accounts.user("apache").unwrap_err().to_string();
        assert!(text.contains("user here is probably www-data"), "{text}");
        let text = accounts.group("apache").unwrap_err().to_string();
        assert!(text.contains("groupadd apache"), "{text}");
    }

    #[test]
    fn members_are_those_listed_and_those_whose_primary_group_it_is() {
        let names: Vec<_> = accounts()
            .members(700)
            .map(|user| user.name.clone())
            .collect();
        assert_eq!(names, ["site1", "site2"]);
    }
}
