//! A program of an operator's that is told of events: a small HTTP server beside the instance.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use testbed::edge::{Edge, root};

/// What was sent once.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) body: Value,
    headers: BTreeMap<String, String>,
    text: String,
}

/// What it answers to an attempt, of which it has had so many.
type Answer = Box<dyn Fn(usize) -> u16 + Send>;

#[derive(Default)]
struct Seen {
    attempts: usize,
    accepted: Vec<Message>,
    answer: Option<Answer>,
}

/// Listens until it is dropped.
pub(super) struct Receiver {
    address: SocketAddr,
    listener: TcpListener,
    seen: Arc<Mutex<Seen>>,
}

impl Receiver {
    /// Answers as `answer` says.
    pub(super) fn start(edge: &Edge, answer: impl Fn(usize) -> u16 + Send + 'static) -> Self {
        let receiver = Self::silent(edge);
        receiver.answer(answer);
        receiver
    }

    /// Takes connections and answers nothing.
    pub(super) fn silent(edge: &Edge) -> Self {
        let listener = edge.network.edge.inside(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (accepting, shared) = (listener.try_clone().unwrap(), Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in accepting.incoming() {
                let (Ok(stream), shared) = (stream, Arc::clone(&shared)) else { return };
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { address, listener, seen }
    }

    /// From now on it answers so.
    pub(super) fn answer(&self, answer: impl Fn(usize) -> u16 + Send + 'static) {
        self.seen.lock().unwrap().answer = Some(Box::new(answer));
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/hook?token=1", self.address)
    }

    pub(super) fn attempts(&self) -> usize {
        self.seen.lock().unwrap().attempts
    }

    pub(super) fn accepted(&self) -> Vec<Message> {
        self.seen.lock().unwrap().accepted.clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // A listening socket that is shut down wakes whoever accepts.
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&self.listener);
        let _ = nix::sys::socket::shutdown(descriptor, nix::sys::socket::Shutdown::Both);
    }
}

/// Answers what comes on one connection, one after the other.
fn serve(stream: TcpStream, seen: &Mutex<Seen>) {
    let _ = stream.set_read_timeout(Some(Duration::from_mins(2)));
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(message) = read(&mut reader) {
        let status = {
            let mut seen = seen.lock().unwrap();
            let attempt = seen.attempts;
            seen.attempts += 1;
            let status = seen.answer.as_ref().map(|answer| answer(attempt));
            if status.is_some_and(|status| (200..300).contains(&status)) {
                seen.accepted.push(message);
            }
            status
        };
        if let Some(status) = status {
            let answer = format!("HTTP/1.1 {status} As Told\r\ncontent-length: 0\r\n\r\n");
            let _ = writer.write_all(answer.as_bytes());
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Message> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    assert_eq!(line, "POST /hook?token=1 HTTP/1.1\r\n");
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut body).ok()?;
    let text = String::from_utf8(body).unwrap();
    assert_eq!(headers["content-type"], "application/json");
    Some(Message {
        id: headers["webhook-id"].clone(),
        body: serde_json::from_str(&text).unwrap(),
        headers,
        text,
    })
}

/// Writes the secret of all webhooks, for its owner alone.
pub(super) fn write_secret(path: &Path) {
    fs::write(path, format!("{SECRET}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// By the lines of Python in `docs/webhooks.md`, which an operator copies: they take each message, and none that was changed.
pub(super) fn assert_signed(messages: &[Message], edge: &Edge) {
    let page = fs::read_to_string(root().join("docs/webhooks.md")).unwrap();
    let code = page.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let cases: Vec<_> = messages.iter().map(|message| json!([message.headers, message.text])).collect();
    let file = edge.folder().join("messages.json");
    fs::write(&file, json!([SECRET, cases]).to_string()).unwrap();
    let program = format!(
        "{code}\nimport json, sys\nsecret, cases = json.load(open(sys.argv[1]))\n\
         assert all(verify(secret, headers, body.encode()) for headers, body in cases)\n\
         assert not any(verify(secret, headers, body.encode() + b' ') for headers, body in cases)\n\
         assert not any(verify('whsec_' + 'A' * 43 + '=', headers, body.encode()) for headers, body in cases)\n\
         print(len(cases))\n"
    );
    let output = Command::new("python3").arg("-c").arg(program).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), messages.len().to_string(), "{said}");
}

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
