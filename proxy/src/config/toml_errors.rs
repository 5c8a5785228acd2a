//! Errors of the TOML deserialiser in terms of the settings file.

/// Types of Rust are named by what is written in TOML for them.
pub(super) fn plain(message: &str) -> String {
    let Some((found, expected)) = message.split_once(", expected ") else { return message.to_owned() };
    let found = found.replace("floating point", "number with a decimal point");
    format!("{found}, expected {}", expected_in_toml(expected))
}

fn expected_in_toml(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list like `[...]`",
        "a boolean" => "`true` or `false`",
        "a string" | "path string" => "a text in quotes",
        "usize" | "u64" | "u32" | "u16" => "a whole number that fits",
        _ if expected.starts_with("struct ") => "a table of settings",
        _ => expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_type_of_rust_is_named() {
        for (said, told) in [
            (
                "invalid type: integer `3`, expected struct Limits",
                "invalid type: integer `3`, expected a table of settings",
            ),
            (
                "invalid value: integer `-1`, expected usize",
                "invalid value: integer `-1`, expected a whole number that fits",
            ),
            (
                "invalid type: string \"eth0\", expected a sequence",
                "invalid type: string \"eth0\", expected a list like `[...]`",
            ),
            ("invalid socket address syntax", "invalid socket address syntax"),
            ("unknown variant `a`, expected `b` or `c`", "unknown variant `a`, expected `b` or `c`"),
        ] {
            assert_eq!(plain(said), told);
        }
    }
}
