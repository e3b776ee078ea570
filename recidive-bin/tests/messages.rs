//! What the program says of what it did not do, and how it ends then.

mod program;
#[path = "../../modsec-core/tests/machine/signals.rs"]
mod signals;

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::program::{Place, wait_for};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn an_interrupted_replay_says_so() {
    let place = Place::new();
    let fifo = place.path("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        // It waits for a writer.
        let mut command = place.recidive(&["replay", "fifo"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        wait_for("the set-up", || signals::sleeps(&child).is_some());
        kill_process(Pid::from_child(&child), signal).unwrap();
        let out = child.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(status));
        assert_eq!(text(&out.stdout), "");
        assert_eq!(
            text(&out.stderr),
            "recidive: interrupted: not everything was read\n"
        );
    }
}
