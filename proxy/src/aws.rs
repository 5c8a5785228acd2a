//! HTTP calls to AWS: the SDK's client over the process's own TLS, with a limit on the size of answers for callers that ask for one.
//! Not here: what is requested (`store`, `ssm`, `ec2`, `route53`), and with which credentials and region; signatures and bounds (`aws-call`).

mod fault;
mod json_call;

use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

pub(crate) use aws_call::{CallLimits, RestCall, bounded, complete_xml, read_bounded, shortened};
#[cfg(test)]
pub(crate) use aws_call::{LONGEST_WORDS, endpoint_of};
pub(crate) use fault::AwsFault;
pub(crate) use json_call::{JsonCall, service_endpoint, set_endpoint};

/// rustls on aws-lc, as everywhere in the process.
pub(crate) fn over_the_network() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build_https()
}

/// For what speaks no TLS.
pub(crate) fn in_cleartext() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().build_http()
}
