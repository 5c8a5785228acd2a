//! Settings: TOML files and environment, read once into one validated [`Config`].
//! Not here: what settings lead to. Every other room is handed its section.
//! Invariants: a setting is declared once, with type, default and help, and reading, errors, the sample file and the
//! reference follow from that declaration (`checked_in_sample_is_the_declaration`, `readme_table_is_the_declaration`);
//! what a file or variable says is used or refused, never passed over (`whatever_is_wrong_is_named_with_a_remedy`).

mod difference;
mod environment;
mod error;
mod layer;
mod live;
mod nearest;
mod paper;
mod plain;
mod quantity;
mod read;
#[macro_use]
mod section;
mod sections;
mod validate;
mod words;

pub use difference::{difference, merge};
pub use error::{At, ConfigError, Place, Problem, WrongValue};
pub use live::Live;
pub use paper::{reference, sample};
pub use quantity::{ByteSize, Span};
pub use read::{Loaded, load};
pub use section::{Field, Section, Subsection};
pub use sections::{
    Certificates, Config, Control, Domains, Guard, Instance, Issuer, Limits, Listen, Log, StaticDomain,
    Store, Upstream, Worker,
};
pub(crate) use validate::MAX_ISSUERS;
pub use words::{Attach, Endpoint, GuardMode, Io, LogFormat, Metadata};
