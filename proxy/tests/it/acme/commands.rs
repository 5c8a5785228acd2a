//! Certificates on an operator's request.

use std::time::{Duration, SystemTime};

use anyhow::ensure;
use gatehouse::{
    certificates::{
        OnRequest, OnRequestError, Ordered, RevocationReason, Revoked,
        spread::{self, SpreadPart},
    },
    name::Pattern,
    store::{Engine, instant::Micros},
};
use testbed::wait;

use super::world::{Instance, World, leaf};

const NAME: &str = "one.allowed.example";

impl Instance {
    fn order_now(&self, wanted: OnRequest) -> Result<Ordered, OnRequestError> {
        let (name, certificates) = (Pattern::parse(NAME).unwrap(), self.certificates.clone());
        // On the runtime's own threads: they are inside the edge.
        let ordered = self.runtime().spawn(async move { certificates.order_now(&name, wanted).await });
        self.runtime().block_on(ordered).unwrap()
    }

    fn revoke(&self, reason: RevocationReason) -> Result<Revoked, OnRequestError> {
        let (name, certificates) = (Pattern::parse(NAME).unwrap(), self.certificates.clone());
        let revoked = self.runtime().spawn(async move { certificates.revoke(&name, reason).await });
        self.runtime().block_on(revoked).unwrap()
    }
}

#[test]
fn a_certificate_is_obtained_if_there_is_none_and_renewed_whatever_its_date() {
    let world = World::create();
    let (pebble, engine) = (world.pebble(), Engine::in_memory().unwrap());
    let instance = world.instance(&engine, &pebble);
    let first = instance.order_now(OnRequest::Obtain).unwrap();
    assert!(first.is_new && first.replaced.is_none(), "{first:?}");
    let again = instance.order_now(OnRequest::Obtain).unwrap();
    assert!(!again.is_new && again.serial == first.serial, "{again:?}");
    assert_eq!(pebble.relay.count("newOrder"), 1);

    let second = instance.order_now(OnRequest::Renew).unwrap();
    assert_eq!((second.is_new, second.replaced.as_ref()), (true, Some(&first.serial)));
    assert_ne!(second.serial, first.serial);
    let counts = pebble.relay.counts();
    assert_eq!((counts["newOrder"], counts["newOrder replaces"]), (2, 1), "the CA is told what it replaces");
    let name = Pattern::parse(NAME).unwrap();
    assert_eq!(instance.certificates.presented_serial(&name), Some(second.serial));
}

#[test]
fn all_certificates_are_renewed_at_their_new_dates_and_each_once() {
    let world = World::create();
    let (pebble, engine) = (world.pebble(), Engine::in_memory().unwrap());
    let instances = [world.instance(&engine, &pebble), world.instance(&engine, &pebble)];
    let names = ["one.allowed.example", "two.allowed.example", "three.allowed.example"];
    let serial = |name: &str| instances[0].show(name).unwrap().certificate.unwrap().serial;
    for name in names {
        instances[0].obtain(name).unwrap();
    }
    let before = names.map(serial);
    let part = |dry_run| SpreadPart {
        after: None,
        first: Micros::of(SystemTime::now()),
        step_millis: 2_000,
        dry_run,
    };
    let spread = |part: SpreadPart| {
        let store = instances[0].store().clone();
        let spread = instances[0].runtime().spawn(async move { spread::spread(&store, &part).await });
        instances[0].runtime().block_on(spread).unwrap().unwrap()
    };
    assert_eq!(spread(part(true)).moved, 3);
    assert_eq!(spread(part(false)).moved, 3);
    wait::until("three renewals", Duration::from_mins(1), || {
        let renewed = names.map(serial).iter().zip(&before).filter(|(new, old)| new != old).count();
        ensure!(renewed == 3, "{renewed} are renewed");
        Ok(())
    })
    .unwrap();
    let counts = pebble.relay.counts();
    assert_eq!((counts["newOrder"], counts["newOrder replaces"]), (6, 3));
    assert_eq!(spread(part(true)).moved, 3, "they have dates far ahead again");
}

#[test]
fn a_revoked_certificate_is_presented_no_more_and_the_next_handshake_gets_another() {
    let world = World::create();
    let (pebble, engine) = (world.pebble(), Engine::in_memory().unwrap());
    let instance = world.instance(&engine, &pebble);
    assert!(matches!(instance.revoke(RevocationReason::Unspecified), Err(OnRequestError::Nothing(_))));
    let slot = instance.obtain(NAME).unwrap();
    let first = leaf(&slot);
    let revoked = instance.revoke(RevocationReason::KeyCompromise).unwrap();
    assert!(!revoked.was_revoked, "{revoked:?}");
    assert_eq!(revoked.issuer, "ca.test-14000-dir");
    assert_eq!(pebble.relay.count("revokeCert"), 1);
    assert!(slot.current(SystemTime::now()).is_none(), "workers keep the slot");
    assert!(instance.show(NAME).unwrap().certificate.is_none());
    let second = world.instance(&engine, &pebble);
    assert_ne!(leaf(&second.obtain(NAME).unwrap()), first);
}
