//! What travels: files by path, each with the two names that the Hub gives to its content.

use super::repository::Entry;
use bytes::Bytes;
use sha2::Digest;

/// The name that diffusers looks for.
pub const WEIGHTS: &str = "pytorch_lora_weights.safetensors";
pub const DESCRIPTION: &str = "adapter.json";
pub const CARD: &str = "README.md";
/// Where pictures lie.
pub const PICTURES: &str = "images/";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub path: String,
    pub content: Bytes,
    /// Hex, the storage's name of it.
    pub sha256: String,
    /// Hex, Git's name of it.
    pub git_oid: String,
}

/// Everything that a publication consists of, in the order of its paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    pub files: Vec<File>,
}

impl File {
    pub fn new(path: impl Into<String>, content: impl Into<Bytes>) -> Self {
        let content = content.into();
        let sha256 = hex(&sha2::Sha256::digest(&content));
        let git_oid = hex(&sha1::Sha1::new_with_prefix(format!("blob {}\0", content.len())).chain_update(&content).finalize());
        Self { path: path.into(), content, sha256, git_oid }
    }

    /// Whether the Hub holds exactly this, however it stores it.
    pub fn is(&self, entry: &Entry) -> bool {
        match &entry.lfs {
            Some(lfs) => lfs.oid == self.sha256,
            None => entry.oid == self.git_oid,
        }
    }
}

impl Package {
    pub fn new(mut files: Vec<File>) -> Self {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Self { files }
    }

    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.content.len() as u64).sum()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against `printf 'hello\n' | git hash-object --stdin` and `sha256sum`.
    #[test]
    fn contents_are_named_as_git_and_the_storage_name_them() {
        let file = File::new("a.txt", "hello\n");
        assert_eq!(file.git_oid, "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(file.sha256, "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
    }
}
