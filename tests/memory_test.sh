#!/bin/bash
# The memory forecast of `mmc --mem` against what mmrun asks the device for, to the byte; and --memory-limit, which refuses a run
# before anything is allocated or written. $MMC and $MMRUN are the programs; on a GPU, too, where $MMC_TEST_CUDA is set.
. "$(dirname "$0")/check.sh"
cd "$root" || exit 2

# field NAME: of the log's memory event
field() { sed -n '1s/.*"'"$1"'": \([0-9]*\).*/\1/p' "$tmp/log.json"; }

# forecast MODEL DEVICE OPTION..
forecast() {
	local model=$1 device=$2 name row
	shift 2
	name="$model $device $*"
	"$mmc" "$model" --target "$device" -o "$tmp/plan.bin" --mem "$@" >"$tmp/mem" 2>"$tmp/log" || { bad "$name: does not compile"; return; }
	"$mmrun" train "$tmp/plan.bin" --device "$device" --max-steps 1 -o "$tmp/run" --report /dev/null --log "$tmp/log.json" >"$tmp/log" 2>&1 ||
		{ bad "$name: does not train"; return; }
	row=$(sed -n "s/^$device *mmrun train//p" "$tmp/mem")
	# shellcheck disable=SC2086
	set -- $row
	[ $# -eq 6 ] || { bad "$name: no forecast for $device"; cat "$tmp/mem"; return; }
	equal "$name: the spaces" "$*" "$(field param) $(field opt) $(field stat) $(field act) $(field work) $6"
	# what is left is the columns, each rounded up to 256 bytes in the forecast
	local columns=$(($(field given) - $6)) data
	data=$(field data)
	if [ $columns -gt 0 ] && [ $columns -le "$data" ] && [ $((data - columns)) -lt $((256 * 32)) ]; then ok; else bad "$name: $columns bytes beside, $data of data"; fi
}

cp tests/models/media.yaml "$tmp/media.yaml"
"$mmrun" synth -o "$tmp/data" --posts 300 --users 30 --media --frames 2 --pixels 16 --places 16 >"$tmp/log" || bad 'synthetic media'

# activations over what must be alive at once, in a training step of these models: at most 1.05
for m in models/engagement*.yaml models/lenet.yaml models/vae.yaml models/gpt_char.yaml; do
	for p in fp32 bf16; do
		if "$mmc" "$m" --precision $p -o "$tmp/plan.bin" --mem >"$tmp/mem" 2>"$tmp/log"; then ok; else bad "$m in $p does not compile"; fi
		over=$(awk '($1 == "cpu" || $1 == "cuda") && NF == 8 && $2 == "train" && $5 > 1.05' "$tmp/mem")
		if [ -z "$over" ] && grep -q '^cuda train' "$tmp/mem"; then ok; else bad "$m in $p: more than the bound: $over"; fi
	done
done
# no float copies of bytes or of products in bf16, no masks beside what they are masks of
"$mmc" models/engagement_full.yaml --target cuda --precision bf16 --batch 1024 --no-trace -o "$tmp/plan.bin" --mem >"$tmp/mem" 2>"$tmp/log" || bad 'engagement_full'
act=$(awk '$1 == "cuda" && $2 == "train" { print $4 }' "$tmp/mem")
if [ "${act:-9999999999}" -lt 2600000000 ]; then ok; else bad "engagement_full in bf16 takes $act bytes of activations"; fi

devices=(cpu)
[ -z "${MMC_TEST_CUDA:-}" ] || devices+=(cuda)
for d in "${devices[@]}"; do
	for o in '' --no-fuse --no-reuse '--no-fuse --no-reuse'; do
		# shellcheck disable=SC2086
		forecast tests/models/tiny.yaml "$d" $o
	done
	forecast "$tmp/media.yaml" "$d"
	for m in models/*.yaml tests/models/training.yaml; do # of those whose data is here
		if "$mmc" "$m" --target cpu -o "$tmp/plan.bin" >"$tmp/log" 2>&1 && "$mmrun" train "$tmp/plan.bin" --device cpu --max-steps 1 -o "$tmp/run" \
			--report /dev/null 2>&1 | grep -q 'cannot open'; then
			continue
		fi
		forecast "$m" "$d" --batch 16
	done

	# the limit: what is needed is enough, and a byte less is not
	"$mmc" tests/models/tiny.yaml --target "$d" -o "$tmp/plan.bin" >"$tmp/log" 2>&1
	train() { "$mmrun" train "$tmp/plan.bin" --device "$d" --max-steps 1 --report /dev/null "$@" >"$tmp/log" 2>&1; }
	train -o "$tmp/no" --memory-limit 1K
	equal "$d: the status" $? 2
	need=$(sed -n 's/.*plan.bin: \([0-9]*\) bytes are needed on '"$d"' (parameters.*, but --memory-limit allows 1024: raise it, or compile for a smaller batch.*/\1/p' "$tmp/log")
	if [ -n "$need" ] && [ ! -e "$tmp/no" ]; then ok; else bad "$d: a limit of 1K"; fi
	train -o "$tmp/no" --memory-limit $((need - 1))
	equal "$d: the status, a byte less than needed" $? 2
	[ ! -e "$tmp/no" ] || bad "$d: a run that is refused left $tmp/no"
	if train -o "$tmp/yes" --memory-limit "$need"; then ok; else bad "$d: the limit that is needed"; fi
done
for v in 10X -5 0 '' M 1MB; do
	"$mmrun" train "$tmp/plan.bin" --memory-limit="$v" >"$tmp/log" 2>&1
	equal "--memory-limit='$v'" $? 2
	grep -q "is not a number of bytes, such as 1500000, 512M or 1.5G" "$tmp/log" || bad "--memory-limit='$v': the message"
done

total
