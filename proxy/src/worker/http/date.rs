//! The current time as responses carry it.

use std::{
    cell::RefCell,
    time::{Duration, SystemTime},
};

use http::HeaderValue;
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

use crate::clock;

/// The value of Date (RFC 9110 §5.6.7, §6.6.1); written once a second.
pub(super) fn date() -> HeaderValue {
    let now = clock::wall();
    let second = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    WRITTEN.with_borrow_mut(|written| match written {
        Some((at, date)) if *at == second => date.clone(),
        _ => {
            let date = format(now);
            *written = Some((second, date.clone()));
            date
        }
    })
}

fn format(at: SystemTime) -> HeaderValue {
    let text = OffsetDateTime::from(at).format(IMF_FIXDATE).unwrap_or_default();
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

thread_local! {
    static WRITTEN: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) };
}

const IMF_FIXDATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_http_wants_it() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(format(at), "Sun, 06 Nov 1994 08:49:37 GMT", "RFC 9110 §5.6.7");
    }
}
