#!/bin/bash
# Training that is killed and resumed: `kill -9` at random moments of a run, then --resume, until it ends; last and best
# checkpoint and the metrics must equal those of an uninterrupted run byte for byte. So must a second uninterrupted run, a run
# that stops by --max-steps and goes on, and one with another number of threads. Once for a plain model, once with every option of
# training.
# $MMC and $MMRUN are the programs, $MMC_KILLS the number of kills of each model (5), $MMC_DEVICE the device (cpu), $MMC_SEED of the moments.
. "$(dirname "$0")/check.sh"
kills=${MMC_KILLS:-5}
pid=
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null; rm -rf "$tmp"' EXIT
seed=${MMC_SEED:-$$}
RANDOM=$seed

bad() { failed=$((failed + 1)); echo "tests/resume_test.sh: $model: $1 (MMC_SEED=$seed)"; tail -n 3 "$tmp/log" | sed 's/^/  /'; }

# Paths in the plan count from the model's folder, and the model names that of the sample from the root.
cd "$root" || exit 2

# start RUN OPTION..: trains in the background, with many saves, so that kills hit them; its process is $pid.
start() {
	local run=$1
	shift
	"$mmrun" train "$tmp/plan.bin" -o "$tmp/$run" --device "$device" --cache "$tmp/columns" --epochs "$epochs" --save-steps 3 "$@" \
		>"$tmp/log" 2>&1 &
	pid=$!
}

# train RUN OPTION..: the same to its end; the status.
train() {
	start "$@"
	wait "$pid"
	local status=$?
	pid=
	return $status
}

# same_run A B: two runs ended equal.
same_run() {
	local f
	for f in last.safetensors best.safetensors metrics.json; do
		cmp -s "$tmp/$1/$f" "$tmp/$2/$f" || { bad "$1 and $2: $f differs"; return; }
	done
	ok
}

# check_model NAME: of tests/models.
check_model() {
	local begin us round after
	rm -rf "${tmp:?}"/{warm,whole,again,killed,stopped,one,two}
	if ! "$mmc" "tests/models/$1.yaml" --target "$device" -o "$tmp/plan.bin" >"$tmp/log" 2>&1; then
		bad 'it does not compile'
		return
	fi

	# As many epochs as take about a second: kills need room, whatever the disk is like.
	epochs=4
	train warm || { bad 'training'; return; }
	begin=$EPOCHREALTIME
	train warm
	us=$((${EPOCHREALTIME/./} - ${begin/./}))
	epochs=$((4 * 1000000 / us + 4))
	[ $epochs -le 400 ] || epochs=400

	begin=$EPOCHREALTIME
	if train whole; then ok; else bad 'an uninterrupted run'; fi
	us=$((${EPOCHREALTIME/./} - ${begin/./}))
	if train again; then ok; else bad 'a second run'; fi
	same_run whole again

	# The moments: up to half of the run's length after each start. Where a run ends before its kill, another begins.
	done_kills=0 ended=1
	for ((round = 0; done_kills < kills && round < 8 * kills; round++)); do
		if [ $ended -eq 1 ]; then
			rm -rf "$tmp/killed"
			start killed
		else
			start killed --resume
		fi
		after=$(((RANDOM * 32768 + RANDOM) % (us / 2)))
		sleep "$((after / 1000000)).$(printf %06d $((after % 1000000)))"
		kill -9 "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
		ended=$(($? != 137))
		done_kills=$((done_kills + 1 - ended))
		pid=
		if [ -e "$tmp/killed/last.safetensors" ] && ! "$mmrun" inspect "$tmp/plan.bin" --ckpt "$tmp/killed/last.safetensors" >"$tmp/log" 2>&1; then
			bad "kill $done_kills after $after us: the checkpoint is damaged"
		fi
	done
	if [ $done_kills -eq "$kills" ]; then ok; else bad "$done_kills of $kills kills"; fi
	if train killed --resume; then ok; else bad 'the last resume'; fi
	same_run whole killed
	if [ -z "$(find "$tmp/killed" -name '*tmp*')" ]; then ok; else bad "left behind: $(ls "$tmp/killed")"; fi

	# A stop at a step within an epoch, and between a save and the next.
	if train stopped --max-steps 41 && train stopped --resume && grep -q '^resumed after step 41 ' "$tmp/log"; then ok; else bad 'a run in two parts'; fi
	same_run whole stopped

	if [ "$device" = cpu ]; then
		if train one --threads 1 && train two --threads 2; then ok; else bad 'threads'; fi
		same_run one two
		same_run whole one
	fi
}

for model in tiny training; do
	check_model $model
done

total
