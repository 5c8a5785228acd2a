//! AWS KMS as moto has it, with a key.

use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::{
    cleartext,
    moto::{self, Moto},
    namespace::Namespace,
    relay::Traffic,
};

/// A running KMS.
#[derive(Debug)]
pub struct Kms {
    moto: Moto,
    arn: String,
}

impl Kms {
    /// Starts it inside `namespace`, where [`Kms::url`] leads to it.
    pub fn start(namespace: &Namespace, folder: &Path) -> anyhow::Result<Self> {
        let (moto, made) =
            Moto::start(namespace, "kms", folder, || call(namespace, "CreateKey", &json!({})))?;
        let arn = arn(&made)?;
        call(namespace, "CreateAlias", &json!({ "AliasName": ALIAS, "TargetKeyId": arn }))?;
        Ok(Self { moto, arn })
    }

    /// Where it is.
    #[must_use]
    pub fn url() -> String {
        format!("http://{}", moto::address())
    }

    /// Has calls to it meet `traffic`.
    pub fn set(&self, traffic: Traffic) {
        self.moto.relay.set(traffic);
    }

    /// The key's.
    #[must_use]
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// Makes another key, to which [`ALIAS`] leads from now on.
    pub fn replace_key(&self, namespace: &Namespace) -> anyhow::Result<()> {
        let made = call(namespace, "CreateKey", &json!({}))?;
        let wanted = json!({ "AliasName": ALIAS, "TargetKeyId": arn(&made)? });
        call(namespace, "UpdateAlias", &wanted).map(drop)
    }
}

/// Of a key that was made.
fn arn(made: &Value) -> anyhow::Result<String> {
    let arn = made.pointer("/KeyMetadata/Arn").and_then(Value::as_str);
    arn.map(ToOwned::to_owned).with_context(|| format!("no key was made: {made}"))
}

/// moto looks at no signature, but wants one: it says which service is meant.
fn call(namespace: &Namespace, operation: &str, body: &Value) -> anyhow::Result<Value> {
    let body = body.to_string();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: kms\r\nConnection: close\r\nX-Amz-Target: TrentService.{operation}\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=testbed/20260101/{REGION}/kms/aws4_request, \
         SignedHeaders=host, Signature=00\r\nX-Amz-Date: 20260101T000000Z\r\n\
         Content-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = cleartext::send(namespace, moto::address(), request)?;
    ensure!(answer.status == 200, "{operation}: {answer:?}");
    let body = if answer.body.is_empty() { "null" } else { &answer.body };
    serde_json::from_str(body).with_context(|| format!("{operation}: {answer:?}"))
}

/// What the key is called.
pub const ALIAS: &str = "alias/gatehouse";
/// Where it lies.
pub const REGION: &str = "eu-central-1";
