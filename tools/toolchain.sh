#!/usr/bin/env bash
# Prints the name of a rustup toolchain that compiles both halves of Atelier, or an empty line when the cargo on PATH does already.
# 1. The toolchain in use, when it has a std for wasm32: rustup adds that by itself because rust-toolchain.toml asks for it.
# 2. Where it did not, Debian's Rust with a std that is compiled here once, in about a minute and a half, from Debian's own source.
set -euo pipefail
target=wasm32-unknown-unknown

has_target() {
  local sysroot
  sysroot=$("$1" --print sysroot 2>/dev/null) && compgen -G "$sysroot/lib/rustlib/$target/lib/libstd-*.rlib" >/dev/null
}

as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

# Bitcode goes into the std so that `lto = "fat"` reaches it.
build_std() {
  local crate
  crate=$(mktemp -d)
  mkdir "$crate/src"
  : >"$crate/src/lib.rs"
  cat >"$crate/Cargo.toml" <<'TOML'
[package]
name = "std-for-wasm"
edition = "2024"
[profile.release]
panic = "abort"
[workspace]
TOML
  (
    cd "$crate"
    unset CARGO_TARGET_DIR RUSTUP_TOOLCHAIN LEPTOS_OUTPUT_NAME MAKEFLAGS # make keeps its job slots from this script
    RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Cembed-bitcode=yes \
      /usr/bin/cargo build --quiet --release --target $target -Zbuild-std=std,panic_abort,test
  ) >&2
  rm -f "$crate/target/$target/release/deps"/libstd_for_wasm-*
  echo "$1" >"$crate/built-by"
  as_root rm -rf "/usr/lib/rustlib/$target"
  as_root mkdir -p "/usr/lib/rustlib/$target/lib"
  as_root cp "$crate/target/$target/release/deps"/*.rlib "/usr/lib/rustlib/$target/lib/"
  as_root cp "$crate/built-by" "/usr/lib/rustlib/$target/"
  rm -rf "$crate"
}

if has_target rustc; then
  echo
  exit
fi
if ! command -v apt-get >/dev/null; then
  echo "the Rust in use ($(rustc -V 2>/dev/null || echo none)) cannot compile for the browser: run 'rustup target add $target' and try again" >&2
  exit 1
fi

"$(dirname "$0")/debian.sh" rustc-web cargo-web rust-web-src lld-22 || {
  echo "Debian's Rust could not be installed: run 'rustup target add $target' and try again" >&2
  exit 1
}
# Debian's rustc looks for its wasm linker under this name.
command -v rust-lld >/dev/null || as_root ln -sfn /usr/bin/lld-22 /usr/local/bin/rust-lld
compiler=$(/usr/bin/rustc -vV | sha256sum | cut -c1-16)
if [[ $(cat "/usr/lib/rustlib/$target/built-by" 2>/dev/null) != "$compiler" ]]; then
  echo "compiling Rust's std for the browser, once: about a minute and a half" >&2
  build_std "$compiler"
fi

if command -v rustup >/dev/null; then
  rustup toolchain list | grep -q '^debian\b' || rustup --quiet toolchain link debian /usr >&2
  echo debian
else
  echo
fi
