//! An instance on the tables that the template `infra/domains.yaml` makes, as far as moto knows CloudFormation.

use testbed::{
    edge,
    gatehouse::Place,
    kms::{self, Kms},
};

use crate::fixture::{SHOP, assert_served_at, edge as start_edge, start};

#[test]
fn an_instance_serves_from_the_tables_of_the_template() {
    let edge = start_edge();
    // moto, which has the other services as well.
    let _aws = Kms::start(&edge.network.edge, edge.folder()).unwrap();
    let path = |path: &str| edge::root().join(path).display().to_string();
    let (python, script) = (path("target/moto/bin/python"), path("infra/check/stacks.py"));
    edge.network.edge.run(&python, &[&script, &Kms::url()]).unwrap();

    let mut settings = edge.shared_settings(Place::A, "auto");
    settings.domain(SHOP).text("store", "endpoint", &Kms::url()).text("store", "region", kms::REGION);
    for kind in ["certificates", "domains", "state"] {
        settings.text("store", &format!("{kind}_table"), &format!("gatehouse-tst-{kind}"));
    }
    settings.environment("AWS_ACCESS_KEY_ID", "testing").environment("AWS_SECRET_ACCESS_KEY", "testing");
    let _gatehouse = start(&edge, settings);
    assert_served_at(&edge, Place::A, SHOP);
}
