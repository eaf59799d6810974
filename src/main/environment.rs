//! Options from the environment: `OVERWIRE_PORT=9000` is `--port 9000`. A flag wins over its variable.
//!
//! The help text is the list of the options. So an option has its variable as soon as it has its help.

use std::env;

/// The beginning of the names of all variables.
const PREFIX: &str = "OVERWIRE_";

/// An option that a variable sets.
struct Setting {
    variable: String,
    option: String,
    /// `None` for an option that takes no value.
    value: Option<String>,
}

/// The options that the environment sets.
pub struct Environment {
    settings: Vec<Setting>,
    /// The variables that begin like ours, and name no option. Other programs may use them.
    unknown: Vec<String>,
}

impl Environment {
    /// Reads the variables of the options that `usage` lists. Leaves out those that the arguments set.
    ///
    /// # Errors
    /// A sentence that names the variable, when its value is not text, or is not right for an option that takes none.
    pub fn read(usage: &str, arguments: &[String]) -> Result<Self, String> {
        let (mut settings, mut unknown) = (Vec::new(), Vec::new());
        for (name, value) in env::vars_os() {
            let Some(variable) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
            let option = format!("--{}", variable[PREFIX.len()..].to_lowercase().replace('_', "-"));
            let Some(help) = help_of(usage, &option) else {
                unknown.push(variable.to_owned());
                continue;
            };
            let value = value.into_string().map_err(|value| format!("{variable}: {value:?} is not UTF-8"))?;
            if !arguments.contains(&option) {
                let values = values_of(help, variable, &value)?;
                let setting = |value| Setting { variable: variable.to_owned(), option: option.clone(), value };
                settings.extend(values.into_iter().map(setting));
            }
        }
        Ok(Environment { settings, unknown })
    }

    /// Returns the settings as arguments.
    pub fn arguments(&self) -> Vec<String> {
        let words = self.settings.iter().flat_map(|setting| [Some(&setting.option), setting.value.as_ref()]);
        words.flatten().cloned().collect()
    }

    /// Returns a complaint about an option with the name of the variable that has set it.
    pub fn explain(&self, complaint: String) -> String {
        let rest_of = |setting: &Setting| complaint.strip_prefix(&setting.option).filter(|rest| rest.starts_with(':'));
        let explained = self.settings.iter().find_map(|setting| Some(setting.variable.clone() + rest_of(setting)?));
        explained.unwrap_or(complaint)
    }

    /// Returns the report on a configuration that is valid: each option with its value, and the variable it comes from.
    pub fn report(&self, arguments: &[String]) -> String {
        let mut report = String::new();
        for Setting { variable, option, value } in &self.settings {
            let value = value.as_ref().map(|value| format!(" {}", without_password(value))).unwrap_or_default();
            report += &format!("{option}{value} (from {variable})\n");
        }
        for (at, argument) in arguments.iter().enumerate() {
            let ends = arguments.get(at + 1).is_none_or(|next| next.starts_with("--"));
            report += &without_password(argument);
            report.push(if ends { '\n' } else { ' ' });
        }
        for variable in &self.unknown {
            report += &format!("{variable} is no option of overwire, and is ignored\n");
        }
        report + "the configuration is valid"
    }
}

/// Returns the help of an option that a variable can set, from its name to the next option.
fn help_of<'a>(usage: &'a str, option: &str) -> Option<&'a str> {
    if ["--help", "--version", "--check-config", "--check-health", "--limits"].contains(&option) {
        return None;
    }
    let options = usage.split("\n  --").skip(1);
    options.into_iter().find(|help| help.split([' ', '[']).next() == option.strip_prefix("--"))
}

/// Returns the values that a variable gives its option. No value means that the option is not set.
fn values_of(help: &str, variable: &str, value: &str) -> Result<Vec<Option<String>>, String> {
    let placeholder = help.split(' ').nth(1).unwrap_or_default();
    let takes_value =
        !placeholder.is_empty() && placeholder.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'=');
    match (takes_value, value) {
        (true, value) if help.contains("(repeatable)") => {
            Ok(value.split_whitespace().map(|value| Some(value.to_owned())).collect())
        }
        (true, value) => Ok(vec![Some(value.to_owned())]),
        (false, "json") if help.starts_with("log[=json]") => Ok(vec![Some(value.to_owned())]),
        (false, "1" | "true") => Ok(vec![None]),
        (false, "" | "0" | "false") => Ok(vec![]),
        (false, value) => Err(format!("{variable}: expected 1 or 0, not {value:?}")),
    }
}

/// Returns a value that may be printed: the part of a URL before the host is a password.
pub fn without_password(value: &str) -> String {
    match value.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
        Some((scheme, host)) => format!("{scheme}://*@{host}"),
        None => value.to_owned(),
    }
}
