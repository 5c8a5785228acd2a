//! How a back end is chosen; what each must do is in `conformance`, and a transport for tests of time limits in `memory`.

pub(crate) mod conformance;
pub(crate) mod memory;

use super::*;

#[test]
fn the_ring_is_taken_where_it_is_asked_for_alone() {
    for (io, backend) in
        [(Io::Auto, Backend::Epoll), (Io::Epoll, Backend::Epoll), (Io::Uring, Backend::Uring)]
    {
        assert_eq!(Backend::choose(io).unwrap(), backend, "{io:?}");
    }
}

#[tokio::test]
async fn the_ring_can_be_proved_from_inside_a_runtime() {
    assert!(Backend::choose(Io::Uring).is_ok());
}

#[test]
fn the_choice_is_a_metric() {
    let registry = Registry::new();
    Backend::Epoll.register(&registry).unwrap();
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    assert!(text.contains("gatehouse_transport_backend{backend=\"epoll\"} 1"), "{text}");
    assert!(text.contains("gatehouse_transport_backend{backend=\"uring\"} 0"), "{text}");
}
