//! Holds the parts of a table's entry together: who reads them while another CPU writes finds another seal.
//! Not here: protection from anybody, for a seal has no secret.

/// Takes another word into a seal.
#[inline]
pub(crate) const fn mix(seal: u64, word: u64) -> u64 {
    (seal ^ word).wrapping_mul(ODD).rotate_left(29)
}

/// An odd number whose bits look random: the fraction of the golden ratio.
pub(crate) const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
