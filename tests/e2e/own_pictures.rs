//! Pictures of the visitor's own, by the handful and in a zip; and what is no picture.

use super::{browser::DESKTOP, page::Page, stage::play};
use anyhow::{Result, ensure};
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};
use zip::{ZipWriter, write::SimpleFileOptions};

const FILES: &str = "#upload-form input[type='file']";

#[tokio::test]
async fn own_pictures_become_a_set() {
    play("own-pictures", DESKTOP, async |page, _| {
        let folder = tempfile::tempdir()?;
        let caption = folder.path().join("impressionist_01.txt");
        fs::write(&caption, "boats, in my own words")?;
        let mut files: Vec<PathBuf> = (1..=4).map(sample).collect();
        files.push(caption);
        upload(page, &files).await?;
        page.see_count(".dataset-item", 4).await?;
        page.pictures_are_there(".dataset-item img").await?;
        let captions: Vec<String> = page.run("return [...document.querySelectorAll('.dataset-item textarea')].map(e => e.value)").await?;
        ensure!(captions.iter().any(|caption| caption.contains("boats, in my own words")), "the caption beside the picture: {captions:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_zip_becomes_a_set() {
    play("zip", DESKTOP, async |page, _| {
        let folder = tempfile::tempdir()?;
        let archive = folder.path().join("style.zip");
        pack(&archive, &[1, 2, 3])?;
        upload(page, &[archive]).await?;
        page.see_count(".dataset-item", 3).await?;
        page.pictures_are_there(".dataset-item img").await
    })
    .await;
}

#[tokio::test]
async fn what_is_no_picture_is_refused_in_words() {
    play("no-picture", DESKTOP, async |page, _| {
        let folder = tempfile::tempdir()?;
        let fake = folder.path().join("holiday.jpg");
        fs::write(&fake, "not a picture at all")?;
        upload(page, &[fake]).await?;
        let words = page.see("#upload-form [role='alert'] p").await?.text().await?;
        ensure!(words.contains("holiday.jpg"), "the message names the file: {words}");
        ensure!(page.count(".dataset-item").await? == 0, "something was kept");
        // The refusal is an answer with an error status, which the browser notes.
        page.forgive().await;
        Ok(())
    })
    .await;
}

async fn upload(page: &Page, files: &[PathBuf]) -> Result<()> {
    page.open("/train").await?;
    page.attach(FILES, files).await
}

fn sample(number: u32) -> PathBuf {
    let sets = Path::new(env!("CARGO_MANIFEST_DIR")).join("public/style-sets");
    sets.join(format!("impressionist/impressionist_{number:02}.jpg"))
}

fn pack(archive: &Path, numbers: &[u32]) -> Result<()> {
    let mut zip = ZipWriter::new(File::create(archive)?);
    for number in numbers {
        zip.start_file(format!("my style/{number}.jpg"), SimpleFileOptions::default())?;
        zip.write_all(&fs::read(sample(*number))?)?;
    }
    zip.finish()?;
    Ok(())
}
