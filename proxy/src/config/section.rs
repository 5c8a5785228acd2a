//! The form in which a section of settings is declared.

/// A setting as the sample file and the reference show it.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its key.
    pub name: &'static str,
    /// Its help, line by line.
    pub help: &'static [&'static str],
}

/// A table of settings.
pub trait Section {
    /// What the table is for, line by line.
    const HELP: &'static [&'static str];
    /// Its settings in order.
    const FIELDS: &'static [Field];
}

/// Declares a section: a struct whose doc comments are the help, and whose defaults stand beside the types.
macro_rules! section {
    ($(#[doc = $doc:literal])+ pub struct $name:ident {
        $($(#[doc = $help:literal])+ $field:ident: $type:ty = $default:expr,)+
    }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name { $($(#[doc = $help])+ pub $field: $type,)+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl $crate::config::Section for $name {
            const HELP: &'static [&'static str] = &[$($doc),+];
            const FIELDS: &'static [$crate::config::Field] =
                &[$($crate::config::Field { name: stringify!($field), help: &[$($help),+] },)+];
        }
    };
}
