#!/bin/bash
# mmc --explain: a section a program, each decision once in it, with a place. $MMC is the program.
set -u
export LC_ALL=C
root=$(cd "$(dirname "$0")/.." && pwd)
mmc=$(realpath "${MMC:-$root/mmc}") || exit 2
export MMC_OPS=${MMC_OPS:-$root/ops}
passed=0 failed=0
cd "$root" || exit 2

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "tests/explain_test.sh: $1"; }

text=$("$mmc" tests/models/tiny.yaml --check --explain) || bad 'mmc fails'
sections=$(grep ':$' <<<"$text" | tr '\n' ' ')
if [ "$sections" = 'cpu, train, batch 64: cpu, eval, batch 64: cpu, eval, batch 1: cuda, train, batch 64: cuda, eval, batch 64: cuda, eval, batch 1: ' ]; then
	ok
else
	bad "sections: $sections"
fi
twice=$(sed 's/ ([0-9]* times)$//' <<<"$text" | awk '/:$/ { delete seen } seen[$0]++ { print }')
if [ -z "$twice" ]; then ok; else bad "said twice: $twice"; fi
if grep -q ' ([0-9]* times)$' <<<"$text"; then ok; else bad 'nothing is counted'; fi
if grep -q 'tiny.yaml:[0-9]*: v[0-9]* [a-z_]*: ' <<<"$text"; then ok; else bad 'no place'; fi

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
