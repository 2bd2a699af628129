#!/usr/bin/env bash
# Licences, sources and doors (deny.toml). cargo-deny is a big build: it is installed once into a cache, without
# optimisation, and only on request.
set -euo pipefail
if ! command -v cargo-deny >/dev/null; then
  if [ "${CARACAL_INSTALL_TOOLS:-0}" = 1 ]; then
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
      cargo install --locked --quiet cargo-deny@0.20.2
  else
    echo "cargo-deny is not installed: skipped (CARACAL_INSTALL_TOOLS=1 make check installs it)"
    exit 0
  fi
fi
cargo deny --locked check bans licenses sources
