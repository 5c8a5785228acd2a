use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};

use super::*;

const DAY: Duration = Duration::from_hours(24);

type Authority = CertifiedIssuer<'static, KeyPair>;

struct Files {
    chain: String,
    key: String,
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
}

fn params(name: &str, names: &[&str]) -> CertificateParams {
    let mut params =
        CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = ((now() - DAY).into(), (now() + DAY * 30).into());
    params
}

fn ca(name: &str, issuer: Option<&Authority>) -> Authority {
    let mut params = params(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    match issuer {
        None => CertifiedIssuer::self_signed(params, key).unwrap(),
        Some(issuer) => CertifiedIssuer::signed_by(params, key, issuer).unwrap(),
    }
}

/// A certificate that a CA's intermediate has issued, with the whole chain behind it.
fn issued(change: impl FnOnce(&mut CertificateParams)) -> Files {
    let root = ca("root", None);
    let intermediate = ca("intermediate", Some(&root));
    let mut params = params("shop", &["shop.example", "*.shop.example"]);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &intermediate).unwrap();
    let chain = format!("{}{}{}", leaf.pem(), intermediate.pem(), root.pem());
    Files { chain, key: key.serialize_pem() }
}

fn read(Files { chain, key }: &Files) -> Result<OwnCertificate, OwnFault> {
    OwnCertificate::read(chain.as_bytes(), key.as_bytes(), now())
}

/// The certificates of a PEM file, in another order.
fn reordered(chain: &str, order: &[usize]) -> String {
    let parts: Vec<_> = chain.split_inclusive("-----END CERTIFICATE-----\n").collect();
    order.iter().map(|index| parts[*index]).collect()
}

#[test]
fn a_chain_in_order_with_its_key_is_taken_for_all_its_names_and_nothing_else_of_the_files() {
    let files = issued(|_| ());
    let combined = Files { chain: format!("{}\nnotes\n{}", files.key, files.chain), ..files };
    let own = read(&combined).unwrap();
    let names: Vec<_> = own.patterns.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["shop.example", "*.shop.example"]);
    assert_eq!(own.warnings, Vec::<String>::new());
    assert_eq!(own.chain.matches("BEGIN CERTIFICATE").count(), 3);
    assert!(!own.chain.contains("PRIVATE KEY") && !own.chain.contains("notes"), "{}", own.chain);
    assert!(combined.chain.replace("\r\n", "\n").contains(&own.chain), "as the file has it");
    let again = OwnCertificate::read(own.chain.as_bytes(), own.key.as_bytes(), now()).unwrap();
    assert_eq!((again.chain, again.key), (own.chain, own.key));
}

#[test]
fn the_key_is_never_shown() {
    let files = issued(|_| ());
    let own = read(&files).unwrap();
    let other = Files { chain: issued(|_| ()).chain, key: files.key.clone() };
    let half = Files { chain: files.chain.clone(), key: files.key[..90].to_owned() };
    let told = [format!("{own:?}"), format!("{:?}", read(&other)), format!("{:?}", read(&half))];
    for line in files.key.lines().filter(|line| !line.starts_with("-----")) {
        assert!(told.iter().all(|told| !told.contains(line)), "{told:?}");
    }
}

fn check(file: OwnFile, cases: &[(&str, Files, &str)]) {
    for (case, files, told) in cases {
        let fault = read(files).err().unwrap_or_else(|| panic!("{case} is taken"));
        assert!(fault.file() == file && fault.to_string().contains(told), "{case}: {fault}");
    }
}

#[test]
fn what_is_wrong_with_a_chain_is_said_of_its_file() {
    let good = issued(|_| ());
    let with_chain = |chain: String| Files { chain, key: good.key.clone() };
    let in_order = |order: &[usize]| with_chain(reordered(&good.chain, order));
    let broken = good.chain.replacen("-----BEGIN CERTIFICATE-----\nM", "-----BEGIN CERTIFICATE-----\nA", 1);
    let not_its_issuer = "certificate 2 of the chain (`CN=root`) is not the issuer of the one before it, which is `CN=intermediate`";
    let cases = [
        ("nothing", with_chain(String::new()), "holds no certificate in PEM form"),
        ("a key for a chain", with_chain(good.key.clone()), "holds no certificate"),
        ("a broken one", with_chain(broken), "certificate 1 of the chain cannot be read"),
        ("the root before the intermediate", in_order(&[0, 2, 1]), not_its_issuer),
        ("the leaf behind its issuer", in_order(&[1, 0]), "the key belongs to certificate 2 of the chain"),
        ("too many", in_order(&[0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]), "more than 10"),
    ];
    check(OwnFile::Chain, &cases);
}

#[test]
fn what_cannot_be_presented_is_refused_with_the_reason() {
    let only = |usage| move |params: &mut CertificateParams| params.extended_key_usages = vec![usage];
    let ends = |at: SystemTime| move |params: &mut CertificateParams| params.not_after = at.into();
    let begins = |at: SystemTime| move |params: &mut CertificateParams| params.not_before = at.into();
    let names = |names: Vec<SanType>| move |params: &mut CertificateParams| params.subject_alt_names = names;
    let address = SanType::IpAddress([192, 0, 2, 1].into());
    let of_ca = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let cases = [
        ("ended", issued(ends(now())), "has ended 2027-01-15T08:00:00.000000Z"),
        ("not begun", issued(begins(now() + DAY)), "begins 2027-01-16T08:00:00.000000Z"),
        ("without names", issued(names(vec![])), "no name of the DNS"),
        ("for an address", issued(names(vec![address])), "no name of the DNS"),
        ("for clients", issued(only(ExtendedKeyUsagePurpose::ClientAuth)), "lacks `serverAuth`"),
        ("of a CA", issued(of_ca), "is a CA's (`CN=shop`)"),
    ];
    check(OwnFile::Chain, &cases);
}

#[test]
fn what_is_wrong_with_a_key_is_said_of_its_file() {
    let good = issued(|_| ());
    let with_key = |key: &str| Files { chain: good.chain.clone(), key: key.to_owned() };
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let traditional = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let cases = [
        ("no key", with_key("key"), "holds no private key in PEM form"),
        ("a chain for a key", with_key(&good.chain), "holds no private key"),
        ("an encrypted key", with_key(encrypted), "openssl pkey -in FILE -out NEW"),
        ("another encrypted key", with_key(traditional), "openssl pkey -in FILE -out NEW"),
        ("a key that is none", with_key(no_key), "of a kind that cannot be used"),
        ("another key", with_key(&issued(|_| ()).key), "is not the key of the certificate"),
    ];
    check(OwnFile::Key, &cases);
}

#[test]
fn what_is_unusual_is_taken_with_a_warning() {
    let whole = issued(|_| ());
    let alone = Files { chain: reordered(&whole.chain, &[0]), key: whole.key };
    let warnings = read(&alone).unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("`CN=intermediate` refuse it"), "{warnings:?}");
    let with_address = issued(|params| {
        params.subject_alt_names.push(SanType::IpAddress([192, 0, 2, 1].into()));
        params.subject_alt_names.push(SanType::DnsName("*.example".try_into().unwrap()));
    });
    let own = read(&with_address).unwrap();
    assert_eq!((own.patterns.len(), own.warnings.len()), (2, 2), "{:?}", own.warnings);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_files_panic(chain in proptest::collection::vec(any::<u8>(), 0..300), key in "\\PC{0,80}") {
            prop_assert!(OwnCertificate::read(&chain, key.as_bytes(), now()).is_err());
            let [chain, key] = ["CERTIFICATE", "PRIVATE KEY"].map(|label| pem(label, &chain));
            prop_assert!(OwnCertificate::read(chain.as_bytes(), key.as_bytes(), now()).is_err());
        }
    }
}
