#!/bin/bash
# Models compiled for a GPU at other batch sizes than their own: which kernels a product gets hangs on it, and the plan's
# verifier looks at each. $MMC is the program.
. "$(dirname "$0")/check.sh"

# compiles MODEL BATCH PRECISION [OPTION]: a plan, or a product for which only the library has a kernel.
compiles() {
	"$mmc" "$root/models/$1.yaml" --batch "$2" --precision "$3" ${4:+"$4"} --target cuda --no-trace -o "$tmp/plan.bin" >"$tmp/log" 2>&1 ||
		grep -q 'error: --no-library: no kernel of ours' "$tmp/log"
}

for model in engagement sentiment_transformer gpt_char lenet; do
	for batch in 1 7 16 24; do
		for how in fp32 bf16 'bf16 --no-library'; do
			# shellcheck disable=SC2086
			if compiles "$model" "$batch" $how; then ok; else bad "models/$model.yaml, batch $batch, $how: $(head -n 1 "$tmp/log")"; fi
		done
	done
done
total
