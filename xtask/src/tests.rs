//! What holds of the whole tree, and no single crate can say of itself.

mod fit_nic;
mod imports;
mod links;
mod observability;
mod package_scripts;
mod stubs;

use std::path::Path;

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
