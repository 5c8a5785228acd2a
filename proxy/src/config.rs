//! Settings: TOML files and environment, read once into one validated [`Config`].
//! Not here: what settings lead to. Every other room is handed its section.
//! Invariants: a setting is declared once, with type, default and help, and reading, errors, the sample file and the
//! reference follow from that declaration (`sample_file_is_the_declaration`).

mod quantity;
#[macro_use]
mod section;
mod sections;

pub use quantity::{ByteSize, Span};
pub use section::{Field, Section};
pub use sections::{
    Attach, Certificates, Config, Control, Domains, Endpoint, Guard, GuardMode, Io, Issuer, Limits, Listen,
    Log, LogFormat, StaticDomain, Store, Upstream, Worker,
};
