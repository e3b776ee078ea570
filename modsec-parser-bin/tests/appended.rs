//! A real nginx with libmodsecurity, whose ids are the client's: many records in one file.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const MODULE: &str = "/usr/lib/nginx/modules/ngx_http_modsecurity_module.so";
const LIMIT: Duration = Duration::from_secs(60);

const CONFIGURATION: &str = r#"
load_module @MODULE@;
daemon off; master_process off; pid @DIR@/pid; error_log @DIR@/error.log;
events {}
http {
  access_log off;
  client_body_temp_path @DIR@/b; proxy_temp_path @DIR@/p; fastcgi_temp_path @DIR@/f;
  uwsgi_temp_path @DIR@/u; scgi_temp_path @DIR@/s;
  server {
    listen 127.0.0.1:@PORT@; root @DIR@/www; keepalive_requests 10000;
    modsecurity on;
    modsecurity_transaction_id "$http_x_request_id";
    modsecurity_rules '
      SecRuleEngine On
      SecRequestBodyAccess On
      SecAuditEngine On
      SecAuditLogType Concurrent
      SecAuditLogFormat @FORMAT@
      SecAuditLogStorageDir @DIR@/audit
      SecAuditLog @DIR@/index
      SecAuditLogParts ABCFHZ
      SecRule ARGS:attack "@streq 1" "id:1,phase:1,deny,status:403,log"
      SecRule ARGS:late "@streq 1" "id:2,phase:2,deny,status:403,log"
    ';
  }
}
"#;

struct Nginx {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
}

impl Nginx {
    /// Returns `None`, and says so, where it is not installed.
    fn start(format: &str) -> Option<Nginx> {
        if !Path::new(MODULE).exists() {
            let _ = writeln!(
                std::io::stderr(),
                "skipped: needs nginx with ModSecurity (nginx libnginx-mod-http-modsecurity)"
            );
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        for name in ["audit", "www"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("www/x.html"), "x").unwrap();
        let text = CONFIGURATION
            .replace("@MODULE@", MODULE)
            .replace("@DIR@", dir.path().to_str().unwrap())
            .replace("@PORT@", &port.to_string())
            .replace("@FORMAT@", format);
        fs::write(dir.path().join("nginx.conf"), format!("user root;\n{text}")).unwrap();
        let child = Command::new("nginx")
            .arg("-c")
            .arg(dir.path().join("nginx.conf"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut nginx = Nginx { child, dir, port };
        // Only nginx makes its file with its own number, and it listens by then.
        let began = Instant::now();
        while fs::read_to_string(nginx.path("pid")).map_or(true, |pid| pid.trim().is_empty()) {
            assert!(nginx.child.try_wait().unwrap().is_none(), "{}", nginx.log());
            assert!(began.elapsed() < LIMIT, "{}", nginx.log());
            std::thread::yield_now();
        }
        Some(nginx)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("error.log")).unwrap_or_default()
    }

    /// Sends requests with one id over one connection, and waits for each answer.
    fn request(&self, requests: impl Iterator<Item = String>) {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut answers = BufReader::new(stream.try_clone().unwrap());
        for request in requests {
            (&stream).write_all(request.as_bytes()).unwrap();
            let mut length = 0;
            loop {
                let mut line = String::new();
                answers.read_line(&mut line).unwrap();
                if let Some(value) = line.strip_prefix("Content-Length: ") {
                    length = value.trim().parse().unwrap();
                }
                if line == "\r\n" {
                    break;
                }
            }
            answers.read_exact(&mut vec![0; length]).unwrap();
        }
    }

    /// Stops it: what it has logged is in the files.
    fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        let _ = self.child.wait();
    }
}

/// Returns a request of the one id, with a body in one chunk if there is one.
fn request(target: &str, body: &str) -> String {
    let headers = "Host: a\r\nX-Request-Id: same\r\nX-Real-IP: 203.0.113.9\r\n";
    if body.is_empty() {
        return format!("GET {target} HTTP/1.1\r\n{headers}\r\n");
    }
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    format!("POST {target} HTTP/1.1\r\n{headers}Transfer-Encoding: chunked\r\n\r\n{chunked}")
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.stop();
    }
}

fn files(dir: &Path) -> usize {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { files(&path) } else { 1 })
        .sum()
}

#[test]
fn transactions_of_one_id_are_all_stored_and_counted() {
    for format in ["Native", "JSON"] {
        let Some(mut nginx) = Nginx::start(format) else {
            return;
        };
        // Each second has its file, in which a harmless record comes first.
        // In JSON, nothing but the request tells them apart.
        // Some bodies have a delimiter line of one boundary, which is none of the engine's.
        let line = "x\n---aaaaaaaa---Z--\n\ny";
        let attacks = (0..150).map(|n| match n % 30 {
            0 => request(&format!("/x.html?late=1&n={n}"), line),
            _ => request(&format!("/x.html?attack=1&n={n}"), ""),
        });
        nginx.request(std::iter::once(request("/x.html", "")).chain(attacks));
        nginx.stop();
        assert!(files(&nginx.path("audit")) < 151, "ids were not shared");
        let recidive = Path::new(env!("CARGO_BIN_EXE_modsec-parser")).with_file_name("recidive");
        if recidive.exists() {
            let replay = Command::new(recidive)
                .args(["replay", "--json", "--config", "none"])
                .arg(nginx.path("audit"))
                .output()
                .unwrap();
            let report: serde_json::Value = serde_json::from_slice(&replay.stdout).unwrap();
            assert_eq!(report["entries"], 151, "{report}");
            assert_eq!(report["attacks"], 150, "{format}: {report}");
        }
        let ran = Command::new(env!("CARGO_BIN_EXE_modsec-parser"))
            .args(["--min-age", "0", "--config", "none", "--merged-log"])
            .arg(nginx.path("merged.log"))
            .arg("--store")
            .arg(format!("sqlite:{}", nginx.path("logs.db").display()))
            .arg("--storage-dir")
            .arg(nginx.path("audit"))
            .output()
            .unwrap();
        assert!(ran.status.success(), "{ran:?}");
        let database = rusqlite::Connection::open(nginx.path("logs.db")).unwrap();
        let count = |condition: &str| {
            let query = format!("select count(*) from logs where {condition}");
            database
                .query_row(&query, [], |row| row.get::<_, i64>(0))
                .unwrap()
        };
        assert_eq!(count("responce_header = 403"), 150, "{format}");
        assert_eq!(count("responce_header = 200"), 1, "{format}");
        assert_eq!(count("flags <> ''"), 0, "{format}");
    }
}
