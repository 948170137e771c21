#!/bin/bash
# mmc --graph-in: graph text through the passes of the program itself, and what it refuses. $MMC is the program.
. "$(dirname "$0")/check.sh"

# prints NAME STATUS WORDS ARGUMENTS..: the status, and words that what is printed has.
prints() {
	local name=$1 want=$2 words=$3 status
	shift 3
	"$mmc" "$@" >"$tmp/log" 2>&1
	status=$?
	if [ $status -eq "$want" ] && grep -qF -e "$words" "$tmp/log"; then ok; else bad "$name: status $status, or no '$words'"; fi
}

cd "$root/tests/graph" || exit 2
prints contract 0 ' = dot(v0, v1, at=[0, 1, 1, 2, 0, 2])' --graph-in contract_dense.g -d c
prints product 0 '        2        1' --graph-in contract_dense.g --no-fuse --mem
prints skip 0 '        2        0' --graph-in contract_dense.g -x contract --mem
prints explain 0 'v5 reduce_max: not joined' --graph-in split_long.g --explain --target cpu
prints memory 0 'cpu  mmrun train' --graph-in <(sed 's/graph t(/graph train(/' split_long.g) --mem
prints kernels 0 '        3        0' --graph-in states.g --mem --emit-src "$tmp/src"
if grep -qs 't_k0_' "$tmp/src/cpu_0.c" && [ -s "$tmp/src/cuda_0.cu" ]; then ok; else bad 'no kernels'; fi
prints syntax 2 "err_syntax.g:3:1: error: '}' does not close '('" --graph-in err_syntax.g
prints types 2 'err_types.g:4:3: error: neg has another shape than its operands' --graph-in err_types.g
prints absent 2 'nothing.g: ' --graph-in nothing.g
prints empty 2 '0 graphs: a file has from 1 to 8' --graph-in /dev/null
prints param 2 'parameters are slices of a packed state here' --graph-in <(printf 'graph t(batch = 1) {\n  p: f32[2] = param("w")\n  v: f32[2] = param(at=[0])\n  output("y", "value", v)\n}\n')

total
