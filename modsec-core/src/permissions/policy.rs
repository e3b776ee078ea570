//! What mode, owner and group are right for a directory: a pure function of what it is for and of
//! how it is.
//!
//! With the defaults (mode 0770, owner apache, group fastsecure), and 1001 in that group:
//!
//! | directory | is | becomes | because |
//! | --- | --- | --- | --- |
//! | `20260822` | 0755 1001:1001 | 0770 apache:fastsecure | all sites share it |
//! | `20260822` | 0755 1002:1002 | 0770 1002:fastsecure | 1002 is not in the group and keeps it |
//! | `site1/20260822` | 0755 1001:1001 | 2770 1001:fastsecure | the tree is its user's |
//! | the storage directory | anything | the same | it is the administrator's |
//!
//! The rule above all: whoever can write now, and needs to, can write afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;

use rustix::fs::{Mode, Stat};

use crate::accounts::{Account, AccountError, Accounts, id};
use crate::watch::Place;

/// Names and numbers as an administrator gives them, with the defaults of `watch-dir`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Names {
    /// Permission bits, 0 to 0o3777; see [`parse_mode`]. Default 0770.
    pub mode: u32,
    /// Owner of flat directories: the web server's user, by name or number. Default `apache`.
    pub owner: String,
    /// Group of all directories, by name or number. Default `fastsecure`.
    pub group: String,
    /// Users whose `USER` directories are created; `None`: the members of the group.
    pub site_users: Option<Vec<String>>,
    /// Lowest user id whose directories are touched, besides owner and site users. Default 1000.
    pub allow_uid_min: u32,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            mode: 0o770,
            owner: "apache".to_owned(),
            group: "fastsecure".to_owned(),
            site_users: None,
            allow_uid_min: 1000,
        }
    }
}

impl Names {
    /// Returns why [`Names::resolve`] would fail, for each name that is not known.
    pub fn unknown(&self, accounts: &Accounts) -> Vec<AccountError> {
        let users = std::iter::once(&self.owner).chain(self.site_users.iter().flatten());
        let users = users.filter_map(|name| accounts.user(name).err());
        accounts
            .group(&self.group)
            .err()
            .into_iter()
            .chain(users)
            .collect()
    }

    /// Looks the names up.
    ///
    /// # Errors
    ///
    /// [`AccountError`] for a name that is neither in the local files nor a number.
    ///
    /// ```
    /// use modsec_core::accounts::Accounts;
    /// use modsec_core::permissions::Names;
    ///
    /// let mut names = Names::default();
    /// (names.owner, names.group) = ("48".to_owned(), "700".to_owned());
    /// let policy = names.resolve(&Accounts::default())?;
    /// assert_eq!((policy.mode, policy.owner, policy.group), (0o770, 48, 700));
    /// # Ok::<(), modsec_core::accounts::AccountError>(())
    /// ```
    pub fn resolve(&self, accounts: &Accounts) -> Result<Policy, AccountError> {
        let group = accounts.group(&self.group)?;
        let members: Vec<_> = accounts.members(group).collect();
        let named = self
            .site_users
            .iter()
            .flatten()
            .map(|name| accounts.user(name));
        let site_users: Vec<_> = match &self.site_users {
            Some(_) => named.collect::<Result<_, _>>()?,
            // The administrator may well be in the group, but has no site.
            None => members
                .iter()
                .filter(|user| user.uid != 0)
                .map(|user| (*user).clone())
                .collect(),
        };
        let site_user = |user: Account| SiteUser {
            groups: accounts.groups_of(&user),
            name: user.name,
            uid: user.uid,
        };
        Ok(Policy {
            mode: self.mode,
            owner: accounts.user(&self.owner)?.uid,
            group,
            members: members.iter().map(|user| user.uid).collect(),
            site_users: site_users.into_iter().map(site_user).collect(),
            site_users_named: self.site_users.is_some(),
            users: users_by_name(accounts),
            allow_uid_min: self.allow_uid_min,
        })
    }
}

/// Returns the user ids by name; the first line of a name counts, as for [`Accounts::user`].
fn users_by_name(accounts: &Accounts) -> BTreeMap<String, u32> {
    let mut users = BTreeMap::new();
    for user in accounts.users() {
        users.entry(user.name.clone()).or_insert(user.uid);
    }
    users
}

/// A user with a tree of its own, `USER/DAY/MINUTE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteUser {
    /// Name of its directory in the storage directory.
    pub name: String,
    /// User id of its owner.
    pub uid: u32,
    /// The groups that it is in; `None` if they are not known.
    pub groups: Option<Vec<u32>>,
}

/// What is right for a directory, in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// Permission bits of flat directories; the group's and the others' bits of all.
    pub mode: u32,
    /// Owner of flat directories.
    pub owner: u32,
    /// Group of all directories.
    pub group: u32,
    /// Users known to be in the group.
    pub members: BTreeSet<u32>,
    /// Users whose `USER` directories are created.
    pub site_users: Vec<SiteUser>,
    /// Whether the administrator has named them; their directories are then created in a tree of
    /// the flat layout too.
    pub site_users_named: bool,
    /// Numbers of the local users by name: whose a `USER` directory is.
    pub users: BTreeMap<String, u32>,
    /// Lowest number of a user whose directories are touched, besides owner and site users.
    pub allow_uid_min: u32,
}

/// Mode, owner and group of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits with set-group-id and sticky bit.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl From<&Stat> for Attributes {
    fn from(stat: &Stat) -> Self {
        Self {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
        }
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o} {}:{}", self.mode, self.uid, self.gid)
    }
}

/// With this bit a directory's new entries get the directory's group instead of their maker's.
const SET_GROUP_ID: u32 = Mode::SGID.bits();
/// The owner may make and remove entries: write and enter. One right without the other allows
/// neither.
const OWNER_ENTERS_AND_WRITES: u32 = Mode::WUSR.bits() | Mode::XUSR.bits();
/// The same for members of the group.
const GROUP_ENTERS_AND_WRITES: u32 = Mode::WGRP.bits() | Mode::XGRP.bits();
/// The same for all others.
const OTHERS_ENTER_AND_WRITE: u32 = Mode::WOTH.bits() | Mode::XOTH.bits();
/// The owner's rights: read, write and enter.
const OWNER_BITS: u32 = Mode::RWXU.bits();

impl Policy {
    /// Returns `true` if directories of the user `uid` are touched at all: an id of at least
    /// [`Policy::allow_uid_min`], the owner, or a site user. System accounts are left alone.
    pub fn allows_owner(&self, uid: u32) -> bool {
        uid >= self.allow_uid_min
            || uid == self.owner
            || self.site_users.iter().any(|user| user.uid == uid)
    }

    /// Returns the user id that belongs to the name of a `USER` directory: of a site user, of a
    /// local user, or the number that the name is. `None` if the name is not known here (LDAP,
    /// NIS).
    pub(crate) fn named(&self, user: &OsStr) -> Option<u32> {
        let name = user.to_str()?;
        let site_user = self.site_users.iter().find(|user| user.name == name);
        site_user
            .map(|user| user.uid)
            .or_else(|| self.users.get(name).copied())
            .or_else(|| id(name))
    }

    /// Returns `true` if a directory with the attributes `now` belongs to the tree called `user`.
    ///
    /// It is that user's, or it has owner and group of shared directories: some scripts take the
    /// trees from their users. A name that is not known here may be that of a user from LDAP or
    /// NIS, but not of a local user, who has another name.
    pub(crate) fn belongs_to_tree(&self, user: &OsStr, now: Attributes) -> bool {
        let is_local = || {
            let mut site_users = self.site_users.iter();
            self.users.values().any(|uid| *uid == now.uid)
                || site_users.any(|user| user.uid == now.uid)
        };
        let is_shared = now.uid == self.owner && now.gid == self.group;
        is_shared
            || self
                .named(user)
                .map_or_else(|| !is_local(), |named| named == now.uid)
    }

    /// Returns `true` if directories of the user `uid` (`None`: shared ones) may be created in a
    /// directory that belongs to the user id `parent`.
    pub(crate) fn may_hold(&self, parent: u32, uid: Option<u32>) -> bool {
        match uid {
            Some(uid) => parent == uid || parent == self.owner,
            None => self.allows_owner(parent),
        }
    }

    /// Returns what a directory that is for `place` and is `now` should be; see the table of the
    /// module.
    ///
    /// The present owner can write afterwards if it can write now; it stays the owner if that takes
    /// it. No bit for others is set that [`Policy::mode`] does not have. Applied twice it changes
    /// nothing more.
    pub fn wanted(&self, place: Place, now: Attributes) -> Attributes {
        let owner_bits = now.mode & OWNER_BITS;
        match place {
            // The storage directory itself is the administrator's.
            Place::Root => now,
            Place::User | Place::UserDay | Place::UserMinute => Attributes {
                mode: SET_GROUP_ID | self.mode | owner_bits,
                uid: now.uid,
                gid: self.group,
            },
            Place::FlatDay | Place::FlatMinute if self.still_writes(now.uid) => Attributes {
                mode: self.mode,
                uid: self.owner,
                gid: self.group,
            },
            Place::FlatDay | Place::FlatMinute => Attributes {
                mode: self.mode | owner_bits,
                uid: now.uid,
                gid: self.group,
            },
        }
    }

    /// Returns what a directory created for `place` should be; `uid` is the user of the tree,
    /// `None` in the flat layout.
    pub(crate) fn created(&self, place: Place, uid: Option<u32>) -> Attributes {
        let uid = uid.unwrap_or(self.owner);
        self.wanted(
            place,
            Attributes {
                mode: self.mode,
                uid,
                gid: self.group,
            },
        )
    }

    /// Returns `true` if the user `uid` can write to a flat directory that is as this policy says.
    ///
    /// As in the kernel, the first class that fits (owner, group, others) decides, even if a later
    /// one allows more. For root none is asked.
    fn still_writes(&self, uid: u32) -> bool {
        let bits = if uid == 0 {
            return true;
        } else if uid == self.owner {
            OWNER_ENTERS_AND_WRITES
        } else if self.members.contains(&uid) {
            GROUP_ENTERS_AND_WRITES
        } else {
            OTHERS_ENTER_AND_WRITE
        };
        self.mode & bits == bits
    }

    /// Returns `true` if every user of the machine may write to directories of this mode: worth a
    /// warning.
    pub fn is_world_writable(&self) -> bool {
        self.mode & Mode::WOTH.bits() != 0
    }
}

/// Why a mode is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModeError {
    /// Not an octal number, or with bits that make no sense on a directory.
    #[error("expected an octal mode from 0 to 3777, such as 770 or 2770")]
    NotAMode,
    /// A mode without the owner's rights to read, write and enter.
    #[error("the owner must be able to enter, list and write (7..)")]
    Useless,
}

/// Reads an octal mode from 0 to 3777. Set-group-id and sticky bit are allowed,
/// set-user-id is not.
///
/// ```
/// use modsec_core::permissions::parse_mode;
///
/// assert_eq!(parse_mode("2770").ok(), Some(0o2770));
/// assert!(parse_mode("4770").is_err()); // set-user-id
/// assert!(parse_mode("070").is_err()); // takes the owner's rights
/// ```
///
/// # Errors
///
/// [`ModeError::NotAMode`] for anything else, [`ModeError::Useless`] for a mode that takes a right
/// from the owner.
pub fn parse_mode(text: &str) -> Result<u32, ModeError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| digits && *mode <= 0o3777);
    match mode {
        None => Err(ModeError::NotAMode),
        Some(mode) if mode & OWNER_BITS != OWNER_BITS => Err(ModeError::Useless),
        Some(mode) => Ok(mode),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(mode: u32) -> Policy {
        Policy {
            mode,
            owner: 48,
            group: 700,
            members: BTreeSet::from([48, 1001]),
            site_users: vec![SiteUser {
                name: "site1".to_owned(),
                uid: 900,
                groups: None,
            }],
            site_users_named: true,
            users: BTreeMap::from([("site2".to_owned(), 1002)]),
            allow_uid_min: 1000,
        }
    }

    fn attributes(mode: u32, uid: u32, gid: u32) -> Attributes {
        Attributes { mode, uid, gid }
    }

    #[test]
    fn flat_directories_get_owner_group_and_mode() {
        let cases = [
            (
                0o770,
                attributes(0o755, 1001, 1001),
                attributes(0o770, 48, 700),
            ),
            (
                0o2770,
                attributes(0o700, 1001, 1001),
                attributes(0o2770, 48, 700),
            ),
            (0o770, attributes(0o777, 48, 48), attributes(0o770, 48, 700)),
            (
                0o770,
                attributes(0o2770, 48, 700),
                attributes(0o770, 48, 700),
            ),
        ];
        for (mode, now, want) in cases {
            for place in [Place::FlatDay, Place::FlatMinute] {
                assert_eq!(
                    policy(mode).wanted(place, now),
                    want,
                    "{now} under {mode:o}"
                );
            }
        }
    }

    #[test]
    fn an_owner_who_could_not_write_any_more_stays_the_owner() {
        let cases = [
            // Not in the group.
            (
                0o770,
                attributes(0o755, 1002, 1002),
                attributes(0o770, 1002, 700),
            ),
            // In the group, which may not write.
            (
                0o750,
                attributes(0o755, 1001, 1001),
                attributes(0o750, 1001, 700),
            ),
            // In the group, which may not write although others may: the group's bits decide.
            (
                0o757,
                attributes(0o755, 1001, 1001),
                attributes(0o757, 1001, 700),
            ),
            // Root can always write.
            (0o770, attributes(0o755, 0, 0), attributes(0o770, 48, 700)),
            // Not in the group, but everybody may write.
            (
                0o777,
                attributes(0o755, 1002, 1002),
                attributes(0o777, 48, 700),
            ),
        ];
        for (mode, now, want) in cases {
            assert_eq!(
                policy(mode).wanted(Place::FlatDay, now),
                want,
                "{now} under {mode:o}"
            );
        }
    }

    #[test]
    fn trees_of_a_user_keep_their_owner_and_open_to_the_group() {
        let cases = [
            (
                0o770,
                attributes(0o755, 1002, 1002),
                attributes(0o2770, 1002, 700),
            ),
            (
                0o750,
                attributes(0o700, 1001, 1001),
                attributes(0o2750, 1001, 700),
            ),
            (
                0o770,
                attributes(0o1777, 33, 33),
                attributes(0o2770, 33, 700),
            ),
            (
                0o1770,
                attributes(0o755, 33, 33),
                attributes(0o3770, 33, 700),
            ),
        ];
        for (mode, now, want) in cases {
            for place in [Place::User, Place::UserDay, Place::UserMinute] {
                assert_eq!(
                    policy(mode).wanted(place, now),
                    want,
                    "{now} under {mode:o}"
                );
            }
        }
    }

    #[test]
    fn what_is_wanted_is_stable() {
        for mode in [0o770, 0o750, 0o2770, 0o1777, 0o757, 0o700] {
            for uid in [0, 48, 900, 1001, 1002] {
                for now in [0o000, 0o755, 0o777, 0o2770, 0o7777] {
                    for place in [Place::Root, Place::FlatDay, Place::User, Place::UserMinute] {
                        let policy = policy(mode);
                        let once = policy.wanted(place, attributes(now, uid, uid));
                        assert_eq!(policy.wanted(place, once), once, "{place:?} {mode:o} {uid}");
                        let others = once.mode & 0o007 & !mode;
                        assert!(place == Place::Root || others == 0, "{place:?} {once}");
                    }
                }
            }
        }
    }

    #[test]
    fn only_owner_site_users_and_high_numbers_are_allowed() {
        let cases = [
            (0, false),
            (47, false),
            (48, true),
            (900, true),
            (999, false),
            (1000, true),
        ];
        for (uid, want) in cases {
            assert_eq!(policy(0o770).allows_owner(uid), want, "uid {uid}");
        }
    }

    #[test]
    fn a_tree_belongs_to_the_user_that_it_is_named_after() {
        let cases = [
            // Name, owner and group of the directory.
            ("site1", 900, 900, true),
            ("site1", 1002, 1002, false),
            ("site1", 1003, 1003, false),
            ("site1", 48, 700, true),
            ("site1", 48, 48, false),
            ("site2", 1002, 1002, true),
            ("site2", 900, 900, false),
            ("1003", 1003, 1003, true),
            ("1003", 1002, 1002, false),
            ("from-ldap", 5000, 5000, true),
            ("from-ldap", 1002, 1002, false),
            ("from-ldap", 900, 900, false),
        ];
        for (name, uid, gid, want) in cases {
            let now = attributes(0o755, uid, gid);
            let belongs = policy(0o770).belongs_to_tree(OsStr::new(name), now);
            assert_eq!(belongs, want, "{name} of {now}");
        }
    }

    #[test]
    fn modes_are_octal_and_leave_the_owner_his_rights() {
        for (text, want) in [
            ("770", 0o770),
            ("0770", 0o770),
            ("2770", 0o2770),
            ("1777", 0o1777),
        ] {
            assert_eq!(parse_mode(text).unwrap(), want, "{text}");
        }
        for text in [
            "",
            "+770",
            "-1",
            "888",
            "4770",
            "77777777777",
            "0x1ff",
            "rwx",
        ] {
            assert!(
                matches!(parse_mode(text), Err(ModeError::NotAMode)),
                "{text}"
            );
        }
        for text in ["0", "070", "550", "377", "670"] {
            assert!(
                matches!(parse_mode(text), Err(ModeError::Useless)),
                "{text}"
            );
        }
    }
}
