//! `gatehouse certificate`.

use std::fmt::Write;

use crate::{
    certificates::listing::{Listed, Summary},
    config::Config,
    control::wire::Page,
};

use super::{access::Access, arguments::CertificateCommand, columns::Columns, error::CommandError, tell};

/// Asks, and writes the answer.
pub(super) async fn certificate(config: &Config, command: &CertificateCommand) -> Result<(), CommandError> {
    let access = Access::open(config).await?;
    match command {
        CertificateCommand::List { after, limit, form } => {
            tell(*form, &access.certificates(after.as_ref(), *limit).await?, listed)
        }
        CertificateCommand::Show { name, form } => tell(*form, &access.certificate(name).await?, shown),
    }
}

fn listed(page: &Page<Listed>) -> String {
    let mut columns = Columns::new(["NAME", "RENEWED FROM"]);
    for listed in &page.items {
        columns.row([listed.server_name.to_string(), listed.due_at.to_string()]);
    }
    let more = page.next.as_ref().map_or_else(String::new, |next| format!("more: --after '{next}'\n"));
    format!("{}{more}", columns.text())
}

fn shown(summary: &Summary) -> String {
    let mut text = format!("name        {}\n", summary.server_name);
    match &summary.certificate {
        None => text.push_str("presented   nothing: the table holds no valid certificate\n"),
        Some(certificate) => {
            for (what, value) in [
                ("kept under", certificate.pattern.to_string()),
                ("issuer", certificate.issuer.clone()),
                ("serial", certificate.serial.clone()),
                ("not before", certificate.not_before.to_string()),
                ("not after", certificate.not_after.to_string()),
                ("renew at", certificate.renew_at.to_string()),
            ] {
                let _ = writeln!(text, "{what:<12}{value}");
            }
        }
    }
    if summary.failures > 0 {
        let _ = writeln!(text, "failures    {} in a row: {}", summary.failures, summary.problem);
    }
    if let Some(retry_at) = summary.retry_at {
        let _ = writeln!(text, "retry at    {retry_at}");
    }
    text
}
