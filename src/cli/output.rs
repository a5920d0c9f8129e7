//! What a command writes: lines for people, JSON for programs, files that are whole or absent.

use super::fault::usage;
use anyhow::{Context, Result};
use std::{
    fmt::Display,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// One line on stdout.
pub fn say(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

/// One line on stderr: beside the result, so that a closed stderr changes nothing.
pub fn note(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// One JSON document on stdout.
pub fn say_json(value: &impl serde::Serialize) -> Result<()> {
    Ok(say(serde_json::to_string_pretty(value)?)?)
}

/// Where `--out` points: a picture file, or a folder that names its pictures.
#[derive(Debug, PartialEq)]
pub enum Target {
    File(PathBuf),
    Folder(PathBuf),
}

impl Target {
    /// `NAME.png` is a file; a folder that exists, a trailing slash or a name without extension is a folder.
    pub fn new(out: &Path) -> Result<Self> {
        let slash = out.as_os_str().to_string_lossy().ends_with(['/', std::path::MAIN_SEPARATOR]);
        let target = match out.extension() {
            _ if slash || out.is_dir() => Self::Folder(out.into()),
            None if out.exists() => return Err(usage(format!("--out {}: this is a file; give a .png file or a folder", out.display()))),
            None => Self::Folder(out.into()),
            Some(extension) if extension.eq_ignore_ascii_case("png") => Self::File(out.into()),
            Some(_) => {
                return Err(usage(format!(
                    "--out {}: pictures are written as PNG; give a name that ends in .png, or a folder",
                    out.display()
                )));
            }
        };
        check_writable(out)?;
        Ok(target)
    }

    /// The path of picture `index` of `count`; in a folder never one that is taken.
    pub fn path(&self, index: usize, count: usize, prompt: &str, seed: u64) -> PathBuf {
        match self {
            Self::File(path) if count == 1 => path.clone(),
            Self::File(path) => {
                path.with_file_name(format!("{}-{}.png", path.file_stem().unwrap_or_default().to_string_lossy(), index + 1))
            }
            Self::Folder(folder) => {
                let stem = format!("{}-{seed}", words(prompt));
                let names = std::iter::once(format!("{stem}.png")).chain((2..).map(|i| format!("{stem}-{i}.png")));
                names.map(|name| folder.join(name)).find(|path| !path.exists()).expect("names go on for ever")
            }
        }
    }
}

/// The first words of a prompt as a file name.
fn words(prompt: &str) -> String {
    let plain: String = prompt.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { ' ' }).collect();
    let mut name = String::from("picture");
    for (i, word) in plain.split_whitespace().take(6).enumerate() {
        name = if i == 0 { word.into() } else { format!("{name}-{word}") };
    }
    name.chars().take(60).collect()
}

/// Refuses a path that cannot be written, before any work is spent on it. Creates nothing that stays.
pub fn check_writable(path: &Path) -> Result<()> {
    let place = path.ancestors().map(here).find(|place| place.exists()).unwrap_or(Path::new("."));
    let folder = if place.is_dir() || place != path { place } else { here(path.parent().unwrap_or(Path::new("."))) };
    if !folder.is_dir() {
        return Err(usage(format!("--out {}: {} is not a folder", path.display(), folder.display())));
    }
    tempfile::tempfile_in(folder)
        .map(drop)
        .map_err(|e| usage(format!("--out {}: cannot write in {} ({})", path.display(), folder.display(), reason(&e))))
}

fn here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// What the system said, without its error number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" at path").next().unwrap_or(&text).split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// Writes a file whole or not at all; makes its folder.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = here(path.parent().unwrap_or(Path::new(".")));
    let written = || -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".atelier-");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // less the umask, as any new file
        let mut file = builder.tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_is_a_file_or_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert_eq!(Target::new(&at("a.PNG")).unwrap(), Target::File(at("a.PNG")));
        assert_eq!(Target::new(&at("deep/er")).unwrap(), Target::Folder(at("deep/er")));
        assert_eq!(Target::new(folder.path()).unwrap(), Target::Folder(folder.path().into()));
        assert!(Target::new(&at("a.jpg")).unwrap_err().to_string().contains("PNG"));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_never_overwrites() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::new(folder.path()).unwrap();
        let first = target.path(0, 1, "A lake — at dusk", 7);
        assert_eq!(first, folder.path().join("a-lake-at-dusk-7.png"));
        write(&first, b"x").unwrap();
        assert_eq!(target.path(0, 1, "A lake — at dusk", 7), folder.path().join("a-lake-at-dusk-7-2.png"));
        assert_eq!(target.path(0, 1, "日本", 7), folder.path().join("picture-7.png"));
    }

    #[test]
    fn a_path_below_a_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(Target::new(&file.join("a.png")).unwrap_err().to_string().contains("not a folder"));
    }
}
