//! How a back end is chosen; what each must do is in `conformance`, and a transport for tests of time limits in `memory`.

pub(crate) mod conformance;
pub(crate) mod memory;

use super::*;

#[test]
fn auto_takes_the_ring_exactly_where_it_can_be_had() {
    let by_itself = Backend::choose(Io::Auto).unwrap();
    assert_eq!(by_itself == Backend::Uring, Backend::choose(Io::Uring).is_ok());
    assert_eq!(Backend::choose(Io::Epoll).unwrap(), Backend::Epoll);
}

#[tokio::test]
async fn the_ring_can_be_proved_from_inside_a_runtime() {
    assert!(Backend::choose(Io::Auto).is_ok());
}

#[test]
fn the_choice_is_a_metric() {
    let registry = Registry::new();
    Backend::Epoll.register(&registry).unwrap();
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    assert!(text.contains("gatehouse_transport_backend{backend=\"epoll\"} 1"), "{text}");
    assert!(text.contains("gatehouse_transport_backend{backend=\"uring\"} 0"), "{text}");
}
