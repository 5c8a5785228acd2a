//! Certificates that operators bring: made by openssl, imported by the command, served by every instance, and never ordered.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use anyhow::ensure;
use testbed::{
    curl::Reply,
    edge::Edge,
    gatehouse::{Gatehouse, Place},
    namespace, wait,
};

use crate::fixture::{SHOP, edge, start};

/// Covered by the wildcard.
const BLOG: &str = "blog.customer.test";

/// A CA made by openssl, with an intermediate.
struct OwnAuthority {
    folder: PathBuf,
}

/// What the command is given.
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

impl OwnAuthority {
    fn create(edge: &Edge) -> Self {
        let folder = edge.folder().join("own-ca");
        fs::create_dir_all(&folder).unwrap();
        let authority = Self { folder };
        authority.openssl(
            "req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.pem -days 30 -subj /CN=own-root",
        );
        authority.write("ca.ext", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n");
        authority.openssl(
            "req -newkey rsa:2048 -nodes -keyout middle.key -out middle.csr -subj /CN=own-intermediate",
        );
        authority.openssl("x509 -req -in middle.csr -CA root.pem -CAkey root.key -CAcreateserial -out middle.pem -days 30 -extfile ca.ext");
        authority
    }

    /// A certificate for `names` with a key of this kind (`rsa:2048`, or `ec -pkeyopt ...`), the intermediate behind it.
    fn issue(&self, label: &str, kind: &str, names: &str) -> Files {
        self.write("leaf.ext", &format!("subjectAltName={names}\nextendedKeyUsage=serverAuth\n"));
        self.openssl(&format!(
            "req -newkey {kind} -nodes -keyout {label}.key -out {label}.csr -subj /CN={label}"
        ));
        self.openssl(&format!(
            "x509 -req -in {label}.csr -CA middle.pem -CAkey middle.key -CAcreateserial -out {label}.crt -days 20 -extfile leaf.ext"
        ));
        let chain =
            [fs::read(self.folder.join(format!("{label}.crt"))), fs::read(self.folder.join("middle.pem"))];
        let chain: Vec<u8> = chain.into_iter().flat_map(Result::unwrap).collect();
        let files = Files {
            cert: self.folder.join(format!("{label}.pem")),
            key: self.folder.join(format!("{label}.key")),
        };
        fs::write(&files.cert, chain).unwrap();
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).unwrap();
        files
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).unwrap();
    }

    fn openssl(&self, arguments: &str) {
        let mut command = std::process::Command::new("openssl");
        command.args(arguments.split(' ')).current_dir(&self.folder);
        namespace::run(&mut command).unwrap();
    }
}

impl Files {
    fn import(&self, gatehouse: &Gatehouse) -> anyhow::Result<String> {
        let [cert, key] = [&self.cert, &self.key].map(|path| path.to_str().unwrap());
        gatehouse.command(&["certificate", "import", "--cert", cert, "--key", key])
    }
}

/// What `place` presents for `name` to a client that trusts the own root alone.
fn ask(edge: &Edge, authority: &OwnAuthority, place: Place, name: &str) -> anyhow::Result<Reply> {
    let root = authority.folder.join("root.pem");
    let curl = testbed::curl::Curl::new(edge.network.clone(), &root, &format!("https://{name}/"));
    curl.at(place.v4().into()).run()
}

#[test]
fn own_certificates_are_served_by_every_instance_and_nothing_is_ordered_for_their_names() {
    let edge = edge();
    let authority = OwnAuthority::create(&edge);
    let [a, b] = [Place::A, Place::B].map(|place| {
        let mut settings = edge.shared_settings(place, "auto");
        settings.domain("*.customer.test");
        start(&edge, settings)
    });
    let wildcard = authority.issue("wildcard", "rsa:2048", "DNS:*.customer.test,DNS:customer.test");
    let exact = authority.issue("exact", "ec -pkeyopt ec_paramgen_curve:P-256", &format!("DNS:{SHOP}"));
    let said = wildcard.import(&a).unwrap();
    assert!(
        said.starts_with("*.customer.test, customer.test: certificate ") && !said.contains("warning"),
        "{said}"
    );
    for place in [Place::A, Place::B] {
        for name in [SHOP, BLOG] {
            let reply = ask(&edge, &authority, place, name).unwrap();
            assert_eq!(reply.status, 200, "{name} at {place:?}: {reply:?}");
        }
    }
    assert_eq!(edge.ca.relay.count("newOrder"), 0);

    let serial_of =
        |said: &str| said.split("certificate ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let (wildcards, exacts) = (serial_of(&said), serial_of(&exact.import(&b).unwrap()));
    let shown =
        |gatehouse: &Gatehouse, name: &str| gatehouse.command(&["certificate", "show", name]).unwrap();
    for gatehouse in [&a, &b] {
        wait::until("the exact one to be presented", Duration::from_mins(1), || {
            ensure!(ask(&edge, &authority, Place::A, SHOP)?.status == 200);
            ensure!(ask(&edge, &authority, Place::B, SHOP)?.status == 200);
            let said = shown(gatehouse, SHOP);
            ensure!(said.contains(&exacts) && said.contains("presented   by this instance"), "{said}");
            Ok(())
        })
        .unwrap();
        let said = shown(gatehouse, BLOG);
        assert!(said.contains(&wildcards) && said.contains("it is your own"), "{said}");
    }
    let listed = a.command(&["certificate", "list"]).unwrap();
    assert_eq!(listed.matches("(your own)").count(), 3, "{listed}");
    let refused = a.command(&["certificate", "renew", SHOP]).unwrap_err().to_string();
    assert!(refused.contains(&format!("`gatehouse certificate remove '{SHOP}'`")), "{refused}");
    let metrics = a.metrics().unwrap();
    let days = metrics.sum("gatehouse_certificate_own_next_expiry_seconds", &[]) / 86_400.0;
    assert!((19.0..=20.0).contains(&days), "{days}");

    for name in ["*.customer.test", "customer.test", SHOP] {
        b.command(&["certificate", "remove", name]).unwrap();
    }
    assert_eq!(edge.ca.relay.count("newOrder"), 0);
    let reply = edge.curl(&format!("https://{SHOP}/")).at(Place::B.v4().into()).run().unwrap();
    assert_eq!(
        (reply.status, edge.ca.relay.count("newOrder")),
        (200, 1),
        "ordered once it has none: {reply:?}"
    );
}

#[test]
fn what_cannot_be_served_is_refused_with_the_file_the_fault_and_the_remedy() {
    let edge = edge();
    let authority = OwnAuthority::create(&edge);
    let gatehouse = start(&edge, edge.settings(Place::A, "auto"));
    let good = authority.issue("good", "rsa:2048", "DNS:shop.example");
    let other = authority.issue("other", "rsa:2048", "DNS:shop.example");
    let path = |name: &str| authority.folder.join(name);
    let files = |cert: &str, key: &str| Files { cert: path(cert), key: path(key) };
    authority.openssl("pkey -in good.key -aes256 -passout pass:secret -out encrypted.key");
    let reversed = [fs::read(path("middle.pem")).unwrap(), fs::read(path("good.crt")).unwrap()].concat();
    fs::write(path("reversed.pem"), reversed).unwrap();
    fs::copy(&good.key, path("open.key")).unwrap();
    fs::set_permissions(path("open.key"), fs::Permissions::from_mode(0o640)).unwrap();
    for (files, at_fault, told) in [
        (files("good.pem", "other.key"), "other.key", "is not the key of the certificate"),
        (files("reversed.pem", "good.key"), "reversed.pem", "put the server's certificate first"),
        (files("good.pem", "encrypted.key"), "encrypted.key", "openssl pkey -in FILE -out NEW"),
        (files("good.pem", "open.key"), "open.key", "(mode 0640); `chmod 600 "),
        (files("good.pem", "good.crt"), "good.crt", "chmod 600"),
        (files("middle.pem", "middle.key"), "middle.pem", "is a CA's"),
        (files("missing.pem", "good.key"), "missing.pem", "cannot be read"),
    ] {
        if files.key.exists() && !["open.key", "good.crt"].iter().any(|name| files.key == path(name)) {
            fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let said = files.import(&gatehouse).unwrap_err().to_string();
        let line = said.lines().find(|line| line.contains("gatehouse: `")).unwrap_or(&said).to_owned();
        assert!(line.contains(at_fault) && line.contains(told), "{said}");
        assert_tells_no_key(&said, &[&good, &other]);
    }
    good.import(&gatehouse).unwrap();
    let log = gatehouse.process.output();
    assert!(log.contains("own certificate imported"), "{log}");
    assert_tells_no_key(&log, &[&good, &other]);
}

fn assert_tells_no_key(said: &str, files: &[&Files]) {
    for files in files {
        let key = fs::read_to_string(&files.key).unwrap();
        let lines: Vec<_> = key.lines().filter(|line| !line.starts_with("-----")).collect();
        assert!(lines.len() > 10 && lines.iter().all(|line| !said.contains(line)), "{said}");
    }
}
