//! The declaration as a JSON Schema (draft 2020-12), for editors that check and complete settings.
//! What it permits may still be refused: contradictions between settings are the matter of `validate`.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use serde_json::{Map, Value, json};
use toml::Table;

use super::{
    Attach, Balance, ByteSize, Config, ContentCoding, ContentSecurityPolicy, Endpoint, Field, GuardMode,
    HostedZoneId, Io, KeyEncryption, LogFormat, LoopId, MetadataEndpoint, Network, ParameterName,
    ProxyProtocol, RequiredProof, Scrape, Section, SiteRedirect, Span, TlsVersion, UpstreamHost, WwwPair,
    json_schema::JsonSchema, reference::defaults,
};
use crate::{
    name::{Pattern, ServerName},
    target::Target,
};

/// The schema of a settings file.
#[must_use]
pub fn schema() -> String {
    let defaults = defaults();
    let mut root = table(Config::HELP, Config::FIELDS, &defaults);
    for section in Config::SECTIONS {
        let values = defaults.get(section.name).and_then(toml::Value::as_table).cloned();
        let inner = table(section.help, section.fields, &values.unwrap_or_default());
        if let Some(Value::Object(properties)) = root.get_mut("properties") {
            properties.insert(section.name.to_owned(), Value::Object(inner));
        }
    }
    root.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    root.insert("title".to_owned(), json!("Gatehouse"));
    format!("{:#}\n", Value::Object(root))
}

fn table(help: &[&str], fields: &[Field], defaults: &Table) -> Map<String, Value> {
    let properties = fields.iter().map(|field| (field.name.to_owned(), property(field, defaults)));
    let properties: Map<_, _> = properties.collect();
    let table = [
        ("type", json!("object")),
        ("description", json!(text(help))),
        ("additionalProperties", json!(false)),
        ("properties", Value::Object(properties)),
    ];
    table.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn property(field: &Field, defaults: &Table) -> Value {
    let mut schema = (field.json_schema)();
    if let Value::Object(keys) = &mut schema {
        keys.insert("description".to_owned(), json!(text(field.help)));
        keys.extend(defaults.get(field.name).map(|default| ("default".to_owned(), json!(default))));
    }
    schema
}

fn text(help: &[&str]) -> String {
    help.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

macro_rules! texts {
    ($($type:ty),+) => {$(
        impl JsonSchema for $type {
            fn json_schema() -> Value {
                json!({ "type": "string" })
            }
        }
    )+};
}
texts!(
    String,
    PathBuf,
    IpAddr,
    SocketAddr,
    ContentSecurityPolicy,
    HostedZoneId,
    LoopId,
    ParameterName,
    Pattern,
    ServerName
);

impl JsonSchema for Span {
    fn json_schema() -> Value {
        json!({ "type": "string", "pattern": Self::pattern() })
    }
}

impl JsonSchema for ByteSize {
    fn json_schema() -> Value {
        json!({ "type": "string", "pattern": Self::pattern() })
    }
}

impl JsonSchema for Network {
    fn json_schema() -> Value {
        json!({ "type": "string", "pattern": "^[0-9a-fA-F.:]+/[0-9]{1,3}$" })
    }
}

impl JsonSchema for Target {
    fn json_schema() -> Value {
        const PLACE: &str = "(https?://[^/?#@,;]+(/[^?#%,;]*)?|unix:/[^,; ]+)";
        const PARAMETER: &str = "(weight=[0-9]{1,3}|protocol=(h2|http/1\\.1)|tls=[A-Za-z0-9_-]{1,63}|proxy_protocol=v[12]|health=/[^,;#]*|max_(connections|requests|pending)=[0-9]+)";
        let endpoint = format!(" *{PLACE}(; *{PARAMETER})* *");
        json!({ "type": "string", "pattern": format!("^{endpoint}(,{endpoint}){{0,15}}$") })
    }
}

impl JsonSchema for Endpoint {
    fn json_schema() -> Value {
        json!({ "type": "string", "anyOf": [{ "enum": [Self::Embedded, Self::Aws] }, { "pattern": "^https?://" }] })
    }
}

impl JsonSchema for KeyEncryption {
    fn json_schema() -> Value {
        json!({ "type": "string", "anyOf": [{ "enum": [Self::Off] }, { "pattern": "^(file:/|kms:[^ ])" }] })
    }
}

impl JsonSchema for Scrape {
    fn json_schema() -> Value {
        json!({ "type": "string", "anyOf": [{ "enum": [Self::Off] }, { "pattern": ":[0-9]+$" }] })
    }
}

impl JsonSchema for MetadataEndpoint {
    fn json_schema() -> Value {
        json!({ "type": "string", "anyOf": [{ "enum": [Self::Auto, Self::Off] }, { "pattern": "^http://" }] })
    }
}

macro_rules! words {
    ($($type:ty),+) => {$(
        impl JsonSchema for $type {
            fn json_schema() -> Value {
                json!({ "type": "string", "enum": <$type>::ALL })
            }
        }
    )+};
}
words!(
    Io,
    Attach,
    Balance,
    ContentCoding,
    GuardMode,
    LogFormat,
    RequiredProof,
    SiteRedirect,
    UpstreamHost,
    WwwPair
);

impl JsonSchema for TlsVersion {
    fn json_schema() -> Value {
        json!({ "type": "string", "enum": Self::ALL.iter().map(|version| version.as_str()).collect::<Vec<_>>() })
    }
}

impl JsonSchema for ProxyProtocol {
    fn json_schema() -> Value {
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["from"],
            "properties": { "from": Vec::<Network>::json_schema() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        ExternalAccountConfig, IssuerConfig, StaticDomain, TenantQuota, UpstreamTls, WebhookConfig,
        WildcardCertificate,
    };

    /// What is wrong with `value`, by those words of JSON Schema that the schema above uses, patterns apart.
    fn faults(schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        let is_of_type = match schema["type"].as_str() {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("integer") => {
                value.as_u64().is_some_and(|number| number <= schema["maximum"].as_u64().unwrap())
            }
            Some("boolean") => value.is_boolean(),
            other => panic!("{at}: type {other:?}"),
        };
        if !is_of_type {
            faults.push(format!("{at}: {value} is not {}", schema["type"]));
        }
        if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
            faults.push(format!("{at}: {value} is none of {}", schema["enum"]));
        }
        for key in schema["required"].as_array().into_iter().flatten() {
            if value.get(key.as_str().unwrap()).is_none() {
                faults.push(format!("{at}: {key} is missing"));
            }
        }
        for (key, inner) in value.as_object().into_iter().flatten() {
            let of_any = Some(&schema["additionalProperties"]).filter(|schema| schema.is_object());
            match schema["properties"].get(key).or(of_any) {
                Some(schema) => self::faults(schema, inner, &format!("{at}.{key}"), faults),
                None => faults.push(format!("{at}.{key}: no such setting")),
            }
        }
        for inner in value.as_array().into_iter().flatten() {
            self::faults(&schema["items"], inner, at, faults);
        }
    }

    fn judge(settings: &str) -> Vec<String> {
        let schema: Value = serde_json::from_str(&schema()).unwrap();
        let mut found = Vec::new();
        let settings: Table = settings.parse().unwrap();
        faults(&schema, &json!(settings), "", &mut found);
        found
    }

    /// The sample with each setting at its default or example.
    fn uncommented() -> String {
        let is_setting = |line: &&str| line.starts_with('#') && !line.starts_with("# ");
        let sample = include_str!("../../gatehouse.toml");
        let lines = sample.lines().map(|line| Some(line).filter(is_setting).map_or(line, |line| &line[1..]));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_shipped_file_is_valid_by_the_schema() {
        let settings = uncommented();
        assert_eq!(judge(&settings), [""; 0]);
        let table: Table = settings.parse().unwrap();
        for key in crate::config::reference::keys() {
            let pointer = format!("/{}", key.replace('.', "/"));
            assert!(
                json!(table).pointer(&pointer).is_some(),
                "{key} is not in the file, and so was not judged"
            );
        }
    }

    #[test]
    fn what_reading_refuses_by_its_shape_the_schema_refuses_too() {
        for (settings, told) in [
            ("state_dir = \"/x\"", ".state_dir: no such setting"),
            ("[limits]\nidel = \"1s\"", ".limits.idel: no such setting"),
            ("[limit]\nidle = \"1s\"", ".limit: no such setting"),
            ("[limits]\nidle = 3", ".limits.idle: 3 is not \"string\""),
            ("[limits]\nconnections = \"many\"", ".limits.connections: \"many\" is not \"integer\""),
            ("[limits]\nconnections = -1", ".limits.connections: -1 is not \"integer\""),
            ("[listen]\npublic_https_port = 65536", "65536 is not \"integer\""),
            ("[guard]\nmode = \"lax\"", ".guard.mode: \"lax\" is none of"),
            ("[log]\naccess = \"yes\"", "is not \"boolean\""),
            ("[[domains.static]]\ntarget = \"http://a.example\"", "\"name\" is missing"),
            (
                "[[domains.static]]\nname = \"a.example\"\ntenant = \"a\"",
                ".domains.static.tenant: no such setting",
            ),
            ("[upstream.tls.a]\nroot = \"/x\"", ".upstream.tls.a.root: no such setting"),
            ("[[certificates.issuers]]\ndirectory = \"https://a.example\"", "\"email\" is missing"),
        ] {
            let found = judge(settings);
            assert!(found.len() == 1 && found[0].contains(told), "{settings}: {found:?}");
            let read: Result<Config, _> = settings.parse::<Table>().unwrap().try_into();
            assert!(read.is_err(), "{settings} is read");
        }
    }

    #[test]
    fn what_stands_in_lists_has_the_fields_that_are_read() {
        let domain = json!({ "name": "a.example", "target": "https://b.example", "minimum_tls": "1.3", "host": "client", "maintenance": true, "redirect": "www", "www": "serve", "request_rate": "9/s", "client_request_rate": "off" });
        let eab = json!({ "key_id": "a", "hmac_key_file": "/x", "hmac_key_variable": "X" });
        let issuer = json!({
            "directory": "https://a.example", "email": "a@b.example", "roots": "/x", "eab": eab,
            "profile": "shortlived", "preferred_chain": "Root X1",
        });
        let eab: ExternalAccountConfig = serde_json::from_value(eab).unwrap();
        let (domains, issuers): (StaticDomain, IssuerConfig) =
            (serde_json::from_value(domain).unwrap(), serde_json::from_value(issuer).unwrap());
        let tls = json!({ "roots": "/x", "certificate": "/x", "key": "/x", "server_name": "a.example", "entries": true });
        let tls: UpstreamTls = serde_json::from_value(tls).unwrap();
        let balancers = json!({ "from": ["10.0.0.0/8"] });
        let balancers: ProxyProtocol = serde_json::from_value(balancers).unwrap();
        let quota = TenantQuota { tenant: "acme".into(), entries: 5 };
        let wildcard = json!({ "name": "*.a.example", "zone": "Z1", "record": "_acme-challenge.b.example" });
        let wildcard: WildcardCertificate = serde_json::from_value(wildcard).unwrap();
        let webhook = json!({ "name": "a", "url": "https://a.example/", "secret_file": "/x", "secret_variable": "X", "events": ["domain.removed"] });
        let webhook: WebhookConfig = serde_json::from_value(webhook).unwrap();
        for (form, written) in [
            (WebhookConfig::json_schema(), json!(webhook)),
            (WildcardCertificate::json_schema(), json!(wildcard)),
            (StaticDomain::json_schema(), json!(domains)),
            (TenantQuota::json_schema(), json!(quota)),
            (IssuerConfig::json_schema(), json!(issuers)),
            (ExternalAccountConfig::json_schema(), json!(eab)),
            (ProxyProtocol::json_schema(), json!(balancers)),
            (UpstreamTls::json_schema(), json!(tls)),
        ] {
            let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(&form["properties"]), keys(&written));
        }
    }
}
