#!/usr/bin/env bash
# The CNI plugins as they are shipped: fat LTO, no unwinding; static where the musl target and musl-gcc are installed
# (rustup target add x86_64-unknown-linux-musl; apt-get install musl-tools).
set -euo pipefail
cd "$(dirname "$0")/.."
triple=$(uname -m)-unknown-linux-musl
arguments=(--locked --profile dist-cni -p caracal-cni --bins)
folder=${CARGO_TARGET_DIR:-target}
if command -v rustup >/dev/null && rustup target list --installed | grep -qx "$triple" && command -v musl-gcc >/dev/null; then
  arguments+=(--target "$triple")
  folder+=/$triple
else
  echo "dist-cni: no musl target or musl-gcc: the plugins will need this machine's libc" >&2
fi
${CARGO:-cargo} build "${arguments[@]}"
ls -l "$folder/dist-cni/calico" "$folder/dist-cni/calico-ipam"
