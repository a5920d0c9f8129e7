# Atelier as a Hugging Face Space or anywhere, on the CPU or on an NVIDIA GPU. Neither needs a GPU to be built:
#   docker build -t atelier . && docker run -p 7860:7860 -v atelier-data:/data atelier
#   docker build -t atelier-cuda --build-arg BACKEND=cuda . && docker run --gpus all -p 7860:7860 -v atelier-data:/data atelier-cuda
# A Space takes BACKEND, and whatever `atelier serve` reads at run time, from its variables.

ARG BACKEND=cpu

FROM rust:1-bookworm AS source
WORKDIR /atelier
# The image's own compiler, not the one that rust-toolchain.toml would fetch beside it.
ENV RUSTUP_TOOLCHAIN=$RUST_VERSION
RUN rustup target add wasm32-unknown-unknown
COPY . .

FROM source AS build-cpu
RUN make build && mkdir /libraries

FROM source AS build-cuda
# Of the oldest GPU that shall do; newer ones compile what they lack at their first start. 80 A100, 86 A10G, 89 L4 and L40S, 90 H100.
ARG CUDA_COMPUTE_CAP=80
RUN apt-get update && apt-get install --yes --no-install-recommends python3-pip && tools/cuda-toolkit.sh /cuda
RUN tools/cuda-libraries.sh /cuda /libraries
RUN make site
# The variable takes the place of the flags in .cargo/config.toml, so it repeats them.
RUN export RUSTFLAGS="--cfg erase_components" && . /cuda/env && tools/cargo build --release --bins --features cuda

FROM build-${BACKEND} AS build

FROM debian:bookworm-slim
# Whom to trust when an adapter is published.
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 1000 atelier && install --directory --owner=atelier --group=atelier /app /app/data /data
WORKDIR /app
COPY --from=build /libraries /opt/cuda
COPY --chown=atelier:atelier models/flux-mini models/flux-mini
COPY --chown=atelier:atelier public/style-sets public/style-sets
COPY --chown=atelier:atelier --from=build /atelier/target/site target/site
COPY --chown=atelier:atelier --from=build /atelier/tools/container.sh /atelier/target/release/atelier ./
USER atelier
# On all addresses: a container is reached from outside itself, and docker decides what it publishes. A volume at /data keeps everything;
# a bucket that is mounted there is what everything is copied to. Caches are in the user's home.
ENV ATELIER_HOST=0.0.0.0 ATELIER_PORT=7860 ATELIER_DATA_DIR=/data:/app/data \
    LD_LIBRARY_PATH=/opt/cuda NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
EXPOSE 7860
CMD ["./container.sh", "serve"]
