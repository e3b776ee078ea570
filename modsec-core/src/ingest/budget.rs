//! The budget of whoever owns a file, and what ends a file of several entries in the middle.

use std::time::{Duration, Instant};

use super::Stop;
use super::source::Pause;
use crate::storage_dir::budgets::Budgets;

/// How long a file of several entries is gone on with although something else is to go first: few
/// are not worth another walk.
const AT_LEAST: Duration = Duration::from_millis(100);

/// What ends a file of several entries in the middle.
#[derive(Debug, Clone)]
pub(super) struct GiveWay {
    /// What each owner has left in this pass, shared by all its threads.
    budgets: Budgets,
    /// The request to end the program.
    stop: Stop,
    /// Whether something more urgent waits, such as claimed files during a walk; `None` if nothing
    /// can.
    pause: Option<Pause>,
}

impl GiveWay {
    /// Takes the budgets and the pause as `PassSource::budgets` returns them.
    pub(super) fn new((budgets, pause): (Budgets, Option<Pause>), stop: &Stop) -> GiveWay {
        GiveWay {
            budgets,
            stop: stop.clone(),
            pause,
        }
    }

    /// Returns the budget of user id `owner`, as it applies to one of his files.
    pub(super) fn of(&self, owner: u32) -> OwnersBudget {
        OwnersBudget {
            owner,
            way: self.clone(),
        }
    }
}

/// The budget of the owner of one file.
#[derive(Debug, Clone)]
pub(super) struct OwnersBudget {
    /// User id.
    pub(super) owner: u32,
    /// The budgets of all owners, and what else ends a file in the middle.
    way: GiveWay,
}

impl OwnersBudget {
    /// Adds the time that work for the owner took.
    pub(super) fn add_time(&self, time: Duration) {
        self.way.budgets.add_time(self.owner, time);
    }

    /// Adds an entry whose row takes `size` bytes.
    pub(super) fn add_record(&self, size: usize) {
        self.way.budgets.add_record(self.owner, size as u64);
    }

    /// Takes a file of `size` bytes off the budget again: its entries are charged one by one
    /// instead.
    pub(super) fn count_records(&self, size: u64) {
        self.way.budgets.take_back(self.owner, size);
    }

    /// Returns `true` if a file of several entries may be begun.
    pub(super) fn may_begin(&self) -> bool {
        !self.way.stop.requested() && !self.way.budgets.has_left(self.owner)
    }

    /// Returns `true` if a file that was begun at `begun` may be gone on with.
    pub(super) fn goes_on(&self, begun: Instant) -> bool {
        let pause = || self.way.pause.as_ref().is_some_and(|pause| (pause.0)());
        !self.way.stop.requested()
            && !self.way.budgets.is_over(self.owner)
            && (begun.elapsed() < AT_LEAST || !pause())
    }

    /// Returns `true` if a stop is requested.
    pub(super) fn is_stopped(&self) -> bool {
        self.way.stop.requested()
    }

    /// Leaves a file in the middle.
    pub(super) fn leave(&self) {
        self.way.budgets.leave(self.owner);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::chown;
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::ingest::batch_writer::BatchWriter;
    use crate::ingest::passes::{Passed, Passes};
    use crate::ingest::source::PassSource;
    use crate::ingest::{Observer, Options, Silent, Tally, run};
    use crate::program::StopHandle;
    use crate::read_steps::ReadSteps;
    use crate::storage_dir::StorageDir;
    use crate::store::StoreOptions;

    /// Records of the flood's only file, and alerts of each.
    const RECORDS: u64 = 300;
    const ALERTS: usize = 100;

    fn options(dir: &Path) -> Options {
        let store = StoreOptions {
            url: format!("sqlite:{}", dir.join("x.db").display()),
            ..StoreOptions::default()
        };
        Options {
            storage_dir: Some(dir.join("audit")),
            store: Some(store.into()),
            min_age: Duration::ZERO,
            ..Options::default()
        }
    }

    fn record(number: u64) -> String {
        format!(
            "---{number:08}---A--\n[22/Nov/2026:06:40:30 +0000] {number} 192.0.2.1 1 192.0.2.2 80\n\
             ---{number:08}---H--\n{}\n---{number:08}---Z--\n\n",
            "ModSecurity: [id \"1\"]\n".repeat(ALERTS)
        )
    }

    /// Writes one owner's file of many records, and another owner's of one. Returns `false` if this
    /// does not run as root, so that both are one owner's.
    fn flood(dir: &Path) -> bool {
        let minute = dir.join("audit/20261122/20261122-0640");
        fs::create_dir_all(&minute).unwrap();
        let mut many = String::new();
        for number in 0..RECORDS {
            many.push_str(&record(number));
        }
        let files = [("flood", many, 54_321), ("good", record(9999), 54_322)];
        files.into_iter().all(|(name, text, uid)| {
            let path = minute.join(format!("20261122-064030-{name}"));
            fs::write(&path, text).unwrap();
            chown(&path, Some(uid), None).is_ok()
        })
    }

    fn is_left(dir: &Path, name: &str) -> bool {
        let minute = dir.join("audit/20261122/20261122-0640");
        minute.join(format!("20261122-064030-{name}")).exists()
    }

    async fn walk(
        storage: &Arc<StorageDir>,
        options: &Options,
        writer: &mut BatchWriter,
    ) -> Passed {
        let cursor = super::super::source::Cursor::new(storage, Budgets::new(1 << 20));
        let (_handle, stop) = Stop::new();
        let source = PassSource::Tree(Box::new(cursor), None);
        let mut passes = Passes {
            options,
            stop: &stop,
            writer,
            observer: &mut Silent,
        };
        passes.pass(source).await.unwrap()
    }

    #[tokio::test]
    async fn a_file_of_many_records_is_gone_on_with_after_the_turns_of_all_others() {
        let dir = tempfile::tempdir().unwrap();
        if !flood(dir.path()) {
            return;
        }
        let options = options(dir.path());
        let storage = Arc::new(StorageDir::open(dir.path().join("audit")).unwrap());
        storage.lock().unwrap();
        let mut writer = BatchWriter::open(&options, Instant::now(), ReadSteps::default())
            .await
            .unwrap();
        let mut passes = 1;
        assert!(walk(&storage, &options, &mut writer).await.budgets_spent);
        assert!(!is_left(dir.path(), "good"));
        assert!(is_left(dir.path(), "flood"));
        assert!(
            writer.findings.tally.stored < RECORDS / 2,
            "{}",
            writer.findings.tally.stored
        );
        while walk(&storage, &options, &mut writer).await.budgets_spent {
            passes += 1;
        }
        assert!(passes > 2, "{passes}");
        assert!(!is_left(dir.path(), "flood"));
        // Nothing was taken twice.
        assert_eq!(
            (writer.findings.tally.stored, writer.findings.tally.known),
            (RECORDS + 1, 0)
        );
    }

    /// Requests a stop once something of the flood is under way.
    struct StopSoon(StopHandle, u64);

    impl Observer for StopSoon {
        fn json_line(&mut self, _: &str) -> std::io::Result<()> {
            self.1 += 1;
            if self.1 == 5 {
                self.0.stop();
            }
            Ok(())
        }

        fn progress(&mut self, _: &Tally) {}
    }

    /// Interrupts a pass over five small entries and one with a body of so many lines. Returns
    /// `false` if the large one was read before the pass was interrupted.
    async fn leaves_a_body_of(lines: usize) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let minute = dir.path().join("audit/20261122/20261122-0640");
        fs::create_dir_all(&minute).unwrap();
        let body = format!(
            "---00000009---C--\n{}\n\n---00000009---H",
            "y\n".repeat(lines)
        );
        let large = record(9).replace("---00000009---H", &body);
        fs::write(minute.join("20261122-064030-large"), large).unwrap();
        for number in 0..5 {
            fs::write(
                minute.join(format!("20261122-064029-{number}")),
                record(number),
            )
            .unwrap();
        }
        let options = Options {
            json_lines: true,
            ..options(dir.path())
        };
        let (handle, stop) = Stop::new();
        let mut observer = StopSoon(handle, 0);
        let first = run(&options, &stop, &mut observer).await.unwrap();
        if !is_left(dir.path(), "large") {
            return false;
        }
        // Whichever of them comes first.
        assert!(first.stored >= 4 && first.interrupted, "{first:?}");
        let (_handle, stop) = Stop::new();
        let second = run(&options, &stop, &mut Silent).await.unwrap();
        assert_eq!(first.stored + second.stored, 6);
        assert!(!second.interrupted);
        assert!(!is_left(dir.path(), "large"));
        true
    }

    #[tokio::test]
    async fn a_large_entry_is_left_in_the_middle_once_a_stop_is_requested() {
        // A busy machine may have read a small one before the others are stored.
        for lines in [5 << 20, 20 << 20, 80 << 20] {
            if leaves_a_body_of(lines).await {
                return;
            }
        }
        panic!("the largest body was read to its end");
    }

    #[tokio::test]
    async fn a_stop_is_answered_between_two_records_and_the_next_run_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        flood(dir.path());
        let options = Options {
            json_lines: true,
            ..options(dir.path())
        };
        let (handle, stop) = Stop::new();
        let mut observer = StopSoon(handle, 0);
        let first = run(&options, &stop, &mut observer).await.unwrap();
        assert!(first.stored < 20, "{}", first.stored);
        assert!(first.interrupted);
        assert!(is_left(dir.path(), "flood"));
        let (_handle, stop) = Stop::new();
        let second = run(&options, &stop, &mut Silent).await.unwrap();
        assert_eq!(first.stored + second.stored, RECORDS + 1);
        assert!(!second.interrupted);
        assert!(!is_left(dir.path(), "flood"));
    }
}
