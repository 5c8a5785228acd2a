//! Signatures of Standard Webhooks ("Signature scheme", symmetric): HMAC-SHA256 over `<id>.<timestamp>.<body>`.
//! Invariant: a secret is never shown, and wiped when it is dropped (`no_part_of_a_secret_is_told`).

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// What signs events of one webhook.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(Zeroizing<Vec<u8>>);

/// What is wrong with a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoSecret {
    /// Its beginning.
    #[error("it does not begin with `whsec_`")]
    Prefix,
    /// What follows.
    #[error("what follows `whsec_` is not 24 to 64 bytes in base64")]
    Bytes,
}

impl Secret {
    /// Reads `whsec_` and base64; space around it is an editor's.
    pub(super) fn read(text: &[u8]) -> Result<Self, NoSecret> {
        let digits = text.trim_ascii().strip_prefix(b"whsec_").ok_or(NoSecret::Prefix)?;
        let bytes = STANDARD.decode(digits).map(Zeroizing::new).map_err(|_| NoSecret::Bytes)?;
        // "Standard Webhooks", "Signature scheme": between 24 and 64 bytes.
        if (24..=64).contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(NoSecret::Bytes) }
    }

    /// The header `webhook-signature` of a message, which is sent at `seconds` since the epoch.
    pub(super) fn sign(&self, id: &str, seconds: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.0));
        context.update(format!("{id}.{seconds}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification, which its libraries test themselves with.
    #[test]
    fn the_specifications_example_is_signed_as_it_says() {
        let secret = Secret::read(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature =
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_is_neither_short_nor_long() {
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7_u8; bytes]));
        for (text, problem) in [
            (of(24), None),
            (of(64), None),
            (of(23), Some(NoSecret::Bytes)),
            (of(65), Some(NoSecret::Bytes)),
            ("whsec_".to_owned(), Some(NoSecret::Bytes)),
            ("whsec_***".to_owned(), Some(NoSecret::Bytes)),
            (STANDARD.encode([7; 32]), Some(NoSecret::Prefix)),
        ] {
            assert_eq!(Secret::read(text.as_bytes()).err(), problem, "{text}");
        }
    }
}
