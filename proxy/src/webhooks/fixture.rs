//! Webhooks and receivers for tests.

use std::{fs, os::unix::fs::PermissionsExt as _};

use tokio::{io::AsyncReadExt as _, net::TcpStream};

use super::webhook::{Webhook, WebhookError};
use crate::config::WebhookConfig;

/// Of the specification's example.
pub(super) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The webhook `crm` at `url`, whose file of this mode has `secret`.
pub(super) fn webhook(url: String, secret: &str, mode: u32) -> Result<Webhook, WebhookError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    fs::write(&path, secret).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    let (name, events) = ("crm".parse().unwrap(), Vec::new());
    Webhook::read(&WebhookConfig { name, url, secret_file: Some(path), secret_variable: None, events })
}

/// A message as it comes.
pub(super) async fn message(stream: &mut TcpStream) -> String {
    let (mut message, mut part) = (Vec::new(), [0; 1024]);
    while !message.ends_with(b"}") {
        let read = stream.read(&mut part).await.unwrap();
        assert!(read > 0, "the request is cut");
        message.extend_from_slice(&part[..read]);
    }
    String::from_utf8(message).unwrap()
}
