//! The program, with Lambda's runtime API ("Using the Lambda runtime API for custom runtimes") on a local port.

use std::{
    convert::Infallible,
    net::SocketAddr,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use aws_policy::{
    Role,
    role::{ENDPOINT_GROUP, FLEET_STACK},
};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    sync::{Mutex as AsyncMutex, mpsc},
    time::timeout,
};

use crate::region::{GROUP, REGION, Region};

/// Started as Lambda starts it; ends with the value.
pub(crate) struct Function {
    region: Arc<Mutex<Region>>,
    events: mpsc::UnboundedSender<()>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    child: Child,
}

/// What an invocation came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    Response(Value),
    Error(String),
}

impl Outcome {
    /// What was done, in order, where nothing is left.
    pub(crate) fn done(&self) -> Vec<String> {
        let Self::Response(report) = self else { panic!("{self:?}") };
        for left in ["refused", "deferred"] {
            assert_eq!(report[left], Value::Array(Vec::new()), "{report}");
        }
        let done = report["done"].as_array().expect("a report of another form").iter();
        done.map(|text| text.as_str().expect("no text").to_owned()).collect()
    }
}

impl Function {
    pub(crate) async fn start(region: Region) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (events, waiting) = mpsc::unbounded_channel();
        let (tell, outcomes) = mpsc::unbounded_channel();
        let region = Arc::new(Mutex::new(region));
        let shared = Shared { region: region.clone(), waiting: Arc::new(AsyncMutex::new(waiting)), tell };
        tokio::spawn(serve(listener, shared));
        let child = command(address).envs(settings(address)).spawn().unwrap();
        Self { region, events, outcomes, child }
    }

    pub(crate) fn region(&self) -> MutexGuard<'_, Region> {
        self.region.lock().unwrap()
    }

    /// An event, as `EventBridge` sends it every minute, and what comes of it.
    pub(crate) async fn invoke(&mut self) -> Outcome {
        self.events.send(()).unwrap();
        let outcome = timeout(LONGEST, self.outcomes.recv()).await;
        outcome.unwrap_or_else(|_| panic!("no outcome; {:?}", self.region())).unwrap()
    }

    /// All that it said.
    pub(crate) async fn end(mut self) -> String {
        self.child.start_kill().unwrap();
        said(self.child).await
    }
}

/// What the program says that Lambda starts without the stack's variables.
pub(crate) async fn run_without_settings() -> String {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let keys = settings(nowhere).into_iter().filter(|(name, _)| name.starts_with("AWS"));
    let mut child = command(nowhere).envs(keys).spawn().unwrap();
    let status = timeout(LONGEST, child.wait()).await.unwrap().unwrap();
    assert!(!status.success());
    said(child).await
}

async fn said(mut child: Child) -> String {
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    child.stderr.take().unwrap().read_to_string(&mut text).await.unwrap();
    text
}

fn command(address: SocketAddr) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootstrap"));
    command.env_clear().kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.envs([
        ("AWS_LAMBDA_RUNTIME_API", address.to_string().as_str()),
        ("AWS_LAMBDA_FUNCTION_NAME", "fleet"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
    ]);
    command
}

/// What the template and Lambda set.
fn settings(address: SocketAddr) -> Vec<(&'static str, String)> {
    let endpoint = format!("http://{address}");
    let settings = [
        ("AWS_ACCESS_KEY_ID", Role::FleetFunction.access_key()),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_SESSION_TOKEN", "token"),
        ("AWS_REGION", REGION),
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("GROUP", GROUP),
        ("ENDPOINT_GROUP", ENDPOINT_GROUP),
        ("STACK", FLEET_STACK),
        ("RESOURCE", "Group"),
        ("JOIN_HOOK", "join"),
        ("LEAVE_HOOK", "leave"),
        // Time here goes by looks.
        ("LOOK_EVERY_SECONDS", "0"),
    ];
    settings.map(|(name, value)| (name, value.to_owned())).to_vec()
}

#[derive(Clone)]
struct Shared {
    region: Arc<Mutex<Region>>,
    waiting: Arc<AsyncMutex<mpsc::UnboundedReceiver<()>>>,
    tell: mpsc::UnboundedSender<Outcome>,
}

async fn serve(listener: TcpListener, shared: Shared) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve_one(stream, shared.clone()));
    }
}

async fn serve_one(stream: TcpStream, shared: Shared) {
    let service = hyper::service::service_fn(|request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(shared.answer(request).await) }
    });
    // A client that goes is no matter of the server's.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let body = String::from_utf8_lossy(&body).into_owned();
        let response = Response::builder();
        let (response, body) = match head.uri.path().strip_prefix("/2018-06-01/runtime/invocation/") {
            Some("next") => {
                if self.waiting.lock().await.recv().await.is_none() {
                    std::future::pending::<()>().await;
                }
                let headers = [
                    ("lambda-runtime-aws-request-id", REQUEST),
                    ("lambda-runtime-deadline-ms", "4102444800000"),
                    (
                        "lambda-runtime-invoked-function-arn",
                        "arn:aws:lambda:eu-south-2:123456789012:function:fleet",
                    ),
                    ("content-type", "application/json"),
                ];
                let response =
                    headers.into_iter().fold(response, |all, (name, value)| all.header(name, value));
                (response, r#"{"source": "aws.events", "detail-type": "Scheduled Event"}"#.to_owned())
            }
            Some(path) => {
                let (id, what) = path.split_once('/').unwrap_or_default();
                assert_eq!(id, REQUEST);
                let outcome = match what {
                    "response" => Outcome::Response(serde_json::from_str(&body).unwrap()),
                    _ => Outcome::Error(body),
                };
                let _ = self.tell.send(outcome);
                (response.status(StatusCode::ACCEPTED), String::new())
            }
            None => {
                let (status, body) = self.region.lock().unwrap().answer(&head.headers, &body);
                (response.status(status), body)
            }
        };
        response.body(Full::from(body)).unwrap()
    }
}

pub(crate) const SECRET: &str = "wJalrXUtnFEMI";
const REQUEST: &str = "8476a536-e9f4-11e8-9739-2dfe598c3fcd";
const LONGEST: Duration = Duration::from_mins(1);
