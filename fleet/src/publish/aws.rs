//! AWS's command line, the only client of AWS here. Debian's is of 2022 and knows no `AWS_ENDPOINT_URL`.

use anyhow::Context;
use serde_json::Value;
use xshell::{Cmd, Shell, cmd};

/// AWS as credentials and the machine's settings say, or another that answers at a URL.
pub(crate) struct Aws<'a> {
    shell: &'a Shell,
    endpoint: Vec<String>,
}

impl<'a> Aws<'a> {
    /// At `endpoint`, or where AWS itself is.
    pub(crate) fn at(shell: &'a Shell, endpoint: Option<&str>) -> Self {
        let endpoint =
            endpoint.map(|url| vec!["--endpoint-url".to_owned(), url.to_owned()]).unwrap_or_default();
        Self { shell, endpoint }
    }

    /// The answer to a call that reads.
    pub(crate) fn read(&self, region: &str, arguments: &[&str]) -> anyhow::Result<Value> {
        let question = arguments.iter().take(2).copied().collect::<Vec<_>>().join(" ");
        let answer = self.command(region).args(arguments).read();
        let answer = answer.with_context(|| format!("{region}: {question} failed; AWS says why above"))?;
        serde_json::from_str(&answer).with_context(|| format!("{region}: {question} answered `{answer}`"))
    }

    /// Makes a call that changes something.
    pub(crate) fn call(&self, region: &str, arguments: &[String]) -> anyhow::Result<()> {
        Ok(self.command(region).args(arguments).ignore_stdout().run()?)
    }

    fn command(&self, region: &str) -> Cmd<'a> {
        // A pager would wait for a key.
        cmd!(self.shell, "aws --region {region} --output json")
            .args(&self.endpoint)
            .env("AWS_PAGER", "")
            .quiet()
    }
}
