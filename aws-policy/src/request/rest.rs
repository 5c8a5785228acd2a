//! Services that are called by methods and paths: Route 53, and S3 with the bucket in the path.

use super::{Request, decoded};
use crate::Call;

pub(super) fn route53(request: &Request<'_>) -> Option<Vec<Call>> {
    let (path, _) = parts(request.target);
    let path: Vec<_> = path.trim_matches('/').split('/').collect();
    let zone = |id: &str| format!("arn:aws:route53:::hostedzone/{id}");
    let call = match (request.method, path.as_slice()) {
        ("GET", ["2013-04-01", "hostedzone", id]) => Call::new("route53:GetHostedZone", zone(id)),
        ("GET", ["2013-04-01", "hostedzone", id, "rrset"]) => {
            Call::new("route53:ListResourceRecordSets", zone(id))
        }
        ("GET", ["2013-04-01", "change", id]) => {
            Call::new("route53:GetChange", format!("arn:aws:route53:::change/{id}"))
        }
        ("POST", ["2013-04-01", "hostedzone", id, "rrset"]) => change(&zone(id), request.body),
        _ => return None,
    };
    Some(vec![call])
}

/// "Using IAM policy conditions for fine-grained access control": names in lower case and without a dot at their end, types, actions.
fn change(zone: &str, body: &[u8]) -> Call {
    let text = String::from_utf8_lossy(body);
    let of = |name: &str| {
        let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
        let found = text.split(begin.as_str()).skip(1).filter_map(|rest| rest.split(end.as_str()).next());
        found.map(str::to_owned).collect::<Vec<_>>()
    };
    let names = of("Name").into_iter().map(|name| name.to_ascii_lowercase().trim_end_matches('.').to_owned());
    Call::new("route53:ChangeResourceRecordSets", zone)
        .with("route53:ChangeResourceRecordSetsNormalizedRecordNames", names)
        .with("route53:ChangeResourceRecordSetsRecordTypes", of("Type"))
        .with("route53:ChangeResourceRecordSetsActions", of("Action"))
}

/// "Required permissions for Amazon S3 API operations": HEAD is a read, what names a version has an action of its own.
pub(super) fn s3(request: &Request<'_>) -> Option<Vec<Call>> {
    let (path, query) = parts(request.target);
    let (bucket, key) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_matches('/'), ""));
    let call = match (request.method, key, query) {
        ("GET", "", "versions" | "versions=") => {
            Call::new("s3:ListBucketVersions", format!("arn:aws:s3:::{bucket}"))
        }
        (_, "", _) => return None,
        (method, key, query) => {
            let action = match (method, query.starts_with("versionId=")) {
                ("GET" | "HEAD", false) => "s3:GetObject",
                ("PUT", false) => "s3:PutObject",
                ("DELETE", true) => "s3:DeleteObjectVersion",
                _ => return None,
            };
            Call::new(action, format!("arn:aws:s3:::{bucket}/{}", decoded(key)))
        }
    };
    Some(vec![call])
}

fn parts(target: &str) -> (&str, &str) {
    target.split_once('?').unwrap_or((target, ""))
}
