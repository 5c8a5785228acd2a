//! Text for a terminal. A CA's problem or an item of a table is others' text, and must not control it.

/// `text` with what could control a terminal escaped; lines stay lines.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_control(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// C0 and C1 (ECMA-48), and the marks that turn the direction of writing (Unicode UAX #9 §2).
fn is_control(c: char) -> bool {
    let is_direction =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (c.is_control() && c != '\n' && c != '\t') || is_direction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_control_a_terminal_is_shown_and_all_else_stays() {
        for (text, shown) in [
            ("a\tb\nbücher `x`", "a\tb\nbücher `x`"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("valid\rINVALID\u{9b}2J", "valid\\rINVALID\\u{9b}2J"),
            ("\u{202e}gpj.exe", "\\u{202e}gpj.exe"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }
}
