//! What a person sees: progress while it works, a summary at the end.

use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use modsec_core::StoreError;
use modsec_core::command_line;
use modsec_core::ingest::{IndexCounts, Observer, Options, Tally, TopCounts};
use modsec_core::program::{self, LogFormat, counted, visible};
use tracing::error;

use crate::args::Request;

/// Progress on standard error if that is a terminal, JSON lines on standard output.
pub(crate) struct Terminal {
    bar: Option<ProgressBar>,
    out: BufWriter<Stdout>,
    /// Whether the pass goes on although JSON lines are lost, because it also stores.
    stores: bool,
    /// Why JSON lines are lost.
    lost: Option<io::Error>,
}

impl Terminal {
    /// For a pass with these `options`; `quiet` is the number of `-q`.
    pub(crate) fn new(quiet: u8, options: &Options) -> Terminal {
        let show = quiet == 0 && io::stderr().is_terminal() && io::stdout().is_terminal();
        let bar = show.then(|| {
            let total = total_size(&options.inputs);
            let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            show_bar(&bar);
            bar
        });
        Terminal {
            bar,
            out: BufWriter::with_capacity(64 * 1024, io::stdout()),
            stores: options.store.is_some(),
            lost: None,
        }
    }

    /// Takes the progress bar away.
    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            hide_bar(&bar);
        }
    }

    /// Clears the progress bar and writes what is left.
    ///
    /// # Errors
    ///
    /// Why JSON lines were lost.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.clear();
        self.lost.take().map_or(Ok(()), Err)?;
        self.out.flush()
    }
}

impl Drop for Terminal {
    /// Also after an error, which is to stand on a line of its own.
    fn drop(&mut self) {
        self.clear();
    }
}

/// Draws a progress bar, until [`hide_bar`].
fn show_bar(bar: &ProgressBar) {
    let template = match bar.length() {
        Some(_) => "{bar:20} {percent:>3} % {eta:>4} {wide_msg}",
        None => "{spinner} {wide_msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        // ASCII: a terminal may know nothing else.
        bar.set_style(style.tick_chars("|/-\\ ").progress_chars("##-"));
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    *shown() = Some(bar.clone());
}

/// Takes a progress bar away.
fn hide_bar(bar: &ProgressBar) {
    *shown() = None;
    bar.finish_and_clear();
}

/// Progress of work over a known number of rows, on standard error if that is a terminal.
pub(crate) struct RowsBar(Option<ProgressBar>);

impl RowsBar {
    /// For so many rows; `quiet` is the number of `-q`.
    pub(crate) fn new(quiet: u8, rows: u64) -> RowsBar {
        let show = quiet == 0 && io::stderr().is_terminal() && io::stdout().is_terminal();
        RowsBar(show.then(|| {
            let bar = ProgressBar::new(rows);
            show_bar(&bar);
            bar
        }))
    }

    /// Says how many rows were seen, and changed.
    pub(crate) fn set(&self, seen: u64, changed: &str) {
        if let Some(bar) = &self.0 {
            bar.set_position(seen);
            bar.set_message(format!("{} rows, {changed}", grouped(seen)));
        }
    }
}

impl Drop for RowsBar {
    fn drop(&mut self) {
        self.0.iter().for_each(hide_bar);
    }
}

/// Returns the progress bar that is on the terminal now.
fn shown() -> MutexGuard<'static, Option<ProgressBar>> {
    static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a log line while the progress bar is away.
pub(crate) fn around_line(write: &mut dyn FnMut()) {
    let bar = shown().clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Returns how many bytes will be read, if that is known beforehand: all inputs are plain files, and
/// none is compressed by its name.
fn total_size(inputs: &[PathBuf]) -> Option<u64> {
    let sizes = inputs.iter().map(|path| {
        let meta = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let packed = path.extension().is_some_and(|extension| extension == "gz");
        (!packed).then_some(meta.len())
    });
    sizes.sum::<Option<u64>>().filter(|size| *size > 0)
}

impl Observer for Terminal {
    fn progress(&mut self, tally: &Tally) {
        if let Some(bar) = &self.bar {
            bar.set_position(tally.bytes);
            bar.set_message(format!(
                "{} entries, {}, {} stored, {} defective",
                grouped(tally.entries),
                speed(tally),
                grouped(tally.stored),
                grouped(tally.defective())
            ));
        }
    }

    fn json_line(&mut self, line: &str) -> io::Result<()> {
        if self.lost.is_some() {
            return Ok(());
        }
        let mut write = |text: &[u8]| self.out.write_all(text);
        match write(line.as_bytes()).and_then(|()| write(b"\n")) {
            Err(error) if self.stores => {
                self.lost = Some(error);
                Ok(())
            }
            written => written,
        }
    }
}

/// Writes what an administrator is to run, if the store says so: as it is, to be pasted or piped
/// into the database's client, or as one record of a log that is read by programs.
pub(crate) fn statements(error: &StoreError, format: LogFormat) {
    let Some(statements) = error.statements() else {
        return;
    };
    match format {
        LogFormat::Json => error!(statements, "statements for an administrator to run"),
        LogFormat::Text => {
            let _ = io::stderr().write_all(format!("\n{statements}").as_bytes());
        }
    }
}

/// Says that there were no entries: for a storage directory where the summary goes, as that is usual
/// for a pass every minute; for inputs, which somebody has named, on standard error.
pub(crate) fn nothing_found(request: &Request) {
    let options = &request.options;
    if options.storage_dir.is_none() {
        let inputs = options.inputs.iter().map(|path| path.to_string_lossy());
        let inputs = inputs.collect::<Vec<_>>().join(", ");
        program::tell(&visible(&format!("no entries in {inputs}")));
    }
}

/// Says on standard error why a pass without a summary does not end with 0.
pub(crate) fn not_sound(tally: &Tally) {
    let mut parts = vec![counted(tally.entries, "entry", "entries")];
    for (reason, count) in &tally.defects {
        let reason = reason.label().split(',').next().unwrap_or_default();
        parts.push(format!("{count} defective ({reason})"));
    }
    for (label, count, _) in tally.left_alone.kinds() {
        parts.push(format!("{count} left alone ({label})"));
    }
    if tally.skipped_inputs > 0 {
        parts.push(format!("{} skipped below an input", tally.skipped_inputs));
    }
    if tally.index.wrong() > 0 {
        parts.push(format!(
            "{} lost or damaged by the index",
            tally.index.wrong()
        ));
    }
    program::tell(&parts.join(", "));
}

/// Returns what an interrupted pass leaves, and how to go on.
pub(crate) fn left(options: &Options) -> String {
    match &options.storage_dir {
        _ if options.store.is_none() => "not everything was read".to_owned(),
        Some(dir) => format!(
            "what is not stored yet is still in {}; run the program again to go on",
            visible(&dir.to_string_lossy())
        ),
        None => "not everything was read; run the program again, what is stored already is known \
                 and not stored twice"
            .to_owned(),
    }
}

/// Writes the summary: one screen on a terminal, else one line.
///
/// # Errors
///
/// What writing said.
pub(crate) fn summary(tally: &Tally, request: &Request) -> io::Result<()> {
    let kept = Kept::of(request);
    let mut text = if io::stdout().is_terminal() {
        screen(tally, kept, &store_of(request))
    } else {
        line(tally, kept, &store_of(request))
    };
    if let Some(dir) = request
        .options
        .storage_dir
        .as_ref()
        .filter(|_| tally.is_empty())
    {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "no entries in {}", visible(&dir.to_string_lossy()));
    }
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// What becomes of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Stored,
    /// They are compared with what is stored.
    Compared,
    Nothing,
}

impl Kept {
    fn of(request: &Request) -> Kept {
        match (&request.options.store, &request.options.compare) {
            (Some(_), _) => Kept::Stored,
            (None, Some(_)) => Kept::Compared,
            (None, None) => Kept::Nothing,
        }
    }
}

/// Returns how the database is called, without a password.
fn store_of(request: &Request) -> String {
    let store = request.store.as_ref();
    store.map_or_else(String::new, |store| {
        visible(&command_line::without_password(&store.url))
    })
}

fn line(tally: &Tally, kept: Kept, store: &str) -> String {
    let place = match kept {
        Kept::Nothing => String::new(),
        Kept::Stored | Kept::Compared => format!(", {store}"),
    };
    let kept = match kept {
        Kept::Stored => format!(
            "{} stored, {} already known, {} removed",
            tally.stored, tally.known, tally.removed
        ),
        Kept::Compared => format!(
            "{} would be stored, {} already known, nothing stored or removed",
            tally.stored, tally.known
        ),
        Kept::Nothing => "nothing stored or removed".to_owned(),
    };
    let index = &tally.index;
    let index = if *index == IndexCounts::default() {
        String::new()
    } else {
        format!(
            "index: {}, {} verified, {} overwritten, {} missing, {} mismatched, ",
            counted(index.lines, "line", "lines"),
            index.verified,
            index.overwritten,
            index.missing,
            index.mismatched
        )
    };
    let interrupted = if tally.interrupted {
        "interrupted: "
    } else {
        ""
    };
    format!(
        "{interrupted}{}, {kept}, {} defective, {} left alone, {} waiting, {index}{:.1} s, {}{place}\n",
        counted(tally.entries, "entry", "entries"),
        tally.defective(),
        tally.left_alone.total() + tally.skipped_inputs,
        tally.waiting,
        tally.elapsed.as_secs_f64(),
        speed(tally)
    )
}

fn screen(tally: &Tally, kept: Kept, store: &str) -> String {
    let mut out = String::new();
    let mut row = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{name:>16}  {value}");
    };
    if tally.interrupted {
        row("interrupted", "not everything was read".to_owned());
    }
    row(
        "entries",
        format!("{}  ({})", grouped(tally.entries), speed(tally)),
    );
    for (name, value) in kept_rows(tally, kept, store) {
        row(name, value);
    }
    row("blocked", grouped(tally.blocked));
    if tally.waiting > 0 {
        row(
            "waiting",
            format!("{}  (too young or still growing)", grouped(tally.waiting)),
        );
    }
    row("defective", grouped(tally.defective()));
    for (reason, count) in &tally.defects {
        row("", format!("{:>8}  {}", grouped(*count), reason.label()));
    }
    for (flag, count) in &tally.flags {
        row(
            "flagged",
            format!("{:>8}  {}", grouped(*count), flag.name()),
        );
    }
    for (label, count, examples) in tally.left_alone.kinds() {
        row("left alone", format!("{:>8}  {label}", grouped(count)));
        for example in examples {
            row(
                "",
                format!("          {}", visible(&example.to_string_lossy())),
            );
        }
    }
    for (count, label) in index_rows(&tally.index) {
        row("index", format!("{:>8}  {label}", grouped(count)));
    }
    if tally.skipped_inputs > 0 {
        row(
            "skipped",
            format!("{}  (below an input)", grouped(tally.skipped_inputs)),
        );
    }
    row("time", format!("{:.2} s", tally.elapsed.as_secs_f64()));
    top(&mut out, "top causes", &tally.causes);
    top(&mut out, "top addresses", &tally.addresses);
    out
}

/// What became of the entries in the store, and of their files.
fn kept_rows(tally: &Tally, kept: Kept, store: &str) -> Vec<(&'static str, String)> {
    let new = format!("{}  (in {store})", grouped(tally.stored));
    let known = ("already known", grouped(tally.known));
    let nothing = ("stored", "nothing, as asked".to_owned());
    match kept {
        Kept::Stored => vec![
            ("stored", new),
            known,
            ("files removed", grouped(tally.removed)),
            ("dirs removed", grouped(tally.pruned)),
        ],
        Kept::Compared => vec![("would be stored", new), known, nothing],
        Kept::Nothing => vec![nothing],
    }
}

/// What the index says: the lines and the verified, and of the rest what there is any of.
fn index_rows(index: &IndexCounts) -> impl Iterator<Item = (u64, &'static str)> {
    let all = [
        (index.lines, "lines read"),
        (index.verified, "records verified"),
        (index.overwritten, "lost: overwritten by a later record"),
        (index.missing, "lost: file missing"),
        (index.mismatched, "damaged: size or MD5 differ"),
        (index.foreign, "lines lead elsewhere"),
        (index.before, "lines older than this account"),
        (
            index.unread,
            "lines not remembered while nothing could be stored",
        ),
    ];
    let is_used = *index != IndexCounts::default();
    all.into_iter()
        .enumerate()
        .filter(move |(n, (count, _))| is_used && (*n < 2 || *count > 0))
        .map(|(_, row)| row)
}

fn top(out: &mut String, title: &str, counts: &TopCounts) {
    let at_least = if counts.is_exact() { "" } else { "at least " };
    for (n, (word, count)) in counts.top(5).into_iter().enumerate() {
        let title = if n == 0 { title } else { "" };
        // Words of the log are an attacker's.
        let word = visible(word);
        let _ = writeln!(out, "{title:>16}  {word:<40} {at_least}{}", grouped(count));
    }
}

fn speed(tally: &Tally) -> String {
    let seconds = tally.elapsed.as_secs_f64().max(0.001);
    #[expect(
        clippy::cast_precision_loss,
        reason = "rates are shown with three digits"
    )]
    let (entries, bytes) = (
        tally.entries as f64 / seconds,
        tally.bytes as f64 / seconds / 1e6,
    );
    format!("{entries:.0} entries/s, {bytes:.1} MB/s")
}

/// Writes a number with a space between groups of three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        for (number, want) in [
            (0, "0"),
            (999, "999"),
            (1000, "1 000"),
            (1_234_567, "1 234 567"),
        ] {
            assert_eq!(grouped(number), want);
        }
    }

    #[test]
    fn words_of_the_log_reach_the_terminal_escaped() {
        let mut tally = Tally::default();
        tally.causes.add("1\x1b[31m");
        tally.addresses.add("\u{202e}\u{200c}\u{2028}");
        let screen = screen(&tally, Kept::Stored, "sqlite:x");
        assert!(screen.contains("1\\u{1b}[31m"));
        assert!(screen.contains("\\u{202e}\\u{200c}\\u{2028}"));
    }
}
