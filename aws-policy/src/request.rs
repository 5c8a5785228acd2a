//! From a signed request, as a double of AWS receives it, to what IAM would be asked. Actions are those of AWS's Service Authorization
//! Reference, which differ from the API's operations where this says so.
//! Not here: who may do it.

mod dynamodb;
mod json;
mod query;
mod rest;

use std::collections::BTreeMap;

use crate::Call;

/// A request's parts that say what it is.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `GET`, `POST`.
    pub method: &'a str,
    /// Path and query, percent-encoded.
    pub target: &'a str,
    /// The field `Authorization`.
    pub authorization: &'a str,
    /// The field `X-Amz-Target`, which the JSON protocols have.
    pub operation: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
}

/// By whom, for which service, where: the credential of a signature ("Signature Version 4").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<'a> {
    /// The id of the access key.
    pub access_key: &'a str,
    /// As signatures name it.
    pub region: &'a str,
    /// As signatures name it, which is not always as IAM does.
    pub service: &'a str,
}

/// A request that nobody has mapped to an action of IAM's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{service}: `{operation}` is not known to aws-policy/src/request, or not in this form")]
pub struct UnknownCall {
    /// As the signature names it.
    pub service: String,
    /// Operation, or method and path.
    pub operation: String,
}

impl<'a> Signed<'a> {
    /// Of the field `Authorization`; none where it is no signature of AWS's.
    #[must_use]
    pub fn of(authorization: &'a str) -> Option<Self> {
        let credential = authorization.strip_prefix("AWS4-HMAC-SHA256 ")?.split_once("Credential=")?.1;
        let mut parts = credential.split([',', ' ']).next()?.split('/');
        let (access_key, _day) = (parts.next()?, parts.next()?);
        Some(Self { access_key, region: parts.next()?, service: parts.next()? })
    }
}

impl Request<'_> {
    /// Its calls: several where a transaction or a hand-over needs several rights, none where it needs none.
    pub fn calls(&self, signed: &Signed<'_>) -> Result<Vec<Call>, UnknownCall> {
        let calls = match (signed.service, self.operation) {
            ("dynamodb", Some(_)) => dynamodb::calls(self.operation(), &self.json(), signed.region),
            ("route53", None) => rest::route53(self),
            ("s3", None) => rest::s3(self),
            (_, Some(_)) => json::calls(self.operation(), &self.json(), signed),
            (_, None) => query::calls(&self.form(), signed),
        };
        calls.ok_or_else(|| self.unknown(signed))
    }

    fn unknown(&self, signed: &Signed<'_>) -> UnknownCall {
        let operation = match (self.operation, self.form().remove("Action")) {
            (Some(_), _) => self.operation().to_owned(),
            (None, Some(action)) => action,
            (None, None) => format!("{} {}", self.method, self.target),
        };
        UnknownCall { service: signed.service.to_owned(), operation }
    }

    /// Without the API's name and version.
    fn operation(&self) -> &str {
        self.operation.and_then(|target| target.rsplit('.').next()).unwrap_or_default()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.body).unwrap_or_default()
    }

    /// AWS's Query protocol.
    fn form(&self) -> BTreeMap<String, String> {
        let text = String::from_utf8_lossy(self.body);
        let fields = text.split('&').filter_map(|field| field.split_once('='));
        fields.map(|(name, value)| (decoded(name), decoded(value))).collect()
    }
}

fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests;
