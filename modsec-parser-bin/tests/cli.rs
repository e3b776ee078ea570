//! The real program in a directory of its own.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

#[path = "cli/bad_input.rs"]
mod bad_input;
#[path = "cli/crashes.rs"]
mod crashes;
#[path = "../../modsec-core/tests/machine/executable.rs"]
mod executable;
#[path = "cli/first_runs.rs"]
mod first_runs;
#[path = "cli/foreign.rs"]
mod foreign;
#[path = "../../modsec-core/tests/machine/inotify.rs"]
mod inotify;
#[path = "cli/logs.rs"]
mod logs;
#[path = "cli/main_job.rs"]
mod main_job;
#[path = "cli/memory.rs"]
mod memory;
#[path = "cli/own_files.rs"]
mod own_files;
#[path = "cli/site.rs"]
mod site;
#[path = "../../modsec-core/tests/wrapped/mod.rs"]
mod wrapped;
