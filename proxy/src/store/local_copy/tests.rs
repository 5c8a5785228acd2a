use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;

use super::*;
use crate::{
    name::ServerName,
    store::key_sealer::tests::{FIRST, SECOND, by_file},
};

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn entry(domain: &str, status: DomainStatus) -> CopiedEntry {
    CopiedEntry {
        domain: pattern(domain),
        target: Some(Target::parse("https://origin.example:8443/base").unwrap()),
        settings: DomainSettings {
            maintenance: Some(true.into()),
            request_rate: Some("100/s burst 500".parse().unwrap()),
            ..DomainSettings::default()
        },
        tenant: "t".to_owned(),
        status,
        source: CopiedSource::Table,
        version: 7,
        changed_at_micros: 1_700_000_000_000_001,
    }
}

fn certificate(name: &str) -> CopiedCertificate {
    CopiedCertificate {
        pattern: pattern(name),
        issuer: IssuerKey::of_directory("https://ca.example/dir"),
        seen_at: Micros::from_epoch(1_700_000_000_000_002),
        chain: format!("the chain of {name}").into_bytes(),
        key: PrivateKeyPem::from(format!("the secret of {name}").into_bytes()),
    }
}

fn contents() -> CopyContents {
    CopyContents {
        written_at: Micros::from_epoch(1_700_000_000_000_003),
        entries: vec![
            entry("*.customer.example", DomainStatus::Active),
            entry("bad.customer.example", DomainStatus::Suspended),
            CopiedEntry {
                target: None,
                settings: DomainSettings::default(),
                source: CopiedSource::Ask,
                version: 0,
                changed_at_micros: 0,
                ..entry("asked.example", DomainStatus::Active)
            },
        ],
        certificates: vec![
            certificate("a.customer.example"),
            certificate("asked.example"),
            certificate("*.other.example"),
        ],
    }
}

/// A copy in a folder of its own, by the keys of `text`.
async fn copy(folder: &Path, text: &str) -> LocalCopy {
    LocalCopy { path: file_in(folder), sealer: by_file(folder, text).await }
}

async fn told(copy: &LocalCopy) -> String {
    crate::telemetry::error_chain(&copy.read().await.unwrap_err())
}

/// Names of the certificates that are read, and how many are left out.
async fn read_names(copy: &LocalCopy) -> Result<(Vec<String>, usize), LocalCopyError> {
    let read = copy.read().await?.unwrap();
    assert_eq!(read.contents.entries, contents().entries, "entries are there as a whole");
    for certificate in &read.contents.certificates {
        assert!(contents().certificates.contains(certificate), "{certificate:?}");
    }
    let names = read.contents.certificates.iter().map(|held| held.pattern.to_string()).collect();
    Ok((names, read.left_out))
}

/// The beginning, and each record with its length.
fn parts(file: &[u8]) -> Vec<Vec<u8>> {
    let (_, frames) = Frames::of(file).unwrap();
    let records: Vec<_> = frames
        .map(|sealed| {
            let mut record = Vec::new();
            format::append(&mut record, sealed).unwrap();
            record
        })
        .collect();
    let length: usize = records.iter().map(Vec::len).sum();
    let beginning = file[..file.len() - length].to_vec();
    std::iter::once(beginning).chain(records).collect()
}

#[tokio::test]
async fn what_is_written_is_read_and_the_file_tells_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let copy = copy(folder.path(), FIRST).await;
    assert!(copy.read().await.unwrap().is_none(), "there is none yet");
    for contents in [contents(), CopyContents { entries: vec![], certificates: vec![], ..contents() }] {
        let bytes = copy.write(&contents).await.unwrap();
        let file = fs::read(&copy.path).unwrap();
        assert_eq!(u64::try_from(file.len()).unwrap(), bytes);
        let read = copy.read().await.unwrap().unwrap();
        assert_eq!((read.contents, read.left_out), (contents, 0));
        for word in ["example", "secret", "chain", "suspended", "origin"] {
            assert!(!file.windows(word.len()).any(|window| window == word.as_bytes()), "{word}");
        }
    }
}

#[tokio::test]
async fn what_is_not_sealed_for_its_place_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let copy = copy(folder.path(), FIRST).await;
    copy.write(&contents()).await.unwrap();
    let [beginning, list, a, b, c] = <[Vec<u8>; 5]>::try_from(parts(&fs::read(&copy.path).unwrap())).unwrap();
    copy.write(&contents()).await.unwrap();
    let [other_beginning, other_list, other_a, ..] =
        <[Vec<u8>; 5]>::try_from(parts(&fs::read(&copy.path).unwrap())).unwrap();
    let mut in_clear = Vec::new();
    format::append(&mut in_clear, &format::encode_certificate(&certificate("a.customer.example")).unwrap());
    let mut list_in_clear = Vec::new();
    format::append(&mut list_in_clear, &format::encode_list(&contents()).unwrap());
    let (first, second, third) = ("a.customer.example", "asked.example", "*.other.example");
    for (what, file, read) in [
        ("as it was", vec![&beginning, &list, &a, &b, &c], Some((vec![first, second, third], 0))),
        ("two swapped", vec![&beginning, &list, &b, &a, &c], Some((vec![third], 2))),
        ("one twice", vec![&beginning, &list, &a, &a, &c], Some((vec![first, third], 1))),
        ("one taken out", vec![&beginning, &list, &a, &c], Some((vec![first], 2))),
        ("one of another file", vec![&beginning, &list, &other_a, &b, &c], Some((vec![second, third], 1))),
        ("one in clear", vec![&beginning, &list, &in_clear, &b, &c], Some((vec![second, third], 1))),
        ("the list for one", vec![&beginning, &list, &list, &b, &c], Some((vec![second, third], 1))),
        ("one too many", vec![&beginning, &list, &a, &b, &c, &a], Some((vec![first, second, third], 0))),
        ("no list", vec![&beginning, &a, &b, &c], None),
        ("the list of another file", vec![&beginning, &other_list, &a, &b, &c], None),
        ("the list in clear", vec![&beginning, &list_in_clear, &a, &b, &c], None),
        ("the beginning of another file", vec![&other_beginning, &list, &a, &b, &c], None),
        ("a beginning alone", vec![&beginning], None),
    ] {
        fs::write(&copy.path, file.into_iter().flatten().copied().collect::<Vec<_>>()).unwrap();
        if let Some((names, left_out)) = read {
            let names: Vec<_> = names.into_iter().map(ToOwned::to_owned).collect();
            assert_eq!(read_names(&copy).await.unwrap(), (names, left_out), "{what}");
        } else {
            let said = told(&copy).await;
            assert!(said.contains("was cut or changed since it was written"), "{what}: {said}");
        }
    }
}

#[tokio::test]
async fn a_file_that_is_cut_or_changed_anywhere_gives_what_is_whole_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let copy = copy(folder.path(), FIRST).await;
    copy.write(&contents()).await.unwrap();
    let file = fs::read(&copy.path).unwrap();
    let of_list: usize = parts(&file).iter().take(2).map(Vec::len).sum();
    for end in (0..file.len()).step_by(7) {
        fs::write(&copy.path, &file[..end]).unwrap();
        match read_names(&copy).await {
            Ok((names, left_out)) => {
                assert_eq!((end >= of_list, names.len() + left_out), (true, 3), "{end} bytes");
            }
            Err(_) => assert!(end < of_list, "{end} bytes"),
        }
    }
    for at in (0..file.len()).step_by(3) {
        let mut changed = file.clone();
        changed[at] ^= 1;
        fs::write(&copy.path, changed).unwrap();
        match read_names(&copy).await {
            Ok((names, left_out)) => {
                assert!(at >= of_list && names.len() < 3 && names.len() + left_out == 3, "byte {at}");
            }
            Err(_) => assert!(at < of_list, "byte {at}"),
        }
    }
}

#[tokio::test]
async fn another_release_another_key_and_another_file_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let copy = copy(folder.path(), FIRST).await;
    copy.write(&contents()).await.unwrap();
    let other = self::copy(folder.path(), SECOND).await;
    let said = told(&other).await;
    assert!(
        said.contains("store.key_encryption: ") && said.contains("is not the key of the settings"),
        "{said}"
    );
    let both = self::copy(folder.path(), &format!("{SECOND}\n{FIRST}\n")).await;
    assert_eq!(
        read_names(&both).await.unwrap().0.len(),
        3,
        "as a key that was replaced reads what it has sealed"
    );

    let mut file = fs::read(&copy.path).unwrap();
    file[format::BEGINNING.len() + 1] = 2;
    fs::write(&copy.path, &file).unwrap();
    let said = told(&copy).await;
    assert!(said.contains("is a local copy of format 2, which this release does not read"), "{said}");
    fs::write(&copy.path, "something else").unwrap();
    assert!(told(&copy).await.contains("is no local copy"));
    fs::File::create(&copy.path).unwrap().set_len(u64::try_from(LONGEST).unwrap() + 1).unwrap();
    let said = told(&copy).await;
    assert!(said.contains("check `store.local_copy`") && said.contains("more than"), "{said}");
}

#[tokio::test]
async fn the_file_is_its_owners_alone_and_gone_once_it_is_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("copy");
    let copy = LocalCopy { path: file_in(&inner), sealer: by_file(folder.path(), FIRST).await };
    assert_eq!((look(&inner).unwrap(), clear(&inner).unwrap()), (None, None), "there is none yet");
    let bytes = copy.write(&contents()).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&copy.path), mode(&inner)), (0o600, 0o700));
    fs::write(whole_file::beside(&copy.path), "half").unwrap();
    assert_eq!(look(&inner).unwrap().unwrap().0, bytes);
    assert_eq!(clear(&inner).unwrap(), Some(bytes));
    assert_eq!(fs::read_dir(&inner).unwrap().count(), 0);
    assert!(copy.read().await.unwrap().is_none());
}

#[tokio::test]
async fn without_a_key_there_is_no_copy() {
    let engine = crate::store::Engine::in_memory().unwrap();
    let store = Store::on(engine, &crate::config::StoreConfig::default());
    assert!(store.local_copy(Path::new("/nowhere")).is_none());
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = format::decode_certificate(&bytes);
        let _ = List::decode(&bytes);
        let mut file = format::beginning(&[7; format::ID_BYTES]);
        file.extend(&bytes);
        let (_, frames) = Frames::of(&file).unwrap();
        prop_assert!(frames.map(|sealed| sealed.len() + 4).sum::<usize>() <= bytes.len());
        for cut in 0..file.len() {
            let _ = Frames::of(&file[..cut]).map(|(_, frames)| frames.count());
        }
        let _ = Frames::of(&bytes).map(|(_, frames)| frames.count());
    }

    #[test]
    fn a_certificate_is_read_as_it_was_written_and_never_cut(
        name in "[a-z]{1,20}\\.example",
        chain in proptest::collection::vec(any::<u8>(), 0..300),
        key in proptest::collection::vec(any::<u8>(), 0..300),
        seen_at in 0..2_000_000_000_000_000_u64,
    ) {
        let written = CopiedCertificate {
            pattern: Pattern::Exact(ServerName::parse(&name).unwrap()),
            issuer: IssuerKey::internal(),
            seen_at: Micros::from_epoch(seen_at),
            chain,
            key: PrivateKeyPem::from(key),
        };
        let record = format::encode_certificate(&written).unwrap();
        prop_assert_eq!(record.capacity(), record.len(), "no part of the key was moved");
        for end in 0..record.len() {
            prop_assert!(format::decode_certificate(&record[..end]).is_none());
        }
        prop_assert!(format::decode_certificate(&[&record[..], &[0]].concat()).is_none(), "nor longer");
        prop_assert_eq!(format::decode_certificate(&record), Some(written));
    }
}
