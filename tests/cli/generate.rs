//! `atelier generate` and `atelier compare`.

use super::program::{atelier, command, finish, fixtures, names};
use atelier::store::png;
use std::{fs, path::Path};

const SMALL: [&str; 6] = ["--width", "64", "--height", "64", "--steps", "2"];

fn pixels(path: &Path) -> image::RgbImage {
    image::open(path).expect("a whole PNG").into_rgb8()
}

#[test]
fn a_picture_carries_its_recipe_and_comes_out_the_same_again() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = fixtures().join("lora_impressionist.safetensors");
    let run = |name: &str, scale: &str| {
        let out = folder.path().join(name);
        let adapter = format!("{}:{scale}", adapter.display());
        let (out_text, seed) = (out.to_str().unwrap().to_owned(), "41");
        let own =
            ["generate", "--prompt", "a lake — 夕暮れ", "--seed", seed, "--guidance", "2.5", "--adapter", &adapter, "--out", &out_text];
        atelier(own.into_iter().chain(SMALL)).good();
        out
    };
    let (first, again, off) = (run("first.png", "0.5"), run("again.png", "0.5"), run("off.png", "0"));
    let picture = pixels(&first);
    assert_eq!(picture.dimensions(), (64, 64));
    assert_eq!(picture, pixels(&again), "the same command makes the same picture");
    assert_ne!(picture, pixels(&off), "the adapter acts");

    let bytes = fs::read(&first).unwrap();
    assert!(bytes.windows(10).any(|window| window == b"parameters"));
    let recipe = png::recipe(&bytes).expect("a recipe inside");
    assert_eq!(recipe["prompt"], "a lake — 夕暮れ");
    assert_eq!((&recipe["width"], &recipe["height"], &recipe["steps"], &recipe["seed"]), (&64.into(), &64.into(), &2.into(), &41.into()));
    assert_eq!((&recipe["guidance"], &recipe["model"]), (&2.5.into(), &"flux-mini".into()));
    let used = &recipe["adapters"][0];
    assert_eq!((&used["name"], &used["scale"]), (&"lora_impressionist".into(), &0.5.into()));
    assert_eq!(used["sha256"].as_str().unwrap().len(), 64);

    let base = folder.path().join("base.png");
    let own = ["generate", "--prompt", "a lake — 夕暮れ", "--seed", "41", "--guidance", "2.5", "--out", base.to_str().unwrap()];
    atelier(own.into_iter().chain(SMALL)).good();
    assert_eq!(pixels(&off), pixels(&base), "strength 0 is the base model");
    assert_eq!(names(folder.path()), ["again.png", "base.png", "first.png", "off.png"], "nothing else is left");
}

#[test]
fn several_pictures_go_to_a_folder_and_each_can_be_made_alone() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("deep/pictures");
    let own = ["generate", "--prompt", "a red cat", "--count", "3", "--seed", "5", "--json", "--out", out.to_str().unwrap()];
    let made = atelier(own.into_iter().chain(SMALL)).good().json();
    assert_eq!(made["pictures"].as_array().unwrap().len(), 3);
    assert_eq!(made["pictures"][2]["seed"], 7);
    assert_eq!(names(&out), ["a-red-cat-5.png", "a-red-cat-6.png", "a-red-cat-7.png"]);

    let alone = folder.path().join("alone.png");
    let own = ["generate", "--prompt", "a red cat", "--seed", "6", "--out", alone.to_str().unwrap()];
    atelier(own.into_iter().chain(SMALL)).good();
    assert_eq!(pixels(&alone), pixels(&out.join("a-red-cat-6.png")));
}

#[test]
fn it_works_from_elsewhere_and_stays_quiet_without_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command();
    command.current_dir(folder.path()).args(["generate", "--prompt", "", "--out", "x.png"]).args(SMALL);
    let outcome = finish(&mut command).good();
    assert!(outcome.stderr.is_empty() && outcome.stdout.starts_with("x.png"), "{outcome}");
    assert_eq!(names(folder.path()), ["x.png"]);
}

#[test]
fn a_comparison_is_one_labelled_picture() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("grid.png");
    let adapter = fixtures().join("lora_impressionist.safetensors");
    let half = format!("{}:0.5", adapter.display());
    let own = ["compare", "--prompt", "a lake", "--prompt", "a village street in the rain, with a very long description ".repeat(9).trim()]
        .map(str::to_owned)
        .into_iter()
        .chain(
            ["--count", "2", "--adapter", adapter.to_str().unwrap(), "--adapter", &half, "--out", out.to_str().unwrap(), "--json"]
                .map(str::to_owned),
        );
    let made = atelier(own.chain(SMALL.map(str::to_owned))).good().json();
    assert_eq!(made["columns"].as_array().unwrap().len(), 3);
    assert_eq!((&made["pictures"], made["rows"].as_array().unwrap().len()), (&12.into(), 4));
    let grid = pixels(&out);
    assert!(grid.width() > 3 * 64 && grid.height() > 4 * 64, "{:?}", grid.dimensions());
    assert_eq!(names(folder.path()), ["grid.png"]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_the_pictures_that_are_done() {
    use std::{process::Stdio, time::Duration};
    let folder = tempfile::tempdir().unwrap();
    let mut command = command();
    command.args(["generate", "--prompt", "a cat", "--count", "500", "--out"]).arg(folder.path()).args(SMALL);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    for _ in 0..600 {
        std::thread::sleep(Duration::from_millis(50));
        if names(folder.path()).iter().any(|name| name.starts_with("a-cat")) {
            break;
        }
    }
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("kept"), "{said}");
    let left = names(folder.path());
    assert!(!left.is_empty() && left.len() < 500);
    for name in left {
        assert!(name.ends_with(".png"), "{name}");
        pixels(&folder.path().join(name));
    }
}
