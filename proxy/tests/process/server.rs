//! What surrounds an instance and speaks HTTP: its metadata service, its upstream, its parameter store.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use aws_policy::{Recorder, Request};

/// Answers each request on a connection of its own, until it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    going: Arc<AtomicBool>,
}

#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    head: Vec<String>,
    pub(crate) body: String,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: &'static str,
    pub(crate) body: String,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (going, answer) = (Arc::new(AtomicBool::new(true)), Arc::new(answer));
        let open = Arc::clone(&going);
        thread::spawn(move || {
            for stream in listener.incoming().take_while(|_| open.load(Ordering::Relaxed)) {
                let answer = Arc::clone(&answer);
                // Whoever asks may go away before the answer.
                thread::spawn(move || stream.and_then(|stream| serve(&stream, &*answer)));
            }
        });
        Self { address, going }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.going.store(false, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: &TcpStream, answer: &dyn Fn(&Asked) -> Answer) -> std::io::Result<()> {
    let Answer { status, fields, body } = answer(&Asked::read(stream)?);
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} So\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
    )
}

impl Asked {
    fn read(stream: &TcpStream) -> std::io::Result<Self> {
        let mut reader = BufReader::new(stream);
        let head: Vec<String> =
            reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        let mut line = head.first().into_iter().flat_map(|line| line.split(' ').map(str::to_owned));
        let (method, path) = (line.next().unwrap_or_default(), line.next().unwrap_or_default());
        let mut asked = Self { method, path, head, body: String::new() };
        let length = asked.field("content-length").map_or(0, |length| length.parse().unwrap());
        reader.take(length).read_to_string(&mut asked.body)?;
        Ok(asked)
    }

    /// As IAM would be told of it.
    fn call(&self) -> Request<'_> {
        Request {
            method: &self.method,
            target: &self.path,
            authorization: self.field("authorization").unwrap_or_default(),
            operation: self.field("x-amz-target"),
            body: self.body.as_bytes(),
        }
    }

    pub(crate) fn field(&self, wanted: &str) -> Option<&str> {
        let mut fields = self.head.iter().filter_map(|line| line.split_once(": "));
        fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    }
}

impl Answer {
    pub(crate) fn of(status: u16, body: &str) -> Self {
        Self { status, fields: "", body: body.to_owned() }
    }
}

/// An instance's metadata service, version 2: a PUT gives a token, and without it nothing is told.
pub(crate) struct Metadata {
    server: Server,
    state: Arc<Mutex<Option<&'static str>>>,
}

impl Metadata {
    pub(crate) fn start() -> Self {
        let state = Arc::new(Mutex::new(None));
        let told = Arc::clone(&state);
        let server = Server::start(move |asked| metadata(asked, *told.lock().unwrap()));
        Self { server, state }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// The target lifecycle state that the instance's group wants.
    pub(crate) fn set_target_state(&self, state: &'static str) {
        *self.state.lock().unwrap() = Some(state);
    }
}

fn metadata(asked: &Asked, state: Option<&str>) -> Answer {
    const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
    match (asked.method.as_str(), asked.path.as_str(), asked.field("x-aws-ec2-metadata-token")) {
        ("PUT", "/latest/api/token", _) if asked.field(TTL) == Some("21600") => {
            Answer { fields: "x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n", ..Answer::of(200, TOKEN) }
        }
        ("PUT", ..) => Answer::of(400, ""),
        ("GET", path, Some(TOKEN)) => match (path.strip_prefix("/latest/meta-data/"), state) {
            (Some("instance-id"), _) => Answer::of(200, "i-0123456789abcdef0"),
            (Some("placement/availability-zone"), _) => Answer::of(200, "eu-south-2b"),
            (Some("placement/region"), _) => Answer::of(200, "eu-south-2"),
            (Some("local-ipv4"), _) => Answer::of(200, "10.0.0.7"),
            (Some("iam/security-credentials/"), _) => Answer::of(200, "edge"),
            (Some("iam/security-credentials/edge"), _) => Answer::of(200, ROLE),
            (Some("autoscaling/target-lifecycle-state"), Some(state)) => Answer::of(200, state),
            _ => Answer::of(404, ""),
        },
        _ => Answer::of(401, ""),
    }
}

/// A parameter store that holds one, with what it was asked by last.
pub(crate) struct Parameters {
    server: Server,
    value: Arc<Mutex<Option<String>>>,
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
}

impl Parameters {
    pub(crate) fn start(value: &str) -> Self {
        let value = Arc::new(Mutex::new(Some(value.to_owned())));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (held, heard, calls) = (Arc::clone(&value), Arc::clone(&asked), Recorder::from_environment());
        let server = Server::start(move |asked| {
            calls.note(&asked.call()).unwrap();
            heard.lock().unwrap().push(asked.clone());
            match held.lock().unwrap().as_ref() {
                Some(value) => {
                    Answer::of(200, &serde_json::json!({ "Parameter": { "Value": value } }).to_string())
                }
                None => Answer::of(400, r#"{"__type":"ParameterNotFound","message":"not found"}"#),
            }
        });
        Self { server, value, asked }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    pub(crate) fn set(&self, value: Option<&str>) {
        *self.value.lock().unwrap() = value.map(str::to_owned);
    }
}

const TOKEN: &str = "AQAAAA-token==";
/// Temporary credentials of the instance's role (`Role::Instance`), in the form of EC2's service.
const ROLE: &str = r#"{"Code":"Success","LastUpdated":"2026-11-24T02:15:08Z","Type":"AWS-HMAC","AccessKeyId":"AKIAINSTANCE",
    "SecretAccessKey":"secret","Token":"session","Expiration":"2099-11-24T08:15:08Z"}"#;
