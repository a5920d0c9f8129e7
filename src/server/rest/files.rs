//! Bodies that are no JSON, as the OpenAPI document tells of them.

use super::super::files::answer;
use axum::response::Response;
use utoipa::ToSchema;

/// The bytes of a file.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "for the document alone")]
pub struct File(Vec<u8>);

/// Pictures on their way in, as multipart/form-data.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document alone")]
pub struct PicturesForm {
    /// PNG, JPEG or WebP; captions as NAME.txt or metadata.jsonl; or one zip of them all.
    #[schema(value_type = Vec<String>, format = Binary)]
    files: Vec<File>,
    /// Of the set; the zip's name if left out.
    name: Option<String>,
    /// Phrase that ends every caption, such as `art nouveau panel`.
    trigger: Option<String>,
}

/// An adapter on its way in, as multipart/form-data.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document alone")]
pub struct AdapterForm {
    /// A .safetensors file.
    #[schema(value_type = String, format = Binary)]
    file: File,
    /// The file's name if left out.
    name: Option<String>,
    /// Phrase that calls its style.
    trigger: Option<String>,
}

/// A file, under a name of ours to keep it by.
pub fn file(bytes: Vec<u8>, content_type: &'static str, name: &str) -> Response {
    answer(bytes, content_type, "private, no-cache", Some(name.to_owned()))
}
