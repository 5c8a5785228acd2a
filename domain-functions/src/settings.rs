//! What the stack tells a function, by its environment: the appliance's settings, as variables and as a text of TOML.

use std::ffi::OsString;

use gatehouse::{
    config::{Config, ConfigError, gather},
    ec2::IdentitySource,
    store::{ConnectError, Store},
};

/// Which function it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Verifier,
    Checker,
}

impl Role {
    /// By the handler's name.
    pub(crate) fn of(handler: &str) -> Result<Self, SettingsError> {
        match handler {
            "verifier" => Ok(Self::Verifier),
            "checker" => Ok(Self::Checker),
            _ => Err(SettingsError::Handler(handler.to_owned())),
        }
    }
}

/// Why a function cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("{0} is not set; Lambda sets it")]
    Missing(&'static str),
    #[error("the handler `{0}` is none of this program; write `verifier` or `checker`")]
    Handler(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(
        "GATEHOUSE_STORE_ENDPOINT: a function has no store of its own; write `aws`, as the template `functions` does"
    )]
    Embedded,
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(
        "verification.edge_names: empty, so that nothing can be checked; give the names of the edge in the settings of the fleet, and deploy"
    )]
    NoEdgeName,
}

/// The settings of `environment`, over the TOML of its variable [`SETTINGS`].
pub(crate) fn read(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    settings: Option<String>,
) -> Result<Config, SettingsError> {
    let mut gathered = gather(None, environment)?;
    if let Some(text) = settings {
        gathered.lay_variable(SETTINGS, text)?;
    }
    Ok(gathered.settings()?.config)
}

/// The tables of `config`.
pub(crate) async fn connect(config: &Config) -> Result<Store, SettingsError> {
    // Lambda gives region and credentials by the environment, and has no metadata service.
    let store = Store::connect_to_service(&config.store, &IdentitySource::Off).await?;
    store.ok_or(SettingsError::Embedded)
}

pub(crate) const SETTINGS: &str = "SETTINGS";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_the_appliances_and_what_is_wrong_is_named() {
        let variables = |endpoint: &str| [("GATEHOUSE_STORE_ENDPOINT".into(), endpoint.into())];
        let text = "[verification]\nedge_names = [\"edge.example.net\"]\nrequired = \"dns\"\n".to_owned();
        let config = read(variables("aws"), Some(text)).unwrap();
        assert_eq!(
            (config.store.endpoint.to_string().as_str(), config.verification.edge_names.len()),
            ("aws", 1)
        );
        for (endpoint, text, named) in [
            ("amazon", "", "store.endpoint"),
            ("aws", "[verification]\nedge_name = \"a.example\"\n", "SETTINGS"),
            ("aws", "[verification]\nrequired = \"dns\"\n", "verification.edge_names"),
        ] {
            let said = read(variables(endpoint), Some(text.to_owned())).unwrap_err().to_string();
            assert!(said.contains(named), "{text}: {said}");
        }
        assert!(Role::of("bootstrap").unwrap_err().to_string().contains("`verifier` or `checker`"));
    }
}
