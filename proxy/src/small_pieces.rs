//! Pieces of a body that are there and small are joined: each costs whoever passes it on a send, and over TLS a record, however small it is.

use bytes::{Bytes, BytesMut};

/// `first`, and behind it what `next` has by now, which is told how much there is room for, as long as that is little; at most about `most`.
pub(crate) fn join(first: Bytes, most: usize, mut next: impl FnMut(usize) -> Option<Bytes>) -> Bytes {
    let enough = most.min(ENOUGH);
    if first.len() >= enough {
        return first;
    }
    let Some(second) = next(enough - first.len()) else { return first };
    let mut joined = BytesMut::with_capacity(enough.max(first.len() + second.len()));
    joined.extend_from_slice(&first);
    joined.extend_from_slice(&second);
    // A piece may be empty.
    for _ in 0..ENOUGH {
        let room = enough.saturating_sub(joined.len());
        let Some(piece) = (if room > 0 { next(room) } else { None }) else { break };
        joined.extend_from_slice(&piece);
    }
    joined.freeze()
}

/// What is as long as this is passed on by itself.
const ENOUGH: usize = 2 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_small_is_joined_until_there_is_no_more_or_enough() {
        for (lengths, most, joined) in [
            (&[ENOUGH, 1][..], usize::MAX, ENOUGH),
            (&[1], usize::MAX, 1),
            (&[1, 0, 1, 1], usize::MAX, 3),
            (&[1, 1, 1], 2, 2),
            (&vec![1; 2 * ENOUGH], usize::MAX, ENOUGH),
            (&[1, 9_000, 1], usize::MAX, 9_001),
        ] {
            let mut pieces = lengths.iter().map(|length| Bytes::from(vec![0; *length]));
            let first = pieces.next().unwrap();
            let whole = join(first, most, |_| pieces.next());
            assert_eq!(whole.len(), joined, "{:?}...", &lengths[..lengths.len().min(4)]);
        }
    }
}
