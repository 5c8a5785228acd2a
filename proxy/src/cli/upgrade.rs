//! `gatehouse upgrade`.

use std::path::Path;

use hyper::StatusCode;

use super::{arguments::Form, error::CommandError, notice, print};
use crate::{
    config::Config,
    control::{
        ClientError, ControlClient,
        wire::{UpgradeWanted, Upgraded},
    },
};

/// Asks the instance for a successor from `binary`, waits for it for `within` seconds, and writes who serves.
pub(super) async fn upgrade(
    config: &Config,
    binary: Option<&Path>,
    within: u64,
    form: Form,
) -> Result<(), CommandError> {
    let path = config.control_socket();
    // The instance has another working directory.
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(|source| CommandError::Binary { path: path.to_owned(), source })
    };
    let wanted = UpgradeWanted { binary: binary.map(absolute).transpose()?, within_seconds: within };
    let client = ControlClient::find(&path).await?.ok_or(CommandError::NotRunning { path })?;
    notice(&format!("waiting until the successor is ready (for {within} s at most)"));
    match client.upgrade(&wanted).await {
        Ok(upgraded) => print(form, &upgraded, shown),
        // An instance that ends does not go on.
        Err(ClientError::Refused(problem)) if problem.status != StatusCode::SERVICE_UNAVAILABLE => {
            Err(CommandError::NotUpgraded { why: problem.detail })
        }
        Err(error) => Err(error.into()),
    }
}

fn shown(upgraded: &Upgraded) -> String {
    let Upgraded { pid, version, predecessor } = upgraded;
    format!(
        "process {pid} serves (gatehouse {version}); process {predecessor} ends when its connections have\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_serves_is_told_from_who_ends() {
        let upgraded = Upgraded { pid: 12, version: "0.2.0".to_owned(), predecessor: 7 };
        assert_eq!(
            shown(&upgraded),
            "process 12 serves (gatehouse 0.2.0); process 7 ends when its connections have\n"
        );
    }
}
