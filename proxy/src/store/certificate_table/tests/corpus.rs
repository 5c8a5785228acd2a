//! Mutated items of Caddy's table, and of our own records.

use proxy_common::fixture::fuzz::Corpus;

use super::{account::Account, challenge::Challenge, contents::ItemContents, *};
use crate::store::fixture;

#[test]
fn a_mutated_corpus_of_contents_is_read_as_it_is_encoded() {
    Corpus::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/certificate_item")).run(|input| {
        let read = fixture::item(input);
        let _ = Version::unchanged(Some(&Version::of(&read)));
        let Ok(contents) = ItemContents::of(&read) else { return };
        assert!(contents.len() <= input.len(), "{} bytes of {}", contents.len(), input.len());
        let again = ItemContents::of(&item::item("key", &contents, SystemTime::UNIX_EPOCH)).unwrap();
        assert_eq!(again, contents);
        if let Some(at) = std::str::from_utf8(&contents).ok().and_then(item::parse_instant) {
            let (written, second) = (item::instant(at), Duration::from_secs(1));
            let read = item::parse_instant(&written).unwrap();
            let rounded = at.duration_since(read).unwrap_or_else(|early| early.duration());
            assert!(rounded < second || written.starts_with("1970"), "{written} of {at:?}");
        }
    });
}

#[test]
fn a_mutated_corpus_of_documents_is_read_as_it_was_written() {
    Corpus::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/certificate_document")).run(|input| {
        if let Some(document) = Document::read(input) {
            let written = document.write();
            let again = Document::read(&written).unwrap();
            assert_eq!(again.write(), written, "a second time");
            assert_eq!(again.text("location"), document.text("location"));
        }
        let renewed =
            CertificateMetadata::read(input).renewed(&["a.example".to_owned()], Some("https://ca/1"));
        let renewed = CertificateMetadata::read(&renewed.write()).write();
        assert!(String::from_utf8(renewed).unwrap().contains("\"a.example\""));
        if let Some(challenge) = Challenge::read(input) {
            assert_eq!(Challenge::read(&challenge.write()), Some(challenge));
        }
        if let Some(account) = Account::read(input) {
            assert_eq!(Account::read(&account.write()).unwrap().location(), account.location());
        }
    });
}

#[test]
fn a_mutated_corpus_of_records_is_read_as_it_was_written() {
    let name = name("a.example");
    Corpus::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/order_record")).run(|input| {
        let Some(record) = OrderRecord::read(&name, &fixture::item(input)) else { return };
        assert_eq!(OrderRecord::read(&name, &record.write()), Some(record));
    });
}
