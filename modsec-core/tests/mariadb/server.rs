//! A private `MariaDB` server, gone with the test that started it.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};

/// Runs the server until standard input ends, which it does when the test's process ends in
/// whatever way, and then removes the data unless told to keep them.
const KEEPER: &str = r#"
    trap "" HUP INT TERM
    dir=$1; shift
    "$@" > "$dir/log" 2>&1 < /dev/null &
    pid=$!
    read -r word
    kill -9 "$pid"; wait "$pid" 2> /dev/null
    [ "$word" = keep ] || rm -rf "$dir"
"#;

/// How long a server may take to start, on a machine with other things to do.
const START_LIMIT: Duration = Duration::from_secs(120);

pub(crate) struct Server {
    dir: PathBuf,
    port: u16,
    arguments: Vec<String>,
    keeper: Option<Child>,
}

impl Server {
    /// Starts a server with additional arguments. `None`, and a message, if there is none.
    pub(crate) async fn start(arguments: &[&str]) -> Option<Server> {
        if which("mariadbd").is_none() || which("mariadb-install-db").is_none() {
            let _ = writeln!(
                std::io::stderr(),
                "skipped: the package mariadb-server is not installed, run `make test` as root"
            );
            return None;
        }
        let dir = tempfile::Builder::new()
            .prefix("modsec-mariadb-")
            .tempdir()
            .unwrap()
            .keep();
        let mut server = Server {
            dir,
            port: free_port(),
            arguments: arguments
                .iter()
                .map(|&argument| argument.to_owned())
                .collect(),
            keeper: None,
        };
        install(&server.dir);
        server.run().await;
        server
            .admin()
            .await
            .query_drop("create user if not exists modsec identified by 'secret'")
            .await
            .unwrap();
        server
            .admin()
            .await
            .query_drop("grant all on *.* to modsec with grant option")
            .await
            .unwrap();
        Some(server)
    }

    /// Starts the server on the data that are there.
    pub(crate) async fn run(&mut self) {
        let program = which("mariadbd").expect("was there a moment ago");
        let mut keeper = Command::new("sh");
        keeper
            .args(["-c", KEEPER, "keeper"])
            .arg(&self.dir)
            .arg(program)
            .args([
                "--no-defaults",
                "--user=mysql",
                "--bind-address=127.0.0.1",
                "--innodb-flush-log-at-trx-commit=1",
                "--innodb-buffer-pool-size=256M",
                "--skip-name-resolve",
            ]);
        keeper.arg(format!("--datadir={}", self.dir.join("data").display()));
        keeper.arg(format!("--tmpdir={}", self.dir.display()));
        keeper.arg(format!("--socket={}", self.socket().display()));
        keeper.arg(format!("--pid-file={}", self.dir.join("pid").display()));
        keeper
            .arg(format!("--port={}", self.port))
            .args(&self.arguments);
        self.keeper = Some(keeper.stdin(Stdio::piped()).spawn().unwrap());
        let since = Instant::now();
        while let Err(error) = self.ready().await {
            let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            let ended = ["[ERROR] Aborting", ": Terminated."]
                .iter()
                .any(|word| log.contains(word));
            let hopeless = ended || since.elapsed() > START_LIMIT;
            assert!(!hopeless, "no server: {error}\n{log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Answers only once a node of a cluster has joined.
    async fn ready(&self) -> Result<(), mysql_async::Error> {
        Conn::new(self.admin_opts())
            .await?
            .query_drop("select 1 from mysql.user limit 1")
            .await
    }

    /// Kills the server like a power failure, and keeps its data.
    pub(crate) fn kill(&mut self) {
        self.end("keep\n");
    }

    /// A connection that may do everything.
    pub(crate) async fn admin(&self) -> Conn {
        Conn::new(self.admin_opts()).await.unwrap()
    }

    /// URL of the server without a database, for an account with a password.
    pub(crate) fn url(&self) -> String {
        format!("mysql://modsec:secret@127.0.0.1:{}", self.port)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    fn admin_opts(&self) -> Opts {
        let socket = self.socket().display().to_string();
        mysql_async::OptsBuilder::default()
            .user(Some("root"))
            .socket(Some(socket))
            .into()
    }

    fn end(&mut self, word: &str) {
        if let Some(mut keeper) = self.keeper.take() {
            let _ = keeper.stdin.take().unwrap().write_all(word.as_bytes());
            let _ = keeper.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end("remove\n");
        // Nobody else does if the server was down.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Returns the URL of the server that most tests share, without a database: the one that
/// `MODSEC_TEST_MYSQL_URL` names, or a private one.
pub(crate) fn shared_url() -> Option<String> {
    static SHARED: OnceLock<Option<Server>> = OnceLock::new();
    if let Ok(url) = std::env::var("MODSEC_TEST_MYSQL_URL") {
        let (scheme, rest) = url.split_once("://").unwrap();
        let server = rest.split('/').next().unwrap();
        return Some(format!("{scheme}://{server}"));
    }
    // A thread, as this test may be within its runtime already.
    let start = || std::thread::spawn(|| super::runtime().block_on(Server::start(&[]))).join();
    SHARED
        .get_or_init(|| start().unwrap())
        .as_ref()
        .map(Server::url)
}

fn install(dir: &Path) {
    // The server does not run as root; whoever is not root runs it as himself.
    let _ = Command::new("chown")
        .arg("mysql:")
        .arg(dir)
        .stderr(Stdio::null())
        .status();
    let output = Command::new("mariadb-install-db")
        .args(["--no-defaults", "--user=mysql", "--skip-test-db"])
        .arg("--auth-root-authentication-method=normal")
        .arg(format!("--datadir={}", dir.join("data").display()))
        .arg(format!("--tmpdir={}", dir.display()))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub(super) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers are often where only root's PATH looks.
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    dirs.map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
