//! `prometheus.yml`: which instances are scraped, and under which labels. Relabelling runs in promtool; what EC2 would answer stands in
//! for EC2, since discovery itself is Prometheus' own.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};

use super::{list, promql::TARGET_LABELS, promtool, shipped, text, workspace, yaml};

#[test]
fn the_configuration_is_valid() {
    promtool(&["check", "config", shipped("prometheus.yml").to_str().unwrap()]);
}

#[test]
fn instances_are_told_apart_by_id_zone_region_stage_and_version() {
    for (zone, region) in [
        ("us-east-1a", "us-east-1"),
        ("eu-central-1c", "eu-central-1"),
        ("us-west-2-lax-1a", "us-west-2"),
        ("us-gov-west-1b", "us-gov-west-1"),
    ] {
        let labels = scraped_as(&json!({
            "__meta_ec2_instance_id": "i-0123456789abcdef0",
            "__meta_ec2_availability_zone": zone,
            "__meta_ec2_tag_gatehouse_stage": "prd",
            "__meta_ec2_tag_gatehouse_version": "0.1.0",
            "__meta_ec2_tag_Name": "gatehouse-prd",
        }));
        let wanted = json!({
            "instance": "i-0123456789abcdef0", "job": "gatehouse", "region": region, "stage": "prd",
            "version": "0.1.0", "zone": zone,
        });
        assert_eq!(labels, wanted, "{zone}");
        let names: BTreeSet<&str> = labels.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, BTreeSet::from(TARGET_LABELS));
    }
}

/// Each region is asked alike: for the tag that the stacks give, at the port of `control.metrics`.
#[test]
fn each_region_is_asked_for_running_instances_of_a_stage() {
    let prometheus = yaml("prometheus.yml");
    let asked = list(&list(&prometheus, "scrape_configs")[0], "ec2_sd_configs");
    let filters = json!([
        { "name": "tag-key", "values": ["gatehouse-stage"] },
        { "name": "instance-state-name", "values": ["running"] },
    ]);
    for region in asked {
        assert_eq!((&region["port"], &region["filters"]), (&json!(9464), &filters), "{region}");
    }
    let template = text(&workspace().join("infra/fleet.yaml"));
    for tag in ["gatehouse-stage", "gatehouse-version"] {
        let is_given = template
            .lines()
            .any(|line| line.contains(&format!("Key: {tag},")) && line.contains("PropagateAtLaunch: true"));
        assert!(is_given, "infra/fleet.yaml gives instances no tag `{tag}`");
    }
    let sample = text(&workspace().join("proxy/gatehouse.toml"));
    assert!(sample.contains("metrics = \"127.0.0.1:9464\""), "`control.metrics` has another port by default");
}

/// The labels of a target that EC2 describes by `meta`.
fn scraped_as(meta: &Value) -> Value {
    let mut prometheus = yaml("prometheus.yml");
    prometheus["rule_files"] = json!([]);
    let scrape = prometheus["scrape_configs"][0].as_object_mut().unwrap();
    scrape.remove("ec2_sd_configs").unwrap();
    scrape.insert("static_configs".to_owned(), json!([{ "targets": ["10.0.0.7:9464"], "labels": meta }]));
    let shell = xshell::Shell::new().unwrap();
    let folder = shell.create_temp_dir().unwrap();
    // JSON is YAML.
    let file = folder.path().join("prometheus.yml");
    fs::write(&file, prometheus.to_string()).unwrap();
    let said = promtool(&["check", "service-discovery", "--timeout=1s", file.to_str().unwrap(), "gatehouse"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let mut labels = said[0]["labels"].clone();
    labels.as_object_mut().unwrap().retain(|label, _| !label.starts_with("__"));
    labels
}
