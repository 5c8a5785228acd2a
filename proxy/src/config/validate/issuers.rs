//! Certificate authorities.

use std::{collections::HashSet, time::Duration};

use super::{Findings, ROOTS, SecretPlace, is_url};
use crate::{
    config::{Config, ExternalAccountConfig, KeyEncryption},
    name::Pattern,
};

pub(super) fn issuers(config: &Config, findings: &mut Findings) {
    let certificates = &config.certificates;
    let mut seen = HashSet::new();
    let count = certificates.issuers.len() + certificates.also_read.len();
    if count > MAX_ISSUERS {
        let fault = format!("{count} issuers, with `also_read`, are more than one read of the table covers");
        findings.add("certificates.issuers", fault, format!("list at most {MAX_ISSUERS}"));
    }
    for (i, issuer) in certificates.issuers.iter().enumerate() {
        let field = |key| format!("certificates.issuers[{i}].{key}");
        // RFC 8555 §6.1: ACME is spoken over HTTPS only.
        if !is_url(&issuer.directory, &["https"]) {
            let remedy = "write it like `https://acme-v02.api.letsencrypt.org/directory`";
            findings.add(&field("directory"), format!("`{}` is not an https URL", issuer.directory), remedy);
        }
        if !seen.insert(&issuer.directory) {
            findings.add(&field("directory"), format!("`{}` is listed twice", issuer.directory), "keep one");
        }
        if !issuer.email.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.')) {
            let fault = format!("`{}` is not a mail address", issuer.email);
            findings.add(&field("email"), fault, "write it like `operator@example.com`");
        }
        for (key, value) in [("profile", &issuer.profile), ("preferred_chain", &issuer.preferred_chain)] {
            if value.as_ref().is_some_and(String::is_empty) {
                findings.add(&field(key), "`` is no name", "leave it out for the CA's default");
            }
        }
        if let Some(external) = &issuer.eab {
            external_account(&field("eab"), external, findings);
        }
    }
    for (i, directory) in certificates.also_read.iter().enumerate() {
        let field = format!("certificates.also_read[{i}]");
        if !is_url(directory, &["https"]) {
            let remedy = "write it like `https://acme.zerossl.com/v2/DV90`";
            findings.add(&field, format!("`{directory}` is not an https URL"), remedy);
        }
        if !seen.insert(directory) {
            findings.add(&field, format!("`{directory}` is listed twice"), "keep one");
        }
    }
    let least = *config.store.timeout * LEASE_CALLS;
    if *certificates.lease < least {
        let fault = format!("`{}` ends before three calls of the store can renew it", certificates.lease);
        findings.add("certificates.lease", fault, format!("write at least {} s", least.as_secs()));
    }
    wildcards(config, findings);
    key_encryption(config, findings);
    local_copy(config, findings);
    if *certificates.internal_life < SHORTEST_LIFE {
        let fault = format!("`{}` leaves no time to renew", certificates.internal_life);
        findings.add("certificates.internal_life", fault, "write at least `1h`");
    }
}

/// Wildcards with certificates of their own.
fn wildcards(config: &Config, findings: &mut Findings) {
    let deadline = config.certificates.order_deadline;
    if !config.certificates.wildcards.is_empty() && *deadline < PROPAGATION {
        let fault =
            format!("`{deadline}` ends before Route 53 has a wildcard's record on all of its servers");
        findings.add("certificates.order_deadline", fault, "write at least `1m`, or leave it out");
    }
    let mut seen = HashSet::new();
    for (i, wildcard) in config.certificates.wildcards.iter().enumerate() {
        let field = format!("certificates.wildcards[{i}].name");
        let name = &wildcard.name;
        if matches!(name, Pattern::Exact(_)) {
            findings.add(&field, format!("`{name}` is no wildcard"), format!("write it like `*.{name}`"));
        }
        if !seen.insert(name) {
            findings.add(&field, format!("`{name}` is listed twice"), "keep one");
        }
        if wildcard.validated_name().is_err() {
            let fault =
                format!("`{name}` is too long: CAs ask for a record at `_acme-challenge.` and its suffix");
            findings.add(&field, fault, "write a wildcard whose suffix has at most 237 characters");
        }
    }
}

/// Caddy reads keys in clear alone, so that encryption says twice that none is left.
fn key_encryption(config: &Config, findings: &mut Findings) {
    match (config.certificates.shared_with_caddy, &config.store.key_encryption) {
        (true, KeyEncryption::Off) | (false, KeyEncryption::File(_) | KeyEncryption::Kms(_)) => {}
        (false, KeyEncryption::Off) => {
            let fault = "`false` would promise encryption: private keys are not encrypted in the table";
            let remedy = "leave it out, or set `store.key_encryption`";
            findings.add("certificates.shared_with_caddy", fault, remedy);
        }
        (true, encryption @ (KeyEncryption::File(_) | KeyEncryption::Kms(_))) => {
            let fault = format!("`{encryption}` encrypts private keys, which Caddy then cannot read");
            let remedy =
                "set `certificates.shared_with_caddy = false` if no Caddy uses the table, or leave it out";
            findings.add("store.key_encryption", fault, remedy);
        }
    }
}

/// A copy is of private keys.
fn local_copy(config: &Config, findings: &mut Findings) {
    let Some(directory) = &config.store.local_copy else { return };
    let shown = directory.display();
    if !directory.is_absolute() {
        let remedy = "write it from the root, like `/var/lib/gatehouse/copy`";
        findings.add("store.local_copy", format!("`{shown}` is no absolute path"), remedy);
    }
    if config.store.key_encryption == KeyEncryption::Off {
        let fault = format!("`{shown}` would hold private keys, and there is no key to encrypt them by");
        let remedy = "set `store.key_encryption`, or leave it out";
        findings.add("store.local_copy", fault, remedy);
    }
}

fn external_account(field: &str, external: &ExternalAccountConfig, findings: &mut Findings) {
    if external.key_id.is_empty() {
        findings.add(&format!("{field}.key_id"), "`` is no identifier", "write it as the CA gave it");
    }
    let key = SecretPlace {
        what: "HMAC key",
        key: "hmac_key",
        file: external.hmac_key_file.as_deref(),
        variable: external.hmac_key_variable.as_deref(),
    };
    key.validate(field, findings);
}

/// Files of issuers that do not exist.
pub(super) fn missing_files(config: &Config, findings: &mut Findings) {
    for (i, issuer) in config.certificates.issuers.iter().enumerate() {
        let field = |key| format!("certificates.issuers[{i}].{key}");
        findings.add_if_missing(&field("roots"), issuer.roots.as_deref(), ROOTS);
        let key = issuer.eab.as_ref().and_then(|external| external.hmac_key_file.as_deref());
        findings.add_if_missing(
            &field("eab.hmac_key_file"),
            key,
            "give the path of a file with the key in base64url",
        );
    }
}

/// `BatchGetItem` takes 100 keys: six for each issuer, and the record.
pub(crate) const MAX_ISSUERS: usize = 15;
/// A lease is renewed after a third of its time, and that call may use all of its time-out.
const LEASE_CALLS: u32 = 3;
/// Route 53, "ChangeResourceRecordSets": changes are generally everywhere within a minute.
const PROPAGATION: Duration = Duration::from_mins(1);
const SHORTEST_LIFE: Duration = Duration::from_hours(1);
