//! Mutated items of the domains table.

use proxy_common::fixture::fuzz::Corpus;

use super::*;
use crate::store::fixture::item;

#[test]
fn a_mutated_corpus_is_read_or_its_fault_is_named_and_what_is_read_is_written_alike() {
    Corpus::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/domain_item")).run(|input| {
        let item = item(input);
        match DomainRecord::read(&item) {
            Ok(record) => {
                let attributes = record.attributes().into_iter();
                let mut written: Item =
                    attributes.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
                written.extend(key(&record.pattern));
                assert_eq!(DomainRecord::read(&written).unwrap(), record);
            }
            Err(StoreError::Misshapen { key, attribute, fault }) => {
                assert!(key.chars().count() <= 260, "{} characters of a key", key.chars().count());
                assert!(!attribute.is_empty() && !fault.is_empty(), "{attribute}: {fault}");
                assert!(fault.len() <= MOST_SAID, "{} bytes of fault", fault.len());
            }
            Err(other) => panic!("{other:?}"),
        }
    });
}

/// A fault quotes the value at most.
const MOST_SAID: usize = 1024;
