//! A walk that has stopped, as it is remembered (`flow`): all of it is part of a seal, since a torn one is none.

use super::ParserState;
use crate::seal::mix;

impl ParserState {
    /// Bytes of the name in the buffer, if the input ended inside it: they must be there when the walk goes on.
    #[must_use]
    #[inline]
    pub const fn cut_name_bytes(&self) -> u32 {
        self.name_read
    }

    /// Goes into a seal with everything that it holds.
    #[inline]
    pub(crate) const fn fold(&self, seal: u64) -> u64 {
        let counts = pair(self.records as u32, self.extensions as u32);
        let seal = mix(mix(mix(seal, self.field), self.record_header), counts);
        let seal = mix(seal, pair(self.phase as u32, self.field_read));
        let seal = mix(mix(seal, pair(self.record_header_read, self.skip)), self.record_left as u64);
        let seal = mix(mix(seal, self.message_left as u64), self.name_extension_bytes as u64);
        mix(seal, pair(self.name_bytes, self.name_read))
    }
}

#[inline]
const fn pair(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}
