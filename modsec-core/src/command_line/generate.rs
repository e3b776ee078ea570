//! What packages ship and is said by the definitions of the options already: completions, and the
//! manual page.
//!
//! `make man` writes them by `--generate`, an option that the help does not list: it is for
//! packages.

use std::io;

use clap::Command;
use clap_complete::aot::{Shell, generate};

use super::manual;

/// What can be generated, by the names that `--generate` takes.
pub(super) const KINDS: [&str; 4] = ["man", "complete-bash", "complete-zsh", "complete-fish"];

/// Returns the text of one of [`KINDS`] for a command, as UTF-8.
///
/// `man` is a manual page in roff; the others are completions for a shell. Nothing of the machine
/// gets into them, so packages can be built anywhere.
pub(super) fn render(mut command: Command, kind: &str) -> io::Result<Vec<u8>> {
    let shell = match kind {
        "complete-bash" => Shell::Bash,
        "complete-zsh" => Shell::Zsh,
        "complete-fish" => Shell::Fish,
        _ => return manual::page(command),
    };
    let name = command.get_name().to_owned();
    let mut out = Vec::new();
    generate(shell, &mut command, name, &mut out);
    Ok(out)
}
