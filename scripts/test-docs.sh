#!/usr/bin/env bash
# The documentation holds together: every page is in the summary, every link leads to something, the page of the chart's
# values is as generated, each caracalctl command in a page is one, each resource in a page is valid.
set -euo pipefail
cd "$(dirname "$0")/.."
failed=0
bad() { echo "test-docs: $*" >&2; failed=$((failed + 1)); }
while read -r page; do
  [ "$page" = docs/SUMMARY.md ] || grep -qF "(${page#docs/})" docs/SUMMARY.md || bad "$page is not in docs/SUMMARY.md"
done < <(find docs -name '*.md')
while IFS=: read -r page link; do
  target=${link#*](} target=${target%)} target=${target%%#*}
  case $target in '' | http*://*) continue ;; esac
  [ -e "$(dirname "$page")/$target" ] || bad "$page links to $target, which is not there"
done < <(for page in README.md CONTRIBUTING.md $(find docs -name '*.md'); do
  # What stands in code is no link.
  sed -E 's/`[^`]*`//g' "$page" | grep -oE '\]\([^)]+\)' | sed "s|^|$page:|" || true
done)
scripts/chart-values.sh --check || bad "docs/reference/chart-values.md is not as generated"
while IFS=: read -r page command; do
  # `caracalctl a b` must be a heading of the reference, or `a` must.
  read -r _ first second _ <<<"$command"
  grep -qE "^#+ caracalctl $first( $second)?$" docs/cli.md || bad "$page has '$command', which docs/cli.md does not know"
done < <(grep -oE '\bcaracalctl [a-z]+( [a-z]+)?' docs/{README,install,top-of-rack,policy,upgrade,troubleshoot}.md | sort -u)
ctl=${CARACAL_BIN_DIR:-target/release}/caracalctl
if [ -x "$ctl" ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  for page in docs/{top-of-rack,policy}.md; do
    awk '/^```yaml$/ { on = 1; print "---"; next } /^```$/ { on = 0 } on' "$page" >"$work/$(basename "$page" .md).yaml"
    "$ctl" validate -f "$work/$(basename "$page" .md).yaml" >"$work/out" 2>&1 || { bad "a resource of $page is not valid"; cat "$work/out" >&2; }
  done
else
  echo "test-docs: the resources in pages were NOT CHECKED: $ctl is not built"
fi
[ "$failed" = 0 ] || exit 1
echo "test-docs: pages, links, commands and resources as they should be"
