//! Environment variables: every setting as `GATEHOUSE_<SECTION>_<KEY>`, and five of an older deployment.

use std::ffi::OsString;

use toml::{Table, Value};

use super::{
    Config, Endpoint, SettingOrigin,
    error::{At, ConfigError, SettingsProblem},
    layer::{Layer, value_at},
    reference,
    suggest::nearest,
};

/// The layers that `variables` make over `files`, the older deployment's first. An empty variable counts as unset.
pub(super) fn layers(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    files: &Table,
) -> Result<Vec<Layer>, ConfigError> {
    let mut older = Vec::new();
    let mut own = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| is_ours(name)) else { continue };
        let value = value.into_string().map_err(|_| ConfigError::NotText { name: name.to_owned() })?;
        if value.is_empty() || RESERVED.contains(&name) {
            continue;
        }
        match CaddyEnvironment::named(name) {
            Some(variable) => older.extend(variable.layers(name, &value, files)?),
            None => own.push(Layer::variable(name, &setting(name)?, &value)?),
        }
    }
    older.append(&mut own);
    Ok(older)
}

/// Variables that name a table of DynamoDB although the store is in this process. Each instance would then have a store of its
/// own and order a certificate for every name again.
pub(super) fn contradictions(config: &Config, layers: &[Layer]) -> Vec<SettingsProblem> {
    if config.store.endpoint != Endpoint::Embedded {
        return Vec::new();
    }
    let said = |name: &str| {
        let is_it = |layer: &&Layer| layer.place == SettingOrigin::Variable(name.to_owned());
        let table = &layers.iter().find(is_it)?.table;
        ["store.region", "store.certificates_table"]
            .into_iter()
            .find_map(|field| value_at(table, field)?.as_str())
    };
    let contradiction = |name: &str| {
        let value = said(name)?;
        Some(SettingsProblem {
            at: At { place: SettingOrigin::Default, line: None },
            field: "store.endpoint".to_owned(),
            fault: format!("`embedded` reads no table of DynamoDB, yet {name} = `{value}` names one"),
            remedy: format!("write `store.endpoint = \"aws\"`, or unset {name}"),
        })
    };
    ["TABLE_REGION", "TABLE_NAME"].into_iter().filter_map(contradiction).collect()
}

/// The variable that sets `field`.
pub(super) fn variable(field: &str) -> String {
    format!("{PREFIX}{}", field.replace('.', "_").to_ascii_uppercase())
}

/// Variables from the environment file of the proxy that Gatehouse replaces.
enum CaddyEnvironment {
    TableRegion,
    TableName,
    DomainServiceEndpoint,
    LetsencryptEmailAddress,
    TargetDomain,
}

impl CaddyEnvironment {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "TABLE_REGION" => Self::TableRegion,
            "TABLE_NAME" => Self::TableName,
            "DOMAIN_SERVICE_ENDPOINT" => Self::DomainServiceEndpoint,
            "LETSENCRYPT_EMAIL_ADDRESS" => Self::LetsencryptEmailAddress,
            "TARGET_DOMAIN" => Self::TargetDomain,
            _ => return None,
        })
    }

    fn layers(self, name: &str, value: &str, files: &Table) -> Result<Vec<Layer>, ConfigError> {
        let one = |field, value: &str| Layer::variable(name, field, value).map(|layer| vec![layer]);
        match self {
            Self::TableRegion => Ok(region(name, value, files)),
            Self::TableName => one("store.certificates_table", value),
            Self::DomainServiceEndpoint => one("domains.ask", value),
            Self::LetsencryptEmailAddress => Ok(letsencrypt(name, value)),
            Self::TargetDomain if value.contains("://") => one("domains.default_target", value),
            Self::TargetDomain => one("domains.default_target", &format!("https://{value}")),
        }
    }
}

/// A region means DynamoDB of that region, unless a file says where the store is.
fn region(name: &str, value: &str, files: &Table) -> Vec<Layer> {
    let mut layers = vec![Layer::set(name, "store.region", Value::from(value))];
    if value_at(files, "store.endpoint").is_none() {
        layers.push(Layer::set(name, "store.endpoint", Value::from("aws")));
    }
    layers
}

/// A Caddyfile's `tls EMAIL` means Let's Encrypt, then `ZeroSSL`, which wants an account of its own: what it has issued is presented.
fn letsencrypt(name: &str, email: &str) -> Vec<Layer> {
    let issuer = Table::from_iter([
        ("directory".to_owned(), Value::from(LETSENCRYPT)),
        ("email".to_owned(), Value::from(email)),
    ]);
    vec![
        Layer::set(name, "certificates.issuers", Value::Array(vec![Value::Table(issuer)])),
        Layer::set(name, "certificates.also_read", Value::Array(vec![Value::from(ZEROSSL)])),
    ]
}

fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX) && !is_of_kubernetes(name) || CaddyEnvironment::named(name).is_some()
}

/// Whether Kubernetes sets it, in each pod beside a service called `gatehouse` ("Discovering services").
fn is_of_kubernetes(name: &str) -> bool {
    let of_service = name.strip_prefix(PREFIX).unwrap_or_default();
    of_service == "PORT" || of_service.starts_with("PORT_") || of_service.starts_with("SERVICE_")
}

fn setting(name: &str) -> Result<String, ConfigError> {
    let keys = reference::keys();
    if let Some(key) = keys.iter().find(|key| variable(key) == name) {
        return Ok(key.clone());
    }
    let known: Vec<_> = keys.iter().map(|key| variable(key)).collect();
    let at = At { place: SettingOrigin::Variable(name.to_owned()), line: None };
    let nearest = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
    Err(ConfigError::Unknown { at, key: name.to_owned(), nearest })
}

const PREFIX: &str = "GATEHOUSE_";
const LETSENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
const ZEROSSL: &str = "https://acme.zerossl.com/v2/DV90";
/// Read elsewhere: the command line's `--config`, a successor's predecessor, and in the tests' build the store's faults.
const RESERVED: &[&str] = &[
    "GATEHOUSE_CONFIG",
    "GATEHOUSE_PREDECESSOR",
    #[cfg(feature = "fault-injection")]
    "GATEHOUSE_STORE_FAULTS",
];
