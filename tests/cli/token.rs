//! `atelier token`.

use super::program::atelier;
use atelier::store::Store;

#[test]
fn a_token_is_told_once_listed_by_name_and_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    for what in [&["create", "--name", "ci"][..], &["list"], &["revoke", "--name", "ci"]] {
        atelier([&["token"][..], what, &["--data-dir", data]].concat()).refused("no studio");
    }
    assert_eq!(std::fs::read_dir(data).unwrap().count(), 0, "a backup may fill it yet");
    tokio::runtime::Runtime::new().unwrap().block_on(async { Store::open(folder.path()).await.unwrap() });
    let token = atelier(["token", "create", "--name", "ci", "--data-dir", data]).good().stdout.trim().to_owned();
    assert!(token.starts_with("atelier_") && token.len() == 8 + 64, "{token}");
    atelier(["token", "create", "--name", "ci", "--data-dir", data]).refused("already");
    atelier(["token", "create", "--name", " ", "--data-dir", data]).refused("--name");
    let listed = atelier(["token", "list", "--data-dir", data]).good().stdout;
    assert!(listed.contains("ci  never used") && !listed.contains(&token), "{listed}");
    let json = atelier(["token", "list", "--json", "--data-dir", data]).good().json();
    assert_eq!((&json[0]["name"], &json[0]["used_at"]), (&"ci".into(), &serde_json::Value::Null));
    let kept: Vec<u8> =
        std::fs::read_dir(data).unwrap().flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap_or_default()).collect();
    assert!(!kept.windows(token.len()).any(|bytes| bytes == token.as_bytes()), "only its hash is kept");
    atelier(["token", "revoke", "--name", "ci", "--data-dir", data]).good();
    atelier(["token", "revoke", "--name", "ci", "--data-dir", data]).refused("no token");
}
