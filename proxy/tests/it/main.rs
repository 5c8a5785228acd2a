//! Gatehouse against a real kernel, a real CA, a DynamoDB API, curl and openssl: one file per behaviour.

mod guard_userspace;
