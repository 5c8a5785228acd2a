//! Findings that are no faults. ARCHITECTURE.md states those that are about a specification.

use super::verdict::Exception;

const LIFE: &str = "the CA's: Pebble's certificates live five years";

pub(super) const EXCEPTIONS: &[Exception] = &[
    Exception::new("sslyze", "maximum_certificate_lifespan", LIFE),
    Exception::new("testssl", "cert_validityPeriod", LIFE),
    Exception::new("testssl", "cert_revocation", "the CA's: Pebble has no lists of revoked certificates"),
    Exception::new(
        "testssl",
        "cipher_order",
        "the client's order decides, as Mozilla's intermediate configuration has it: all suites are strong, and a client knows whether it has AES in hardware",
    ),
    Exception::new("testssl", "HSTS", "the operator's to decide, by `headers.response`"),
    Exception::new(
        "testssl",
        "security_headers",
        "the target's to say, or the operator's, by `headers.response`",
    ),
];
