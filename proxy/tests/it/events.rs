//! Events of domains and certificates, sent to receivers that are well, fail, are slow or gone.

mod receiver;

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use testbed::{
    edge::Edge,
    gatehouse::{Gatehouse, Place, Settings},
    wait,
};

use self::receiver::{Message, Receiver};
use crate::fixture::{SHOP, assert_served, edge, faulty_settings, get, report, scrape_until, start};
use crate::verification;

/// `settings` with a webhook for each of `receivers`, by its name.
fn told(edge: &Edge, mut settings: Settings, receivers: &[(&str, &Receiver)]) -> Settings {
    let secret = edge.folder().join("webhook.secret");
    receiver::write_secret(&secret);
    let webhooks: Vec<_> = receivers
        .iter()
        .map(|(name, receiver)| {
            let url = receiver.url();
            format!("{{ name = {name:?}, url = {url:?}, secret_file = \"{}\" }}", secret.display())
        })
        .collect();
    settings.raw("events", "webhooks", &format!("[{}]", webhooks.join(", ")));
    settings
}

fn kinds(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| message.body["type"].as_str().unwrap().to_owned()).collect()
}

fn wait_for(receiver: &Receiver, count: usize, within: Duration) -> Vec<Message> {
    wait::until(&format!("{count} messages"), within, || {
        let messages = receiver.accepted();
        ensure!(messages.len() >= count, "{:?}", kinds(&messages));
        Ok(messages)
    })
    .unwrap()
}

/// The instance has begun to send, so that what comes now is told.
fn wait_for_sender(gatehouse: &Gatehouse) {
    scrape_until(gatehouse, "the sender", Duration::from_secs(30), |metrics| {
        metrics.sum("gatehouse_webhook_sender", &[]) > 0.5
            && metrics.sum("gatehouse_webhook_failing", &[]) < 0.5
            && metrics.has("gatehouse_webhook_behind_seconds")
    });
    wait::until("its webhooks to be there", Duration::from_secs(10), || {
        let shown = gatehouse.command(&["events", "webhooks", "--json"])?;
        ensure!(!shown.contains("\"new\""), "{shown}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn events_are_sent_in_order_until_they_are_accepted_and_again_on_request() {
    let edge = edge();
    let receiver = Receiver::start(&edge, |_| 503);
    let a = start(&edge, told(&edge, edge.settings(Place::A, "auto"), &[("crm", &receiver)]));
    wait_for_sender(&a);
    a.command(&["domain", "add", SHOP, "--tenant", "acme"]).unwrap();
    wait::until("its failure to be told of", Duration::from_secs(20), || {
        let status = a.command(&["status"])?;
        ensure!(status.contains("crm fails: answered 503"), "{status}");
        Ok(())
    })
    .unwrap();
    let unwell = a.command(&["events", "webhooks"]).unwrap_err().to_string();
    assert!(unwell.contains("failing") && unwell.contains("1 of the webhooks fail"), "{unwell}");
    let doctor = a.command(&["doctor"]).unwrap_or_else(|error| error.to_string());
    let line = doctor.lines().find(|line| line.contains("webhook crm")).unwrap();
    assert!(line.starts_with("warn") && line.contains("answered 503"), "{doctor}");

    wait::until("a second attempt", Duration::from_secs(20), || {
        ensure!(receiver.attempts() > 1, "{}", receiver.attempts());
        Ok(())
    })
    .unwrap();
    assert!(receiver.accepted().is_empty());
    receiver.answer(|_| 204);
    assert_served(&edge, SHOP);
    for command in [["domain", "suspend", SHOP], ["domain", "resume", SHOP], ["domain", "remove", SHOP]] {
        a.command(&command).unwrap();
    }
    let messages = wait_for(&receiver, 5, Duration::from_mins(2));
    let expected =
        ["domain.created", "certificate.obtained", "domain.suspended", "domain.resumed", "domain.removed"];
    assert_eq!(kinds(&messages), expected);
    for message in &messages {
        let data = &message.body["data"];
        assert_eq!((data["domain"].as_str(), data["tenant"].as_str()), (Some(SHOP), Some("acme")), "{data}");
        assert_eq!(message.body["id"], message.id.as_str());
    }
    assert_eq!(messages[4].body["data"]["reason"], "requested");
    receiver::assert_signed(&messages, &edge);

    // What was sent is sent again, with the ids that it had.
    let replayed = a.command(&["events", "replay", "--webhook", "crm", "--since", "1h"]).unwrap();
    assert!(replayed.starts_with("crm: events since "), "{replayed}");
    let again = wait_for(&receiver, 10, Duration::from_mins(1));
    let ids = |messages: &[Message]| messages.iter().map(|message| message.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&again[5..]), ids(&messages));

    let list: Value =
        serde_json::from_str(&a.command(&["events", "list", "--name", SHOP, "--json"]).unwrap()).unwrap();
    let listed: Vec<_> = list["events"].as_array().unwrap().iter().map(|event| &event["kind"]).collect();
    assert_eq!(listed, expected);
    // The same in parts of one, each as the last line of the part before says.
    let (mut ids, mut after) = (Vec::new(), None::<String>);
    loop {
        let mut command = vec!["events", "list", "--name", SHOP, "--limit", "1", "--json"];
        command.extend(after.as_deref().into_iter().flat_map(|id| ["--after", id]));
        let part: Value = serde_json::from_str(&a.command(&command).unwrap()).unwrap();
        ids.extend(part["events"].as_array().unwrap().iter().map(|event| event["id"].clone()));
        assert!(ids.len() <= expected.len(), "{ids:?}");
        after = part["next"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    let whole: Vec<_> = list["events"].as_array().unwrap().iter().map(|event| event["id"].clone()).collect();
    assert_eq!(ids, whole);
    let nobody = a.command(&["events", "replay", "--webhook", "nobody"]).unwrap_err().to_string();
    assert!(nobody.contains("`nobody` was never one"), "{nobody}");
}

#[test]
fn two_instances_send_each_event_once_and_the_other_goes_on() {
    let edge = edge();
    let receiver = Receiver::start(&edge, |_| 200);
    let instance =
        |place| start(&edge, told(&edge, faulty_settings(&edge, place, "auto"), &[("crm", &receiver)]));
    let mut a = instance(Place::A);
    wait_for_sender(&a);
    let b = instance(Place::B);
    for n in 0..4 {
        let name = format!("n{n}.customer.test");
        let by = if n % 2 == 0 { &a } else { &b };
        by.command(&["domain", "add", &name]).unwrap();
    }
    wait_for(&receiver, 4, Duration::from_secs(30));
    a.stop().unwrap();
    let since = Instant::now();
    b.command(&["domain", "add", SHOP]).unwrap();
    wait_for(&receiver, 5, Duration::from_secs(30));
    report(&format!(
        "the other instance had sent the next event {:.1} s after the sender had ended",
        since.elapsed().as_secs_f64()
    ));
    // What the next holder of the lease reads again it does not send again.
    scrape_until(&b, "a further look at the log", Duration::from_mins(1), |metrics| {
        metrics.sum("gatehouse_webhook_sender", &[]) > 0.5 && since.elapsed() > Duration::from_secs(40)
    });
    let messages = receiver.accepted();
    let mut ids: Vec<_> = messages.iter().map(|message| &message.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((messages.len(), ids.len()), (5, 5), "{:?}", kinds(&messages));
}

#[test]
fn a_receiver_that_is_slow_or_wants_no_more_stops_no_other_and_no_change() {
    let edge = edge();
    let well = Receiver::start(&edge, |_| 200);
    let silent = Receiver::silent(&edge);
    let gone = Receiver::start(&edge, |_| 410);
    let receivers = [("silent", &silent), ("gone", &gone), ("well", &well)];
    let a = start(&edge, told(&edge, edge.settings(Place::A, "auto"), &receivers));
    wait_for_sender(&a);
    for n in 0..3 {
        let began = Instant::now();
        a.command(&["domain", "add", &format!("n{n}.customer.test")]).unwrap();
        // Less than the silent one is waited for.
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
    assert_eq!(wait_for(&well, 3, Duration::from_secs(10)).len(), 3);
    wait::until("the silent one to fail", Duration::from_secs(40), || {
        let shown = a.command(&["events", "webhooks"]).unwrap_err().to_string();
        ensure!(shown.contains("no answer within 15 s") && shown.contains("ended"), "{shown}");
        Ok(())
    })
    .unwrap();
    assert_eq!(gone.attempts(), 1, "who wants no more is asked no more");

    // An operator's word, and it is told what it was not told.
    gone.answer(|_| 200);
    a.command(&["events", "replay", "--webhook", "gone"]).unwrap();
    assert_eq!(kinds(&wait_for(&gone, 3, Duration::from_secs(30))), ["domain.created"; 3]);
}

/// The first message of `kind` about `name`.
fn wait_for_kind(receiver: &Receiver, kind: &str, name: &str) -> Value {
    let is_it = |message: &&Message| message.body["type"] == kind && message.body["data"]["domain"] == name;
    wait::until(&format!("{kind} of {name}"), Duration::from_mins(1), || {
        let messages = receiver.accepted();
        let found = messages.iter().find(is_it).map(|message| message.body["data"].clone());
        found.with_context(|| format!("{:?}", kinds(&messages)))
    })
    .unwrap()
}

#[test]
fn what_checks_find_and_what_orders_come_to_is_told() {
    const LOST: &str = "lost.customer.test";
    let (edge, elsewhere) = (edge(), Ipv4Addr::new(203, 0, 113, 9));
    verification::lead(&edge, SHOP, elsewhere);
    verification::lead(&edge, LOST, elsewhere);
    let receiver = Receiver::start(&edge, |_| 202);
    let settings = verification::settings(&edge, Place::A, "dns");
    let a = start(&edge, told(&edge, settings, &[("crm", &receiver)]));
    wait_for_sender(&a);
    a.command(&["domain", "add", SHOP]).unwrap();
    assert_eq!(wait_for_kind(&receiver, "domain.created", SHOP)["status"], "pending");

    // A name that waits for nothing, and that no CA can validate.
    a.command(&["domain", "add", LOST, "--verified"]).unwrap();
    assert_ne!(get(&edge, LOST).status, 200);
    let failed = wait_for_kind(&receiver, "certificate.obtain_failed", LOST);
    assert_eq!((&failed["failures"], failed["tenant"].as_str()), (&1.into(), Some("default")), "{failed}");
    assert!(failed["problem"].is_string() && failed["retry_at"].is_string(), "{failed}");

    verification::lead(&edge, SHOP, Place::A.v4());
    let verified = wait_for_kind(&receiver, "domain.verified", SHOP);
    assert_eq!((&verified["status"], &verified["by"]), (&"active".into(), &"verification".into()));
    assert_served(&edge, SHOP);
    let obtained = wait_for_kind(&receiver, "certificate.obtained", SHOP);
    a.command(&["certificate", "renew", SHOP]).unwrap();
    let renewed = wait_for_kind(&receiver, "certificate.renewed", SHOP);
    assert_ne!(obtained["serial"], renewed["serial"]);

    verification::lead(&edge, SHOP, elsewhere);
    let failing = wait_for_kind(&receiver, "domain.failing", SHOP);
    assert!(failing["problem"].as_str().is_some_and(|problem| problem.contains("203.0.113.9")), "{failing}");
    assert_eq!(wait_for_kind(&receiver, "domain.removed", SHOP)["reason"], "leads_elsewhere");
}
