//! What the stack tells the function, by its environment.

use std::time::Duration;

use aws_credential_types::Credentials;

/// All of it.
#[derive(Debug)]
pub struct Settings {
    /// Name of the Auto Scaling group.
    pub(crate) group: String,
    /// ARN.
    pub(crate) endpoint_group: String,
    /// Name or ARN of the stack that waits for signals.
    pub(crate) stack: String,
    /// The group's logical name in it.
    pub(crate) resource: String,
    pub(crate) join_hook: String,
    pub(crate) leave_hook: String,
    pub(crate) region: String,
    pub(crate) credentials: Credentials,
    /// In the place of AWS's own endpoints.
    pub(crate) endpoint_url: Option<String>,
    /// Between two looks while something is under way.
    pub(crate) look_every: Duration,
}

/// A variable is missing, or is not what it has to be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingsError {
    /// A variable that has to be there.
    #[error("{0} is not set; Lambda sets it, by the template `fleet`")]
    Missing(&'static str),
    /// A time between looks that is none.
    #[error("LOOK_EVERY_SECONDS: `{0}` is no number of seconds; leave it out for 5")]
    Interval(String),
}

impl Settings {
    /// From what `variable` gives for each name.
    ///
    /// # Errors
    /// Where a variable is missing, or is not what it has to be.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let needed = |name: &'static str| set(name).ok_or(SettingsError::Missing(name));
        let look_every = match set("LOOK_EVERY_SECONDS") {
            None => LOOK_EVERY,
            Some(text) => text.parse().map(Duration::from_secs).map_err(|_| SettingsError::Interval(text))?,
        };
        let (key, secret) = (needed("AWS_ACCESS_KEY_ID")?, needed("AWS_SECRET_ACCESS_KEY")?);
        Ok(Self {
            group: needed("GROUP")?,
            endpoint_group: needed("ENDPOINT_GROUP")?,
            stack: needed("STACK")?,
            resource: needed("RESOURCE")?,
            join_hook: needed("JOIN_HOOK")?,
            leave_hook: needed("LEAVE_HOOK")?,
            region: needed("AWS_REGION")?,
            credentials: Credentials::new(key, secret, set("AWS_SESSION_TOKEN"), None, "environment"),
            endpoint_url: set("AWS_ENDPOINT_URL"),
            look_every,
        })
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let all =
            |name: &str| (!name.ends_with("_URL") && name != "LOOK_EVERY_SECONDS").then(|| "a".to_owned());
        let settings = Settings::read(all).unwrap();
        assert_eq!((settings.look_every, settings.endpoint_url), (LOOK_EVERY, None));
        let without_stack = |name: &str| all(name).filter(|_| name != "STACK");
        assert_eq!(Settings::read(without_stack).unwrap_err(), SettingsError::Missing("STACK"));
        let odd = |name: &str| if name == "LOOK_EVERY_SECONDS" { Some("soon".to_owned()) } else { all(name) };
        assert_eq!(Settings::read(odd).unwrap_err(), SettingsError::Interval("soon".to_owned()));
    }

    #[test]
    fn no_key_is_shown() {
        let secret =
            |name: &str| Some(if name == "LOOK_EVERY_SECONDS" { "1" } else { "wJalrXUtnFEMI" }.to_owned());
        let mut settings = Settings::read(secret).unwrap();
        // Names are shown, keys are not.
        for field in
            [&mut settings.group, &mut settings.endpoint_group, &mut settings.stack, &mut settings.resource]
        {
            field.clear();
        }
        let shown = format!("{:?}", settings.credentials);
        assert!(!shown.contains("secret_access_key: \"wJal"), "{shown}");
    }
}
