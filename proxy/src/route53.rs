//! TXT records in hosted zones of Route 53: three calls, made by hand.
//! Not here: which record is wanted, and when (`certificates`).
//! Invariants: a value that somebody else has put into a record stays (`what_others_put_there_stays`), whoever writes at the same time,
//! since a record is replaced only as it was read (`a_record_is_replaced_only_as_it_was_read`); a value is published when all servers have
//! it, whoever wrote it and whenever (`what_is_in_the_record_already_is_awaited_as_well`); an answer is bounded, and each failure has its
//! remedy (`each_failure_has_its_remedy`).

mod answer;
mod error;
mod request;
mod txt_record;

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::config::{ProvideCredentials as _, SharedCredentialsProvider};
use tokio::{sync::OnceCell, time::sleep};

use self::{
    answer::{read_change, read_record},
    error::CallError,
    txt_record::{Replacement, TxtRecord},
};
use crate::{
    aws::{AwsFault, CallLimits, RestCall, set_endpoint},
    backoff::Backoff,
    clock,
    config::HostedZoneId,
    name::ServerName,
    telemetry::BoxedError,
};
pub(crate) use error::RecordError;

/// A TXT record, and the zone it lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TxtPlace {
    pub(crate) zone: HostedZoneId,
    pub(crate) record: ServerName,
}

/// Route 53, with this process's credentials; they are looked for when it is first asked.
#[derive(Default)]
pub(crate) struct Route53(OnceCell<Connection>);

struct Connection {
    endpoint: String,
    credentials: Option<SharedCredentialsProvider>,
}

impl Route53 {
    /// At `endpoint`, with credentials that nobody looks at.
    #[cfg(test)]
    pub(crate) fn at(endpoint: String) -> Self {
        let credentials = aws_sdk_dynamodb::config::Credentials::new("id", "secret", None, None, "test");
        let credentials = Some(SharedCredentialsProvider::new(credentials));
        Self(OnceCell::new_with(Some(Connection { endpoint, credentials })))
    }

    /// Puts `value` into the record at `place` beside what others have there, in place of `superseded`; returns when all of Route 53's
    /// servers answer with it.
    ///
    /// # Cancel safety
    /// The value may be in the record, and stays there.
    pub(crate) async fn publish(
        &self,
        place: &TxtPlace,
        value: &str,
        superseded: &[String],
    ) -> Result<(), RecordError> {
        let adding = |found: Option<&TxtRecord>| Some(Replacement::adding(found, value, superseded));
        let published = async {
            match self.replace(place, adding).await? {
                Some(change) => self.await_sync(&change).await,
                None => Ok(()),
            }
        };
        published.await.map_err(|error| error.explain(place, self.endpoint()))
    }

    /// Takes `value` out of the record at `place`, if it is there.
    ///
    /// # Cancel safety
    /// The value may still be there.
    pub(crate) async fn withdraw(&self, place: &TxtPlace, value: &str) -> Result<(), RecordError> {
        let written = self.replace(place, |found| Replacement::removing(found?, value)).await;
        written.map(drop).map_err(|error| error.explain(place, self.endpoint()))
    }

    /// Whether the record at `place` can be read, which is as far as can be seen without a change.
    pub(crate) async fn probe(&self, place: &TxtPlace) -> Result<(), RecordError> {
        self.find(place).await.map(drop).map_err(|error| error.explain(place, self.endpoint()))
    }

    /// Writes what `wanted` makes of the record as it is, and reads it again when somebody else has written in between; the change's
    /// id, unless there is nothing to change.
    async fn replace(
        &self,
        place: &TxtPlace,
        wanted: impl Fn(Option<&TxtRecord>) -> Option<Replacement>,
    ) -> Result<Option<String>, CallError> {
        let mut last = String::new();
        for attempt in 0..WRITES {
            sleep(WRITE_PAUSES.after(attempt)).await;
            let found = self.find(place).await?;
            let Some(replacement) = wanted(found.as_ref()) else { return Ok(None) };
            let path = request::change_path(&place.zone);
            let body = request::change_body(&place.record, &replacement);
            match self.call("POST", &path, body).await {
                Ok(body) => return Ok(Some(read_change(&body)?.id)),
                Err(CallError::Changed(said)) => last = said,
                Err(error) => return Err(error),
            }
        }
        Err(CallError::Changed(last))
    }

    async fn find(&self, place: &TxtPlace) -> Result<Option<TxtRecord>, CallError> {
        let body = self.call("GET", &request::list_path(place), String::new()).await?;
        read_record(&body, &place.record)
    }

    /// "GetChange": a change is pending until all authoritative servers have it, usually within a minute.
    async fn await_sync(&self, change: &str) -> Result<(), CallError> {
        let synced = tokio::time::timeout(SYNCED_WITHIN, self.poll_until_synced(change));
        synced.await.unwrap_or(Err(CallError::Slow))
    }

    async fn poll_until_synced(&self, change: &str) -> Result<(), CallError> {
        let mut polls = 0_u32;
        loop {
            let body = self.call("GET", &request::get_change_path(change), String::new()).await?;
            if read_change(&body)?.is_in_sync {
                return Ok(());
            }
            polls = polls.saturating_add(1);
            sleep(SYNC_PAUSES.after(polls)).await;
        }
    }

    /// The answer to a call that has succeeded. One that may succeed later is made again.
    async fn call(&self, method: &str, path: &str, body: String) -> Result<Vec<u8>, CallError> {
        let mut last = None;
        for pause in PAUSES {
            sleep(pause).await;
            match self.attempt(method, path, body.clone()).await {
                Ok(Ok(body)) => return Ok(body),
                Ok(Err(AwsFault::Again(said))) => last = Some(said.into()),
                Ok(Err(fault)) => return Err(CallError::of(fault)),
                Err(AttemptError::Credentials(source)) => return Err(CallError::Credentials(source)),
                Err(AttemptError::Silent(source)) => last = Some(source),
            }
        }
        Err(CallError::Silent(last.unwrap_or_else(|| "it was not asked".into())))
    }

    async fn attempt(
        &self,
        method: &str,
        path: &str,
        body: String,
    ) -> Result<Result<Vec<u8>, AwsFault>, AttemptError> {
        let Connection { endpoint, credentials } = self.0.get_or_init(Connection::open).await;
        let provider = credentials.as_ref();
        let provider = provider.ok_or_else(|| AttemptError::Credentials("no provider is set up".into()))?;
        let credentials =
            provider.provide_credentials().await.map_err(|error| AttemptError::Credentials(error.into()))?;
        let url = format!("{}{path}", endpoint.trim_end_matches('/'));
        let call = RestCall { method, url: &url, service: SERVICE, region: REGION };
        let sent = call.send(body.into_bytes(), &credentials, clock::wall(), LIMITS).await;
        let answer = sent.map_err(AttemptError::Silent)?;
        let (status, body) = (answer.status().as_u16(), answer.body().bytes().unwrap_or_default());
        Ok(if status == 200 { Ok(body.to_vec()) } else { Err(AwsFault::of(status, body)) })
    }

    fn endpoint(&self) -> &str {
        self.0.get().map_or("Route 53", |connection| &connection.endpoint)
    }
}

impl Connection {
    async fn open() -> Self {
        let sdk = aws_config::defaults(BehaviorVersion::latest()).region(REGION).load().await;
        // One address for all regions ("Service endpoints and quotas").
        let endpoint = set_endpoint("ROUTE_53", &sdk).unwrap_or_else(|| ENDPOINT.to_owned());
        Self { endpoint, credentials: sdk.credentials_provider() }
    }
}

/// Why a request was not answered.
enum AttemptError {
    Credentials(BoxedError),
    Silent(BoxedError),
}

const SERVICE: &str = "route53";
/// Where requests are signed for, wherever they come from.
const REGION: &str = "us-east-1";
const ENDPOINT: &str = "https://route53.amazonaws.com/";
/// How often a record is written that others write at the same time.
const WRITES: u32 = 5;
const WRITE_PAUSES: Backoff = Backoff::doubling(Duration::from_millis(200), Duration::from_secs(2));
/// "ChangeResourceRecordSets": changes generally propagate within 60 seconds. Less than an order may take by default.
const SYNCED_WITHIN: Duration = Duration::from_secs(75);
/// An account may make five requests a second ("Quotas").
const SYNC_PAUSES: Backoff = Backoff::polling(Duration::from_secs(2), Duration::from_secs(5));
/// Before each attempt.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(500), Duration::from_secs(2)];
const LIMITS: CallLimits = CallLimits {
    connect: Duration::from_secs(2),
    answer: Duration::from_secs(5),
    // A record with as many values as one is changed with.
    most_bytes: 64 << 10,
};

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// Gives `answers` to as many requests, one a connection; what was asked.
    async fn serve(listener: TcpListener, answers: Vec<(u16, String)>) -> Vec<String> {
        let mut asked = Vec::new();
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = String::new();
            let mut chunk = [0; 4096];
            while !request.contains("\r\n\r\n")
                || (request.starts_with("POST") && !request.ends_with("</ChangeResourceRecordSetsRequest>"))
            {
                let read = stream.read(&mut chunk).await.unwrap();
                request.push_str(&String::from_utf8_lossy(&chunk[..read]));
            }
            let head =
                format!("HTTP/1.1 {status} -\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).await.unwrap();
            asked.push(request);
        }
        asked
    }

    fn list(values: &[&str]) -> (u16, String) {
        let value = |value: &&str| format!("<ResourceRecord><Value>\"{value}\"</Value></ResourceRecord>");
        let values = values.iter().map(value).collect::<Vec<_>>().concat();
        (
            200,
            format!(
                "<L><ResourceRecordSets><ResourceRecordSet><Name>_acme-challenge.app.example.</Name><Type>TXT</Type><TTL>60</TTL><ResourceRecords>{values}</ResourceRecords></ResourceRecordSet></ResourceRecordSets></L>"
            ),
        )
    }

    fn place() -> TxtPlace {
        TxtPlace {
            zone: HostedZoneId::try_from("Z1".to_owned()).unwrap(),
            record: ServerName::parse("_acme-challenge.app.example").unwrap(),
        }
    }

    /// Publishes `new` in place of `old` while Route 53 gives `answers`; what was asked.
    async fn published(answers: Vec<(u16, String)>) -> Vec<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let route53 = Route53::at(endpoint);
        let served = tokio::spawn(serve(listener, answers));
        route53.publish(&place(), "new", &["old".to_owned()]).await.unwrap();
        let answered = tokio::time::timeout(Duration::from_secs(5), served).await;
        answered.expect("all answers are asked for").unwrap()
    }

    /// The first characters of the values that `request` deletes or creates.
    fn change(request: &str, action: &str) -> Vec<String> {
        let rest = request.split_once(&format!("<Action>{action}</Action>")).unwrap().1;
        let rest = rest.split_once("</Change>").unwrap().0.to_owned();
        rest.split("<Value>").skip(1).map(|value| value[1..4].to_owned()).collect()
    }

    fn refused(said: &str) -> (u16, String) {
        let error = format!("<Code>InvalidChangeBatch</Code><Message>[{said}]</Message>");
        (400, format!("<ErrorResponse><Error>{error}</Error></ErrorResponse>"))
    }

    fn state(status: &str) -> (u16, String) {
        (200, format!("<C><ChangeInfo><Id>/change/C1</Id><Status>{status}</Status></ChangeInfo></C>"))
    }

    #[tokio::test]
    async fn a_record_that_is_written_in_between_is_read_again() {
        let asked = published(vec![
            list(&["old"]),
            refused(
                "Tried to delete resource record set but the values provided do not match the current values",
            ),
            list(&["old", "anothers"]),
            state("PENDING"),
            state("INSYNC"),
        ])
        .await;
        assert_eq!(
            (change(&asked[1], "DELETE"), change(&asked[1], "CREATE")),
            (vec!["old".into()], vec!["new".into()])
        );
        assert_eq!(
            (change(&asked[3], "DELETE"), change(&asked[3], "CREATE")),
            (vec!["old".into(), "ano".into()], vec!["ano".into(), "new".into()])
        );
        assert!(asked[4].starts_with("GET /2013-04-01/change/C1 "), "{}", asked[4]);
    }

    #[tokio::test]
    async fn what_is_in_the_record_already_is_awaited_as_well() {
        // Written by a call whose answer was lost, or by another instance a moment ago.
        let lost = vec![
            list(&["old"]),
            (500, "busy".to_owned()),
            refused("Tried to create resource record set but it already exists"),
        ];
        for before in [lost, Vec::new()] {
            let behind = before.len();
            let answers = [before, vec![list(&["new"]), state("PENDING"), state("INSYNC")]].concat();
            let asked = published(answers).await;
            let written = &asked[behind + 1];
            assert_eq!(
                (change(written, "DELETE"), change(written, "CREATE")),
                (vec!["new".into()], vec!["new".into()])
            );
            let awaited = &asked[behind + 2];
            assert!(awaited.starts_with("GET /2013-04-01/change/C1 "), "{awaited}");
        }
    }
}
