#!/usr/bin/env bash
# caracalctl beside kubectl on one embedded API server: get and apply of COUNT policies, the median of ROUNDS runs.
# Prints a Markdown table. Needs kubectl; CARACAL_BIN_DIR names the programs (default: target/release).
set -euo pipefail
cd "$(dirname "$0")/.."

count=${COUNT:-1000} rounds=${ROUNDS:-5}
bin=${CARACAL_BIN_DIR:-${CARGO_TARGET_DIR:-target}/release}
for program in "$bin/caracal-apiserver" "$bin/caracalctl"; do
  [ -x "$program" ] || { echo "$program is missing: run cargo build --release -p caracal-apiserver -p caracal-ctl" >&2; exit 1; }
done
command -v kubectl >/dev/null || { echo "kubectl is missing, so there is nothing to compare with: install it" >&2; exit 1; }

dir=$(mktemp -d)
server=
cleanup() { [ -z "$server" ] || kill "$server" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$dir"; }
trap cleanup EXIT

"$bin/caracal-apiserver" --memory --listen 127.0.0.1:0 --kubeconfig-out "$dir/kubeconfig" 2>"$dir/log" &
server=$!
export KUBECONFIG="$dir/kubeconfig" HOME="$dir"
for _ in $(seq 100); do
  [ -s "$dir/kubeconfig" ] && kubectl get --raw /readyz >/dev/null 2>&1 && break
  kill -0 "$server" 2>/dev/null || { cat "$dir/log" >&2; exit 1; }
  sleep 0.1
done

policies() { # first number, suffix of the order
  for n in $(seq "$count"); do
    printf -- '---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata:\n  name: %s-%04d\nspec:\n  order: %d%s\n  selector: app == "a%d"\n  types: [Ingress]\n  ingress:\n  - action: Allow\n    protocol: TCP\n    source: {selector: role == "client"}\n    destination: {ports: [80, 443]}\n' "$1" "$n" "$n" "$2" "$n"
  done
}

# Wall and CPU milliseconds and peak KiB of a command.
measure() {
  if ! /usr/bin/time -o "$dir/time" -f '%e %U %S %M' "$@" >/dev/null 2>"$dir/err"; then
    echo "$* failed:" >&2; head -5 "$dir/err" >&2; exit 1
  fi
  awk '{printf "%d %d %d\n", $1*1000, ($2+$3)*1000, $4}' "$dir/time"
}

# Medians of the columns of stdin.
median() {
  awk '{for (i=1;i<=3;i++) v[i,NR]=$i} END {for (i=1;i<=3;i++) {for (a=1;a<=NR;a++) for (b=a+1;b<=NR;b++) if (v[i,a]>v[i,b]) {t=v[i,a];v[i,a]=v[i,b];v[i,b]=t} printf "%d ", v[i,int((NR+1)/2)]} print ""}'
}

row() { # what, program, file with measures
  read -r wall cpu rss < <(median <"$3")
  printf '| %s | %s | %d | %d | %.1f |\n' "$1" "$2" "$wall" "$cpu" "$(awk "BEGIN{print $rss/1024}")"
}

command -v /usr/bin/time >/dev/null || { echo "/usr/bin/time is missing: install the package time" >&2; exit 1; }
for round in $(seq "$rounds"); do
  policies "c$round" '' >"$dir/c.yaml"; policies "k$round" '' >"$dir/k.yaml"
  measure "$bin/caracalctl" apply -f "$dir/c.yaml" >>"$dir/c-create"
  measure kubectl apply -f "$dir/k.yaml" >>"$dir/k-create"
  policies "c$round" '.5' >"$dir/c.yaml"; policies "k$round" '.5' >"$dir/k.yaml"
  measure "$bin/caracalctl" apply -f "$dir/c.yaml" >>"$dir/c-change"
  measure kubectl apply -f "$dir/k.yaml" >>"$dir/k-change"
  measure "$bin/caracalctl" delete -f "$dir/c.yaml" >>"$dir/c-delete"
  measure kubectl delete --wait=false -f "$dir/k.yaml" >>"$dir/k-delete"
done
policies get '' >"$dir/g.yaml"
"$bin/caracalctl" apply -f "$dir/g.yaml" >/dev/null
for _ in $(seq "$rounds"); do
  measure "$bin/caracalctl" get globalnetworkpolicies >>"$dir/c-table"
  measure kubectl get globalnetworkpolicies.projectcalico.org >>"$dir/k-table"
  measure "$bin/caracalctl" get globalnetworkpolicies -o yaml >>"$dir/c-yaml"
  measure kubectl get globalnetworkpolicies.projectcalico.org -o yaml >>"$dir/k-yaml"
done

echo "| $count policies | program | wall ms | CPU ms | peak MiB |"
echo '|---|---|---:|---:|---:|'
for what in table:'get, as a table' yaml:'get -o yaml' create:'apply, all new' change:'apply, all changed' delete:'delete -f'; do
  row "${what#*:}" caracalctl "$dir/c-${what%%:*}"
  row "${what#*:}" kubectl "$dir/k-${what%%:*}"
done
