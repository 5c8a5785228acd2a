//! Flows from the accelerator's address to machines, by the kernel: a new flow gets its machine at random by shares, and connection tracking
//! keeps it there, whatever becomes of the shares. Clients' addresses stay.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;

use super::accelerator::SLOTS;
use crate::{namespace::Namespace, network::EDGE_A};

/// Where flows go now.
#[derive(Debug)]
pub(super) struct Balancer {
    file: PathBuf,
    current: (Vec<(Ipv4Addr, u32)>, BTreeSet<Ipv4Addr>),
}

impl Balancer {
    /// Inside `edge`; a flow that is idle for so long is forgotten.
    pub(super) fn start(edge: &Namespace, folder: &Path, idle: Duration) -> anyhow::Result<Self> {
        let file = folder.join("balancer.nft");
        fs::write(&file, TABLE)?;
        let seconds = idle.as_secs().max(1);
        edge.inside(move || {
            fs::write("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established", seconds.to_string())
        })?
        .context("the kernel tracks no connections")?;
        let balancer = Self { file, current: (Vec::new(), BTreeSet::new()) };
        balancer.load(edge)?;
        Ok(balancer)
    }

    /// New flows go by `shares` from now on, and machines that are `cut` off neither hear nor are heard. Whether that is another way.
    pub(super) fn set(
        &mut self,
        edge: &Namespace,
        shares: Vec<(Ipv4Addr, u32)>,
        cut: BTreeSet<Ipv4Addr>,
    ) -> anyhow::Result<bool> {
        let next = (shares, cut);
        if self.current == next {
            return Ok(false);
        }
        fs::write(&self.file, rules(&next.0, &next.1))?;
        self.load(edge)?;
        self.current = next;
        Ok(true)
    }

    fn load(&self, edge: &Namespace) -> anyhow::Result<()> {
        let file = self.file.to_str().context("the folder's path is not UTF-8")?;
        edge.run("nft", &["--file", file]).map(drop)
    }
}

/// One transaction of nft(8).
fn rules(shares: &[(Ipv4Addr, u32)], cut: &BTreeSet<Ipv4Addr>) -> String {
    let mut text = "flush chain ip accelerator flows\nflush set ip accelerator cut\n".to_owned();
    let mut begin = 0;
    let ranges = shares.iter().map(|(address, slots)| {
        let range = format!("{begin}-{} : {address}", begin + slots - 1);
        begin += slots;
        range
    });
    let ranges = ranges.collect::<Vec<_>>().join(", ");
    if !ranges.is_empty() {
        let _ = writeln!(
            text,
            "add rule ip accelerator flows ip daddr {EDGE_A} tcp dport {{ 80, 443 }} dnat to numgen random mod {SLOTS} map {{ {ranges} }}"
        );
    }
    for address in cut {
        let _ = writeln!(text, "add element ip accelerator cut {{ {address} }}");
    }
    text
}

/// Packets that are dropped are cut off without a word, as by a network that is gone.
const TABLE: &str = "\
table ip accelerator {
  set cut { type ipv4_addr; }
  chain from_machines { type filter hook prerouting priority raw; ip saddr @cut drop; }
  chain to_machines { type filter hook postrouting priority filter; ip daddr @cut drop; }
  chain flows { type nat hook prerouting priority dstnat; }
}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_each_other() {
        let at = |last| Ipv4Addr::new(198, 51, 100, last);
        let text = rules(&[(at(1), 500), (at(2), 500)], &BTreeSet::from([at(3)]));
        assert!(text.contains("map { 0-499 : 198.51.100.1, 500-999 : 198.51.100.2 }"), "{text}");
        assert!(text.ends_with("add element ip accelerator cut { 198.51.100.3 }\n"), "{text}");
        assert!(!rules(&[], &BTreeSet::new()).contains("dnat"));
    }
}
