//! The description of the API.

#[test]
fn checked_in_description_is_the_apis() {
    let remedy = "write it anew: `cargo run -q -p gatehouse -- config openapi > docs/openapi.json`";
    assert!(include_str!("../../../docs/openapi.json") == super::description(), "{remedy}");
}
