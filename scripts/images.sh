#!/usr/bin/env bash
# Container images as OCI archives (`ctr images import`, `skopeo copy oci-archive:...`), without a container engine.
#   BIN="DIR [DIR]"    folders with static programs, one an architecture; nothing is built then
#   ARCHS=amd64        what to build for otherwise: amd64, arm64 or both (rustup target add ARCH-unknown-linux-musl)
#   PROFILE=dist       Cargo profile of the daemons (the plugins have dist-cni then); dev is quicker and larger
#   OUT=target/images  where the archives go
#   TAG, REPOSITORY    of the images' names; ONLY="node controllers" leaves the others out
set -euo pipefail
# A build that fails inside $(…) ends this too.
shopt -s inherit_errexit
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
folder=${CARGO_TARGET_DIR:-target}
out=${OUT:-$folder/images}
profile=${PROFILE:-dist}
daemons=(-p caracal-node -p caracal-felix -p caracal-bgpd -p caracal-controllers -p caracal-ctl)

# Programs for one architecture, gathered in one folder, whose name goes to standard output.
build() {
  local arch=$1 triple dir
  case $arch in
    amd64) triple=x86_64-unknown-linux-musl ;;
    arm64) triple=aarch64-unknown-linux-musl ;;
    *) echo "images: ARCHS=$arch is not known: amd64, arm64" >&2; exit 2 ;;
  esac
  if ! rustc --target "$triple" --print target-libdir 2>/dev/null | xargs -r test -d; then
    echo "images: Rust has no libraries for $triple: rustup target add $triple" >&2
    exit 1
  fi
  # The linker of Rust itself and its own start-up objects: a static program needs no other.
  case $arch-$(uname -m) in
    amd64-x86_64 | arm64-aarch64)
      command -v musl-gcc >/dev/null || { echo "images: musl-gcc is missing: apt-get install musl-tools" >&2; exit 1; } ;;
    arm64-*)
      command -v aarch64-linux-gnu-gcc >/dev/null ||
        { echo "images: a C compiler for arm64 is missing: apt-get install gcc-aarch64-linux-gnu" >&2; exit 1; }
      export CC_aarch64_unknown_linux_musl=aarch64-linux-gnu-gcc CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld ;;
    amd64-*)
      command -v x86_64-linux-gnu-gcc >/dev/null ||
        { echo "images: a C compiler for amd64 is missing: apt-get install gcc-x86-64-linux-gnu" >&2; exit 1; }
      export CC_x86_64_unknown_linux_musl=x86_64-linux-gnu-gcc CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld ;;
  esac
  local plugins=$profile
  [ "$profile" = dist ] && plugins=dist-cni
  if [ "$plugins" = "$profile" ]; then
    # At once: alone the plugins would need their dependencies with other features, and build them again.
    $cargo build --locked --profile "$profile" --target "$triple" "${daemons[@]}" -p caracal-cni --bins >&2
  else
    $cargo build --locked --profile "$profile" --target "$triple" "${daemons[@]}" --bins >&2
    $cargo build --locked --profile "$plugins" --target "$triple" -p caracal-cni --bins >&2
  fi
  dir=$folder/$triple/images
  mkdir -p "$dir"
  for name in caracal-node caracal-felix caracal-bgpd caracal-controllers caracalctl; do
    cp -f "$folder/$triple/${profile/#dev/debug}/$name" "$dir/$name"
  done
  for name in calico calico-ipam; do
    cp -f "$folder/$triple/${plugins/#dev/debug}/$name" "$dir/$name"
  done
  echo "$dir"
}

arguments=(--out "$out" ${TAG:+--tag "$TAG"} ${REPOSITORY:+--repository "$REPOSITORY"})
for name in ${ONLY:-}; do arguments+=(--only "$name"); done
if [ -n "${BIN:-}" ]; then
  for dir in $BIN; do arguments+=(--bin "$dir"); done
else
  for arch in ${ARCHS:-amd64}; do
    dir=$(build "$arch")
    arguments+=(--bin "$dir")
  done
fi
$cargo run --locked -q -p xtask -- images "${arguments[@]}"
