//! Answers of Route 53, read within bounds.

use aws_smithy_xml::decode::{Document, ScopedDecoder, XmlDecodeError, try_data};

use super::{error::CallError, txt_record::TxtRecord};
use crate::{
    aws::{complete_xml, shortened},
    name::ServerName,
};

/// What became of a change.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ChangeState {
    pub(super) id: String,
    pub(super) is_in_sync: bool,
}

/// `ChangeResourceRecordSets` and `GetChange`.
pub(super) fn read_change(body: &[u8]) -> Result<ChangeState, CallError> {
    let (mut id, mut status) = (None, None);
    let read = each_of(body, "ChangeInfo", |info| {
        while let Some(mut field) = info.next_tag() {
            match field.start_el().local() {
                "Id" => id = Some(text(&mut field)?),
                "Status" => status = Some(text(&mut field)?),
                _ => {}
            }
        }
        Ok(())
    });
    read.map_err(|error| unreadable(&error))?;
    // "/change/C2682N5HXP0BZ4"; it becomes part of a path.
    let id = id.map(|id| id.trim_start_matches("/change/").to_owned());
    let is_id = |id: &String| {
        !id.is_empty() && id.len() <= LONGEST_ID && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let id = id.filter(is_id).ok_or_else(|| unreadable(&XmlDecodeError::custom("it names no change")))?;
    Ok(ChangeState { id, is_in_sync: status.as_deref() == Some("INSYNC") })
}

/// `ListResourceRecordSets`: the TXT record of that name.
pub(super) fn read_record(body: &[u8], record: &ServerName) -> Result<Option<TxtRecord>, CallError> {
    let mut found = Vec::new();
    let read = each_of(body, "ResourceRecordSets", |sets| {
        while let Some(mut set) = sets.next_tag() {
            found.push(read_set(&mut set)?);
        }
        Ok(())
    });
    read.map_err(|error| unreadable(&error))?;
    // The list goes on with the names behind it.
    let of_it = |set: &RecordSet| set.kind == "TXT" && set.name.trim_end_matches('.') == record.as_str();
    let Some(set) = found.into_iter().find(of_it) else { return Ok(None) };
    let Some(ttl_seconds) = set.ttl_seconds.filter(|_| !set.has_policy) else {
        return Err(CallError::Refused("there is one with a routing policy".to_owned()));
    };
    if set.values.len() > MOST_VALUES {
        return Err(CallError::Refused(format!(
            "it has {} values; remove those that are left over",
            set.values.len()
        )));
    }
    Ok(Some(TxtRecord { ttl_seconds, values: set.values }))
}

#[derive(Default)]
struct RecordSet {
    name: String,
    kind: String,
    ttl_seconds: Option<u32>,
    values: Vec<String>,
    has_policy: bool,
}

fn read_set(set: &mut ScopedDecoder<'_, '_>) -> Result<RecordSet, XmlDecodeError> {
    let mut read = RecordSet::default();
    while let Some(mut field) = set.next_tag() {
        match field.start_el().local() {
            "Name" => read.name = text(&mut field)?,
            "Type" => read.kind = text(&mut field)?,
            "TTL" => read.ttl_seconds = text(&mut field)?.trim().parse().ok(),
            "SetIdentifier" => read.has_policy = true,
            "ResourceRecords" => {
                while let Some(mut record) = field.next_tag() {
                    while let Some(mut value) = record.next_tag() {
                        if value.start_el().local() == "Value" {
                            read.values.push(text(&mut value)?);
                        }
                    }
                }
            }
            _ => {}
        }
    }
    Ok(read)
}

/// Calls `read` with each child `name` of the answer's outermost element.
fn each_of(
    body: &[u8],
    name: &str,
    mut read: impl FnMut(&mut ScopedDecoder<'_, '_>) -> Result<(), XmlDecodeError>,
) -> Result<(), XmlDecodeError> {
    let mut document = Document::new(complete_xml(body)?);
    let mut root = document.root_element()?;
    while let Some(mut child) = root.next_tag() {
        if child.start_el().local() == name {
            read(&mut child)?;
        }
    }
    Ok(())
}

fn text(element: &mut ScopedDecoder<'_, '_>) -> Result<String, XmlDecodeError> {
    try_data(element).map(std::borrow::Cow::into_owned)
}

fn unreadable(error: &XmlDecodeError) -> CallError {
    CallError::Refused(shortened(&format!("its answer is of another form ({error})")))
}

/// An id of a change (API page `GetChange`).
const LONGEST_ID: usize = 32;
/// More than orders under way can be; a record can hold some hundreds ("Quotas").
const MOST_VALUES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    const NAMESPACE: &str = "xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"";

    fn name() -> ServerName {
        ServerName::parse("_acme-challenge.app.example").unwrap()
    }

    fn set(name: &str, kind: &str, more: &str) -> String {
        format!("<ResourceRecordSet><Name>{name}</Name><Type>{kind}</Type>{more}</ResourceRecordSet>")
    }

    fn list(sets: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?>\n<ListResourceRecordSetsResponse {NAMESPACE}><ResourceRecordSets>{sets}</ResourceRecordSets><IsTruncated>false</IsTruncated></ListResourceRecordSetsResponse>"
        )
    }

    fn values(values: &[&str]) -> String {
        let value = |value: &&str| format!("<ResourceRecord><Value>{value}</Value></ResourceRecord>");
        let values = values.iter().map(value).collect::<Vec<_>>().concat();
        format!("<TTL>300</TTL><ResourceRecords>{values}</ResourceRecords>")
    }

    #[test]
    fn the_record_is_found_among_those_behind_it() {
        let (ours, record) = ("_acme-challenge.app.example.", name());
        let found = |texts: &[&str]| {
            Some(TxtRecord {
                ttl_seconds: 300,
                values: texts.iter().map(|text| (*text).to_owned()).collect(),
            })
        };
        for (sets, expected) in [
            (String::new(), None),
            (set("b.app.example.", "TXT", &values(&["\"x\""])), None),
            (set(ours, "CNAME", &values(&["x."])), None),
            (
                set(ours, "TXT", &values(&["\"a\"", "\"b &amp; c\" \"d\""])),
                found(&["\"a\"", "\"b & c\" \"d\""]),
            ),
        ] {
            assert_eq!(read_record(list(&sets).as_bytes(), &record).unwrap(), expected, "{sets}");
        }
        let policy = format!("<SetIdentifier>eu</SetIdentifier><Weight>1</Weight>{}", values(&["\"a\""]));
        for sets in
            [set(ours, "TXT", &policy), set(ours, "TXT", ""), set(ours, "TXT", &values(&["\"a\""; 101]))]
        {
            assert!(
                matches!(read_record(list(&sets).as_bytes(), &record), Err(CallError::Refused(_))),
                "{sets}"
            );
        }
    }

    #[test]
    fn a_change_is_in_sync_when_it_says_so() {
        let change = |id: &str, status: &str| {
            let body = format!(
                "<?xml version=\"1.0\"?><GetChangeResponse {NAMESPACE}><ChangeInfo><Id>{id}</Id><Status>{status}</Status><SubmittedAt>2026-11-29T00:00:00Z</SubmittedAt></ChangeInfo></GetChangeResponse>"
            );
            read_change(body.as_bytes()).ok()
        };
        let read = |is_in_sync| Some(ChangeState { id: "C2682N5HXP0BZ4".to_owned(), is_in_sync });
        for (id, status, expected) in [
            ("/change/C2682N5HXP0BZ4", "PENDING", read(false)),
            ("/change/C2682N5HXP0BZ4", "INSYNC", read(true)),
            ("C2682N5HXP0BZ4", "INSYNC", read(true)),
            ("/change/", "INSYNC", None),
            ("/change/../x", "INSYNC", None),
        ] {
            assert_eq!(change(id, status), expected, "{id} {status}");
        }
        assert!(read_change(b"<html/>").is_err() && read_change(b"{}").is_err());
    }

    #[test]
    fn half_an_answer_is_none() {
        let (ours, record) = ("_acme-challenge.app.example.", name());
        let whole = list(&set(ours, "TXT", &values(&["\"a\"", "\"b\""])));
        for cut in 0..whole.len() {
            assert!(read_record(&whole.as_bytes()[..cut], &record).is_err(), "{}", &whole[..cut]);
        }
    }

    #[test]
    fn a_mutated_corpus_is_read_or_refused_within_bounds() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/route53_answer");
        let record = name();
        proxy_common::fixture::fuzz::Corpus::read(corpus).run(|input| {
            if let Ok(change) = read_change(input) {
                assert!(change.id.len() <= LONGEST_ID);
            }
            if let Ok(Some(found)) = read_record(input, &record) {
                assert!(found.values.len() <= MOST_VALUES);
            }
        });
    }
}
