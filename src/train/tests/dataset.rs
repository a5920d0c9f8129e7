//! Folders and zips of visitors: what is read, what is refused and with which words, and that nothing stays behind.

use image::{ImageFormat, Rgb, RgbImage};
use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use train::Dataset;
use train::dataset::Limits;
use zip::{ZipWriter, write::SimpleFileOptions};

fn picture(shade: u8, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_fn(48, 40, |x, y| Rgb([shade, x as u8, y as u8])).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn png(shade: u8) -> Vec<u8> {
    picture(shade, ImageFormat::Png)
}

fn folder(files: &[(&str, Vec<u8>)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

fn open(folder: &TempDir, trigger: Option<&str>) -> train::Result<Dataset> {
    Dataset::open(folder.path(), trigger, Limits::default(), folder.path())
}

fn captions(dataset: &Dataset) -> Vec<(&str, &str)> {
    dataset.items.iter().map(|item| (item.file_name.as_str(), item.caption.as_str())).collect()
}

fn refusal(files: &[(&str, Vec<u8>)], trigger: Option<&str>) -> String {
    open(&folder(files), trigger).unwrap_err().to_string()
}

fn zip(folder: &Path, entries: &[(&str, Vec<u8>)]) -> PathBuf {
    let path = folder.join("set.zip");
    let mut zip = ZipWriter::new(fs::File::create(&path).unwrap());
    for (name, bytes) in entries {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
    path
}

/// What a refused zip says; checks that the scratch folder is as empty as before.
fn zip_refusal(path: &Path, limits: Limits) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let error = Dataset::open(path, Some("ink"), limits, scratch.path()).unwrap_err().to_string();
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "something stayed behind after: {error}");
    error
}

#[test]
fn imagefolder_with_metadata() {
    let metadata =
        "{\"file_name\": \"a.png\", \"text\": \"a lake\"}\n\n{\"file_name\": \"sub/b.jpg\", \"text\": \" two\\n boats, Ink \"}\n";
    let set = folder(&[("a.png", png(1)), ("sub/b.jpg", picture(2, ImageFormat::Jpeg)), ("metadata.jsonl", metadata.into())]);
    assert_eq!(captions(&open(&set, Some("ink")).unwrap()), [("a.png", "a lake, ink"), ("sub/b.jpg", "two boats, Ink")]);
    assert_eq!(captions(&open(&set, None).unwrap())[0], ("a.png", "a lake"));
    assert_eq!(captions(&open(&set, Some("lak")).unwrap())[0], ("a.png", "a lake, lak"), "a trigger inside a word is no trigger");
}

#[test]
fn sidecars_and_pictures_alone() {
    let set = folder(&[("a.webp", picture(1, ImageFormat::WebP)), ("a.txt", "a lake".into()), ("README.txt", "about".into())]);
    let dataset = open(&set, None).unwrap();
    assert_eq!(captions(&dataset), [("a.webp", "a lake")]);
    assert!(dataset.notes.iter().any(|note| note.contains("README.txt")));
    let set = folder(&[("a.png", png(1)), ("b.png", png(2)), (".DS_Store", vec![0]), ("._a.png", vec![0, 5, 22, 7])]);
    assert_eq!(captions(&open(&set, Some(" ink ")).unwrap()), [("a.png", "ink"), ("b.png", "ink")]);
}

#[test]
fn content_decides_the_format_and_one_picture_is_enough() {
    let set = folder(&[("really-a-jpeg.png", picture(9, ImageFormat::Jpeg))]);
    let dataset = open(&set, Some("ink")).unwrap();
    assert_eq!((dataset.items[0].width, dataset.items[0].height), (48, 40));
    assert_eq!(dataset.picture(&dataset.items[0], Limits::default()).unwrap().dimensions(), (48, 40));
}

#[test]
fn equal_pictures_become_one_with_a_note() {
    let set = folder(&[("a.png", png(1)), ("b.png", png(1)), ("b.txt", "a lake".into()), ("c.png", png(2)), ("c.txt", "a hill".into())]);
    let dataset = open(&set, None).unwrap();
    assert_eq!(captions(&dataset), [("b.png", "a lake"), ("c.png", "a hill")]);
    assert!(dataset.notes[0].contains("a.png is the same picture as b.png"), "{:?}", dataset.notes);
}

#[test]
fn captions_can_be_edited_and_saved() {
    let set = folder(&[("a.png", png(1)), ("a.txt", "a lake".into())]);
    let mut dataset = open(&set, Some("ink")).unwrap();
    let before = dataset.fingerprint();
    dataset.items[0].caption = "a \"deep\" lake, ink".into();
    dataset.save_captions().unwrap();
    let again = open(&set, Some("ink")).unwrap();
    assert_eq!(again.items, dataset.items);
    assert_ne!(again.fingerprint(), before);
}

#[test]
fn what_is_wrong_is_named_with_its_cure() {
    let with_metadata = |line: &str| refusal(&[("a.png", png(1)), ("metadata.jsonl", line.into())], None);
    let cases = [
        (refusal(&[("a.png", png(1))], None), "a.png has no caption"),
        (refusal(&[("a.png", png(1)), ("a.txt", "  \n".into())], None), "a.png has no caption"),
        (refusal(&[("a.png", png(1)), ("a.txt", "x".repeat(2001).into())], None), "2001 characters"),
        (refusal(&[("a.png", png(1)), ("a.txt", vec![0xff, 0xfe, b'a'])], None), "a.txt is not UTF-8"),
        (refusal(&[("a.png", png(1)), ("a.txt", "a".into()), ("lost.txt", "b".into())], None), "lost.txt is a caption without a picture"),
        (refusal(&[("notes.md", "no pictures".into())], Some("ink")), "holds no pictures"),
        (refusal(&[("a.jpg", "not a picture".into())], Some("ink")), "a.jpg is not a picture"),
        (refusal(&[("a.png", png(1)[..200].to_vec())], Some("ink")), "a.png"),
        (with_metadata("{\"file_name\": \"missing.png\", \"text\": \"a\"}"), "missing.png"),
        (with_metadata("{\"file_name\": \"../a.png\", \"text\": \"a\"}"), "leads out of the set"),
        (with_metadata("[1, 2]"), "line 1 must be an object"),
        (with_metadata("{\"file_name\": \"a.png\", \"text\": \"a\"}\n{\"file_name\": \"a.png\", \"text\": \"b\"}"), "second caption"),
        (with_metadata("{\"file_name\": \"a.png\"}"), "a.png has no caption"),
    ];
    for (error, expected) in cases {
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    }
    let nowhere = Dataset::open(Path::new("no/such/place"), None, Limits::default(), Path::new(".")).unwrap_err().to_string();
    assert!(nowhere.contains("does not exist"));
}

#[test]
fn limits_are_kept_before_pictures_are_decoded() {
    let set = folder(&[("a.png", png(1)), ("b.png", png(2)), ("c.png", png(3))]);
    let open = |limits| Dataset::open(set.path(), Some("ink"), limits, set.path()).unwrap_err().to_string();
    assert!(open(Limits { pictures: 2, ..Limits::default() }).contains("more than 2 pictures"));
    assert!(open(Limits { pixels: 1000, ..Limits::default() }).contains("too many pixels"));
    assert!(open(Limits { bytes_per_picture: 20, ..Limits::default() }).contains("a picture may have"));
    assert!(open(Limits { bytes: 100, ..Limits::default() }).contains("together"));
    assert!(open(Limits { archive_entries: 1, ..Limits::default() }).contains("more than 1 files"));
}

#[test]
fn a_picture_that_changed_is_noticed() {
    let set = folder(&[("a.png", png(1))]);
    let dataset = open(&set, Some("ink")).unwrap();
    fs::write(set.path().join("a.png"), png(7)).unwrap();
    let error = dataset.picture(&dataset.items[0], Limits::default()).unwrap_err().to_string();
    assert!(error.contains("has changed"), "{error}");
}

#[test]
fn a_zip_with_one_folder_and_macos_junk_is_read_and_opened_once() {
    let scratch = tempfile::tempdir().unwrap();
    let entries =
        [("my set/a.png", png(1)), ("my set/a.txt", "a lake".into()), ("__MACOSX/my set/._a.png", vec![0]), ("my set/.DS_Store", vec![1])];
    let path = zip(scratch.path(), &entries);
    for _ in 0..2 {
        let dataset = Dataset::open(&path, None, Limits::default(), scratch.path()).unwrap();
        assert_eq!(captions(&dataset), [("a.png", "a lake")]);
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2, "the zip and one unpacked folder");
}

#[test]
fn hostile_zips_leave_nothing() {
    let home = tempfile::tempdir().unwrap();
    let refused = |entries: &[(&str, Vec<u8>)], limits| zip_refusal(&zip(home.path(), entries), limits);
    for name in ["../evil.png", "a/../../evil.png", "/etc/evil.png", "C:/evil.png", "..\\evil.png"] {
        let error = refused(&[("a.png", png(1)), (name, png(2))], Limits::default());
        assert!(error.contains("leads out of the set"), "{name}: {error}");
    }
    assert!(!home.path().join("evil.png").exists());
    let small = Limits { bytes_per_picture: 10_000, ..Limits::default() };
    assert!(refused(&[("zeros.png", vec![0; 1 << 20])], small).contains("too large"));
    let together = Limits { bytes: 40_000, bytes_per_picture: 30_000, ..Limits::default() };
    assert!(refused(&[("a.bin", vec![0; 25_000]), ("b.bin", vec![0; 25_000])], together).contains("too large"));
    assert!(refused(&[("a.png", png(1)[..150].to_vec())], Limits::default()).contains("a.png"));
    let no_zip = home.path().join("no.zip");
    fs::write(&no_zip, "PK, but not really").unwrap();
    assert!(zip_refusal(&no_zip, Limits::default()).contains("neither a folder nor a zip"));
}

#[test]
fn a_zip_whose_sizes_lie_is_stopped_by_what_comes_out() {
    let home = tempfile::tempdir().unwrap();
    let path = zip(home.path(), &[("zeros.bin", vec![0; 1 << 20])]);
    let mut bytes = fs::read(&path).unwrap();
    // The uncompressed size in both headers, made small.
    let declared = (1u32 << 20).to_le_bytes();
    while let Some(at) = bytes.windows(4).position(|window| window == declared) {
        bytes[at..at + 4].copy_from_slice(&100u32.to_le_bytes());
    }
    fs::write(&path, bytes).unwrap();
    let error = zip_refusal(&path, Limits { bytes_per_picture: 5000, ..Limits::default() });
    assert!(error.contains("too large") || error.contains("damaged"), "{error}");
}

#[test]
fn links_and_crowds_in_a_zip_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("links.zip");
    let mut writer = ZipWriter::new(fs::File::create(&path).unwrap());
    writer.add_symlink("a.png", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    writer.finish().unwrap();
    assert!(zip_refusal(&path, Limits::default()).contains("link"));

    let path = home.path().join("crowd.zip");
    let mut writer = ZipWriter::new(std::io::BufWriter::new(fs::File::create(&path).unwrap()));
    for index in 0..100_000 {
        writer.start_file(format!("{index}.txt"), SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored)).unwrap();
    }
    writer.finish().unwrap();
    let error = zip_refusal(&path, Limits::default());
    assert!(error.contains("at most 5000"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_folder_that_links_to_itself_ends() {
    let set = folder(&[("a.png", png(1)), ("b.png", png(2))]);
    std::os::unix::fs::symlink(set.path(), set.path().join("loop")).unwrap();
    assert_eq!(open(&set, Some("ink")).unwrap().items.len(), 2);
}
