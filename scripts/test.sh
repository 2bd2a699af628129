#!/usr/bin/env bash
# Runs the suites and ends with what ran.
#   test.sh         everything: unit, property and snapshot tests, network namespaces, the demo's scenario
#   test.sh unit    what needs neither root nor network
#   test.sh netns   what needs root: suites in network namespaces, and the demo's scenario
set -uo pipefail
cd "$(dirname "$0")/.."

suite=${1:-all}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed_commands=()

# Suites that make network namespaces need root; the build itself does not.
if [ "$(id -u)" != 0 ]; then
  export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="sudo -E"
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="sudo -E"
fi
export INSTA_UPDATE=${INSTA_UPDATE:-no}

step() {
  echo
  echo "== $1"
  shift
  if ! "$@" 2>&1 | tee -a "$log"; then failed_commands+=("$*"); fi
}

case "$suite" in
  unit) step "unit, property and snapshot tests" cargo test --locked --workspace --lib --bins ;;
  netns) step "network namespaces" cargo test --locked --workspace --test '*' ;;
  all) step "unit, property, snapshot and network-namespace tests" cargo test --locked --workspace --no-fail-fast ;;
  *) echo "unknown suite '$suite': unit, netns or nothing" >&2; exit 2 ;;
esac
demo=
if [ "$suite" != unit ]; then
  if [ -x target/release/caracal-lab ]; then
    demo=1
    step "the demo's scenario" scripts/demo.sh --plain
  else
    echo "== the demo's scenario: NOT RUN, target/release/caracal-lab is not built"
  fi
fi

kube_missing=
if [ "$suite" = all ] && [ "${CARACAL_TEST_KUBE:-0}" = 1 ]; then
  kube_missing=$(scripts/kubernetes/build.sh list etcd kube-apiserver kubectl | awk '/not built/ { print $1 }' | paste -sd' ')
  if [ -z "$kube_missing" ]; then
    step "the datastore's suite against kube-apiserver and etcd" scripts/test-kube.sh
  fi
fi

sum() { grep -E "^test result: " "$log" | sed -E "s/.* ([0-9]+) $1.*/\1/" | awk '{ n += $1 } END { print n + 0 }'; }
passed=$(sum passed)
failed=$(sum failed)
ignored=$(sum ignored)
if [ -n "$demo" ]; then
  if grep -q "^demo: every step as it should be" "$log"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
fi
[ "${#failed_commands[@]}" = 0 ] || [ "$failed" -gt 0 ] || failed=${#failed_commands[@]}

echo
echo "== what ran"
grep -E "^     Running |^   Doc-tests |^test result: " "$log" | awk '
  /Running|Doc-tests/ { name = $0; sub(/^ +/, "", name); sub(/ \(.*/, "", name) }
  /^test result/ { if ($4 + $6 > 0) printf "  %-60s %s passed, %s failed\n", name, $4, $6 }'
grep -ho "NOT RUN: .*" "$log" | sort -u | sed 's/^/  /'
[ "$suite" != all ] || [ "${CARACAL_TEST_KUBE:-0}" = 1 ] || echo "  NOT RUN: the suites against a real kube-apiserver: make test-kube"
[ -z "$kube_missing" ] || echo "  NOT RUN: the suites against a real kube-apiserver, as $kube_missing is not built; build with: make kube-build"
for command in "${failed_commands[@]:-}"; do [ -z "$command" ] || echo "  FAILED: $command"; done
echo "$passed passed, $failed failed, $ignored skipped"
[ "$failed" = 0 ] && [ "${#failed_commands[@]}" = 0 ]
