//! No circle of imports between the source files.
//!
//! A file may use what its parent and the parent's parents define: that is how modules hold what
//! their files share. All other paths (`use`, or spelled out) are arrows between files.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

type Module = Vec<String>;
type Arrows = BTreeMap<Module, BTreeSet<Module>>;

/// Reads the source files below `dir`, without comments and unit tests.
fn read(dir: &Path, module: &[String], files: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let inner = [module, &[name]].concat();
        if inner.ends_with(&["tests".to_owned()]) {
            continue;
        }
        if path.is_dir() {
            read(&path, &inner, files);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let lines = code.lines().map(|line| line.split("//").next().unwrap());
            files.insert(inner, lines.collect::<Vec<_>>().join("\n"));
        }
    }
}

/// Returns the paths that stand at the start of `text`: `a::{b, c::d}` are `a::b` and `a::c::d`.
fn paths(text: &str) -> Vec<Module> {
    let text = text.trim_start();
    if let Some(list) = text.strip_prefix('{') {
        let (mut depth, mut item, mut found) = (0, 0, Vec::new());
        for (at, char) in list.char_indices() {
            match char {
                '{' => depth += 1,
                ',' | '}' if depth == 0 => {
                    found.extend(paths(&list[item..at]));
                    item = at + 1;
                    if char == '}' {
                        break;
                    }
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
        return found;
    }
    let end = text.find(|char: char| !char.is_alphanumeric() && char != '_');
    let (word, rest) = text.split_at(end.unwrap_or(text.len()));
    let behind = rest.strip_prefix("::").map_or(vec![Vec::new()], paths);
    let joined = behind
        .into_iter()
        .map(|path| [vec![word.to_owned()], path].concat());
    joined.collect()
}

/// Returns the files that `module` uses, but for those that contain it.
fn used(module: &[String], text: &str, files: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    let mut used = BTreeSet::new();
    for (root, base) in [
        ("crate::", 0),
        ("super::", module.len() - 1),
        ("self::", module.len()),
    ] {
        for (at, _) in text
            .match_indices(root)
            .filter(|(at, _)| !text[..*at].ends_with("::"))
        {
            for path in paths(&text[at + root.len()..]) {
                let mut target = module[..base].to_vec();
                for word in path {
                    if word == "super" {
                        target.pop();
                    } else {
                        target.push(word);
                    }
                }
                while !target.is_empty() && !files.contains_key(&target) {
                    target.pop();
                }
                if !module.starts_with(&target) {
                    used.insert(target);
                }
            }
        }
    }
    used
}

/// Takes away, again and again, all files from which or to which no arrow leads.
fn circles(mut arrows: Arrows) -> Arrows {
    loop {
        let before = arrows.values().map(BTreeSet::len).sum::<usize>();
        let sources: BTreeSet<_> = arrows.keys().cloned().collect();
        let targets: BTreeSet<_> = arrows.values().flatten().cloned().collect();
        for used in arrows.values_mut() {
            used.retain(|it| sources.contains(it));
        }
        arrows.retain(|module, used| !used.is_empty() && targets.contains(module));
        if arrows.values().map(BTreeSet::len).sum::<usize>() == before {
            return arrows;
        }
    }
}

#[test]
fn no_file_uses_what_uses_it() {
    let mut files = BTreeMap::new();
    read(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &[],
        &mut files,
    );
    let mut arrows = Arrows::new();
    for (module, text) in &files {
        arrows.insert(module.clone(), used(module, text, &files));
    }
    let count: usize = arrows.values().map(BTreeSet::len).sum();
    assert!(count > 500, "only {count} arrows were found");
    let left: Vec<_> = circles(arrows)
        .iter()
        .map(|(module, used)| {
            let used: Vec<_> = used.iter().map(|it| it.join("::")).collect();
            format!("{} uses {}", module.join("::"), used.join(", "))
        })
        .collect();
    assert!(left.is_empty(), "circles of imports:\n{}", left.join("\n"));
}

#[test]
fn a_circle_is_found() {
    let files: BTreeMap<Module, String> = [
        ("a", "use crate::b::{self, B};"),
        ("b", "use super::c::inner::C; mod d;"),
        ("b::d", "use super::B;"),
        ("c", "fn c() { crate::a::run() }"),
        ("e", "use crate::{a::A, b::B};"),
    ]
    .map(|(module, text)| {
        (
            module.split("::").map(str::to_owned).collect(),
            text.to_owned(),
        )
    })
    .into();
    let arrows = files
        .iter()
        .map(|(module, text)| (module.clone(), used(module, text, &files)));
    let found: Vec<_> = circles(arrows.collect())
        .keys()
        .map(|it| it.join("::"))
        .collect();
    assert_eq!(found, ["a", "b", "c"]);
}
