//! The known key that an unknown one was probably meant to be.

/// The candidate nearest to `written`, if it is near enough for a typing error.
pub(super) fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let tolerance = (written.len() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|candidate| (distance(written, candidate), candidate))
        .filter(|(distance, _)| *distance <= tolerance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions and replacements from `a` to `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (above, x) in (1..).zip(a.chars()) {
        let mut left = above;
        let mut next = vec![left];
        for (y, pair) in b.chars().zip(row.windows(2)) {
            if let [diagonal, up] = pair {
                left = (diagonal + usize::from(x != y)).min(up + 1).min(left + 1);
                next.push(left);
            }
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let known = ["limits.idle", "upstream.idle", "listen.https", "guard.pin_path"];
        for (written, meant) in [
            ("limits.idel", Some("limits.idle")),
            ("listen.htps", Some("listen.https")),
            ("guard.pinpath", Some("guard.pin_path")),
            ("colour", None),
        ] {
            assert_eq!(nearest(written, known), meant, "{written}");
        }
    }
}
