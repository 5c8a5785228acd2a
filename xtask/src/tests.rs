//! What holds of the whole tree, and no single crate can say of itself.

mod imports;
mod links;
mod observability;
