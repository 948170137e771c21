#!/bin/bash
# Every CUDA kernel of every model in models/, and of one with every option of training, in fp32, tf32 and bf16, compiles for sm_80 and sm_90 and spills no register.
# A source that has passed is not compiled again: $BUILD/kernels has an empty file for each, named by its hash.
# MMC_TEST_CUBINS=no: they are generated, and not compiled.
# Usage: kernels_test.sh [CHECK], the program of kernels_check.c. $MMC is mmc, $BUILD the build folder.
. "$(dirname "$0")/check.sh"
check=$(realpath "${1:-$build/tests/kernels_check}") || exit 2
cd "$root" && mkdir -p "$build/kernels" || exit 2

# compile ARCH FILE: through what has passed before. Status 1 with a message, 77 without NVRTC.
compile() {
	local stamp status
	stamp=$kept/$1-$({ echo "$nvrtc"; cat "$check" "$2"; } | sha256sum | cut -c1-32)
	[ ! -e "$stamp" ] || return 0
	"$check" "$1" "$2"
	status=$?
	[ $status -ne 0 ] || : >"$stamp"
	return $status
}
export -f compile
nvrtc=$("$check")
export nvrtc check kept=$build/kernels

# waits FILE..: each kernel begins by waiting for those before it, beside which it may be launched (runtime/device_cuda.c).
waits() { awk '/__global__/ { kernel = 1; n++ } kernel && /^{/ { getline; kernel = 0; if ($1 !~ /^mm_begin(_alone)?\(\);$/) { print FILENAME ": " $0; bad = 1 } } END { exit bad || !n }' "$@"; }

for m in models/*.yaml tests/models/training.yaml; do
	for p in fp32 tf32 bf16; do
		src=$tmp/$(basename "$m" .yaml).$p
		if ! "$mmc" "$m" --target cuda --precision $p --no-trace --emit-src "$src" -o "$tmp/plan.bin" >"$tmp/log" 2>&1; then
			failed=$((failed + 1))
			echo "$m in $p: mmc ended with an error"
			tail -n 5 "$tmp/log"
			continue
		fi
		run "$m in $p: the first line of each kernel" waits "$src"/*.cu
		[ "${MMC_TEST_CUBINS:-}" != no ] || { skipped=$((skipped + 1)); continue; }
		for arch in sm_80 sm_90; do
			# two at a time; xargs ends with 123 if one failed
			printf '%s\0' "$src"/*.cu | xargs -0 -P 2 -I{} bash -c 'compile "$0" "$1" || exit $?' $arch {} >"$tmp/log" 2>&1
			case $? in
			0) passed=$((passed + 1)) ;;
			*)
				if [ -s "$tmp/log" ]; then
					failed=$((failed + 1))
					echo "$m in $p:"
					head -n 20 "$tmp/log"
				else
					skipped=$((skipped + 1)) # no NVRTC: nothing was said
				fi ;;
			esac
		done
	done
done

total
