//! The programs under test, with the rights that their units give them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::LIMIT;
use crate::world::{GROUP, OWNER, SITES, World, program};

/// Attacks that make an offender.
pub(crate) const THRESHOLD: usize = 10;

/// What a process takes of the system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) memory_kb: u64,
    pub(crate) descriptors: u64,
    pub(crate) watches: u64,
    pub(crate) threads: u64,
}

/// One program: how it is started, and the process if it runs.
pub(crate) struct Program {
    world: World,
    pub(crate) name: &'static str,
    capabilities: &'static str,
    environment: Vec<(&'static str, String)>,
    arguments: Vec<String>,
    notify: Option<UnixDatagram>,
    child: Option<Child>,
}

impl Program {
    /// `modsec-parser --follow`. Walks come often, so that they meet what is being written.
    pub(crate) fn parser(world: &World, store: &str) -> Program {
        let arguments = ["--follow", "--rescan-every", "5", "--sensor", "whole"];
        let environment = vec![
            ("WATCH_DIR", format!("{}/logs/audit", world.dir())),
            ("MODSEC_STORE", store.to_owned()),
            ("STATE_DIRECTORY", format!("{}/state/parser", world.dir())),
        ];
        let capabilities = "-all,+dac_read_search,+dac_override";
        Program::new(
            world,
            "modsec-parser",
            capabilities,
            environment,
            &arguments,
        )
    }

    /// `watch-dir` with the old script's names, which are its defaults.
    pub(crate) fn watch_dir(world: &World) -> Program {
        let users = [&SITES[..], &[OWNER]].concat().join(",");
        let arguments = ["--site-user", &users, "--group", GROUP];
        let environment = vec![
            ("WATCH_DIR", format!("{}/logs/audit", world.dir())),
            (
                "WATCH_DIR_PID_FILE",
                format!("{}/watch-dir.pid", world.dir()),
            ),
        ];
        let capabilities = "-all,+chown,+fowner,+dac_override";
        Program::new(world, "watch-dir", capabilities, environment, &arguments)
    }

    /// `recidive`, which reads entries and what the parser has made of them.
    pub(crate) fn recidive(world: &World) -> Program {
        let arguments = [
            "--source",
            "storage-dir,merged-log",
            "--trusted-proxy",
            "127.0.0.1",
        ];
        let dir = world.dir();
        let environment = vec![
            ("WATCH_DIR", format!("{dir}/logs/audit")),
            ("RECEDIVE_FILE", format!("{dir}/logs/modsec_recedive.log")),
            ("LOG_FILE", format!("{dir}/state/recidive.dat")),
            ("RECIDIVE_PID_FILE", format!("{dir}/recidive.pid")),
            ("ATTACK_THRESHOLD", THRESHOLD.to_string()),
        ];
        let capabilities = "-all,+dac_read_search";
        Program::new(world, "recidive", capabilities, environment, &arguments)
    }

    fn new(
        world: &World,
        name: &'static str,
        capabilities: &'static str,
        environment: Vec<(&'static str, String)>,
        arguments: &[&str],
    ) -> Program {
        Program {
            world: world.clone(),
            name,
            capabilities,
            environment,
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
            notify: None,
            child: None,
        }
    }

    /// The program as its unit would start it, with other arguments.
    pub(crate) fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--bounding-set={}", self.capabilities))
            .args(["--inh-caps=-all", "--no-new-privs", "--groups=0,64100"])
            .arg(program(self.name))
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.world.path("state"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// A single pass of `modsec-parser`, as words for somebody who starts it.
    pub(crate) fn one_pass(&self) -> Vec<String> {
        let variables = self
            .environment
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        ["env".to_owned()]
            .into_iter()
            .chain(variables)
            .chain([program(self.name).display().to_string()])
            .chain(["--sensor", "whole", "-q"].map(str::to_owned))
            .collect()
    }

    /// Starts it and waits until it says that it is ready.
    pub(crate) fn start(&mut self) {
        let socket = self.world.path(&format!("{}.notify", self.name));
        let _ = fs::remove_file(&socket);
        let notify = UnixDatagram::bind(&socket).unwrap();
        fs::set_permissions(&socket, PermissionsExt::from_mode(0o777)).unwrap();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.world.path(&self.log_name()))
            .unwrap();
        let mut command = self.command(&self.arguments);
        command
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.child = Some(command.spawn().unwrap());
        self.notify = Some(notify);
        self.wait_until_ready();
    }

    fn wait_until_ready(&self) {
        let notify = self.notify.as_ref().unwrap();
        notify.set_read_timeout(Some(LIMIT)).unwrap();
        let mut buffer = [0; 4096];
        loop {
            let length = notify.recv(&mut buffer).unwrap_or_else(|error| {
                panic!("{} is not ready: {error}: {}", self.name, self.log())
            });
            if String::from_utf8_lossy(&buffer[..length]).contains("READY=1") {
                break;
            }
        }
        // What comes later nobody reads.
        notify.shutdown(std::net::Shutdown::Both).unwrap();
    }

    /// Returns what it takes now.
    pub(crate) fn usage(&self) -> Usage {
        let dir = Path::new("/proc").join(self.child.as_ref().unwrap().id().to_string());
        let status = fs::read_to_string(dir.join("status")).unwrap();
        let value = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            let number = line.split_ascii_whitespace().nth(1).unwrap();
            number.parse().unwrap()
        };
        let (mut descriptors, mut watches) = (0, 0);
        for descriptor in fs::read_dir(dir.join("fdinfo")).unwrap() {
            descriptors += 1;
            // Closed since it was listed, perhaps.
            let text = fs::read_to_string(descriptor.unwrap().path()).unwrap_or_default();
            watches += text
                .lines()
                .filter(|line| line.starts_with("inotify "))
                .count();
        }
        Usage {
            memory_kb: value("VmRSS:"),
            descriptors,
            watches: u64::try_from(watches).unwrap(),
            threads: value("Threads:"),
        }
    }

    /// What it has written to standard error, in all its lives.
    pub(crate) fn log(&self) -> String {
        self.world.read(&self.log_name())
    }

    fn log_name(&self) -> String {
        format!("{}.stderr", self.name)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.child.as_ref().unwrap());
        kill_process(pid, signal).unwrap();
    }

    /// Kills it as a loss of power would.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        assert!(
            child.try_wait().unwrap().is_none(),
            "{}: {}",
            self.name,
            self.log()
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks it to end.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        let status = self.child.take().unwrap().wait().unwrap();
        assert!(status.success(), "{}: {status}: {}", self.name, self.log());
    }
}
