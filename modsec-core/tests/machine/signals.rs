//! Whether a program has set up its answer to signals, and has heard one.

use std::fs;
use std::path::PathBuf;
use std::process::Child;

/// Returns how often the thread that answers signals has gone to sleep, once there is one. A signal
/// wakes it up.
pub(crate) fn sleeps(child: &Child) -> Option<u64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).ok()?;
    let mut tasks = tasks.filter_map(|task| Some(task.ok()?.path()));
    let is_signals = |task: &PathBuf| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "signals")
    };
    let status = fs::read_to_string(tasks.find(is_signals)?.join("status")).ok()?;
    let mut lines = status.lines();
    let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    count.trim().parse().ok()
}
