//! Opening a file that an option names: never waiting for another process, only what the option
//! means, and only what is the administrator's.
//!
//! Opening a named pipe waits for the other end, and a device such as `/dev/zero` has no end. A
//! program that stands still there as root, deaf to SIGTERM, is worse than one that says which
//! option is wrong. So everything here opens with `O_NONBLOCK`, and takes
//!
//! | what | function | besides plain files |
//! | --- | --- | --- |
//! | logs, tables, offset files | [`open`], [`open_own`] | nothing |
//! | the program's own log | [`open_own_or_null`] | `/dev/null` |
//! | settings, secrets | [`read`] | `/dev/null`, and a pipe without a name: `<(…)`, `/dev/stdin` |
//!
//! A pipe with a name is never meant: no process need be at its other end, and it gives its text
//! only once.
//!
//! What is written, and what a program goes by (settings, secrets, its own state), is refused if
//! another account may have put it there, or may change it: a file of another account in `/tmp`, or
//! one that every user may write to. Logs that are read are the business of those who write them.
//!
//! # Order of the steps
//!
//! 1. The path is walked from the root, step by step, and each directory and link is judged
//!    (`trust.rs`).
//! 2. The file is opened, without following a link where none is meant.
//! 3. What was opened is looked at by its handle: kind, owner, mode, number of names.
//!
//! A file that is exchanged between two steps is still judged by what was opened. Nothing is
//! written before step 3.

mod trust;

use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{
    Access, AtFlags, CWD, FsWord, OFlags, fcntl_getfl, fcntl_setfl, fstatfs, makedev,
};

use self::trust::CheckedPath;

/// Opening waits for no other process (`O_NONBLOCK`), makes no terminal the controlling one
/// (`O_NOCTTY`), and the file is not passed on to other programs (`O_CLOEXEC`). See open(2).
const OPEN_FLAGS: OFlags = OFlags::NONBLOCK
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOCTTY);

/// `f_type` of the file system with pipes that have no name in any directory. See statfs(2).
const PIPEFS_MAGIC: FsWord = 0x5049_5045;

/// Whether the last component of a path may be a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Yes. For what is read: an administrator may put links where he likes.
    Follow,
    /// No. For what is written, or found beside a log.
    Refuse,
}

/// Opens a plain file as `options` say.
///
/// # Errors
///
/// What the system says, or what the file is instead of a plain one.
///
/// ```
/// use std::fs::File;
/// use std::path::Path;
///
/// use modsec_core::named_file::{Links, open};
///
/// let device = open(Path::new("/dev/zero"), File::options().read(true), Links::Follow);
/// assert_eq!(device.unwrap_err().to_string(), "it is a device, and must be a plain file");
/// ```
pub fn open(path: &Path, options: &OpenOptions, links: Links) -> io::Result<File> {
    open_if(path, options, links, Metadata::is_file)
}

/// Opens a plain file of the program as `options` say; no link.
///
/// # Errors
///
/// As for [`open`], and why the file is not to be trusted.
pub fn open_own(path: &Path, options: &OpenOptions) -> io::Result<File> {
    open_own_if(path, options, Metadata::is_file)
}

/// Opens a plain file to write as `options` say, or makes it with their mode; the new name is on
/// disk when this returns.
///
/// Opened first without `O_CREAT`: the directory is synced only if the file is new.
///
/// # Errors
///
/// As for [`open_own`].
pub fn open_or_make(path: &Path, options: &OpenOptions) -> io::Result<File> {
    match open_own(path, options) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let file = open_own(path, options.clone().create(true))?;
    File::open(parent(path))?.sync_all()?;
    Ok(file)
}

/// Finds out without opening anything whether an SQLite database may be at `path`: through links, a
/// plain file that is the administrator's, or none yet.
///
/// The same goes for what SQLite keeps beside it (`-wal`, `-shm`, `-journal`), where it takes
/// whatever it finds; so there is no database in a directory like `/tmp`. Opening is not possible
/// here: closing the file again would drop the locks that this process has on it, see fcntl(2).
///
/// # Errors
///
/// What the system says, what is there instead, or why it is not to be trusted.
pub fn check_database(path: &Path) -> io::Result<()> {
    let failed = |error| explain(path, Links::Follow, error);
    let way = CheckedPath::walk(path, Links::Follow).map_err(failed)?;
    way.refuse_public()?;
    match &way.meta {
        Some(meta) if !meta.is_file() => return Err(wrong_kind(meta.file_type())),
        // Behind a link.
        None if fs::symlink_metadata(path).is_ok() => {
            return Err(failed(io::ErrorKind::NotFound.into()));
        }
        Some(_) | None => {}
    }
    for end in ["", "-wal", "-shm", "-journal"] {
        let mut name = way.path.clone().into_os_string();
        name.push(end);
        let way = CheckedPath::walk(Path::new(&name), Links::Refuse)?;
        if let Some(meta) = &way.meta {
            way.admit(meta)?;
        }
    }
    Ok(())
}

/// Finds out without making or changing anything whether [`open_or_make`] could open the file at
/// `path` to write, or make it.
///
/// # Errors
///
/// As for [`open_own`]; a directory that is missing is named.
pub fn check_own(path: &Path) -> io::Result<()> {
    check_own_if(path, Metadata::is_file)
}

/// As [`check_own`] for [`open_own_or_null`]: it may be `/dev/null`.
///
/// # Errors
///
/// As for [`check_own`].
pub fn check_own_or_null(path: &Path) -> io::Result<()> {
    check_own_if(path, is_file_or_null)
}

fn check_own_if(path: &Path, is_meant: impl Fn(&Metadata) -> bool) -> io::Result<()> {
    check_directory_is_there(&parent(path))?;
    let way = CheckedPath::walk(path, Links::Refuse)?;
    match &way.meta {
        None => check_directory(&parent(path)),
        Some(meta) if !is_meant(meta) => Err(wrong_kind(meta.file_type())),
        Some(meta) => {
            way.admit(meta)?;
            may(path, Access::WRITE_OK)
        }
    }
}

/// Finds out without making or changing anything whether [`replace`] could replace the file at
/// `path`, or make it. What is in it is for the caller to read.
///
/// # Errors
///
/// As for [`replace`]; a directory that is missing is named.
pub fn check_replace(path: &Path) -> io::Result<()> {
    check_directory(&parent(path))?;
    let way = CheckedPath::walk(path, Links::Refuse)?;
    way.meta.as_ref().map_or(Ok(()), |meta| way.admit(meta))
}

/// Refuses the content of a file of which the program keeps one line of at most `most` bytes, if it
/// is more than such a line: the file is somebody else's, whose path was mistyped. `bytes` are its
/// first ones, one more than `most` if it has so many.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidData`].
#[cfg(feature = "jobs")]
pub(crate) fn only_short_line(bytes: &[u8], most: u64) -> io::Result<()> {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if bytes.len() as u64 <= most && !line.contains(&b'\n') {
        return Ok(());
    }
    let what = "it has something else in it, and is left as it is";
    Err(io::Error::new(io::ErrorKind::InvalidData, what))
}

/// Finds out without making anything whether files can be made in the directory at `path`.
///
/// # Errors
///
/// What the system says; the directory is named.
pub fn check_directory(path: &Path) -> io::Result<()> {
    check_directory_is_there(path)?;
    may(path, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        let what = match error.kind() {
            io::ErrorKind::PermissionDenied => "this account may not make files in directory",
            io::ErrorKind::ReadOnlyFilesystem => "a read-only file system has directory",
            _ => return error,
        };
        io::Error::new(error.kind(), format!("{what} {}", path.display()))
    })
}

/// Names a directory that is not there.
pub(crate) fn check_directory_is_there(path: &Path) -> io::Result<()> {
    let kind = match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => return Ok(()),
        Ok(_) => io::ErrorKind::NotADirectory,
        Err(error) => error.kind(),
    };
    let what = match kind {
        io::ErrorKind::NotFound => "is not there; make it, or name a file elsewhere",
        io::ErrorKind::NotADirectory => "is no directory",
        _ => "cannot be entered by this account",
    };
    Err(io::Error::new(
        kind,
        format!("directory {} {what}", path.display()),
    ))
}

/// Asks the system whether this process may do something, by its effective ids and capabilities.
fn may(path: &Path, access: Access) -> io::Result<()> {
    Ok(rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS)?)
}

/// Opens a plain file of the program, or `/dev/null`, as `options` say; no link.
///
/// # Errors
///
/// As for [`open_own`].
pub fn open_own_or_null(path: &Path, options: &OpenOptions) -> io::Result<File> {
    open_own_if(path, options, is_file_or_null)
}

/// Opens a plain file to read, through links.
///
/// # Errors
///
/// As for [`open`].
pub fn open_to_read(path: &Path) -> io::Result<File> {
    open(path, File::options().read(true), Links::Follow)
}

/// Opens a plain file to read that the program wrote, through links.
///
/// # Errors
///
/// As for [`open_own`]; a path that is not to be trusted is one also if nothing is there yet.
pub fn open_own_to_read(path: &Path) -> io::Result<File> {
    // Also if nothing is there yet.
    let way = CheckedPath::walk(path, Links::Follow)?;
    let file = open_to_read(path)?;
    way.admit(&file.metadata()?)?;
    Ok(file)
}

/// Opens what is to be read once, from its start to its end, of any kind: the caller looks at what
/// it is.
///
/// A pipe may have no writer yet: wait with poll(2) before reading.
///
/// # Errors
///
/// What the system says.
pub fn open_input(path: &Path) -> io::Result<File> {
    open_any(path, File::options().read(true), Links::Follow)
}

/// What a file of settings has in it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Contents {
    /// All of it, at most the limit that was given.
    pub bytes: Vec<u8>,
    /// `true` if every user of the machine may read it (mode `o+r`). A pipe is never public.
    pub is_public: bool,
    /// The owner, if that is neither root nor the account of this process: it can change the file,
    /// and with it what the program does.
    pub foreign_owner: Option<u32>,
}

impl Contents {
    /// Returns a warning if another account can change the file at `path`.
    pub fn owner_warning(&self, path: &Path) -> Option<String> {
        let owner = self.foreign_owner?;
        Some(format!(
            "{} belongs to user {owner}, who can change it and so what this program does; chown it \
             to root, or to the account of this program",
            crate::text::visible(&path.to_string_lossy())
        ))
    }

    /// Returns the text.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] if it is not UTF-8.
    pub fn into_text(self) -> io::Result<String> {
        String::from_utf8(self.bytes)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
    }
}

/// Reads a file of settings as a whole: a plain file, `/dev/null`, or a pipe without a name.
///
/// Waits for what comes out of such a pipe, so call this before taking over signals.
///
/// # Errors
///
/// As for [`open`], and if there are more than `limit` bytes.
///
/// ```
/// use std::path::Path;
///
/// let contents = modsec_core::named_file::read(Path::new("/dev/null"), 1024)?;
/// assert_eq!(contents.into_text()?, "");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn read(path: &Path, limit: u64) -> io::Result<Contents> {
    let file = open_input(path)?;
    let meta = file.metadata()?;
    if meta.file_type().is_fifo() && is_nameless(&file)? {
        fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    } else if !meta.is_file() && !is_null(&meta) {
        return Err(wrong_kind(meta.file_type()));
    }
    contents(path, file, &meta, limit)
}

/// Reads a plain file, or `/dev/null`, as a whole: for what is read again and again.
///
/// # Errors
///
/// As for [`read`].
pub fn read_plain(path: &Path, limit: u64) -> io::Result<Contents> {
    let file = open_if(
        path,
        File::options().read(true),
        Links::Follow,
        is_file_or_null,
    )?;
    let meta = file.metadata()?;
    contents(path, file, &meta, limit)
}

/// Reads an open file as a whole, after a look at who may have written it.
///
/// A pipe has no such look: the user who starts the program has chosen it. One byte more than the
/// limit is read, so that a file that grows meanwhile is refused, too.
fn contents(path: &Path, file: File, meta: &Metadata, limit: u64) -> io::Result<Contents> {
    if meta.is_file() {
        match CheckedPath::walk(path, Links::Follow) {
            Ok(way) => way.admit(meta)?,
            // `/dev/stdin`, for one, is open and has no path: the user has chosen it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let large = format!("it has more than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, large));
    }
    Ok(Contents {
        bytes,
        is_public: meta.is_file() && meta.mode() & 0o004 != 0,
        foreign_owner: Some(meta.uid()).filter(|uid| {
            let us = rustix::process::geteuid().as_raw();
            meta.is_file() && ![0, us].contains(uid)
        }),
    })
}

/// Replaces the file at `path` as a whole: at any moment, also after a loss of power, it is the old
/// or the new.
///
/// ```text
/// remove .NAME.new            left over from a crash
/// create .NAME.new, write     killed here: NAME is the old one
/// sync   .NAME.new            its bytes are on disk before its name is NAME
/// rename to NAME              killed here: old or new, never a part
/// sync   the directory        the new one stays after a loss of power
/// ```
///
/// What has the name `.NAME.new` beside it is removed. `mode` is that of the new file, less the
/// umask.
///
/// # Errors
///
/// What the system says, or why what is there is not to be trusted; it is then untouched.
///
/// ```
/// use modsec_core::named_file::{read_plain, replace};
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("state");
/// replace(&path, b"old", 0o600)?;
/// replace(&path, b"new", 0o600)?;
/// assert_eq!(read_plain(&path, 1024)?.bytes, b"new");
/// assert!(read_plain(&path, 2).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let way = CheckedPath::walk(path, Links::Refuse)?;
    if let Some(meta) = &way.meta {
        way.admit(meta)?;
    }
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut new = std::ffi::OsString::from(".");
    new.push(name);
    new.push(".new");
    let new = path.with_file_name(new);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = File::options();
    options.write(true).create_new(true).mode(mode);
    let mut file = open(&new, &options, Links::Refuse)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(parent(path))?.sync_all()
}

/// Returns `true` for an SQLite database that is in use, and for what is kept beside one.
///
/// A search for a file of unknown name must not open these: closing it again would drop the locks
/// that this process has on its own database, and another process would remove the write-ahead log.
pub fn is_of_sqlite(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    let is_beside = ["-wal", "-shm", "-journal"]
        .iter()
        .any(|end| name.as_encoded_bytes().ends_with(end.as_bytes()));
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    is_beside || fs::symlink_metadata(log).is_ok()
}

/// Returns `true` if `path` leads to an open file, and not through a link. What is written to a
/// file that was renamed or removed is not found at its path.
///
/// # Errors
///
/// What the system says, except that nothing is there.
pub fn is_at(path: &Path, file: &File) -> io::Result<bool> {
    let there = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found?,
    };
    let open = file.metadata()?;
    Ok((there.dev(), there.ino()) == (open.dev(), open.ino()))
}

/// Returns the names of the first two of these files that are one file, by path or by what stands
/// there, and of which one at least is written: that would destroy the other. `/dev/null` and other
/// files that are not regular may be named twice, and so may files that are only read.
pub fn same_files<'a>(
    written: &[(&'a str, &Path)],
    read: &[(&'a str, &Path)],
) -> Option<(&'a str, &'a str)> {
    let all: Vec<(&str, FileKey)> = written
        .iter()
        .chain(read)
        .map(|(name, path)| (*name, FileKey::of(path)))
        .collect();
    all.iter()
        .take(written.len())
        .enumerate()
        .find_map(|(n, (name, key))| {
            let mut behind = all.iter().skip(n + 1);
            let (other, _) = behind.find(|(_, other)| key == other && *key != FileKey::Special)?;
            Some((*name, *other))
        })
}

/// What makes two paths lead to one file.
#[derive(Debug, PartialEq, Eq)]
enum FileKey {
    /// Device and inode.
    There(u64, u64),
    /// There is no file yet.
    NotYet(PathBuf),
    /// A device, a pipe or a directory.
    Special,
}

impl FileKey {
    /// Returns the key of `path`, following links.
    ///
    /// A file that does not exist is known by its name in its directory, from which links are taken
    /// out; if the directory does not exist either, by the absolute path.
    fn of(path: &Path) -> FileKey {
        match path.metadata() {
            Ok(meta) if meta.is_file() => FileKey::There(meta.dev(), meta.ino()),
            Ok(_) => FileKey::Special,
            Err(_) => {
                let dir = parent(path).canonicalize();
                let name = path.file_name().unwrap_or_default();
                let absolute = || std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
                FileKey::NotYet(dir.map_or_else(|_| absolute(), |dir| dir.join(name)))
            }
        }
    }
}

/// Returns `true` if a file at `path` is, or would be, in the directory `dir` or below it.
pub fn is_within(path: &Path, dir: &Path) -> bool {
    match (parent(path).canonicalize(), dir.canonicalize()) {
        (Ok(place), Ok(dir)) => place.starts_with(dir),
        _ => false,
    }
}

/// Returns the directory in which `path` lies: `.` for a bare name.
pub fn parent(path: &Path) -> PathBuf {
    let parent = path.parent().unwrap_or(Path::new(""));
    if parent.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        parent.to_owned()
    }
}

/// Returns the error for a file of a kind that is not taken, such as `it is a directory, and must
/// be a plain file`.
pub(crate) fn wrong_kind(kind: FileType) -> io::Error {
    let what = format!("it is a {}, and must be a plain file", name_of(kind));
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// Returns the usual name of a kind of file.
pub(crate) fn name_of(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_symlink() => "symbolic link",
        kind if kind.is_dir() => "directory",
        kind if kind.is_fifo() => "named pipe",
        kind if kind.is_socket() => "socket",
        kind if kind.is_file() => "plain file",
        _ => "device",
    }
}

/// Opens a file and refuses it if it is not meant, judged by its handle.
fn open_if(
    path: &Path,
    options: &OpenOptions,
    links: Links,
    is_meant: impl Fn(&Metadata) -> bool,
) -> io::Result<File> {
    let file = open_any(path, options, links)?;
    let meta = file.metadata()?;
    if is_meant(&meta) {
        Ok(file)
    } else {
        Err(wrong_kind(meta.file_type()))
    }
}

/// As [`open_if`], for a file of the program: path and file must be trusted, and no link.
fn open_own_if(
    path: &Path,
    options: &OpenOptions,
    is_meant: impl Fn(&Metadata) -> bool,
) -> io::Result<File> {
    let way = CheckedPath::walk(path, Links::Refuse)?;
    let file = open_if(path, options, Links::Refuse, is_meant)?;
    way.admit(&file.metadata()?)?;
    Ok(file)
}

/// Opens a file of any kind without waiting. For a link that is refused the error says so.
fn open_any(path: &Path, options: &OpenOptions, links: Links) -> io::Result<File> {
    let flags = match links {
        Links::Follow => OPEN_FLAGS,
        Links::Refuse => OPEN_FLAGS | OFlags::NOFOLLOW,
    };
    let opened = options
        .clone()
        .custom_flags(flags.bits().cast_signed())
        .open(path);
    opened.map_err(|error| explain(path, links, error))
}

/// Returns an error that says what is at the path, where the system's own fits many things: `ENXIO`
/// for a socket or a pipe, `ELOOP` for a link.
fn explain(path: &Path, links: Links, error: io::Error) -> io::Error {
    let Ok(there) = fs::symlink_metadata(path) else {
        return error;
    };
    let found = match links {
        Links::Follow => fs::metadata(path),
        Links::Refuse => Ok(there.clone()),
    };
    match found {
        Ok(meta) if !meta.is_file() => wrong_kind(meta.file_type()),
        Err(gone) if gone.kind() == io::ErrorKind::NotFound && there.is_symlink() => {
            // Of the same kind: there is no file.
            io::Error::new(gone.kind(), "it is a symbolic link that leads nowhere")
        }
        _ => error,
    }
}

/// Returns `true` for a plain file and for `/dev/null`.
fn is_file_or_null(meta: &Metadata) -> bool {
    meta.is_file() || is_null(meta)
}

/// Returns `true` for the device that `/dev/null` is on Linux, whatever its name: major 1, minor 3.
pub(crate) fn is_null(meta: &Metadata) -> bool {
    meta.file_type().is_char_device() && meta.rdev() == makedev(1, 3)
}

/// Returns `true` for a pipe that was made by pipe(2), not by mkfifo(3).
fn is_nameless(pipe: &File) -> io::Result<bool> {
    Ok(fstatfs(pipe)?.f_type == PIPEFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    #[test]
    fn only_what_is_meant_is_opened_and_nothing_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("plain"), "text").unwrap();
        mkfifoat(CWD, path("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
        fs::create_dir(path("dir")).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        std::os::unix::fs::symlink("nowhere", path("dangling")).unwrap();
        std::os::unix::fs::symlink("plain", path("link")).unwrap();
        let append = File::options().append(true).create(true).to_owned();
        for (name, to_read, to_write) in [
            ("plain", "", ""),
            ("link", "", "symbolic link"),
            ("pipe", "named pipe", "named pipe"),
            ("dir", "directory", "directory"),
            ("socket", "socket", "socket"),
            ("dangling", "leads nowhere", "symbolic link"),
            ("/dev/zero", "device", "device"),
        ] {
            let opened = [
                (open_to_read(&path(name)).map(drop), to_read),
                (read(&path(name), 99).map(drop), to_read),
                (
                    open(&path(name), &append, Links::Refuse).map(drop),
                    to_write,
                ),
            ];
            for (result, want) in opened {
                let said = result.map_or_else(|error| error.to_string(), |()| String::new());
                let right = said.contains(want) && said.is_empty() == want.is_empty();
                assert!(right, "{name}: {said:?} instead of {want:?}");
            }
        }
        assert!(read(Path::new("/dev/null"), 99).unwrap().bytes.is_empty());
        let log = open_own_or_null(Path::new("/dev/null"), &append);
        assert!(log.is_ok() && open_to_read(Path::new("/dev/null")).is_err());
    }

    #[test]
    fn a_pipe_without_a_name_is_read_to_its_end_and_a_text_has_a_bound() {
        let (reader, mut writer) = io::pipe().unwrap();
        let path = PathBuf::from(format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&reader)
        ));
        let read_all = std::thread::spawn(move || read(&path, 7));
        writer.write_all(b"a ").unwrap();
        writer.write_all(b"secret").unwrap();
        drop(writer);
        let error = read_all.join().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "it has more than 7 bytes");
    }

    #[test]
    fn replacing_does_not_wait_for_what_is_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        mkfifoat(CWD, dir.path().join(".state.new"), Mode::RUSR).unwrap();
        replace(&path, b"one", 0o640).unwrap();
        replace(&path, b"two", 0o640).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
