//! `bindgen IN.wasm OUT_DIR NAME`: writes OUT_DIR/NAME.js and OUT_DIR/NAME.wasm for the browser.

use anyhow::{Context, bail};
use std::{fs, path::Path};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, out_dir, name] = arguments.as_slice() else {
        bail!("usage: bindgen IN.wasm OUT_DIR NAME");
    };
    wasm_bindgen_cli_support::Bindgen::new()
        .input_path(input)
        .out_name(name)
        .web(true)?
        .typescript(false)
        .remove_name_section(true)
        .remove_producers_section(true)
        .generate_output()
        .context("wasm-bindgen could not read the module")?
        .emit(out_dir)?;
    // The pages ask for NAME.wasm, because LEPTOS_OUTPUT_NAME was set when Leptos was compiled.
    let out_dir = Path::new(out_dir);
    let emitted = out_dir.join(format!("{name}_bg.wasm"));
    fs::rename(&emitted, out_dir.join(format!("{name}.wasm"))).with_context(|| format!("{} was not written", emitted.display()))
}
