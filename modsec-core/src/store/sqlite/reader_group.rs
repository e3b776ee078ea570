//! Who may read a database that this account may not read.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use crate::accounts::Accounts;
use crate::store::StoreError;

/// Says in an error that the account has no right to read `path`, and how it gets one.
pub(super) fn explain(path: &Path, error: StoreError) -> StoreError {
    if accessat(CWD, path, Access::READ_OK, AtFlags::EACCESS) != Err(Errno::ACCESS) {
        return error;
    }
    let StoreError::Configuration { store, source, .. } = error else {
        return error;
    };
    let problem = match reading_group(path) {
        Some(group) => format!(
            "this account may not read it, but the group {group} may: add the account \
             (usermod -aG {group} USER) and log in again"
        ),
        None => "this account may not read it; let this account, or a group of it, read the file"
            .to_owned(),
    };
    StoreError::Configuration {
        store,
        problem,
        source,
    }
}

/// Returns the group that may read the file, or enter the directory that keeps this account out.
fn reading_group(path: &Path) -> Option<String> {
    let seen = path.ancestors().find_map(|step| fs::metadata(step).ok())?;
    let needed = if seen.is_dir() { 0o050 } else { 0o040 };
    if seen.mode() & needed != needed {
        return None;
    }
    let accounts = Accounts::below(Path::new("/")).ok()?;
    accounts.group_name(seen.gid()).map(str::to_owned)
}
