//! `gatehouse certificate rewrap`.

use std::fmt::Write as _;

use super::{access, arguments::Form, error::CommandError, print};
use crate::{
    config::Config,
    store::certificate_table::{self, RewrapTo, Rewrapped},
};

/// Has the keys of the table encrypted anew, and writes what became of them.
pub(super) async fn rewrap(config: &Config, clear: bool, form: Form) -> Result<(), CommandError> {
    let store = access::connect(config, || ()).await?;
    let to = if clear { RewrapTo::Clear } else { RewrapTo::Settings };
    let done = certificate_table::rewrap(&store, to).await?;
    print(form, &done, told)?;
    match done.unusable.len() {
        0 => Ok(()),
        damaged => Err(CommandError::Damaged { damaged, all: done.rewrapped + done.unchanged + damaged }),
    }
}

fn told(done: &Rewrapped) -> String {
    let mut text = String::new();
    for unusable in &done.unusable {
        let _ = writeln!(text, "damaged: {unusable}");
    }
    let _ = writeln!(text, "{} written anew, {} as they are to be", done.rewrapped, done.unchanged);
    text
}
