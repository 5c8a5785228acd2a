//! The program, with Lambda's runtime API ("Using the Lambda runtime API for custom runtimes") on a local port.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_policy::Role;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    sync::{Mutex, mpsc},
    time::timeout,
};

/// Started as Lambda starts it; ends with the value.
pub(crate) struct Function {
    events: mpsc::UnboundedSender<Event>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    child: Child,
}

struct Event {
    deadline: SystemTime,
    body: Value,
}

/// What an invocation came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    Response(Value),
    Error(String),
}

impl Outcome {
    pub(crate) fn response(self) -> Value {
        let Self::Response(value) = self else { panic!("{self:?}") };
        value
    }
}

impl Function {
    /// The function `handler` over the tables at `endpoint`, with what the template sets beside them.
    pub(crate) async fn start(handler: &str, endpoint: &str, more: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (events, waiting) = mpsc::unbounded_channel();
        let (tell, outcomes) = mpsc::unbounded_channel();
        tokio::spawn(serve(listener, Shared { waiting: Arc::new(Mutex::new(waiting)), tell }));
        let mut command = command(address, handler);
        command.env("GATEHOUSE_STORE_ENDPOINT", endpoint).envs(more.iter().copied());
        Self { events, outcomes, child: command.spawn().unwrap() }
    }

    /// An event, and what comes of it within the time that Lambda gives it.
    pub(crate) async fn invoke(&mut self, body: Value, time: Duration) -> Outcome {
        let deadline = SystemTime::now() + time;
        self.events.send(Event { deadline, body }).unwrap();
        let outcome = timeout(LONGEST, self.outcomes.recv()).await;
        outcome.expect("no outcome").unwrap()
    }

    /// A question by GET to its URL: status and body.
    pub(crate) async fn get(&mut self, path: &str, query: &str) -> (u64, String) {
        self.request("GET", path, query).await
    }

    /// The same by another method.
    pub(crate) async fn request(&mut self, method: &str, path: &str, query: &str) -> (u64, String) {
        let answer = self.invoke(url_event(method, path, query), Duration::from_secs(10)).await.response();
        assert_eq!(answer["headers"]["content-type"], "text/plain; charset=utf-8", "{answer}");
        (answer["statusCode"].as_u64().unwrap(), answer["body"].as_str().unwrap().to_owned())
    }

    /// All that it said.
    pub(crate) async fn end(mut self) -> String {
        self.child.start_kill().unwrap();
        said(self.child).await
    }
}

/// What the program says that ends before its first invocation.
pub(crate) async fn run_in_vain(handler: &str, settings: &[(&str, &str)]) -> String {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let mut child = command(nowhere, handler).envs(settings.iter().copied()).spawn().unwrap();
    let status = timeout(LONGEST, child.wait()).await.unwrap().unwrap();
    assert!(!status.success());
    said(child).await
}

/// "Lambda function URLs": a request as a function sees it, in the payload format 2.0.
fn url_event(method: &str, path: &str, query: &str) -> Value {
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query,
        "headers": { "x-forwarded-proto": "https", "host": "a.lambda-url.eu-central-1.on.aws" },
        "requestContext": {
            "accountId": "anonymous", "apiId": "a", "domainName": "a.lambda-url.eu-central-1.on.aws",
            "http": { "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "curl" },
            "requestId": "r", "routeKey": "$default", "stage": "$default", "timeEpoch": 0
        },
        "isBase64Encoded": false
    })
}

async fn said(mut child: Child) -> String {
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    child.stderr.take().unwrap().read_to_string(&mut text).await.unwrap();
    text
}

fn command(address: SocketAddr, handler: &str) -> Command {
    let role = if handler == "checker" { Role::Checker } else { Role::Verifier };
    let mut command = Command::new(env!("CARGO_BIN_EXE_domain-functions"));
    command.env_clear().kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.envs([
        ("AWS_LAMBDA_RUNTIME_API", address.to_string().as_str()),
        ("AWS_LAMBDA_FUNCTION_NAME", handler),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("_HANDLER", handler),
        // As Lambda sets them from the function's role.
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", role.access_key()),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_SESSION_TOKEN", "token"),
    ]);
    command
}

#[derive(Clone)]
struct Shared {
    waiting: Arc<Mutex<mpsc::UnboundedReceiver<Event>>>,
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
        let what = head.uri.path().strip_prefix("/2018-06-01/runtime/invocation/").unwrap();
        if what == "next" {
            return self.next().await;
        }
        let outcome = match what.split_once('/').unwrap() {
            (REQUEST, "response") => Outcome::Response(serde_json::from_slice(&body).unwrap()),
            (REQUEST, "error") => Outcome::Error(String::from_utf8_lossy(&body).into_owned()),
            other => panic!("{other:?}"),
        };
        let _ = self.tell.send(outcome);
        Response::builder().status(StatusCode::ACCEPTED).body(Full::default()).unwrap()
    }

    async fn next(&self) -> Response<Full<Bytes>> {
        let Some(event) = self.waiting.lock().await.recv().await else { std::future::pending().await };
        let deadline = event.deadline.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        let response = Response::builder()
            .header("lambda-runtime-aws-request-id", REQUEST)
            .header("lambda-runtime-deadline-ms", deadline.to_string())
            .header("lambda-runtime-invoked-function-arn", ARN)
            .header("content-type", "application/json");
        response.body(Full::from(event.body.to_string())).unwrap()
    }
}

pub(crate) const SECRET: &str = "wJalrXUtnFEMI";
const ARN: &str = "arn:aws:lambda:eu-central-1:123456789012:function:gatehouse-tst";
const REQUEST: &str = "8476a536-e9f4-11e8-9739-2dfe598c3fcd";
const LONGEST: Duration = Duration::from_mins(1);
