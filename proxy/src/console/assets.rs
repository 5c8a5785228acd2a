//! Style, script and icon: part of the binary, under names that change with them, so that a browser keeps them.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    extract::Path,
    response::{IntoResponse as _, Response},
};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE};

use super::{ROOT, failure::Failure, nowhere};
use crate::hexadecimal::hexadecimal;

/// One of them.
pub(super) struct Asset {
    name: String,
    media_type: &'static str,
    contents: &'static str,
}

/// All there are.
pub(super) struct Assets {
    pub(super) style: Asset,
    pub(super) script: Asset,
    pub(super) icon: Asset,
}

impl Asset {
    fn new(stem: &str, extension: &str, media_type: &'static str, contents: &'static str) -> Self {
        let digest = digest(&SHA256, contents.as_bytes());
        let begin = digest.as_ref().get(..DIGEST).unwrap_or_default();
        Self { name: format!("{stem}-{}.{extension}", hexadecimal(begin)), media_type, contents }
    }

    /// What it is called in its folder.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub(super) fn path(&self) -> String {
        format!("{ROOT}/assets/{}", self.name)
    }
}

pub(super) static ASSETS: LazyLock<Assets> = LazyLock::new(|| Assets {
    style: Asset::new("console", "css", "text/css; charset=utf-8", include_str!("console.css")),
    script: Asset::new("console", "js", "text/javascript; charset=utf-8", include_str!("console.js")),
    icon: Asset::new("icon", "svg", "image/svg+xml", include_str!("icon.svg")),
});

pub(super) async fn asset(Path(name): Path<String>) -> Result<Response, Failure> {
    let Assets { style, script, icon } = &*ASSETS;
    let Some(asset) = [style, script, icon].into_iter().find(|asset| asset.name == name) else {
        return Err(nowhere().await);
    };
    let headers = [(CONTENT_TYPE, asset.media_type), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
    Ok((headers, asset.contents).into_response())
}

/// Bytes of the digest in a name.
const DIGEST: usize = 8;
