//! The public face of the library, kept as a snapshot: whoever changes it sees what users will see.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;

use public_api::Builder;

const ADVICE: &str = "if the change is meant, accept it with `make accept-public-face`; tell those \
                      who use the library in CHANGELOG.md";

/// Writes the documentation as JSON, and returns its file.
fn documented() -> PathBuf {
    // target/debug/deps/public_face-0123456789abcdef
    let this = std::env::current_exe().unwrap();
    let target = this.ancestors().nth(3).unwrap();
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let status = Command::new(env!("CARGO"))
        .args(["rustdoc", "--quiet", "--lib", "--all-features"])
        .arg("--target-dir")
        .arg(target)
        .args(["--", "-Zunstable-options", "--output-format", "json"])
        .current_dir(package)
        .env("RUSTDOC", package.join("tests/public_face/rustdoc"))
        .status();
    assert!(status.unwrap().success(), "rustdoc failed");
    target.join("doc/modsec_core.json")
}

#[test]
#[ignore = "each compiler has its own form of documentation as JSON, run `make check`"]
fn the_public_face_is_as_accepted() {
    let face = Builder::from_rustdoc_json(documented())
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .build();
    let face = match face {
        Ok(face) => face.to_string(),
        Err(error) => panic!(
            "{error}; if this compiler is newer than the crate `public-api` in Cargo.toml, take a \
             newer version of that"
        ),
    };
    insta::with_settings!({ description => ADVICE, omit_expression => true }, {
        insta::assert_snapshot!(face);
    });
}
