# Atelier on the CPU, as a Hugging Face Space or anywhere:
#   docker build -t atelier . && docker run -p 7860:7860 -v atelier-data:/app/data atelier

FROM rust:1-bookworm AS build
WORKDIR /atelier
# The image's own compiler, not the one that rust-toolchain.toml would fetch beside it.
ENV RUSTUP_TOOLCHAIN=$RUST_VERSION
RUN rustup target add wasm32-unknown-unknown
COPY . .
RUN make build

FROM debian:bookworm-slim
# Whom to trust when an adapter is published.
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 1000 atelier && install --directory --owner=atelier --group=atelier /app /app/data
WORKDIR /app
COPY --chown=atelier:atelier models/flux-mini models/flux-mini
COPY --chown=atelier:atelier public/style-sets public/style-sets
COPY --chown=atelier:atelier --from=build /atelier/target/site target/site
COPY --chown=atelier:atelier --from=build /atelier/target/release/atelier atelier
USER atelier
EXPOSE 7860
# On all addresses: a container is reached from outside itself, and docker decides what it publishes.
CMD ["./atelier", "serve", "--host", "0.0.0.0", "--port", "7860"]
