//! Which folder holds the store, of those that may: the same image runs on a laptop's disk, a volume, or a Space with a mounted bucket.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where the store lies, and where it is copied to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    pub data: PathBuf,
    pub backup: Option<PathBuf>,
}

/// Below a bucket that is mounted where the data could have been.
const BACKUP: &str = "atelier";

impl Storage {
    /// The first candidate that can be written; one alone is taken as it is. A bucket, mounted by FUSE, is no place for a database: it
    /// becomes the backup's, unless there is another.
    pub fn choose(candidates: &[PathBuf], backup: Option<PathBuf>) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self::among(candidates, backup, |folder| is_fuse(folder, &mounts))
    }

    fn among(candidates: &[PathBuf], backup: Option<PathBuf>, is_bucket: impl Fn(&Path) -> bool) -> Self {
        let Some((last, others)) = candidates.split_last() else { return Self { data: super::Config::DATA_DIR.into(), backup } };
        let (buckets, disks): (Vec<_>, Vec<_>) = others.iter().filter(|folder| is_writable(folder)).partition(|folder| is_bucket(folder));
        let data = disks.into_iter().next().unwrap_or(last).clone();
        Self { data, backup: backup.or_else(|| buckets.first().map(|bucket| bucket.join(BACKUP))) }
    }
}

fn is_writable(folder: &Path) -> bool {
    tempfile::tempfile_in(folder).is_ok()
}

/// By the innermost mount around the folder, as <https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html> has them.
fn is_fuse(folder: &Path, mounts: &str) -> bool {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let around = mounts.lines().filter_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let at = PathBuf::from(place.split(' ').nth(4)?.replace("\\040", " "));
        folder.starts_with(&at).then_some((at.components().count(), kind))
    });
    around.max_by_key(|(depth, _)| *depth).is_some_and(|(_, kind)| kind.starts_with("fuse"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_disk_that_can_be_written_holds_the_data() {
        let root = tempfile::tempdir().unwrap();
        let [missing, mount, own] = ["missing", "mount", "own"].map(|name| root.path().join(name));
        fs::create_dir(&mount).unwrap();
        let all = [missing.clone(), mount.clone(), own.clone()];
        let disk = Storage::among(&all, None, |_| false);
        assert_eq!(disk, Storage { data: mount.clone(), backup: None });
        let bucket = Storage::among(&all, None, |folder| folder == mount);
        assert_eq!(bucket, Storage { data: own.clone(), backup: Some(mount.join("atelier")) });
        let told = Storage::among(&all, Some("/backup".into()), |folder| folder == mount);
        assert_eq!(told, Storage { data: own, backup: Some("/backup".into()) });
        assert_eq!(Storage::among(&[missing.clone()], None, |_| true), Storage { data: missing, backup: None });
    }

    #[test]
    fn a_bucket_is_told_by_the_innermost_mount() {
        let mounts = "22 1 8:1 / / rw - ext4 /dev/a rw\n\
            40 22 0:40 / /nowhere/data rw,nosuid shared:9 - fuse.hf-mount hf rw\n\
            41 40 8:2 / /nowhere/data/disk rw - ext4 /dev/b rw\n\
            42 22 0:41 / /nowhere/my\\040data rw - fuse hf rw";
        for (folder, fuse) in [
            ("/nowhere", false),
            ("/nowhere/data/x", true),
            ("/nowhere/database", false),
            ("/nowhere/data/disk/x", false),
            ("/nowhere/my data", true),
        ] {
            assert_eq!(is_fuse(Path::new(folder), mounts), fuse, "{folder}");
        }
    }
}
