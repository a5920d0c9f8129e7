//! A multipart form → fields in memory, files in a folder that is gone when this is dropped.

use super::super::error::refuse;
use crate::{
    jobs::Jobs,
    store::{self, Owner},
};
use app::api::{ApiError, ApiResult, limits};
use axum::extract::{
    Multipart,
    multipart::{Field, MultipartError},
};
use std::{collections::HashMap, path::PathBuf};
use tempfile::TempDir;
use tokio::{fs::File, io::AsyncWriteExt};

pub struct Received {
    pub fields: HashMap<String, String>,
    /// Below [`Self::folder`], each under the name it was sent with where that is harmless.
    pub files: Vec<PathBuf>,
    folder: TempDir,
}

/// A name or a caption; files are what is long.
const LONGEST_FIELD: usize = 64 << 10;
const MOST_FIELDS: usize = 20;
/// Pictures with a caption each, and the captions' list.
const MOST_FILES: usize = 2 * limits::MAX_DATASET_PICTURES + 1;

impl Received {
    /// No more than may come at once, nor than this owner may still keep.
    pub async fn read(jobs: &Jobs, owner: &Owner, mut form: Multipart) -> ApiResult<Self> {
        let mut bytes_left = jobs.storage_left(owner).await?.min(limits::MAX_UPLOAD_BYTES);
        let mut received = Self { fields: HashMap::new(), files: Vec::new(), folder: jobs.store.incoming()? };
        std::fs::create_dir(received.folder()).map_err(store::Error::from)?;
        while let Some(field) = form.next_field().await.map_err(broken)? {
            match field.file_name().map(str::to_owned) {
                // A form whose file field was left empty sends a file without a name.
                Some(name) if name.is_empty() => {}
                Some(name) => received.file(&name, field, &mut bytes_left).await?,
                None => received.field(field).await?,
            }
        }
        Ok(received)
    }

    /// What it is called is told when it holds no pictures.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().join("upload")
    }

    /// A text field, trimmed; `None` when it is missing or empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
    }

    async fn field(&mut self, mut field: Field<'_>) -> ApiResult<()> {
        let name = field.name().unwrap_or_default().to_owned();
        let too_much = || refuse(format!("The field {name:?} is too long, or there are too many fields."));
        if self.fields.len() >= MOST_FIELDS {
            return Err(too_much());
        }
        let mut text = Vec::new();
        while let Some(chunk) = field.chunk().await.map_err(broken)? {
            if text.len() + chunk.len() > LONGEST_FIELD {
                return Err(too_much());
            }
            text.extend_from_slice(&chunk);
        }
        self.fields.insert(name, String::from_utf8_lossy(&text).into_owned());
        Ok(())
    }

    async fn file(&mut self, name: &str, mut field: Field<'_>, bytes_left: &mut u64) -> ApiResult<()> {
        if self.files.len() >= MOST_FILES {
            let most = limits::MAX_DATASET_PICTURES;
            return Err(refuse(format!(
                "These are too many files; at most {most} pictures are allowed, and 5 to 30 are enough for a style."
            )));
        }
        let path = self.folder().join(self.harmless(name)?);
        let mut file = File::create_new(&path).await.map_err(store::Error::from)?;
        while let Some(chunk) = field.chunk().await.map_err(broken)? {
            *bytes_left = bytes_left.checked_sub(chunk.len() as u64).ok_or_else(too_large)?;
            file.write_all(&chunk).await.map_err(store::Error::from)?;
        }
        file.flush().await.map_err(store::Error::from)?;
        self.files.push(path);
        Ok(())
    }

    /// The last part of the name, so that captions still find their pictures; refused when it is taken or is no plain name.
    fn harmless(&self, name: &str) -> ApiResult<String> {
        let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
        let plain: String = last.chars().filter(|c| !c.is_control()).collect();
        if plain.is_empty() || plain.starts_with('.') || plain.len() > 200 {
            return Err(refuse(format!(
                "{:?} is no name for a file; rename it and send it again.",
                name.chars().take(80).collect::<String>()
            )));
        }
        if self.files.iter().any(|file| file.file_name().is_some_and(|taken| taken.to_string_lossy().eq_ignore_ascii_case(&plain))) {
            return Err(refuse(format!("Two files are called {plain:?}; rename one of them.")));
        }
        Ok(plain)
    }
}

fn too_large() -> ApiError {
    let most = limits::MAX_UPLOAD_BYTES >> 20;
    ApiError::new(413, format!("The upload is larger than {most} MiB, or than your storage has room for; send fewer or smaller files."))
}

fn broken(error: MultipartError) -> ApiError {
    match error.status().as_u16() {
        413 => too_large(),
        _ => ApiError::new(400, "The upload broke off or is not a form with files; send it again."),
    }
}
