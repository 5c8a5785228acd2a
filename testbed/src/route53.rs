//! Route 53 as moto has it, with a hosted zone, and what of it the CA's DNS server is to answer: moto answers no DNS.

use std::path::Path;

use anyhow::{Context, ensure};

use crate::{
    cleartext::{self, Answer},
    moto::{self, Moto},
    namespace::Namespace,
};

/// A running Route 53 that holds one zone.
#[derive(Debug)]
pub struct Route53 {
    _moto: Moto,
    zone: String,
}

impl Route53 {
    /// Starts it inside `namespace`, where [`Route53::url`] leads to it, with a zone of `name`.
    pub fn start(namespace: &Namespace, folder: &Path, name: &str) -> anyhow::Result<Self> {
        let zone = format!(
            "<CreateHostedZoneRequest {XMLNS}><Name>{name}</Name><CallerReference>1</CallerReference></CreateHostedZoneRequest>"
        );
        let path = "/2013-04-01/hostedzone";
        let create_zone = || call(namespace, "route53", "POST", path, &zone);
        let (moto, made) = Moto::start(namespace, "route53", folder, create_zone)?;
        let zone = between(&made.body, "<Id>", "</Id>").context("no zone was made")?;
        let zone = zone.trim_start_matches("/hostedzone/").to_owned();
        Ok(Self { _moto: moto, zone })
    }

    /// Where it is.
    #[must_use]
    pub fn url() -> String {
        format!("http://{}", moto::address())
    }

    /// The zone's id.
    #[must_use]
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// Puts a TXT record there, as somebody else does. By UPSERT: what was once created moto lets nobody create again while it is there, not
    /// even where the same batch deletes it first.
    pub fn put_txt(&self, namespace: &Namespace, record: &str, value: &str) -> anyhow::Result<()> {
        let body = format!(
            "<ChangeResourceRecordSetsRequest {XMLNS}><ChangeBatch><Changes><Change><Action>UPSERT</Action><ResourceRecordSet><Name>{record}.</Name><Type>TXT</Type><TTL>300</TTL><ResourceRecords><ResourceRecord><Value>\"{value}\"</Value></ResourceRecord></ResourceRecords></ResourceRecordSet></Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>"
        );
        let path = format!("/2013-04-01/hostedzone/{}/rrset/", self.zone);
        call(namespace, "route53", "POST", &path, &body).map(drop)
    }

    /// The values of the TXT record, without their quotes; none where there is no record.
    pub fn txt(&self, namespace: &Namespace, record: &str) -> anyhow::Result<Vec<String>> {
        let path = format!("/2013-04-01/hostedzone/{}/rrset", self.zone);
        let listed = call(namespace, "route53", "GET", &path, "")?.body;
        let sets = listed.split("<ResourceRecordSet>").skip(1);
        let of_it =
            |set: &&str| set.contains(&format!("<Name>{record}.</Name>")) && set.contains("<Type>TXT</Type>");
        let values = sets.filter(of_it).flat_map(|set| set.split("<Value>").skip(1));
        let values = values.filter_map(|value| value.split("</Value>").next());
        Ok(values.map(|value| value.replace("&quot;", "\"").trim_matches('"').to_owned()).collect())
    }

    /// Has each request refused from now on: moto then wants keys that it has given itself.
    pub fn deny_all(&self, namespace: &Namespace) -> anyhow::Result<()> {
        call(namespace, "iam", "POST", "/moto-api/reset-auth", "0").map(drop)
    }
}

/// moto looks at no signature until it is told to, but wants one: it says which service is meant.
fn call(
    namespace: &Namespace,
    service: &str,
    method: &str,
    path: &str,
    body: &str,
) -> anyhow::Result<Answer> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {service}.amazonaws.com\r\nConnection: close\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=testbed/20260101/us-east-1/{service}/aws4_request, \
         SignedHeaders=host, Signature=00\r\nX-Amz-Date: 20260101T000000Z\r\n\
         Content-Type: text/xml\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = cleartext::send(namespace, moto::address(), request)?;
    ensure!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
    Ok(answer)
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}

const XMLNS: &str = "xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"";
