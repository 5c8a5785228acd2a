//! `gatehouse reload`.

use std::fmt::Write;

use hyper::StatusCode;

use super::{arguments::Form, error::CommandError, print};
use crate::{
    config::Config,
    control::{ClientError, ControlClient, wire::Reloaded},
};

/// Asks the instance, and writes what became of its settings.
pub(super) async fn reload(config: &Config, form: Form) -> Result<(), CommandError> {
    let path = config.control_socket();
    let client = ControlClient::find(&path).await?.ok_or(CommandError::NotRunning { path })?;
    match client.reload().await {
        Ok(reloaded) => print(form, &reloaded, shown),
        Err(ClientError::Refused(problem)) if problem.status == StatusCode::UNPROCESSABLE_ENTITY => {
            Err(CommandError::NotReloaded { wrong: problem.detail })
        }
        Err(error) => Err(error.into()),
    }
}

fn shown(reloaded: &Reloaded) -> String {
    let mut text = String::new();
    for setting in &reloaded.applied {
        let _ = writeln!(text, "applied        {setting}");
    }
    for setting in &reloaded.needs_restart {
        let _ = writeln!(text, "needs restart  {setting}");
    }
    if text.is_empty() {
        text.push_str("nothing has changed\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_force_is_told_from_what_waits() {
        let (applied, needs_restart) = (vec!["limits.idle".to_owned()], vec!["listen.https".to_owned()]);
        assert_eq!(
            shown(&Reloaded { applied, needs_restart }),
            "applied        limits.idle\nneeds restart  listen.https\n"
        );
        assert_eq!(shown(&Reloaded::default()), "nothing has changed\n");
    }
}
