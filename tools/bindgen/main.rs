//! `bindgen IN.wasm OUT_DIR NAME`: writes OUT_DIR/NAME.js and OUT_DIR/NAME.wasm for the browser.

use anyhow::{Context, bail};

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
        .emit(out_dir)
}
