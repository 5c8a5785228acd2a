//! `gatehouse guard` as it is read.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Subcommand};

use super::Form;
use crate::name::ServerName;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum GuardCommand {
    /// Says what the guard does with a connection, or with those of a capture, and by which step of its order.
    #[command(after_help = EXPLAIN)]
    Explain(ExplainArguments),
    /// Shows which names the guard rejected lately, and from where, most frequent first: a sample.
    #[command(after_help = TOP)]
    Top(Form),
    /// Removes the XDP program and its maps from the kernel, whether an instance runs or not.
    Detach {
        /// Directory in which they are pinned; absent, `guard.pin_path`.
        #[arg(long, value_name = "DIRECTORY")]
        pin_path: Option<PathBuf>,
    },
}

/// What is to be explained.
#[derive(Debug, Args)]
pub(in crate::cli) struct ExplainArguments {
    /// The name that the client asks for.
    #[arg(long, value_name = "NAME", required_unless_present = "pcap", conflicts_with = "pcap")]
    pub(in crate::cli) name: Option<ServerName>,
    /// The client's address; absent, networks and budgets of sources are left out.
    #[arg(long, value_name = "IP", conflicts_with = "pcap")]
    pub(in crate::cli) source: Option<IpAddr>,
    /// The port it connects to; absent, the first where ClientHellos are judged.
    #[arg(long, value_name = "PORT", conflicts_with = "pcap", value_parser = clap::value_parser!(u16).range(1..))]
    pub(in crate::cli) port: Option<u16>,
    /// A capture of packets, pcap or pcapng, of at most 64 MiB: a line for each connection to a guarded port.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) pcap: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) form: Form,
}

const TOP: &str = "\
The kernel tells of `guard.sampled_rejections` rejected ClientHellos a second. Counted are the last 4096 of them, of
the last hour; a client that sends its hello again after a reset is counted again. How many were rejected in all is
in `gatehouse status`, verdict by verdict.";

const EXPLAIN: &str = "\
Examples:
  gatehouse guard explain --name shop.customer.example
  gatehouse guard explain --name shop.customer.example --source 192.0.2.7 --port 443
  tcpdump -i eth0 -s 0 -c 10000 -w capture.pcap 'tcp dst port 443'
  gatehouse guard explain --pcap capture.pcap

The decision is made by the code that the kernel runs. The instance here is asked for mode, enforcement, lists, what
is left of the budget of unknown names, and whether the kernel has the name; where none runs, the settings alone are used, as
if an instance enforced them. How much a source has left of its budget of SYNs only the kernel knows; a capture begins
with full budgets and goes by its own times. Steps are numbered as in docs/security.md. What passes here is judged
once more in the handshake: `gatehouse doctor NAME`.";
