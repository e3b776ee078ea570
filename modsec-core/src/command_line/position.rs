//! Options before a subcommand, where people write them who know them from other programs:
//! `recidive -q --log-format json replay FILE`.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};

/// Moves options that stand before a subcommand, and that the subcommand has, behind its name.
///
/// What it does not have stays, and clap refuses it there.
pub(super) fn behind_subcommand(command: &Command, mut words: Vec<OsString>) -> Vec<OsString> {
    let mut moved: Vec<(usize, &Arg)> = Vec::new();
    let mut at = 1;
    while let Some(word) = words.get(at).and_then(|word| word.to_str()) {
        if let Some(sub) = command.find_subcommand(word) {
            let has = |arg: &Arg| {
                let mut own = sub.get_arguments();
                arg.is_global_set() || own.any(|own| own.get_id() == arg.get_id())
            };
            if !moved.iter().all(|(_, arg)| has(arg)) {
                return words;
            }
            if let Some((begin, _)) = moved.first() {
                // From the first option to the name, which comes first now.
                words[*begin..=at].rotate_right(1);
            }
            return words;
        }
        let Some(arg) = option(command, word) else {
            return words;
        };
        let takes_value = !matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::Count);
        moved.push((at, arg));
        let is_alone = !word.contains('=');
        at += if takes_value && is_alone { 2 } else { 1 };
    }
    words
}

/// Returns the option that a word names, such as `--name`, `--name=value`, `-q` or `-vv`.
fn option<'c>(command: &'c Command, word: &str) -> Option<&'c Arg> {
    let mut options = command.get_arguments();
    if let Some(long) = word.strip_prefix("--") {
        let long = long.split('=').next();
        return options.find(|arg| arg.get_long().is_some() && arg.get_long() == long);
    }
    let mut letters = word.strip_prefix('-')?.chars();
    let letter = letters.next()?;
    let same = letters.all(|other| other == letter);
    options.find(|arg| same && arg.get_short() == Some(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_moved_if_the_subcommand_has_them() {
        let quiet = Arg::new("quiet")
            .short('q')
            .long("quiet")
            .action(ArgAction::Count);
        let format = Arg::new("format").long("format");
        let own = Arg::new("own").long("own");
        let sub = Command::new("replay").args([quiet.clone(), format.clone()]);
        let command = Command::new("x").args([quiet, format, own]).subcommand(sub);
        for (line, want) in [
            ("x replay f", "x replay f"),
            ("x -q replay f", "x replay -q f"),
            (
                "x -qq --format json replay f",
                "x replay -qq --format json f",
            ),
            ("x --format=replay replay", "x replay --format=replay"),
            ("x --format replay", "x --format replay"),
            ("x --own 1 replay f", "x --own 1 replay f"),
            ("x -q", "x -q"),
            ("x f replay", "x f replay"),
            ("x", "x"),
        ] {
            let words = line.split(' ').map(OsString::from).collect();
            let moved = behind_subcommand(&command, words);
            assert_eq!(moved.join(" ".as_ref()), OsString::from(want), "{line}");
        }
    }
}
