//! A registered target in an editor: shown as JSON, put when it was changed, shown again with its errors when it is refused.

use std::{
    env,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::{Registrar, shown};
use crate::{
    cli::{Failure, print},
    registry::{Found, Put, Refused},
};

/// What errors stand behind above the target; such lines are not read.
const COMMENT: &str = "//";
/// What is used where neither VISUAL nor EDITOR says otherwise.
const EDITOR: &str = "vi";

pub(super) async fn edit(registrar: &Registrar, name: &str) -> Result<(), Failure> {
    let Found { target, revision, .. } = registrar.get(name).await?;
    let mut text = format!("{target:#}\n");
    let draft = Draft::new(name)?;
    loop {
        let edited = draft.edit(&text)?;
        if edited == text {
            return print(&format!("{name}: left as it was\n"));
        }
        let errors = match serde_json::from_str::<Value>(&without_comments(&edited)) {
            Err(error) => vec![format!("this is no JSON: {error}")],
            Ok(edited) if edited == target => return print(&format!("{name}: left as it was\n")),
            Ok(target) => match registrar.put(&Put { target, revision: Some(revision) }).await {
                Ok(put) => return print(&shown::put(&put)),
                Err(Failure::Refused(Refused { errors, .. })) if !errors.is_empty() => {
                    errors.iter().map(ToString::to_string).collect()
                }
                Err(failure) => return Err(failure),
            },
        };
        text = with_comments(&errors, &without_comments(&edited));
    }
}

fn with_comments(errors: &[String], text: &str) -> String {
    let errors: String = errors.iter().map(|error| format!("{COMMENT} {error}\n")).collect();
    format!("{COMMENT} This was refused. Leave it as it is to give up.\n{errors}{text}")
}

fn without_comments(text: &str) -> String {
    let lines = text.lines().skip_while(|line| line.trim_start().starts_with(COMMENT));
    lines.map(|line| format!("{line}\n")).collect()
}

/// A file that nobody else can read, for as long as it is edited: a secret may be typed into it.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Draft {
    fn new(name: &str) -> Result<Self, Failure> {
        let path = env::temp_dir().join(format!("natshook-{name}-{:016x}.json", fastrand::u64(..)));
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        made.map_err(|cause| unusable(&path, cause))?;
        Ok(Self(path))
    }

    /// What is left of `text` when the editor has ended.
    fn edit(&self, text: &str) -> Result<String, Failure> {
        let written = OpenOptions::new().write(true).truncate(true).open(&self.0);
        written
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|cause| unusable(&self.0, cause))?;
        let editor = env::var("VISUAL").or_else(|_| env::var("EDITOR")).unwrap_or_else(|_| EDITOR.to_owned());
        // By a shell, as an editor may be named with arguments.
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(&self.0);
        let ended = command.status().map_err(|cause| unusable(Path::new(&editor), cause))?;
        if !ended.success() {
            return Err(unusable(
                Path::new(&editor),
                io::Error::other(format!("the editor ended with {ended}")),
            ));
        }
        fs::read_to_string(&self.0).map_err(|cause| unusable(&self.0, cause))
    }
}

fn unusable(path: &Path, cause: io::Error) -> Failure {
    Failure::Body { name: path.display().to_string(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_stand_above_a_target_and_are_not_read_back() {
        let errors = ["url: is missing".to_owned(), "timeout: found 1, expected a duration".to_owned()];
        let shown = with_comments(&errors, "{\n  \"a\": \"// b\"\n}\n");
        assert!(shown.contains("// url: is missing\n// timeout:"), "{shown}");
        assert_eq!(without_comments(&shown), "{\n  \"a\": \"// b\"\n}\n");
    }
}
