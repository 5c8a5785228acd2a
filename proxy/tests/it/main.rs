//! Behaviour across boundaries: the running kernel, a real CA, a DynamoDB-compatible API, real clients.

mod guard_userspace;
