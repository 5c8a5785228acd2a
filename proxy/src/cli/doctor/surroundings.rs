//! Ports and tables: whether they can be used.

use std::{io, net::SocketAddr, sync::Arc};

use super::finding::{Finding, Severity};
use crate::{
    config::{Config, Endpoint, KeyEncryption},
    control::{ControlClient, wire::InstanceStatus},
    ec2::IdentitySource,
    run::ports::{self, Port, PortHolder},
    store::{
        Store, StoreError,
        permissions::{self, ApiCall, ProbeOutcome, is_missing_permission},
        probe,
        tables::{self, TablesError},
    },
    telemetry::error_chain,
};

/// Each address: free, or taken by the instance that answers on the control socket.
pub(super) async fn ports(config: Arc<Config>) -> Vec<Finding> {
    let ours = match ControlClient::find(&config.control_socket()).await {
        Ok(Some(client)) => client.status().await.map_or_else(|_| Vec::new(), held),
        Ok(None) | Err(_) => Vec::new(),
    };
    wanted(&config)
        .map(|(field, address)| {
            judge_port(field, address, &ours, ports::probe(address), ports::holder(address).as_ref())
        })
        .collect()
}

/// What a start binds, with the setting that says so.
fn wanted(config: &Config) -> impl Iterator<Item = (&'static str, SocketAddr)> {
    let Config { listen, control, api, .. } = config;
    let https = listen.https.iter().map(|address| ("listen.https", *address));
    let http = listen.http.iter().map(|address| ("listen.http", *address));
    let others = [
        ("control.metrics", control.metrics.address()),
        ("control.ask", control.ask),
        ("api.listen", api.listen),
    ];
    https.chain(http).chain(others.into_iter().filter_map(|(field, address)| Some((field, address?))))
}

/// What an instance holds of it.
fn held(status: InstanceStatus) -> Vec<SocketAddr> {
    let InstanceStatus { https, http, metrics, ask_server, api, .. } = status;
    https.into_iter().chain(http).chain([metrics, ask_server, api].into_iter().flatten()).collect()
}

fn judge_port(
    field: &str,
    address: SocketAddr,
    ours: &[SocketAddr],
    probe: io::Result<Port>,
    holder: Option<&PortHolder>,
) -> Finding {
    let what = format!("port {address}");
    if ours.contains(&address) {
        return Finding::ok(what, "held by the running instance");
    }
    let taken = |what| {
        let by = holder.map_or_else(|| "another process".to_owned(), ToString::to_string);
        let remedy = format!("end it (`ss -ltnp sport = :{}`), or change {field}", address.port());
        Finding::error(what, format!("taken by {by}"), remedy)
    };
    match probe {
        Ok(Port::Free) => Finding::ok(what, "free"),
        // Whom this user cannot see is the manager: processes of its own it could see.
        Ok(Port::Shared) if holder.is_none_or(PortHolder::is_manager) => {
            Finding::ok(what, "kept by the service manager for the next start")
        }
        Ok(Port::Shared) => taken(what),
        Err(error) => match error.kind() {
            io::ErrorKind::AddrInUse => taken(what),
            io::ErrorKind::PermissionDenied => Finding::error(
                what,
                "not permitted to this user",
                "grant CAP_NET_BIND_SERVICE, or run as the unit does",
            ),
            _ => Finding::error(what, error.to_string(), format!("change {field}")),
        },
    }
}

/// Each table: there, and of the right form. The embedded store makes its own.
pub(super) async fn tables(config: Arc<Config>) -> Vec<Finding> {
    if config.store.endpoint == Endpoint::Embedded {
        return vec![Finding::ok("tables", "embedded: created at the first start")];
    }
    let store =
        match Store::connect(&config.store, &IdentitySource::of(&config.instance), &config.state_directory)
            .await
        {
            Ok(store) => store,
            Err(error) => {
                return vec![Finding::error(
                    "tables",
                    error_chain(&error),
                    "check the settings under [store]",
                )];
            }
        };
    let mut findings = examine(&store, config.domains.table).await;
    if config.store.key_encryption != KeyEncryption::Off {
        findings.push(match probe::seal(&store).await {
            Ok(()) => Finding::ok("keys", "private keys are encrypted and read as store.key_encryption says"),
            Err(error) => {
                let remedy = "check store.key_encryption, the key's policy, and the way to KMS";
                Finding::error("keys", error_chain(&error), remedy)
            }
        });
    }
    findings
}

/// The tables that serving needs; `with_domains` says whether that table is one of them.
async fn examine(store: &Store, with_domains: bool) -> Vec<Finding> {
    let (mut findings, mut missing) = (Vec::new(), Vec::new());
    let unused = |table: &String| !with_domains && *table == store.tables().domains;
    for (table, checked) in tables::check(store).await.into_iter().filter(|(table, _)| !unused(table)) {
        let what = format!("table {table}");
        let form = judge_form(&what, store, checked);
        // What is not there, or is another table, tells nothing of permissions.
        let is_there = form.severity != Severity::Error;
        findings.push(form);
        if is_there {
            for (call, outcome) in permissions::probe(store, &table).await {
                findings.extend(judge_call(&what, call, &outcome));
                missing.extend(matches!(outcome, ProbeOutcome::Missing(_)).then(|| (table.clone(), call)));
            }
        }
    }
    if !missing.is_empty() {
        let found = format!("{} calls that serving makes are denied", missing.len());
        let policy = Some(permissions::policy(store, &missing));
        findings.push(Finding {
            policy,
            ..Finding::error("permissions", found, "add the policy below to the role")
        });
    }
    findings
}

fn judge_form(what: &str, store: &Store, checked: Result<(), TablesError>) -> Finding {
    match checked {
        Ok(()) => Finding::ok(what, format!("active at {}", store.endpoint())),
        Err(TablesError::Store { source: StoreError::Denied(said), .. })
            if is_missing_permission(&said.to_string()) =>
        {
            Finding::note(
                what,
                "dynamodb:DescribeTable is denied, so keys and indexes cannot be checked; serving does not need it",
                "allow dynamodb:DescribeTable where `tables create` and `doctor` are run",
            )
        }
        Err(error) => Finding::error(what, error_chain(&error), remedy(&error)),
    }
}

fn judge_call(what: &str, call: ApiCall, outcome: &ProbeOutcome) -> Option<Finding> {
    match outcome {
        ProbeOutcome::Permitted => None,
        ProbeOutcome::Missing(said) => {
            Some(Finding::error(what, format!("{call} is denied ({said})"), "see the policy below"))
        }
        ProbeOutcome::Failed(error) => Some(Finding::error(
            what,
            format!("{call} fails: {}", error_chain(error)),
            "check region, endpoint and credentials",
        )),
    }
}

fn remedy(error: &TablesError) -> &'static str {
    match error {
        TablesError::Keys(_) => "check store.key_encryption",
        TablesError::Absent { .. } => "gatehouse tables create",
        TablesError::Store { source: StoreError::NotDynamoDb(_), .. } => "correct store.endpoint",
        TablesError::Store { source: StoreError::NoCredentials, .. } => "give the instance a role",
        TablesError::Store { .. } => "check region, endpoint and credentials",
        TablesError::Differs { .. } => "name another table in [store]",
        TablesError::Slow { .. } => "wait until it is active",
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::store::{Engine, FaultPlan, Faults};

    #[test]
    fn a_port_is_free_or_ours_or_named_with_its_holder() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let judged = |ours: &[SocketAddr]| {
            judge_port("listen.https", address, ours, ports::probe(address), ports::holder(address).as_ref())
        };
        let other = judged(&[]);
        assert_eq!(other.severity, Severity::Error);
        assert!(other.found.contains(&format!("(process {})", std::process::id())), "{}", other.found);
        assert!(other.remedy.unwrap().contains("change listen.https"));
        assert_eq!(judged(&[address]).found, "held by the running instance");
        drop(taken);
        assert_eq!(judged(&[]).found, "free");
    }

    #[test]
    fn every_address_that_a_start_binds_is_looked_at() {
        let text = "[listen]\nhttps = [\"127.0.0.1:1\"]\nhttp = [\"127.0.0.1:2\"]\n[control]\nmetrics = \"127.0.0.1:3\"\n\
                    ask = \"127.0.0.1:4\"\n[api]\nlisten = \"127.0.0.1:5\"\n";
        let config: Config = toml::from_str(text).unwrap();
        let wanted: Vec<_> = wanted(&config).map(|(field, address)| (field, address.port())).collect();
        let all = [
            ("listen.https", 1),
            ("listen.http", 2),
            ("control.metrics", 3),
            ("control.ask", 4),
            ("api.listen", 5),
        ];
        assert_eq!(wanted, all);
    }

    #[test]
    fn a_port_that_would_be_shared_is_the_managers_or_taken() {
        let holder = |pid, command: &str| Some(PortHolder { pid, command: command.to_owned() });
        for (holder, severity) in [
            (holder(1, "systemd"), Severity::Ok),
            (holder(812, "systemd"), Severity::Ok),
            (None, Severity::Ok),
            (holder(77, "gatehouse"), Severity::Error),
        ] {
            let address = "127.0.0.1:443".parse().unwrap();
            let found = judge_port("listen.https", address, &[], Ok(Port::Shared), holder.as_ref());
            assert_eq!(found.severity, severity, "{holder:?}: {}", found.found);
        }
    }

    #[tokio::test]
    async fn what_the_role_lacks_is_named_with_its_table_and_printed_as_a_policy() {
        let faults = Faults::new(FaultPlan::default());
        let engine = Engine::in_memory().unwrap();
        let store = Store::on_faulty(engine, &crate::config::StoreConfig::default(), Arc::clone(&faults));
        tables::create(&store).await.unwrap();
        let severities =
            |findings: &[Finding]| findings.iter().map(|found| found.severity).collect::<Vec<_>>();
        assert_eq!(severities(&examine(&store, true).await), [Severity::Ok; 3]);

        faults.forbid(&["DescribeTable"]);
        assert_eq!(severities(&examine(&store, true).await), [Severity::Note; 3]);

        faults.forbid(&["DeleteItem"]);
        let findings = examine(&store, true).await;
        let failed: Vec<_> = findings.iter().filter(|found| found.severity == Severity::Error).collect();
        assert_eq!(failed.len(), 2, "{failed:?}");
        assert!(failed[0].what.ends_with(&store.tables().certificates), "{failed:?}");
        assert!(failed[0].found.starts_with("DeleteItem is denied"), "{failed:?}");
        let policy = failed[1].policy.as_ref().unwrap();
        assert_eq!(policy["Statement"][0]["Action"], serde_json::json!(["dynamodb:DeleteItem"]));

        faults.forbid(&["UpdateItem"]);
        let unneeded = examine(&store, false).await;
        assert!(!unneeded.iter().any(|found| found.what.ends_with("domains")), "{unneeded:?}");
    }
}
