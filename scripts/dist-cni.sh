#!/usr/bin/env bash
# The CNI plugins as they are shipped: small, fat LTO, no unwinding, at a fixed address: nothing is relocated when a pod
# starts, which is most of a start's time and memory otherwise. Static where the musl target and musl-gcc are installed
# (rustup target add x86_64-unknown-linux-musl; apt-get install musl-tools). The last line is the folder they are in.
set -euo pipefail
cd "$(dirname "$0")/.."
triple=$(uname -m)-unknown-linux-musl
arguments=(--locked --profile dist-cni -p caracal-cni --bin calico --bin calico-ipam)
folder=${CARGO_TARGET_DIR:-target}
if command -v rustup >/dev/null && rustup target list --installed | grep -qx "$triple" && command -v musl-gcc >/dev/null; then
  arguments+=(--target "$triple")
  folder+=/$triple
  name=${triple^^}
  export "CARGO_TARGET_${name//-/_}_RUSTFLAGS=-C target-feature=+crt-static -C relocation-model=static"
else
  echo "dist-cni: no musl target or musl-gcc: the plugins will need this machine's libc" >&2
fi
${CARGO:-cargo} build "${arguments[@]}" >&2
ls -l "$folder/dist-cni/calico" "$folder/dist-cni/calico-ipam" >&2
echo "$folder/dist-cni"
