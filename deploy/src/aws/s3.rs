//! The bucket of the function's code.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Aws, Fault, xml::Tree};
use crate::wanted::Region;

impl Aws {
    pub(crate) async fn has_object(&self, region: &Region, bucket: &str, key: &str) -> Result<bool, Fault> {
        match self.object(region, "HEAD", path(bucket, key), Vec::new()).await {
            Ok(_) => Ok(true),
            Err(fault) if fault.is_absence() => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    pub(crate) async fn put_object(
        &self,
        region: &Region,
        bucket: &str,
        key: &str,
        body: Vec<u8>,
    ) -> Result<(), Fault> {
        self.object(region, "PUT", path(bucket, key), body).await.map(drop)
    }

    /// Deletes all versions of all objects; how many there were.
    pub(crate) async fn empty_bucket(&self, region: &Region, bucket: &str) -> Result<usize, Fault> {
        let mut deleted = 0_usize;
        for _ in 0..MOST_PAGES {
            let versions = self.versions(region, bucket).await?;
            if versions.is_empty() {
                break;
            }
            for (key, version) in &versions {
                let path = format!("{}?versionId={}", path(bucket, key), encoded(version));
                self.object(region, "DELETE", path, Vec::new()).await?;
            }
            deleted = deleted.saturating_add(versions.len());
        }
        Ok(deleted)
    }

    /// The first thousand versions and deletion markers.
    async fn versions(&self, region: &Region, bucket: &str) -> Result<Vec<(String, String)>, Fault> {
        let body = self.object(region, "GET", format!("/{bucket}?versions="), Vec::new()).await?;
        let tree = Tree::parse(&body).unwrap_or_default();
        let all = tree.all("Version").chain(tree.all("DeleteMarker"));
        Ok(all.map(|one| (one.text("Key").to_owned(), one.text("VersionId").to_owned())).collect())
    }

    async fn object(
        &self,
        region: &Region,
        method: &'static str,
        path: String,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, Fault> {
        self.rest("s3", region.as_str(), method, path, body).await
    }
}

/// With the bucket in the path, so that one endpoint serves all.
fn path(bucket: &str, key: &str) -> String {
    format!("/{bucket}/{}", encoded(key))
}

/// RFC 3986 §2.3: what needs no encoding.
pub(super) fn encoded(text: &str) -> String {
    const OTHERS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, OTHERS).to_string()
}

/// Of a thousand each.
const MOST_PAGES: u32 = 100;
