# make run     builds everything and serves it at http://localhost:7860
# make test    every test, the browser's included
# make test-engine  the engine's reference tensors alone
# make lint    formatting and clippy
# make deny    licences, sources and known holes of everything that is built in; wants `cargo install cargo-deny`
# make bench   beside diffusers, on this machine
# make load    fifty pages a second and two hundred watchers while the machine works
#
# `tools/cargo` is cargo with a toolchain that compiles for the server and for the browser; the first call may install one.

MAKEFLAGS += --no-print-directory --jobs=$(shell nproc 2>/dev/null || echo 2)

cargo := tools/cargo
site  := target/site
wasm  := target/wasm32-unknown-unknown/wasm/atelier_browser.wasm

.PHONY: run build server site test test-engine driver lint deny check-format fmt bench load toolchain clean-data FORCE

run: build
	target/release/atelier serve

build: server site

# Naming one test makes cargo choose the dependencies' features as `cargo test` does, so that `make test` reuses all of it.
server: toolchain
	+$(cargo) build --release --bins --test layers

site: $(site)/pkg/atelier.wasm $(site)/pkg/atelier.css
	cp -R public/. $(site)

# cargo leaves the file alone when nothing changed, and then the bindings stay too.
$(wasm): FORCE | toolchain
	+$(cargo) build --profile wasm --target wasm32-unknown-unknown -p atelier-browser

target/release/bindgen: tools/bindgen/main.rs tools/bindgen/Cargo.toml Cargo.lock | toolchain
	+$(cargo) build --release -p bindgen
	touch $@

$(site)/pkg/atelier.wasm: $(wasm) target/release/bindgen
	mkdir -p $(@D)
	target/release/bindgen $(wasm) $(@D) atelier

$(site)/pkg/atelier.css: $(shell find style -name '*.css') tools/css.sh
	mkdir -p $(@D)
	tools/css.sh style/main.css >$@.part
	mv $@.part $@

test: build driver node_modules/axe-core target/clients/made
	+$(cargo) test --release

# The engine against its reference tensors, and nothing that needs a page or a server.
test-engine: toolchain
	+$(cargo) test --release -p atelier-engine --test engine

driver:
	@command -v chromedriver >/dev/null || tools/debian.sh chromium chromium-driver

node_modules/axe-core: package-lock.json
	@command -v npm >/dev/null || tools/debian.sh npm
	npm ci
	touch $@

# Clients of others, in Python, that the server is tried with.
target/clients/made: tests/server/requirements.txt
	@python3 -c 'import ensurepip' 2>/dev/null || tools/debian.sh python3-venv
	python3 -m venv target/clients
	target/clients/bin/pip install --quiet --requirement $<
	touch $@

lint: check-format toolchain
	@$(cargo) clippy --version >/dev/null 2>&1 || tools/debian.sh rust-web-clippy
	+$(cargo) clippy --release --all-targets -- -D warnings

deny: toolchain
	+$(cargo) deny check

# rustfmt comes with rustup's stable, whichever toolchain compiles.
check-format:
	env -u RUSTUP_TOOLCHAIN cargo fmt --all --check

fmt:
	env -u RUSTUP_TOOLCHAIN cargo fmt --all

bench: server
	tests/bench/compare.sh

# Pages and events while a picture is drawn and a training runs.
load: build
	tests/bench/load.py

toolchain:
	@tools/toolchain.sh >/dev/null

# Pictures, style sets, adapters and runs that the server keeps.
clean-data:
	rm -rf data
