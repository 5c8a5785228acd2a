//! The way to what AWS answers over HTTP: the SDK's client on the process's own TLS, and answers that are bounded.
//! Not here: what is asked (`store`, `parameter`, `instance`), and with which credentials and region.
//! Invariants: of an answer no more is read than was asked for (`an_answer_beyond_the_bound_is_an_error`).

mod bounded;

use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

pub(crate) use bounded::bounded;

/// rustls on aws-lc, as everywhere in the process.
pub(crate) fn over_the_network() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build_https()
}

/// For what speaks no TLS.
pub(crate) fn in_cleartext() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().build_http()
}
