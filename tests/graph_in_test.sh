#!/bin/bash
# mmc --graph-in: graph text through the passes of the program itself, and what it refuses. $MMC is the program.
set -u
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
mmc=$(realpath "${MMC:-$here/../mmc}") || exit 2
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "tests/graph_in_test.sh: $1"; head -n 20 "$tmp/log"; }

# says NAME STATUS WORDS ARGUMENTS..: the status, and words that what is printed has.
says() {
	local name=$1 want=$2 words=$3 status
	shift 3
	"$mmc" "$@" >"$tmp/log" 2>&1
	status=$?
	if [ $status -eq "$want" ] && grep -qF -e "$words" "$tmp/log"; then ok; else bad "$name: status $status, or no '$words'"; fi
}

cd "$here/graph" || exit 2
says contract 0 ' = dot(v0, v1, at=[0, 1, 1, 2, 0, 2])' --graph-in contract_dense.g -d c
says product 0 '        1        1' --graph-in contract_dense.g --mem
says skip 0 '        2        0' --graph-in contract_dense.g -x contract --mem
says explain 0 'v5 reduce_max: not joined' --graph-in split_long.g --explain --target cpu
says memory 0 'cpu  mmrun train' --graph-in <(sed 's/graph t(/graph train(/' split_long.g) --mem
says kernels 0 '        3        0' --graph-in states.g --mem --emit-src "$tmp/src"
if grep -qs 't_k0_' "$tmp/src/cpu_0.c" && [ -s "$tmp/src/cuda_0.cu" ]; then ok; else bad 'no kernels'; fi
says syntax 2 "err_syntax.g:3:1: error: '}' does not close '('" --graph-in err_syntax.g
says types 2 'err_types.g:4:3: error: neg has another shape than its operands' --graph-in err_types.g
says absent 2 'nothing.g: ' --graph-in nothing.g
says empty 2 '0 graphs: a file has from 1 to 8' --graph-in /dev/null
says param 2 'parameters are slices of a packed state here' --graph-in <(printf 'graph t(batch = 1) {\n  p: f32[2] = param("w")\n  v: f32[2] = param(at=[0])\n  output("y", "value", v)\n}\n')

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
