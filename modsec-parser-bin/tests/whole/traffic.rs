//! Visitors with addresses of their own, good and bad, and the answers that they got.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType};

use crate::programs::THRESHOLD;
use crate::servers::{Connections, Setting, has_ipv6};
use crate::world::SITES;

/// What a visitor can send: method, the path behind the number, headers, body.
type Kind = (&'static str, &'static str, &'static str, &'static str);

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const AGENT: &str = "User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n";

const CLEAN: [Kind; 4] = [
    ("GET", "index.html?page=2", AGENT, ""),
    ("GET", "missing.html", AGENT, ""),
    ("GET", "broken", AGENT, ""),
    // A rule finds something here, and does not block.
    ("GET", "index.html", "", ""),
];

/// Blocked before Apache's process has become the site's user. MPM-ITK closes the connection without
/// answering what comes next on it, so this is only where a connection serves one request.
const ROBOT: Kind = ("GET", "index.html", "User-Agent: badbot/1.0\r\n", "");

/// Each is answered 403: by the Core Rule Set, a rule of our own, or Apache itself.
const ATTACKS: [Kind; 10] = [
    (
        "GET",
        "item?id=1%27%20union%20select%201,user,3%20from%20t--%20-",
        AGENT,
        "",
    ),
    (
        "GET",
        "search?q=%3Cscript%3Ealert(1)%3C/script%3E",
        AGENT,
        "",
    ),
    ("GET", "view?file=../../../../etc/passwd", AGENT, ""),
    ("GET", "ping?host=1;cat%20/etc/passwd", AGENT, ""),
    (
        "POST",
        "login",
        "FORM",
        "user=admin%27+or+1%3D1--+-&password=x",
    ),
    ("GET", "private/keys", AGENT, ""),
    ROBOT,
    (
        "GET",
        "index.html",
        "User-Agent: sqlmap/1.7 [id \"1\"] [msg \"forged\"]\r\n",
        "",
    ),
    // Who says that he is somebody else, and writes findings.
    (
        "GET",
        "item?id=%3Cscript%3E&x=%5Bid%20%221%22%5D%20%5Buri%20%22/r7/%22%5D",
        "X-Real-IP: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\nUser-Agent: Mozilla\r\n",
        "",
    ),
    (
        "POST",
        "comment?q=%3Cscript%3Ealert(1)%3C/script%3E",
        "FORM",
        "text=\n--deadbeef-F--\nHTTP/1.1 200 OK\n\n--deadbeef-H--\nMessage: x [id \"1\"] \
         [msg \"forged\"]\n\n--deadbeef-Z--\n\n--deadbeef-A--\n",
    ),
];

/// One request and its answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) client: IpAddr,
    pub(crate) site: usize,
    pub(crate) method: &'static str,
    pub(crate) uri: String,
    pub(crate) status: u16,
}

impl Answer {
    pub(crate) fn host(&self) -> String {
        format!("{}.example", SITES[self.site])
    }

    /// Tells whether `SecAuditLogRelevantStatus` asks for an entry, whatever the rules found.
    pub(crate) fn is_relevant(&self) -> bool {
        self.status >= 400 && self.status != 404
    }
}

/// By the number at the start of the path.
pub(crate) type Answers = BTreeMap<u32, Answer>;

/// Visitors at work in threads of their own.
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    answers: Mutex<Answers>,
    visits: AtomicU32,
    numbers: AtomicU32,
    stop: AtomicBool,
    ipv6: bool,
    connections: Connections,
    clients: u32,
    /// Time between the beginnings of two requests of a thread.
    every: Duration,
}

impl Traffic {
    /// Starts so many visitors at a time, each of whom sends a request `every` so often at most.
    pub(crate) fn start(threads: usize, every: Duration, setting: &Setting) -> Traffic {
        Traffic::start_at(0, threads, every, setting)
    }

    /// Starts with the request and the visitor behind the `first`.
    pub(crate) fn start_at(
        first: u32,
        threads: usize,
        every: Duration,
        setting: &Setting,
    ) -> Traffic {
        let shared = Arc::new(Shared {
            answers: Mutex::default(),
            visits: AtomicU32::new(first),
            numbers: AtomicU32::new(first + 1),
            stop: AtomicBool::new(false),
            ipv6: has_ipv6(),
            connections: setting.connections,
            clients: setting.clients,
            every,
        });
        let visitor = |_| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.visits())
        };
        Traffic {
            threads: (0..threads).map(visitor).collect(),
            shared,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.shared.answers.lock().unwrap().len()
    }

    /// Lets the visits that have begun end, and returns all answers.
    pub(crate) fn stop(self) -> Answers {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        std::mem::take(&mut self.shared.answers.lock().unwrap())
    }
}

impl Shared {
    fn visits(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let visit = self.visit(self.visits.fetch_add(1, Ordering::Relaxed));
            let mut connection = None;
            for kind in &visit.kinds {
                let begun = Instant::now();
                let number = self.numbers.fetch_add(1, Ordering::Relaxed);
                let answer = visit.request(&mut connection, number, kind);
                self.answers.lock().unwrap().insert(number, answer);
                std::thread::sleep(self.every.saturating_sub(begun.elapsed()));
            }
        }
    }

    /// What the visitor of a number does, the same in every run.
    fn visit(&self, number: u32) -> Visit {
        let mut random = Random(u64::from(number));
        // Some come back.
        let who = match random.below(5) {
            0 => number - random.below(number % 1000 % 50 + 1),
            _ => number,
        } % self.clients;
        let client = if self.ipv6 && who % 4 == 3 {
            // One network each, and another address in it each time.
            let [_, high, middle, low] = who.to_be_bytes().map(u16::from);
            let host = u16::try_from(random.below(60_000)).unwrap() + 1;
            Ipv6Addr::new(0x2001, 0xdb8, high, middle * 256 + low, 0, 0, 0, host).into()
        } else {
            Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 1)) + who).into()
        };
        let most = u32::try_from(THRESHOLD).unwrap();
        let attacks = match random.below(10) {
            0 => most - 1,
            1 => most,
            2 => most + random.below(2 * most),
            3..6 => random.below(most - 1),
            _ => 0,
        };
        let mut kinds: Vec<Kind> = (0..attacks).map(|_| *random.one_of(&ATTACKS)).collect();
        for _ in 0..random.below(5) {
            let at = random.below(u32::try_from(kinds.len()).unwrap() + 1);
            kinds.insert(usize::try_from(at).unwrap(), *random.one_of(&CLEAN));
        }
        let site = usize::try_from(random.below(3)).unwrap();
        if site > 0 || self.connections == Connections::Own {
            kinds.retain(|kind| *kind != ROBOT);
        }
        Visit {
            client,
            site,
            kinds,
        }
    }
}

/// What one visitor does on one connection.
struct Visit {
    client: IpAddr,
    site: usize,
    kinds: Vec<Kind>,
}

impl Visit {
    fn request(
        &self,
        connection: &mut Option<BufReader<TcpStream>>,
        number: u32,
        (method, path, headers, body): &Kind,
    ) -> Answer {
        let uri = format!("/r{number}/{path}");
        let headers = headers.replace("FORM", &format!("{FORM}{AGENT}"));
        let mut text = format!(
            "{method} {uri} HTTP/1.1\r\nHost: {}.example\r\n",
            SITES[self.site]
        );
        text.push_str(&headers);
        text.push_str("Accept: */*\r\n");
        if !body.is_empty() {
            write!(text, "Content-Length: {}\r\n", body.len()).unwrap();
        }
        write!(text, "\r\n{body}").unwrap();
        let stream = connection.get_or_insert_with(|| BufReader::new(connect(self.client)));
        stream.get_mut().write_all(text.as_bytes()).unwrap();
        let (status, stays) = answer(stream);
        if !stays {
            *connection = None;
        }
        Answer {
            client: self.client,
            site: self.site,
            method,
            uri,
            status,
        }
    }
}

/// Sends an attack from an address to the first site under any name; the answer is 403.
pub(crate) fn attack_as(client: IpAddr, host: &str, number: usize) {
    let mut stream = BufReader::new(connect(client));
    let text = format!(
        "GET /r{number}/view?file=../../etc/passwd HTTP/1.1\r\nHost: {host}\r\n{AGENT}\
         Connection: close\r\n\r\n"
    );
    stream.get_mut().write_all(text.as_bytes()).unwrap();
    assert_eq!(answer(&mut stream).0, 403);
}

/// Connects to the proxy from an address.
fn connect(client: IpAddr) -> TcpStream {
    let (family, server) = match client {
        IpAddr::V4(_) => (AddressFamily::INET, IpAddr::from(Ipv4Addr::LOCALHOST)),
        IpAddr::V6(_) => (AddressFamily::INET6, IpAddr::from(Ipv6Addr::LOCALHOST)),
    };
    let socket = rustix::net::socket(family, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::new(client, 0)).unwrap();
    rustix::net::connect(&socket, &SocketAddr::new(server, 80)).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(crate::LIMIT)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reads an answer; returns its status, and whether the connection can be used again.
fn answer(stream: &mut BufReader<TcpStream>) -> (u16, bool) {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    let status = line.get(9..12).and_then(|text| text.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status: {line:?}"));
    let (mut length, mut chunked, mut stays) = (None, false, true);
    loop {
        line.clear();
        stream.read_line(&mut line).unwrap();
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length: ") {
            length = Some(value.parse().unwrap());
        }
        chunked |= header == "transfer-encoding: chunked";
        stays &= header != "connection: close";
    }
    while chunked {
        line.clear();
        stream.read_line(&mut line).unwrap();
        let size = u64::from_str_radix(line.trim_end(), 16).unwrap();
        skip(stream, size + 2);
        chunked = size > 0;
    }
    if let Some(length) = length {
        skip(stream, length);
    }
    (status, stays)
}

fn skip(stream: &mut BufReader<TcpStream>, length: u64) {
    let copied = std::io::copy(&mut stream.take(length), &mut std::io::sink()).unwrap();
    assert_eq!(copied, length);
}

/// Splitmix64: the same visits in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((bits ^ (bits >> 31)) % u64::from(end)).unwrap()
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let at = self.below(u32::try_from(all.len()).unwrap());
        &all[usize::try_from(at).unwrap()]
    }
}
