//! What `packer/package/fit-nic` does to network cards, with programs in the place of `ip` and `ethtool` and a folder in that of /sys:
//! no machine of the tests has Amazon's driver.

use std::{fs, os::unix::fs::symlink};

use super::stubs::Stubs;

/// A network card as the script meets it.
#[derive(Clone, Copy)]
struct Card {
    name: &'static str,
    driver: &'static str,
    mtu: u32,
    channels: Channels,
}

/// What `ethtool` says of them: the card's maximum and its setting.
#[derive(Clone, Copy)]
enum Channels {
    Combined(&'static str, &'static str),
    /// The card has none, and `ethtool` fails.
    Unsupported,
}

/// What the script has done.
#[derive(Debug, PartialEq, Eq)]
struct Done {
    succeeded: bool,
    /// What it has changed, in order.
    changes: Vec<String>,
    said: String,
}

/// A machine of these cards, after the script.
fn fit(test: &str, cards: &[Card]) -> Done {
    let stubs = Stubs::new(&format!("fit-nic-{test}"));
    stubs.program("ip", IP);
    stubs.program("ethtool", ETHTOOL);
    for card in cards {
        let device = format!("sys/class/net/{}", card.name);
        stubs.write(&format!("{device}/mtu"), &format!("{}\n", card.mtu));
        let driver = format!("../../../../bus/drivers/{}", card.driver);
        fs::create_dir(stubs.path(&device).join("device")).unwrap();
        symlink(driver, stubs.path(&device).join("device/driver")).unwrap();
        if let Channels::Combined(most, now) = card.channels {
            let counts = |combined| format!("RX:\t\tn/a\nTX:\t\tn/a\nOther:\t\tn/a\nCombined:\t{combined}\n");
            let said = format!(
                "Channel parameters for {}:\nPre-set maximums:\n{}Current hardware settings:\n{}",
                card.name,
                counts(most),
                counts(now)
            );
            stubs.write(&format!("channels/{}", card.name), &said);
        }
    }
    let route = |card: &Card| format!("default via 10.0.0.1 dev {} proto dhcp metric 100 \n", card.name);
    stubs.write("routes", &cards.iter().map(route).collect::<Vec<_>>().concat());
    let ran = stubs.run("packer/package/fit-nic", &[stubs.path("sys").to_str().unwrap()], &[]);
    let said = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Done { succeeded: ran.status.success(), changes: stubs.calls(), said: said.concat() }
}

fn ena(name: &'static str, mtu: u32, most: &'static str, now: &'static str) -> Card {
    Card { name, driver: "ena", mtu, channels: Channels::Combined(most, now) }
}

const IP: &str = r#"case $* in
"-4 route show default") cat "$STUBS/routes" ;;
"-6 route show default") ;;
"link set dev "*) echo "ip $*" >>"$STUBS/calls" ;;
*) exit 1 ;;
esac"#;
const ETHTOOL: &str = r#"case $1 in
--show-channels) cat "$STUBS/channels/$2" 2>/dev/null || { echo "netlink error: Operation not supported" >&2; exit 1; } ;;
--set-channels) echo "ethtool $*" >>"$STUBS/calls" ;;
*) exit 1 ;;
esac"#;

#[test]
fn a_card_is_left_half_of_its_queues_and_an_mtu_that_fits() {
    for (card, changes) in [
        (
            ena("eth0", 9001, "2", "2"),
            &["ip link set dev eth0 mtu 3498", "ethtool --set-channels eth0 combined 1"][..],
        ),
        (ena("eth0", 1500, "8", "8"), &["ethtool --set-channels eth0 combined 4"]),
        // 2 x 2 queues are more than 3.
        (ena("eth0", 1500, "3", "3"), &["ethtool --set-channels eth0 combined 1"]),
        (ena("eth0", 1500, "3", "2"), &["ethtool --set-channels eth0 combined 1"]),
        // Each change resets the card.
        (ena("eth0", 3498, "8", "4"), &[]),
        (ena("eth0", 3499, "8", "1"), &["ip link set dev eth0 mtu 3498"]),
        (Card { driver: "virtio_net", channels: Channels::Unsupported, ..ena("eth0", 9001, "", "") }, &[]),
    ] {
        let done = fit("one", &[card]);
        assert!(done.succeeded && done.changes == changes, "{} {}: {done:?}", card.driver, card.mtu);
    }
}

#[test]
fn a_card_of_one_queue_is_left_alone_and_told_with_its_remedy() {
    let done = fit("single", &[ena("eth0", 1500, "1", "1")]);
    assert!(done.succeeded && done.changes.is_empty(), "{done:?}");
    assert!(done.said.contains("eth0") && done.said.contains("attach = \"generic\""), "{done:?}");
}

#[test]
fn a_card_that_cannot_be_fitted_keeps_no_other_from_it() {
    let cards = [
        Card { channels: Channels::Unsupported, ..ena("eth0", 1500, "", "") },
        ena("eth1", 1500, "n/a", "n/a"),
        ena("eth2", 9001, "1", "1"),
        Card { driver: "virtio_net", channels: Channels::Unsupported, ..ena("eth3", 9001, "", "") },
        ena("eth4", 9001, "4", "4"),
    ];
    let done = fit("several", &cards);
    assert_eq!(
        done.changes,
        ["ip link set dev eth4 mtu 3498", "ethtool --set-channels eth4 combined 2"],
        "{done:?}"
    );
    // The unit has to show that something is amiss.
    assert!(!done.succeeded && done.said.contains("eth0") && done.said.contains("eth1"), "{done:?}");
}
