//! Mutated settings.

use proxy_common::fixture::fuzz::Corpus;

use super::*;

#[test]
fn a_mutated_corpus_is_refused_by_place_and_field_or_means_what_it_says() {
    Corpus::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/settings")).run(|input| {
        let text = String::from_utf8_lossy(input).into_owned();
        match load(text.clone()) {
            Ok(config) => {
                let written = toml::to_string(&config).unwrap();
                let again = load(written.clone()).unwrap_or_else(|error| panic!("{error}\n{written}"));
                assert_eq!(toml::to_string(&again).unwrap(), written);
            }
            Err(error) => assert_names_its_place(&error, &text),
        }
    });
}

fn load(text: String) -> Result<Config, ConfigError> {
    let layer = Layer::file(Path::new("fuzzed.toml"), text)?;
    let gathered = Gathered { layers: vec![layer], environment: Vec::new() };
    gathered.settings().map(|loaded| loaded.config)
}

fn assert_names_its_place(error: &ConfigError, text: &str) {
    let said = error.to_string();
    match error {
        ConfigError::Refused(problems) => {
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(!problem.field.is_empty() && !problem.remedy.is_empty(), "{said}");
            }
        }
        ConfigError::Value(wrong) => assert!(!wrong.field.is_empty(), "{said}"),
        ConfigError::Unknown { key, .. } => assert!(!key.is_empty() || text.contains("\"\""), "{said}"),
        ConfigError::Syntax { at, .. } => assert!(at.line.is_some(), "{said}"),
        ConfigError::Missing { .. }
        | ConfigError::Unreadable { .. }
        | ConfigError::Parameter { .. }
        | ConfigError::NotText { .. } => panic!("{said}"),
    }
    let files = said.matches("fuzzed.toml").count();
    assert!(files > 0 || matches!(error, ConfigError::Refused(_)), "{said}");
    assert!(said.len() <= MOST_SAID + 4 * text.len(), "{} bytes of error for {}", said.len(), text.len());
}

/// Beside what it quotes.
const MOST_SAID: usize = 16 << 10;
