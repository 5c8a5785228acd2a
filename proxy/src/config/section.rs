//! How a section of settings is declared.

/// A setting as the sample file and the reference show it.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its key.
    pub name: &'static str,
    /// Its help, line by line.
    pub help: &'static [&'static str],
    /// A value to show, as TOML, where the default shows nothing of the form.
    pub example: Option<&'static str>,
    /// The JSON Schema of its values.
    pub json_schema: fn() -> serde_json::Value,
}

/// A table of settings within a section.
#[derive(Debug, Clone, Copy)]
pub struct Subsection {
    /// Its key.
    pub name: &'static str,
    /// What it is for, line by line.
    pub help: &'static [&'static str],
    /// Its settings in order.
    pub fields: &'static [Field],
}

/// A table of settings.
pub trait Section {
    /// What the table is for, line by line.
    const HELP: &'static [&'static str];
    /// Its settings in order.
    const FIELDS: &'static [Field];
    /// The tables in it.
    const SECTIONS: &'static [Subsection];
}

/// The key of a field whose name is a Rust keyword is written without `r#`.
pub(super) const fn key(ident: &'static str) -> &'static str {
    match ident.as_bytes() {
        [b'r', b'#', ..] => ident.split_at(2).1,
        _ => ident,
    }
}

/// Declares a section: a struct whose doc comments are the help, and whose defaults stand beside the types. What follows
/// a default behind `=>` is an example, as TOML.
macro_rules! section {
    (
        $(#[doc = $doc:literal])+ pub struct $name:ident {
            $($(#[doc = $help:literal])+ $field:ident: $type:ty = $default:expr $(=> $example:literal)?,)+
        }
        $(sections { $($section:ident: $section_type:ident,)+ })?
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[doc = $help])+ pub $field: $type,)+
            $($(#[doc = concat!("What stands under `[", stringify!($section), "]`.")] pub $section: $section_type,)+)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($field: $default,)+
                    $($($section: $section_type::default(),)+)?
                }
            }
        }

        impl $crate::config::Section for $name {
            const HELP: &'static [&'static str] = &[$($doc),+];
            const FIELDS: &'static [$crate::config::Field] = &[$($crate::config::Field {
                name: $crate::config::section::key(stringify!($field)),
                help: &[$($help),+],
                example: section!(@example $($example)?),
                json_schema: <$type as $crate::config::JsonSchema>::json_schema,
            },)+];
            const SECTIONS: &'static [$crate::config::Subsection] = &[$($($crate::config::Subsection {
                name: $crate::config::section::key(stringify!($section)),
                help: <$section_type as $crate::config::Section>::HELP,
                fields: <$section_type as $crate::config::Section>::FIELDS,
            },)+)?];
        }
    };
    (@example) => { None };
    (@example $example:literal) => { Some($example) };
}
