#!/usr/bin/env bash
# Licences, sources and doors (deny.toml). cargo-deny is a big build: it is installed once into a cache, and only on request in CI.
set -euo pipefail
if ! command -v cargo-deny >/dev/null; then
  if [ "${CARACAL_INSTALL_TOOLS:-0}" = 1 ]; then
    cargo install --locked --quiet cargo-deny@0.20.2
  else
    echo "cargo-deny is not installed: skipped (CARACAL_INSTALL_TOOLS=1 make check installs it)"
    exit 0
  fi
fi
cargo deny --locked check bans licenses sources
