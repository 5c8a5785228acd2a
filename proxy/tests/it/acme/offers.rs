//! What a CA offers a choice of: profiles, and chains to different roots.

use std::time::{Duration, SystemTime};

use anyhow::ensure;
use gatehouse::{
    certificates::{Slot, listing},
    config::IssuerConfig,
    name::Pattern,
    store::Engine,
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use testbed::{
    pebble::{PROFILES, Variant},
    relay::{Fault, FaultKind, Traffic},
    wait,
};

use super::world::{Instance, World, issuer};

#[test]
fn a_profile_is_ordered_if_the_directory_offers_it_and_else_told_of_with_those_that_it_offers() {
    let world = World::create();
    let pebble = world.pebble();
    let instance = |profile: &str| {
        let issuer = IssuerConfig { profile: Some(profile.to_owned()), ..issuer(&pebble) };
        world.instance_with(&Engine::in_memory().unwrap(), vec![issuer])
    };
    instance("shortlived").obtain("one.allowed.example").unwrap();
    assert_eq!(pebble.relay.count("newOrder profile=shortlived"), 1);

    let wrong = instance("short-lived");
    assert!(wrong.obtain("one.allowed.example").is_err());
    let shown = wrong.show("one.allowed.example").unwrap();
    for told in ["`short-lived`", PROFILES[0], PROFILES[1]] {
        assert!(shown.problem.contains(told), "{told}: {}", shown.problem);
    }
    assert_eq!(shown.failures, 0, "it is not the name's failure");
    assert_eq!(pebble.relay.count("newOrder"), 1);
}

/// What it would give has the life of the other profile.
#[test]
fn an_order_of_another_profile_is_not_gone_on_with() {
    let world = World::create();
    let (pebble, engine) = (world.pebble(), Engine::in_memory().unwrap());
    let instance = |profile: &str| {
        let issuer = IssuerConfig { profile: Some(profile.to_owned()), ..issuer(&pebble) };
        world.instance_with(&engine, vec![issuer])
    };
    let recovers = |instance: &Instance| {
        // The CA has failed at this name twice, so that it backs off for longer than the CA is paused.
        let name = Pattern::parse("one.allowed.example").unwrap();
        assert!(instance.runtime().block_on(listing::retry(instance.store(), &name)).unwrap());
        wait::until("a certificate", Duration::from_mins(1), || {
            instance.obtain("one.allowed.example").map(drop).map_err(anyhow::Error::from)
        })
        .unwrap();
    };
    let ordered = || PROFILES.map(|profile| pebble.relay.count(&format!("newOrder profile={profile}")));
    pebble.relay.set(Traffic::Fail(Fault { at: "finalize", kind: FaultKind::CutBefore, times: u32::MAX }));
    let first = instance(PROFILES[0]);
    assert!(first.obtain("one.allowed.example").is_err());
    drop(first);
    assert_eq!(ordered(), [1, 0]);
    // With the same profile another instance goes on with it, as far as the CA lets it.
    let second = instance(PROFILES[0]);
    let before = pebble.relay.count("finalize failed");
    wait::until("the same order once more", Duration::from_mins(1), || {
        let _ = second.obtain("one.allowed.example");
        ensure!(pebble.relay.count("finalize failed") > before);
        Ok(())
    })
    .unwrap();
    drop(second);
    assert_eq!(ordered(), [1, 0]);
    pebble.relay.set(Traffic::Pass);
    recovers(&instance(PROFILES[1]));
    assert_eq!(ordered(), [1, 1]);
}

#[test]
fn the_chain_from_the_preferred_root_is_presented_and_the_default_where_there_is_none() {
    let world = World::create();
    let pebble = world.pebble_variant(Variant { alternate_chains: 2, ..Variant::default() });
    let roots = pebble.all_roots(&world.network.client).unwrap();
    let roots: Vec<_> =
        roots.iter().map(|pem| issuer_of(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())).collect();
    for (preferred, expected) in [
        (None, &roots[0]),
        (Some(&roots[0]), &roots[0]),
        (Some(&roots[2]), &roots[2]),
        (Some(&"Nobody's Root".to_owned()), &roots[0]),
    ] {
        let issuer = IssuerConfig { preferred_chain: preferred.cloned(), ..issuer(&pebble) };
        let instance = world.instance_with(&Engine::in_memory().unwrap(), vec![issuer]);
        let slot = instance.obtain("one.allowed.example").unwrap();
        assert_eq!(&root_of(&slot), expected, "{preferred:?} of {roots:?}");
    }
}

fn root_of(slot: &Slot) -> String {
    issuer_of(slot.current(SystemTime::now()).unwrap().key.cert.last().unwrap())
}

fn issuer_of(certificate: &CertificateDer<'_>) -> String {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).unwrap();
    certificate.issuer().iter_common_name().next().unwrap().as_str().unwrap().to_owned()
}
