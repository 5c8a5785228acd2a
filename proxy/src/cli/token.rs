//! `gatehouse token`.

use crate::{
    clock,
    config::Config,
    control::tokens::{IssuedToken, NewToken, TokenList},
    store::{
        instant::Micros,
        state_table::{TokenReach, TokenRecord},
    },
};

use super::{access::Access, arguments::TokenCommand, columns::Columns, error::CommandError, print};

/// Asks, and writes the answer.
pub(super) async fn token(config: &Config, command: &TokenCommand) -> Result<(), CommandError> {
    let access = Access::open(config).await?;
    match command {
        TokenCommand::Create { name, scope, tenant, all_tenants: _, expires, form } => {
            let reach = tenant.clone().map_or(TokenReach::AllTenants, TokenReach::Tenant);
            let lifetime_seconds = expires.map(|span| span.as_secs());
            let scopes = scope.iter().copied().collect();
            let new = NewToken { name: name.clone(), scopes, reach, lifetime_seconds };
            print(*form, &access.create_token(new).await?, issued)
        }
        TokenCommand::List(form) => {
            let now = Micros::of(clock::wall());
            print(*form, &access.tokens().await?, |list| listed(list, now))
        }
        TokenCommand::Revoke { id, form } => print(*form, &access.revoke_token(id).await?, |record| {
            format!(
                "{} ({}): revoked; within ten seconds no instance takes it any more\n",
                record.id, record.name
            )
        }),
    }
}

fn issued(issued: &IssuedToken) -> String {
    format!("{}\nKeep it now: it is stored nowhere and cannot be shown again.\n", issued.token)
}

fn listed(list: &TokenList, now: Micros) -> String {
    let mut columns = Columns::new(["ID", "NAME", "SCOPES", "TENANT", "CREATED", "ENDS", "STATE"]);
    for record in &list.tokens {
        columns.row([
            record.id.to_string(),
            record.name.to_string(),
            scopes(record),
            match &record.reach {
                TokenReach::Tenant(tenant) => tenant.to_string(),
                TokenReach::AllTenants => "(all)".to_owned(),
            },
            record.created_at.to_string(),
            record.expires_at.map(|at| at.to_string()).unwrap_or_default(),
            state(record, now).to_owned(),
        ]);
    }
    columns.text()
}

fn scopes(record: &TokenRecord) -> String {
    record.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(",")
}

fn state(record: &TokenRecord, now: Micros) -> &'static str {
    match (record.revoked_at, record.is_valid(now)) {
        (Some(_), _) => "revoked",
        (None, false) => "expired",
        (None, true) => "valid",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_shows_whose_a_token_is_and_whether_it_is_valid() {
        let record = TokenRecord {
            id: "0123456789ab".parse().unwrap(),
            name: "ci".parse().unwrap(),
            scopes: crate::api_token::Scope::ALL.into(),
            reach: TokenReach::Tenant("acme".parse().unwrap()),
            created_at: Micros::from_epoch(0),
            expires_at: Some(Micros::from_epoch(9)),
            revoked_at: None,
        };
        let revoked = TokenRecord {
            reach: TokenReach::AllTenants,
            revoked_at: Some(Micros::from_epoch(1)),
            expires_at: None,
            ..record.clone()
        };
        let list = TokenList { tokens: vec![record, revoked] };
        let rows: Vec<_> = listed(&list, Micros::from_epoch(8)).lines().map(str::to_owned).collect();
        assert!(
            rows[1].starts_with("0123456789ab  ci    domains:read,domains:write,audit:read  acme    1970")
        );
        assert!(
            rows[1].ends_with(" valid")
                && rows[2].contains(" (all) ")
                && rows[2].ends_with(" -                            revoked"),
            "{rows:?}"
        );
        assert!(listed(&list, Micros::from_epoch(9)).contains("expired"));
    }
}
