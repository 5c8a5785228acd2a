//! Paths and bodies of the three calls, built without sending them.

use std::fmt::Write as _;

use super::{
    TxtPlace,
    txt_record::{Replacement, TxtRecord},
};
use crate::{config::HostedZoneId, name::ServerName};

/// `ListResourceRecordSets`, from the record on: it is the first of the answer, or there is none.
pub(super) fn list_path(place: &TxtPlace) -> String {
    let TxtPlace { zone, record } = place;
    // Names have no character that a query would have to escape. Two, since record sets with routing policies are several of one name.
    format!("/2013-04-01/hostedzone/{zone}/rrset?maxitems=2&name={record}.&type=TXT")
}

/// `ChangeResourceRecordSets`.
pub(super) fn change_path(zone: &HostedZoneId) -> String {
    format!("/2013-04-01/hostedzone/{zone}/rrset/")
}

/// `GetChange`; `change` is an id as [`read_change`](super::answer::read_change) gives it.
pub(super) fn get_change_path(change: &str) -> String {
    format!("/2013-04-01/change/{change}")
}

/// What `ChangeResourceRecordSets` is to do, all of it or nothing.
pub(super) fn change_body(record: &ServerName, replacement: &Replacement) -> String {
    let mut body = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><ChangeBatch><Changes>",
    );
    for (action, set) in [("DELETE", &replacement.deleted), ("CREATE", &replacement.created)] {
        if let Some(set) = set {
            write_change(&mut body, action, record, set);
        }
    }
    body.push_str("</Changes></ChangeBatch></ChangeResourceRecordSetsRequest>");
    body
}

fn write_change(body: &mut String, action: &str, record: &ServerName, set: &TxtRecord) {
    let ttl = set.ttl_seconds;
    let _ = write!(
        body,
        "<Change><Action>{action}</Action><ResourceRecordSet><Name>{record}.</Name><Type>TXT</Type><TTL>{ttl}</TTL><ResourceRecords>"
    );
    for value in &set.values {
        let _ = write!(body, "<ResourceRecord><Value>{}</Value></ResourceRecord>", escaped(value));
    }
    body.push_str("</ResourceRecords></ResourceRecordSet></Change>");
}

/// As text of an element (XML 1.0 §2.4): what others have put there is written back.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_replaced_only_as_it_was_read() {
        let record = ServerName::parse("_acme-challenge.app.example").unwrap();
        let set = |ttl_seconds, values: &[&str]| {
            Some(TxtRecord {
                ttl_seconds,
                values: values.iter().map(|value| format!("\"{value}\"")).collect(),
            })
        };
        let replacement =
            Replacement { deleted: set(300, &["a & <b>"]), created: set(300, &["a & <b>", "new"]) };
        let body = change_body(&record, &replacement);
        let change = |action: &str, values: &str| {
            format!(
                "<Change><Action>{action}</Action><ResourceRecordSet><Name>_acme-challenge.app.example.</Name><Type>TXT</Type><TTL>300</TTL><ResourceRecords>{values}</ResourceRecords></ResourceRecordSet></Change>"
            )
        };
        let there = "<ResourceRecord><Value>\"a &amp; &lt;b&gt;\"</Value></ResourceRecord>";
        let new = "<ResourceRecord><Value>\"new\"</Value></ResourceRecord>";
        let changes = change("DELETE", there) + &change("CREATE", &format!("{there}{new}"));
        assert!(body.contains(&format!("<Changes>{changes}</Changes>")), "{body}");
        let first = change_body(&record, &Replacement { deleted: None, created: set(10, &["new"]) });
        assert!(!first.contains("DELETE") && first.contains("<Action>CREATE</Action>"), "{first}");
        let last = change_body(&record, &Replacement { deleted: set(10, &["new"]), created: None });
        assert!(last.contains("<Action>DELETE</Action>") && !last.contains("CREATE"), "{last}");
    }
}
