//! A change of parts of an entry.

use super::{Action, Decision, Refusal, Report, Rules, entry::changed_by, keep, servable, with_standing};
use crate::{
    config::{DomainSettings, Maintenance, RequestRate, SiteRedirect, TlsVersion, UpstreamHost, WwwPair},
    store::{
        domain_table::{DomainRecord, SettingsMap},
        instant::Micros,
    },
    target::Target,
};

/// What is to become of parts of an entry; its status stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patch {
    /// Its target.
    pub target: PatchField<Target>,
    /// [`DomainSettings::minimum_tls`].
    pub minimum_tls: PatchField<TlsVersion>,
    /// [`DomainSettings::host`].
    pub host: PatchField<UpstreamHost>,
    /// [`DomainSettings::maintenance`].
    pub maintenance: PatchField<Maintenance>,
    /// [`DomainSettings::redirect`].
    pub redirect: PatchField<SiteRedirect>,
    /// [`DomainSettings::www`].
    pub www: PatchField<WwwPair>,
    /// [`DomainSettings::request_rate`].
    pub request_rate: PatchField<RequestRate>,
    /// [`DomainSettings::client_request_rate`].
    pub client_request_rate: PatchField<RequestRate>,
}

/// What is to become of a part (RFC 7396).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PatchField<T> {
    /// It stays.
    #[default]
    Keep,
    /// It is as the settings have it.
    Clear,
    /// It is this.
    Set(T),
}

impl<T: Clone> PatchField<T> {
    fn over(&self, below: Option<T>) -> Option<T> {
        match self {
            Self::Keep => below,
            Self::Clear => None,
            Self::Set(value) => Some(value.clone()),
        }
    }
}

pub(super) fn patch(
    entry: &DomainRecord,
    patch: &Patch,
    rules: &Rules,
    now: Micros,
) -> Result<Decision, Refusal> {
    let target = patch.target.over(entry.target.clone());
    let settings = DomainSettings {
        minimum_tls: patch.minimum_tls.over(entry.settings.minimum_tls),
        host: patch.host.over(entry.settings.host),
        maintenance: patch.maintenance.over(entry.settings.maintenance),
        redirect: patch.redirect.over(entry.settings.redirect),
        www: patch.www.over(entry.settings.www),
        request_rate: patch.request_rate.over(entry.settings.request_rate),
        client_request_rate: patch.client_request_rate.over(entry.settings.client_request_rate),
    };
    let mut warnings = Vec::new();
    if target != entry.target || settings.www != entry.settings.www {
        warnings = servable::check(&entry.pattern, target.as_ref(), settings, rules)?;
    }
    let is_kept = target == entry.target && settings == entry.settings;
    let settings_map = if settings == entry.settings { entry.settings_map } else { SettingsMap::Present };
    let new = DomainRecord { target, settings, settings_map, ..changed_by(entry, now) };
    let warnings = with_standing(warnings, &new);
    if is_kept {
        return Ok(keep(entry, &warnings));
    }
    Ok(Decision { report: Report::of(Action::Replace, Some(entry), &new, &warnings), record: new })
}
