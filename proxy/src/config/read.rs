//! From files, an optional parameter and the environment to one [`Config`]. The caller says how the parameter is read.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

use super::{
    Config, environment,
    error::{At, ConfigError, SettingOrigin},
    layer::{Layer, lay_over},
    parameter::ParameterReference,
    parameter_name::ParameterName,
    validate::{missing_files, validate},
};

/// Settings, and where they were read from.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Files and variables in the order in which they were laid over each other; none means defaults throughout.
    pub places: Vec<SettingOrigin>,
}

/// What files and environment say. A parameter that they name lies between the two.
#[derive(Debug)]
pub struct Gathered {
    layers: Vec<Layer>,
    environment: Vec<(OsString, OsString)>,
}

/// Reads `named`, or else `/etc/gatehouse/gatehouse.toml` if there is one; then `conf.d/*.toml` beside it in the order of
/// names (tables merged, arrays of tables appended); then `environment` (each variable replaces).
pub fn gather(
    named: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Gathered, ConfigError> {
    Ok(Gathered { layers: files(named)?, environment: environment.into_iter().collect() })
}

impl Gathered {
    /// The parameter that they name, if they do.
    pub fn wanted(&self) -> Result<Option<ParameterReference>, ConfigError> {
        let (table, variables) = self.laid()?;
        let config = typed(table)?;
        let Some(name) = config.settings_parameter else { return Ok(None) };
        let at = said(variables.iter().rev().chain(self.layers.iter().rev()), "settings_parameter");
        Ok(Some(ParameterReference { name, region: config.store.region, instance: config.instance, at }))
    }

    /// Lays `text`, the value of the parameter `name`, over the files.
    pub fn lay(&mut self, name: &ParameterName, text: String) -> Result<(), ConfigError> {
        self.layers.push(Layer::parameter(name, text)?);
        Ok(())
    }

    /// Lays `text`, settings in TOML that the environment's variable `name` holds as a whole, over the files.
    pub fn lay_variable(&mut self, name: &str, text: String) -> Result<(), ConfigError> {
        self.layers.push(Layer::variable_text(name, text)?);
        Ok(())
    }

    /// The settings that this makes.
    pub fn settings(self) -> Result<Loaded, ConfigError> {
        let (table, variables) = self.laid()?;
        let mut layers = self.layers;
        layers.extend(variables);
        let config = accepted(table, &layers)?;
        // One variable of the older deployment makes two layers.
        let mut places: Vec<_> = layers.into_iter().map(|layer| layer.place).collect();
        places.dedup();
        Ok(Loaded { config, places })
    }

    /// All layers merged, and those from the environment.
    fn laid(&self) -> Result<(Table, Vec<Layer>), ConfigError> {
        let mut table = Table::new();
        for layer in &self.layers {
            lay_over(&mut table, &layer.table);
        }
        let variables = environment::layers(self.environment.iter().cloned(), &table)?;
        for layer in &variables {
            replace(&mut table, &layer.table);
        }
        Ok((table, variables))
    }
}

fn typed(table: Table) -> Result<Config, ConfigError> {
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        // Each layer is well formed by itself, and merging them changes no value.
        let at = At { place: SettingOrigin::Default, line: None };
        ConfigError::Syntax { at, message: error.to_string() }
    })
}

/// Where the topmost of `layers` that contains `field` sets it.
fn said<'a>(mut layers: impl Iterator<Item = &'a Layer>, field: &str) -> At {
    layers.find_map(|layer| layer.says(field)).unwrap_or(At { place: SettingOrigin::Default, line: None })
}

fn accepted(table: Table, layers: &[Layer]) -> Result<Config, ConfigError> {
    let config = typed(table)?;
    let mut problems = validate(&config);
    problems.extend(missing_files(&config));
    problems.extend(environment::contradictions(&config, layers));
    for problem in &mut problems {
        problem.at = said(layers.iter().rev(), &problem.field);
    }
    if problems.is_empty() { Ok(config) } else { Err(ConfigError::Refused(problems)) }
}

fn files(named: Option<&Path>) -> Result<Vec<Layer>, ConfigError> {
    let main = named.unwrap_or(Path::new(MAIN));
    let mut layers = Vec::new();
    match fs::read_to_string(main) {
        Ok(text) => layers.push(Layer::file(main, text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if named.is_some() {
                return Err(ConfigError::Missing { path: main.to_path_buf() });
            }
        }
        Err(source) => return Err(ConfigError::Unreadable { path: main.to_path_buf(), source }),
    }
    for path in fragments(&main.with_file_name("conf.d"))? {
        let text = fs::read_to_string(&path)
            .map_err(|source| ConfigError::Unreadable { path: path.clone(), source })?;
        layers.push(Layer::file(&path, text)?);
    }
    Ok(layers)
}

fn fragments(directory: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: directory.to_path_buf(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(unreadable(source)),
    };
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(unreadable)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    Ok(paths)
}

/// A variable gives its setting completely, lists and tables included.
fn replace(lower: &mut Table, upper: &Table) {
    for (key, value) in upper {
        match (lower.get_mut(key), value) {
            (Some(Value::Table(section)), Value::Table(settings)) => section.extend(settings.clone()),
            _ => {
                lower.insert(key.clone(), value.clone());
            }
        }
    }
}

const MAIN: &str = "/etc/gatehouse/gatehouse.toml";

#[cfg(test)]
mod tests;
