#!/usr/bin/env bash
# Installs what a fresh Debian or Ubuntu machine lacks, and nothing that it has.
# Services that packages would start (BIRD, FRR, GoBGP, ExaBGP) stay off: the lab and the tests start their own in
# namespaces.
set -euo pipefail

root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

declare -A need=(
  [ip]=iproute2 [iptables]=iptables [ipset]=ipset [conntrack]=conntrack [ping]=iputils-ping
  [bird]=bird2 [gcc]=gcc [nft]=nftables [modprobe]=kmod
)
# Other BGP speakers, to be tested and measured beside: without them those tests are left out, and say so.
declare -A beside=([vtysh]=frr [gobgpd]=gobgpd [exabgp]=exabgp [bgpdump]=bgpdump)
packages=()
extra=()
for program in "${!need[@]}"; do
  PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null || packages+=("${need[$program]}")
done
for program in "${!beside[@]}"; do
  PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null || extra+=("${beside[$program]}")
done
[ -e /usr/lib/cni/portmap ] || packages+=(containernetworking-plugins)
[ -e /usr/include/string.h ] || packages+=(libc6-dev)
[ -e /etc/ssl/certs/ca-certificates.crt ] || packages+=(ca-certificates)

if [ "${#packages[@]}" -gt 0 ] && ! command -v apt-get >/dev/null; then
  echo "missing programs of: ${packages[*]}; install them with your package manager and run again" >&2
  exit 1
fi

install() { root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"; }

if [ "${#packages[@]}${#extra[@]}" != 00 ] && command -v apt-get >/dev/null; then
  echo "installing: ${packages[*]} ${extra[*]}"
  policy=/usr/sbin/policy-rc.d
  made_policy=
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | root tee "$policy" >/dev/null
    root chmod 755 "$policy"
    made_policy=1
  fi
  trap '[ -z "$made_policy" ] || root rm -f "$policy"' EXIT
  log=$(mktemp)
  root apt-get update -q >"$log" 2>&1 || true
  if [ "${#packages[@]}" -gt 0 ] && ! install "${packages[@]}" >>"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "could not install: ${packages[*]}" >&2
    exit 1
  fi
  for package in "${extra[@]}"; do
    install "$package" >>"$log" 2>&1 || echo "could not install $package: what is tested beside it is left out" >&2
  done
  rm -f "$log"
fi

if ! command -v cargo >/dev/null; then
  echo "cargo is missing: install Rust with rustup (https://rustup.rs) and run again" >&2
  exit 1
fi
# rustup installs the toolchain that rust-toolchain.toml names when cargo first runs.
cargo --version >/dev/null
