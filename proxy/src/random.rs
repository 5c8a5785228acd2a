//! Numbers to spread work by, random or of a name's own; nothing secret depends on them.

use std::hash::{BuildHasher, RandomState};

use aws_lc_rs::digest;

/// Evenly from 0 to less than 1. `RandomState` is keyed by the system once in a thread, and each is another.
pub(crate) fn fraction() -> f64 {
    let upper = u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or_default();
    f64::from(upper) / (f64::from(u32::MAX) + 1.0)
}

/// The same for `name` at each instance and after each start, from 0 to less than 1; evenly spread over names.
pub(crate) fn fraction_of(name: &str) -> f64 {
    let digest = digest::digest(&digest::SHA256, name.as_bytes());
    let bits = digest.as_ref().iter().take(4).fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_spread_evenly() {
        let mut counts = [0; 4];
        for fraction in std::iter::repeat_with(fraction).take(4_000) {
            let quarter = counts.iter().zip(1_u8..).position(|(_, end)| fraction < f64::from(end) / 4.0);
            counts[quarter.expect("less than 1")] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }
}
