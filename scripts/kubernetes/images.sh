#!/usr/bin/env bash
# Makes container images of directories, without a registry or an engine: one layer, as an OCI archive for
# "ctr images import".
#
#   images.sh pause       caracal.test/pause:1, which holds a pod's namespaces
#   images.sh agnhost     caracal.test/e2e/agnhost:VERSION, which upstream's network tests run, with the tools they call
#   images.sh pack REFERENCE DIRECTORY OUT.tar ENTRYPOINT…
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

digest() { sha256sum "$1" | cut -d' ' -f1; }

pack() { # pack REFERENCE DIRECTORY OUT ENTRYPOINT…
  local reference=$1 directory=$2 out=$3 t layer config manifest entry='' e arch
  shift 3
  need tar sha256sum
  case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) arch=$(uname -m) ;; esac
  for e in "$@"; do entry+="${entry:+,}\"$e\""; done
  t=$(mktemp -d)
  mkdir -p "$t/blobs/sha256"
  # Sorted names, fixed owner and time: the same input gives the same image.
  tar -C "$directory" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf "$t/layer" .
  layer=$(digest "$t/layer"); mv "$t/layer" "$t/blobs/sha256/$layer"
  printf '{"architecture":"%s","os":"linux","config":{"Env":["PATH=/usr/local/bin:/usr/bin:/bin:/sbin:/"],"Entrypoint":[%s]%s},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$arch" "$entry" "${PACK_CMD:+,\"Cmd\":[\"$PACK_CMD\"]}" "$layer" >"$t/config"
  config=$(digest "$t/config"); mv "$t/config" "$t/blobs/sha256/$config"
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:%s","size":%s}]}' \
    "$config" "$(stat -c%s "$t/blobs/sha256/$config")" "$layer" "$(stat -c%s "$t/blobs/sha256/$layer")" >"$t/manifest"
  manifest=$(digest "$t/manifest")
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"platform":{"architecture":"%s","os":"linux"},"annotations":{"io.containerd.image.name":"%s","org.opencontainers.image.ref.name":"%s"}}]}' \
    "$manifest" "$(stat -c%s "$t/manifest")" "$arch" "$reference" "${reference##*:}" >"$t/index.json"
  mv "$t/manifest" "$t/blobs/sha256/$manifest"
  echo '{"imageLayoutVersion":"1.0.0"}' >"$t/oci-layout"
  mkdir -p "$(dirname "$out")"
  tar -C "$t" --owner=0 --group=0 --mtime=@0 -cf "$out.new" oci-layout index.json blobs
  mv "$out.new" "$out"
  rm -rf "$t"
  log "$reference: $(du -h "$out" | cut -f1) in $out"
}

add_program() { # add_program ROOT NAME: a program of this machine and the libraries it needs
  local path library
  path=$(command -v "$2") || return 0
  mkdir -p "$1/usr/bin"
  cp -L "$path" "$1/usr/bin/"
  while read -r library; do
    mkdir -p "$1$(dirname "$library")" && cp -L "$library" "$1$library"
  done < <(ldd "$path" 2>/dev/null | grep -oE '/[^ ]+')
}

pause() {
  local r
  need gcc
  r=$(mktemp -d)
  gcc -Os -static -s -o "$r/pause" "$here/pause.c" || die "a static C library is needed (Debian: libc6-dev)"
  pack caracal.test/pause:1 "$r" "$IMAGES/pause.tar" /pause
  rm -rf "$r"
}

agnhost() {
  local r busybox version a p
  need_bin agnhost
  busybox=$(command -v busybox) || die "a static busybox is needed (Debian: busybox-static)"
  version=$(cat "$(cd "$K8S_CACHE/$K8S_VERSION/mod" && go list -mod=mod -m -f '{{.Dir}}' k8s.io/kubernetes)/test/images/agnhost/VERSION")
  r=$(mktemp -d)
  mkdir -p "$r"/{bin,sbin,etc,tmp,uploads,root,var/registry}
  chmod 1777 "$r/tmp"
  cp -L "$busybox" "$r/bin/busybox"
  for a in $("$busybox" --list); do [[ $a == busybox ]] || ln -s busybox "$r/bin/$a"; done
  cp "$BIN/agnhost" "$r/agnhost" && ln -s agnhost "$r/agnhost-2"
  echo 'root:x:0:0:root:/root:/bin/sh' >"$r/etc/passwd"
  echo 'root:x:0:' >"$r/etc/group"
  for p in curl dig ss ip iperf3; do add_program "$r" "$p"; done
  PACK_CMD=pause pack "caracal.test/e2e/agnhost:$version" "$r" "$IMAGES/agnhost.tar" /agnhost
  echo "$version" >"$IMAGES/agnhost.version"
  rm -rf "$r"
}

case ${1:-} in
pause) pause ;;
agnhost) agnhost ;;
pack) shift; [[ $# -ge 4 ]] || die "images.sh pack REFERENCE DIRECTORY OUT.tar ENTRYPOINT…"; pack "$@" ;;
*) usage "$@" ;;
esac
