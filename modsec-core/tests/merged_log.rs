//! The merged log: what it looks like, and that a crash at any point, with any rotation of the
//! log, leaves every entry in it exactly once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::{self, File};
use std::io::Write as _;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use modsec_core::EntryHash;
use modsec_core::merged_log::{AppendBatch, MergedLog, MergedLogError, Recovered, Stored};
use modsec_core::record::Flags;
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

fn entry(id: u32, padding: usize) -> Vec<u8> {
    let body = "x".repeat(padding);
    format!("--{id:08x}-A--\n[22/Aug/2026] id-{id}\n--{id:08x}-H--\n{body}\n--{id:08x}-Z--\n")
        .into_bytes()
}

fn log_in(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("audit.log")
}

fn append(log: &mut MergedLog, batch: u8, entries: &[Vec<u8>]) -> Result<u64, MergedLogError> {
    let mut batch = log.begin([batch; 16])?;
    for entry in entries {
        batch.append(entry)?;
    }
    let appended = batch.finish()?;
    let bytes = appended.bytes();
    appended.commit()?;
    Ok(bytes)
}

#[test]
fn entries_are_kept_as_they_are_and_separated_like_in_a_serial_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = log_in(&dir);
    let cases: [(&[u8], &[u8]); 7] = [
        (b"--a-A--\n--a-Z--\n", b"--a-A--\n--a-Z--\n\n"),
        (b"---b---A--\n---b---Z--\n\n", b"---b---A--\n---b---Z--\n\n"),
        (b"--c-A--\ncut short", b"--c-A--\ncut short\n\n"),
        (b"{\"transaction\":{}}\n", b"{\"transaction\":{}}\n"),
        (b"{\"transaction\":{}}", b"{\"transaction\":{}}\n"),
        (b"x", b"x\n\n"),
        (b"", b""),
    ];
    let mut want = Vec::new();
    let mut log = MergedLog::open(&path).unwrap();
    for (number, (entry, written)) in (0..).zip(cases) {
        append(&mut log, number, &[entry.to_vec()]).unwrap();
        want.extend_from_slice(written);
        let got = fs::read(&path).unwrap();
        let shown = got.escape_ascii().to_string();
        assert_eq!(got, want, "after {:?}: {shown}", entry.escape_ascii());
    }
}

#[test]
fn an_entry_starts_on_a_fresh_line_whatever_stands_before() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(log_in(&dir), "half a line").unwrap();
    let mut log = MergedLog::open(log_in(&dir)).unwrap();
    append(&mut log, 1, &[b"--a-A--\n--a-Z--\n".to_vec()]).unwrap();
    let text = fs::read_to_string(log_in(&dir)).unwrap();
    assert_eq!(text, "half a line\n--a-A--\n--a-Z--\n\n");
}

#[test]
fn a_large_entry_is_streamed() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = MergedLog::open(log_in(&dir)).unwrap();
    let mut batch = log.begin([1; 16]).unwrap();
    let hash = EntryHash::of(&vec![b'x'; 3_000_000]);
    let open = || io::repeat(b'x').take(3_000_000);
    assert!(batch.append_from(hash, Flags::none(), open).unwrap());
    batch.append(b"--a-A--\n--a-Z--\n").unwrap();
    let appended = batch.finish().unwrap();
    assert_eq!(appended.bytes(), 3_000_000 + 2 + 17);
    appended.commit().unwrap();
    assert_eq!(fs::metadata(log_in(&dir)).unwrap().len(), 3_000_019);
}

#[test]
fn what_is_not_a_plain_file_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("directory")).unwrap();
    fs::write(at("file"), "").unwrap();
    fs::hard_link(at("file"), at("hard")).unwrap();
    std::os::unix::fs::symlink("elsewhere", at("link")).unwrap();
    mkfifoat(CWD, at("pipe"), Mode::RUSR).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let cases = [
        ("directory", "is a directory"),
        ("hard", "hard links"),
        ("link", "is a symbolic link"),
        ("pipe", "is a named pipe"),
        ("socket", "is a socket"),
        ("absent/audit.log", "make it"),
    ];
    for (name, want) in cases {
        let error = MergedLog::open(at(name)).unwrap_err();
        assert!(error.to_string().contains(want), "{name}: {error}");
    }
    let error = MergedLog::open("/dev/null").unwrap_err();
    assert!(error.to_string().contains("is a device"), "{error}");
    assert!(!at("elsewhere").exists());
}

#[test]
fn a_new_log_is_not_readable_by_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let _log = MergedLog::open(log_in(&dir)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&log_in(&dir)) & !0o640, 0);
    assert_eq!(mode(&dir.path().join("audit.log.journal")) & !0o600, 0);
}

#[test]
fn two_writers_do_not_share_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let first = MergedLog::open(log_in(&dir)).unwrap();
    let error = MergedLog::open(log_in(&dir)).unwrap_err();
    assert!(matches!(error, MergedLogError::Locked { .. }), "{error}");
    drop(first);
    MergedLog::open(log_in(&dir)).unwrap();
}

#[test]
fn a_batch_that_the_store_refused_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = MergedLog::open(log_in(&dir)).unwrap();
    append(&mut log, 1, &[entry(1, 10)]).unwrap();
    let before = fs::read(log_in(&dir)).unwrap();
    let mut batch = log.begin([2; 16]).unwrap();
    batch.append(&entry(2, 5_000_000)).unwrap();
    batch.rollback().unwrap();
    let mut batch = log.begin([3; 16]).unwrap();
    batch.append(&entry(2, 10)).unwrap();
    batch.finish().unwrap().rollback().unwrap();
    assert_eq!(fs::read(log_in(&dir)).unwrap(), before);
    assert_eq!(log.pending(), None);
}

#[test]
fn a_dropped_batch_must_be_recovered_before_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = MergedLog::open(log_in(&dir)).unwrap();
    let mut batch = log.begin([1; 16]).unwrap();
    batch.append(&entry(1, 10)).unwrap();
    drop(batch.finish().unwrap());
    let error = log.begin([2; 16]).unwrap_err();
    assert!(
        matches!(error, MergedLogError::Unrecovered { .. }),
        "{error}"
    );
    assert_eq!(log.pending(), Some([1; 16]));
    let recovered = log.recover(Stored::No).unwrap().unwrap();
    assert!(matches!(recovered, Recovered::TakenBack(cut) if cut.len() == 1));
    assert_eq!(fs::read(log_in(&dir)).unwrap(), b"");
}

#[test]
fn a_reader_that_fails_takes_the_batch_back() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut log = MergedLog::open(log_in(&dir)).unwrap();
    let mut batch = log.begin([1; 16]).unwrap();
    batch.append(&entry(1, 5_000_000)).unwrap();
    let error = batch
        .append_from(EntryHash::of(b""), Flags::none(), || Broken)
        .unwrap_err();
    assert!(matches!(error, MergedLogError::Read { .. }), "{error}");
    let error = batch.append(b"x").unwrap_err();
    assert!(matches!(error, MergedLogError::TakenBack { .. }), "{error}");
    assert!(batch.finish().is_err());
    assert_eq!(fs::read(log_in(&dir)).unwrap(), b"");
    append(&mut log, 2, &[entry(1, 10)]).unwrap();
}

/// A small file system of its own, or none if this account may not mount one.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Option<Self> {
        let mounted = mount("tmpfs", at, "tmpfs", MountFlags::empty(), c"size=1m");
        mounted.is_ok().then(|| Small(at.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_takes_the_batch_back_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_small) = Small::mount(dir.path()) else {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: only root may mount the small file system this needs"
        );
        return;
    };
    let mut log = MergedLog::open(log_in(&dir)).unwrap();
    append(&mut log, 1, &[entry(1, 1000)]).unwrap();
    let before = fs::read(log_in(&dir)).unwrap();
    let error = append(&mut log, 2, &[entry(2, 300_000), entry(3, 2_000_000)]).unwrap_err();
    assert!(matches!(error, MergedLogError::DiskFull { .. }), "{error}");
    assert_eq!(fs::read(log_in(&dir)).unwrap(), before);
    append(&mut log, 3, &[entry(4, 1000)]).unwrap();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rotation {
    None,
    Rename,
    CopyTruncate,
}

impl Rotation {
    fn run(self, dir: &Path) {
        let at = |name: &str| dir.join(name);
        if self == Rotation::None {
            return;
        }
        if at("audit.log.1").exists() {
            fs::rename(at("audit.log.1"), at("audit.log.2")).unwrap();
        }
        match self {
            Rotation::None => {}
            Rotation::Rename => {
                fs::rename(at("audit.log"), at("audit.log.1")).unwrap();
                File::create(at("audit.log")).unwrap();
            }
            Rotation::CopyTruncate => {
                fs::copy(at("audit.log"), at("audit.log.1")).unwrap();
                let log = File::options().write(true).open(at("audit.log")).unwrap();
                log.set_len(0).unwrap();
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Crash {
    Begun,
    Appending,
    Finished,
    Committed,
}

#[derive(Debug, Clone, Copy)]
struct Story {
    crash: Crash,
    stored: Stored,
    /// Between two entries of the batch.
    during: Rotation,
    /// While the program is down.
    after: Rotation,
    older: u32,
    size: usize,
}

const ROTATIONS: [Rotation; 3] = [Rotation::None, Rotation::Rename, Rotation::CopyTruncate];

fn stories() -> Vec<Story> {
    let mut stories = Vec::new();
    for crash in [
        Crash::Begun,
        Crash::Appending,
        Crash::Finished,
        Crash::Committed,
    ] {
        for stored in [Stored::Yes, Stored::No] {
            let possible = match crash {
                Crash::Begun | Crash::Appending => stored == Stored::No,
                Crash::Finished => true,
                Crash::Committed => stored == Stored::Yes,
            };
            for (during, after) in ROTATIONS.iter().flat_map(|a| ROTATIONS.map(|b| (*a, b))) {
                // Larger than a piece of a batch, where something happens between two.
                let large = if during == Rotation::None {
                    400_000
                } else {
                    2_200_000
                };
                for (older, size) in [(0, 40), (0, large), (2, 40), (2, large)] {
                    stories.extend(possible.then_some(Story {
                        crash,
                        stored,
                        during,
                        after,
                        older,
                        size,
                    }));
                }
            }
        }
    }
    stories
}

fn run_until(
    story: Story,
    dir: &Path,
    mut batch: AppendBatch<'_>,
    entries: &[Vec<u8>],
) -> Result<(), MergedLogError> {
    if story.crash == Crash::Begun {
        return Ok(());
    }
    for (number, entry) in entries.iter().enumerate() {
        if number == 2 {
            story.during.run(dir);
        }
        batch.append(entry)?;
    }
    if story.crash >= Crash::Finished {
        let appended = batch.finish()?;
        if story.crash == Crash::Committed {
            appended.commit()?;
        }
    }
    Ok(())
}

/// Plays the story and returns the directory after the recovery and one more batch.
fn play(story: Story) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let older: Vec<_> = (0..story.older).map(|id| entry(id, 5000)).collect();
    let entries: Vec<_> = (10..14).map(|id| entry(id, story.size)).collect();
    let mut log = MergedLog::open(log_in(&dir)).unwrap();
    append(&mut log, 1, &older).unwrap();
    let batch = log.begin([2; 16]).unwrap();
    let stored = match run_until(story, dir.path(), batch, &entries) {
        Ok(()) => story.stored,
        // Rotated by copying: a program would append again; this one crashes before.
        Err(MergedLogError::Rotated { .. }) => Stored::No,
        Err(error) => panic!("{error}"),
    };
    drop(log);
    story.after.run(dir.path());
    let mut log = MergedLog::open(log_in(&dir)).unwrap();
    let recovered = log.recover(stored).unwrap();
    assert_ne!(recovered, Some(Recovered::NotFound), "{story:?}");
    if stored == Stored::No {
        append(&mut log, 3, &entries).unwrap();
    }
    append(&mut log, 4, &[entry(20, 10)]).unwrap();
    dir
}

#[test]
fn every_entry_is_there_once_after_any_crash_and_rotation() {
    let stories = stories();
    assert_eq!(stories.len(), 5 * 9 * 4);
    for story in stories {
        let dir = play(story);
        let pieces = ["audit.log.2", "audit.log.1", "audit.log"];
        let bytes: Vec<u8> = pieces
            .iter()
            .flat_map(|name| fs::read(dir.path().join(name)).unwrap_or_default())
            .collect();
        let text = String::from_utf8(bytes).unwrap();
        let lines = text.split_inclusive('\n').filter(|line| line.len() < 100);
        let text: String = lines.collect();
        let ids = (0..story.older).chain(10..14).chain([20]);
        for id in ids {
            for part in ["A", "Z"] {
                let line = format!("--{id:08x}-{part}--\n");
                assert_eq!(text.matches(&line).count(), 1, "{line:?} in {story:?}");
            }
        }
    }
}

#[test]
fn a_batch_hit_by_copytruncate_can_simply_be_appended_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = MergedLog::open(log_in(&dir)).unwrap();
    append(&mut log, 1, &[entry(1, 10)]).unwrap();
    let mut batch = log.begin([2; 16]).unwrap();
    batch.append(&entry(2, 5_000_000)).unwrap();
    Rotation::CopyTruncate.run(dir.path());
    let error = batch.append(&entry(3, 5_000_000)).unwrap_err();
    assert!(matches!(error, MergedLogError::Rotated { .. }), "{error}");
    append(&mut log, 3, &[entry(2, 10), entry(3, 10)]).unwrap();
    let copy = fs::read(dir.path().join("audit.log.1")).unwrap();
    assert_eq!(copy, [entry(1, 10), b"\n".to_vec()].concat());
}

#[test]
fn a_batch_in_a_compressed_log_is_reported_and_nothing_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = MergedLog::open(log_in(&dir)).unwrap();
    append(&mut log, 1, &[entry(1, 10)]).unwrap();
    let mut batch = log.begin([2; 16]).unwrap();
    batch.append(&entry(2, 10)).unwrap();
    drop(batch.finish().unwrap());
    drop(log);
    fs::remove_file(log_in(&dir)).unwrap();
    fs::write(dir.path().join("audit.log.1.gz"), vec![7; 9000]).unwrap();
    let mut log = MergedLog::open(log_in(&dir)).unwrap();
    assert_eq!(log.recover(Stored::No).unwrap(), Some(Recovered::NotFound));
    assert_eq!(
        fs::read(dir.path().join("audit.log.1.gz")).unwrap().len(),
        9000
    );
    append(&mut log, 3, &[entry(2, 10)]).unwrap();
}

#[test]
fn a_clock_that_was_set_back_hides_no_interrupted_batch() {
    for before in [5000, 0] {
        let dir = tempfile::tempdir().unwrap();
        let old = if before == 0 {
            Vec::new()
        } else {
            entry(1, before)
        };
        fs::write(log_in(&dir), &old).unwrap();
        let mut log = MergedLog::open(log_in(&dir)).unwrap();
        let mut batch = log.begin([2; 16]).unwrap();
        batch.append(&entry(2, 10_000)).unwrap();
        drop(batch.finish().unwrap());
        drop(log);
        let file = File::options().write(true).open(log_in(&dir)).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
        let mut log = MergedLog::open(log_in(&dir)).unwrap();
        let recovered = log.recover(Stored::No).unwrap();
        assert!(
            matches!(recovered, Some(Recovered::TakenBack(_))),
            "{recovered:?}"
        );
        assert_eq!(fs::read(log_in(&dir)).unwrap(), old);
    }
}

#[test]
fn a_file_that_somebody_exchanged_is_never_cut() {
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("audit.log.1");
    let interrupted = || {
        let mut log = MergedLog::open(log_in(&dir)).unwrap();
        let mut batch = log.begin([2; 16]).unwrap();
        batch.append(&entry(2, 10)).unwrap();
        drop(batch.finish().unwrap());
    };
    fs::write(log_in(&dir), entry(1, 5000)).unwrap();
    interrupted();
    // The same inode with other bytes, and a copy that is older than the batch.
    let whole = fs::read(log_in(&dir)).unwrap();
    fs::write(log_in(&dir), vec![b'x'; 9000]).unwrap();
    fs::write(&other, &whole).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH;
    File::options()
        .write(true)
        .open(&other)
        .unwrap()
        .set_modified(old)
        .unwrap();
    let mut log = MergedLog::open(log_in(&dir)).unwrap();
    assert_eq!(log.recover(Stored::No).unwrap(), Some(Recovered::NotFound));
    assert_eq!(fs::read(&other).unwrap(), whole);
    assert_eq!(fs::read(log_in(&dir)).unwrap(), vec![b'x'; 9000]);
}

#[test]
fn the_index_of_the_server_is_not_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    let index = include_str!("data/native-v2/v2-native-concurrent/index.log");
    let path = dir.path().join("modsec_audit.log");
    for end in [index.len(), index.trim_end().len()] {
        std::fs::write(&path, &index[..end]).unwrap();
        let error = MergedLog::open(&path).err().unwrap();
        assert!(matches!(error, MergedLogError::Index { .. }), "{error}");
        assert!(error.to_string().contains("SecAuditLog"), "{error}");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), index.trim_end());
    // An entry whose last words only look a little like it is none.
    std::fs::write(&path, "--0a1b2c3d-Z--\n /x 0 12 md5:12\n").unwrap();
    assert!(MergedLog::open(&path).is_ok());
}

#[test]
fn nothing_is_appended_to_a_database_or_a_compressed_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("modsec_audit.log");
    for (content, kind) in [
        ("SQLite format 3\0\u{10}\0", "an SQLite database"),
        ("\u{1f}\u{8b}\u{8}", "compressed with gzip"),
    ] {
        // As bytes: U+008B is two of them in UTF-8.
        let bytes: Vec<u8> = content
            .chars()
            .map(|char| u8::try_from(char).unwrap())
            .collect();
        fs::write(&path, &bytes).unwrap();
        let error = MergedLog::open(&path).err().unwrap();
        assert!(error.to_string().contains(kind), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn each_journal_has_a_name_of_its_own_and_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        MergedLog::open(dir.path().join(name))
            .unwrap()
            .id()
            .to_owned()
    };
    let (one, other) = (open("one.log"), open("other.log"));
    assert_eq!(one.len(), 32);
    assert_ne!(one, other);
    assert_eq!(open("one.log"), one);
    // What stands there does not matter to the record in the first sector.
    let mut log = MergedLog::open(dir.path().join("one.log")).unwrap();
    log.begin([1; 16])
        .unwrap()
        .finish()
        .unwrap()
        .commit()
        .unwrap();
    drop(log);
    assert_eq!(open("one.log"), one);
}
