//! The fleet's account at a CA: bound to an external one where the CA wants it, and replaced once it is of no more use.

use std::{fs, future::Future, path::PathBuf, pin::Pin, time::Duration};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use bytes::Bytes;
use gatehouse::{
    config::{ExternalAccountConfig, IssuerConfig},
    name::Pattern,
    store::{
        Engine, PrivateKeyPem,
        certificate_table::{
            self, AccountKeyCommit, IssuerKey, StoredAccount, commit_account_key, find_account,
        },
        state_table::read_records,
    },
};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use instant_acme::{Account, BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::{
    ClientConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _},
};
use testbed::{
    authority,
    pebble::{EXTERNAL_ACCOUNT, Pebble, Variant, wait_for_requests},
    relay::Traffic,
};

use super::world::{Instance, World, issuer, leaf};

const BOUND: Variant = Variant { wants_external_account: true, alternate_chains: 0 };

fn bound_issuer(pebble: &Pebble, hmac_key_file: PathBuf) -> IssuerConfig {
    let key_id = EXTERNAL_ACCOUNT.0.to_owned();
    let eab = ExternalAccountConfig { key_id, hmac_key_file: Some(hmac_key_file), hmac_key_variable: None };
    IssuerConfig { eab: Some(eab), ..issuer(pebble) }
}

#[test]
fn an_account_is_bound_to_the_external_one_and_is_the_fleets() {
    let world = World::create();
    let (pebble, engine) = (world.pebble_variant(BOUND), Engine::in_memory().unwrap());
    let key = world.folder.path().join("hmac-key");
    fs::write(&key, format!("{}\n", EXTERNAL_ACCOUNT.1)).unwrap();
    let instances = [(); 2].map(|()| world.instance_with(&engine, vec![bound_issuer(&pebble, key.clone())]));
    instances[0].obtain("one.allowed.example").unwrap();
    instances[1].obtain("two.allowed.example").unwrap();
    assert_eq!((pebble.relay.count("newAccount"), pebble.relay.count("newOrder")), (1, 2));
}

#[test]
fn a_ca_that_knows_no_account_any_more_gets_another_that_is_bound() {
    let world = World::create();
    let (pebble, engine) = (world.pebble_variant(BOUND), Engine::in_memory().unwrap());
    let key = world.folder.path().join("hmac-key");
    fs::write(&key, EXTERNAL_ACCOUNT.1).unwrap();
    let instance = world.instance_with(&engine, vec![bound_issuer(&pebble, key.clone())]);
    instance.obtain("one.allowed.example").unwrap();
    drop(pebble);
    let pebble = world.pebble_variant(BOUND);
    instance.obtain("two.allowed.example").unwrap();
    let restarted = world.instance_with(&engine, vec![bound_issuer(&pebble, key)]);
    restarted.obtain("three.allowed.example").unwrap();
    assert_eq!(pebble.relay.count("newAccount"), 1, "the new account and its key are in the table");
}

#[test]
fn a_ca_whose_external_account_is_missing_or_wrong_is_told_of_with_the_remedy() {
    let world = World::create();
    let pebble = world.pebble_variant(BOUND);
    let key = world.folder.path().join("wrong-key");
    fs::write(&key, EXTERNAL_ACCOUNT.1.to_lowercase()).unwrap();
    for (case, issuer, told) in [
        ("missing", issuer(&pebble), "set `eab`"),
        ("wrong", bound_issuer(&pebble, key), "refuses the external account `testbed-1`"),
    ] {
        let instance = world.instance_with(&Engine::in_memory().unwrap(), vec![issuer]);
        assert!(instance.obtain("one.allowed.example").is_err(), "{case}");
        let shown = instance.show("one.allowed.example").unwrap();
        assert!(shown.problem.contains(told), "{case}: {}", shown.problem);
        assert!(!shown.problem.contains(&EXTERNAL_ACCOUNT.1[..8]), "{case}: {}", shown.problem);
        assert_eq!(shown.failures, 0, "{case}: it is not the name's failure");
        assert!(shown.retry_at.is_some(), "{case}");
    }
    assert_eq!(pebble.relay.count("newOrder"), 0);
}

#[test]
fn a_deactivated_account_is_replaced_once_for_the_fleet() {
    let world = World::create();
    let (pebble, engine) = (world.pebble(), Engine::in_memory().unwrap());
    let instances = [(); 2].map(|()| world.instance(&engine, &pebble));
    for (instance, name) in instances.iter().zip(["a.allowed.example", "b.allowed.example"]) {
        instance.obtain(name).unwrap();
    }
    deactivate(&instances[0], &pebble);
    for (instance, name) in instances.iter().zip(["c.allowed.example", "d.allowed.example"]) {
        instance.obtain(name).unwrap();
    }
    assert_eq!(pebble.relay.count("newAccount"), 2, "the first and another: {:?}", pebble.relay.counts());
    let restarted = world.instance(&engine, &pebble);
    let first = leaf(&restarted.obtain("c.allowed.example").unwrap());
    restarted.obtain("e.allowed.example").unwrap();
    assert_eq!(leaf(&instances[0].obtain("c.allowed.example").unwrap()), first);
    assert_eq!(pebble.relay.count("newAccount"), 2, "it is in the table");
}

/// The second meets the loss between the first one's new key and the account that is registered with it.
#[test]
fn a_deactivated_account_is_replaced_once_by_two_instances_at_the_same_time() {
    let world = World::create();
    let (pebble, engine) = (world.pebble(), Engine::in_memory().unwrap());
    let instances = [(); 2].map(|()| world.instance(&engine, &pebble));
    let names = ["c.allowed.example", "d.allowed.example"];
    for (instance, name) in instances.iter().zip(["a.allowed.example", "b.allowed.example"]) {
        instance.obtain(name).unwrap();
    }
    deactivate(&instances[0], &pebble);
    pebble.relay.set(Traffic::HoldOnly("newAccount"));
    std::thread::scope(|scope| {
        let mut orders = Vec::new();
        for (count, (instance, name)) in (1..).zip(instances.iter().zip(names)) {
            orders.push(scope.spawn(move || instance.obtain(name).map(drop)));
            wait_for_requests(&pebble.relay, "newAccount held", count, Duration::from_secs(20)).unwrap();
        }
        pebble.relay.set(Traffic::Pass);
        for order in orders {
            order.join().unwrap().unwrap();
        }
    });
    let accounts: Vec<_> = names.iter().map(|name| account_of(&instances[0], name)).collect();
    assert!(accounts[0].is_some());
    assert_eq!(accounts[0], accounts[1], "both have the same account");
    let restarted = world.instance(&engine, &pebble);
    restarted.obtain("e.allowed.example").unwrap();
    assert_eq!(account_of(&restarted, "e.allowed.example"), accounts[0]);
}

/// As Caddy leaves them that registers for two names at once.
#[test]
fn a_key_that_lies_beside_another_accounts_url_is_taken_with_its_own() {
    let world = World::create();
    let (pebble, engine) = (world.pebble(), Engine::in_memory().unwrap());
    let first = world.instance(&engine, &pebble);
    first.obtain("a.allowed.example").unwrap();
    let others = world.instance(&Engine::in_memory().unwrap(), &pebble);
    assert!(others.obtain("b.allowed.example").is_err(), "the first one, with another table, answers the CA");
    let account = account_of(&first, "a.allowed.example");
    let (issuer, email) = (IssuerKey::of_directory(&pebble.directory()), "ops@example.com");
    let other = others.runtime().block_on(find_account(&others.store, &issuer, email)).unwrap();
    let other = other.account.unwrap().location().unwrap();
    assert_ne!(account.as_ref(), Some(&other));
    first.runtime().block_on(async {
        let stored = find_account(&first.store, &issuer, email).await.unwrap();
        let torn = certificate_table::Account::new(email, &other);
        let (replaced, key) = (stored.seen.as_ref(), stored.key.as_ref().unwrap());
        let commit = AccountKeyCommit { issuer: &issuer, email, replaced, key, account: Some(&torn) };
        commit_account_key(&first.store, &commit, std::time::SystemTime::now()).await.unwrap();
    });
    let restarted = world.instance(&engine, &pebble);
    restarted.obtain("c.allowed.example").unwrap();
    assert_eq!(account_of(&restarted, "c.allowed.example"), account, "the key's own");
    assert_eq!(
        pebble.relay.count("newAccount"),
        3,
        "one is asked for by its key: {:?}",
        pebble.relay.counts()
    );
}

/// Which account ordered the certificate of `name`.
fn account_of(instance: &Instance, name: &str) -> Option<String> {
    let names = [Pattern::parse(name).unwrap()];
    let records = instance.runtime().block_on(read_records(&instance.store, &names)).unwrap();
    records.into_values().next()?.account
}

/// Deactivates the account in the table (RFC 8555 §7.3.6), as whoever holds its key can with any client.
fn deactivate(instance: &Instance, pebble: &Pebble) {
    let (store, directory) = (instance.store.clone(), pebble.directory());
    let roots = authority::roots(pebble.directory_roots()).unwrap();
    let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
    let client = HttpsClient(Client::builder(TokioExecutor::new()).build(connector));
    // On the runtime's own threads: they are inside the edge.
    let deactivated = instance.runtime().spawn(async move {
        let issuer = IssuerKey::of_directory(&directory);
        let found = find_account(&store, &issuer, "ops@example.com").await.unwrap();
        let StoredAccount { account: Some(account), key: Some(key), .. } = found else {
            panic!("no account: {found:?}")
        };
        let builder = Account::builder_with_http(Box::new(client));
        let account = builder.from_parts(account.location().unwrap(), pkcs8(&key), directory).await.unwrap();
        account.deactivate().await.unwrap();
    });
    instance.runtime().block_on(deactivated).unwrap();
}

fn pkcs8(key: &PrivateKeyPem) -> PrivatePkcs8KeyDer<'static> {
    let der = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let pair =
        EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_der()).unwrap();
    pair.to_pkcs8v1().unwrap().as_ref().to_vec().into()
}

struct HttpsClient(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl HttpClient for HttpsClient {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let response = client.request(http::Request::from_parts(head, Full::new(body))).await;
            response.map(BytesResponse::from).map_err(|error| Error::Other(error.into()))
        })
    }
}
