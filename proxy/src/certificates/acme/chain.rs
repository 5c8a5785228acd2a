//! The choice between the chains that a CA offers for one certificate (RFC 8555 §7.4.2): a root that few clients know yet, or one
//! that ends soon, may be avoided by another.

use instant_acme::Account;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tracing::warn;

use super::{Acme, http};
use crate::name::Pattern;

impl Acme {
    /// The chain from the root of the settings, if the CA offers one, else `default`: a certificate that was issued is not given up
    /// for its chain.
    pub(super) async fn preferred(&self, account: &Account, name: &Pattern, default: String) -> String {
        let Some(preferred) = &self.preferred_chain else { return default };
        let mut offered = vec![top_issuer(&default)];
        let alternates = http::take_chain().map(|chain| chain.alternates).unwrap_or_default();
        if offered.iter().flatten().any(|root| root == preferred) {
            return default;
        }
        for url in alternates {
            // The protocol library downloads a chain from an order's own URL alone. Asked for an order, it sends the same request to
            // this one, and does not understand the answer, which has passed through our client.
            let _ = account.order(url).await;
            let Some(chain) = http::take_chain() else { continue };
            let root = top_issuer(&chain.pem);
            if root.as_ref() == Some(preferred) {
                return chain.pem;
            }
            offered.push(root);
        }
        let offered: Vec<_> = offered.into_iter().flatten().collect();
        warn!(server_name = %name, directory = %self.directory, preferred, ?offered, "the CA offers no chain from the preferred root; its default is presented");
        default
    }
}

/// Common name of whoever issued the last certificate of a chain, which is the root where the root itself is left out.
fn top_issuer(pem: &str) -> Option<String> {
    let last = CertificateDer::pem_slice_iter(pem.as_bytes()).last()?.ok()?;
    let (_, last) = x509_parser::parse_x509_certificate(&last).ok()?;
    let name = last.issuer().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

    use super::*;

    #[test]
    fn a_chain_is_known_by_who_issued_its_last_certificate() {
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.distinguished_name.push(DnType::CommonName, "Root X1");
        let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
        let leaf = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &root).unwrap().pem();
        for (chain, issuer) in [
            (leaf.clone(), Some("Root X1")),
            (format!("{leaf}{}", root.pem()), Some("Root X1")),
            (String::new(), None),
            (format!("{leaf}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), None),
        ] {
            assert_eq!(top_issuer(&chain).as_deref(), issuer, "{chain}");
        }
    }
}
