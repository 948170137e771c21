#!/bin/bash
# Options of training, by runs on data made here: what the options say about each other must hold, to the bit where it can. The
# numbers themselves are in training_test.c.
. "$(dirname "$0")/check.sh"
cd "$tmp" || exit 2

awk 'BEGIN {
	srand(5); print "a,b,w,y,z"
	for (i = 0; i < 400; i++) {
		a = rand() * 2 - 1; b = rand() * 2 - 1; y = 2 * a - b + 0.3 * a * b + 0.1 * (rand() - 0.5)
		print a "," b "," (rand() < 0.5 ? "red" : "blue") "," y "," (y > 0.2)
	}
}' >rows.csv

# model NAME TRAIN [LOGIT]: NAME.bin of a model with these keys of train.
model() {
	cat >"$1.yaml" <<-YAML
	data: {tables: {t: rows.csv}, split: {train: 0.8, val: 0.2, test: 0}}
	inputs: {a: {type: number}, b: {type: number}, w: {type: category, vocabulary: 4}}
	targets: {y: {type: number}, z: {type: binary, from: z = 1}}
	network:
	  word: embed(w, 3)
	  trunk: concat(a, b, word) |> dense(8) |> tanh
	  out: dense(trunk, 1)
	  logit: ${3:-dense(trunk, 1)}
	losses: {y: {of: out, loss: mse}, z: {of: logit, loss: bce, weight: 0.5}}
	train: {$2}
	YAML
	run "$1 compiles" "$mmc" "$1.yaml" --target "$device" -o "$1.bin"
}
# train NAME RUN OPTION..: into the folder RUN, losses into RUN.csv.
train() {
	local plan=$1 to=$2
	shift 2
	run "$plan trains" "$mmrun" train "$plan.bin" -o "$to" --device "$device" --loss-csv "$to.csv" --epochs 6 "$@"
}
# close A B: two logs of losses agree within rounding.
close() {
	if paste -d, "$1" "$2" | awk -F, '
		NR == 1 { k = NF / 2; next }
		{ for (i = 2; i <= k; i++) { d = $i - $(i + k); if (!(d * d <= 1e-10 * ($i * $i + 1e-4))) { print "step " $1 ": " $i " and " $(i + k); bad = 1 } } }
		END { exit bad || NR < 20 }' >log; then ok; else bad "$3"; fi
}

# tensor FILE NAME: the bytes of a checkpoint's tensor.
tensor() {
	local n range
	n=$(od -An -tu8 -N8 "$1" | tr -d ' ')
	range=$(head -c $((n + 8)) "$1" | tail -c "$n" | grep -o "\"$2\":{[^}]*}" | sed 's/.*"data_offsets":\[\([0-9]*\),\([0-9]*\)\].*/\1 \2/')
	[ -n "$range" ] && tail -c +$((n + 9 + ${range% *})) "$1" | head -c $((${range#* } - ${range% *}))
}

# ---- accumulate: the same rows, the same step as of one large batch; clipping and the schedule count updates ----

rest='optimizer: adamw(lr=1e-2), clip_norm: 0.3, schedule: cosine(warmup=5)'
model whole "batch: 32, $rest"
model parts "batch: 8, accumulate: 4, $rest"
train whole whole
train parts parts
says 'what is said' 'batch 8, 4 of them a step, 10 steps an epoch'
close whole.csv parts.csv 'four batches of 8 are not one of 32'
train parts again --max-steps 17
train parts again --resume
same parts/last.safetensors again/last.safetensors 'resumed within an epoch'
same parts.csv again.csv 'resumed within an epoch'
model parts2 "batch: 8, accumulate: 2, $rest"
refused 'a resume with other parts' "trained with accumulate 4, the plan's is 2: a resume must keep it" -- "$mmrun" train parts2.bin -o parts --device "$device" --resume
model large "batch: 8, accumulate: 50, $rest"
refused 'a step of more than all rows' 'a step of 50 batches of 8 is more than the training split of 320 rows' -- "$mmrun" train large.bin -o large --device "$device"
run 'a step of parts is timed' "$mmrun" bench parts.bin --synthetic --rows 7 --device "$device" --windows 1
says 'what is said' 'a step is 4 batches'
refused 'a part alone' 'program train is timed with it' -- "$mmrun" bench parts.bin --synthetic --device "$device" --program accumulate
# Random numbers differ from part to part: equal ones would make dropout the same in all.
drop='dropout(trunk, 0.5) |> dense(1)'
model dropped "batch: 8, accumulate: 4, optimizer: sgd(lr=1e-2)" "$drop"
train dropped dropped
train dropped dropped2 --max-steps 23
train dropped dropped2 --resume
same dropped.csv dropped2.csv 'dropout in parts, resumed'
# What went wrong is found in whichever part it was.
model nan "batch: 8, accumulate: 4, optimizer: sgd(lr=1e-2)" "dense(trunk, 1) + log(a + 0.99)"
refused 'a loss that is not a number' 'operation log (nan.yaml:8' -- "$mmrun" train nan.bin -o nan --device "$device"

# ---- ema: the shadow weights are state, and what is measured and predicted with ----

model plain 'batch: 16, optimizer: adamw(lr=3e-2)'
model ema 'batch: 16, optimizer: adamw(lr=3e-2), ema: 0.9'
train plain plain
train ema ema
same plain.csv ema.csv 'the running mean changed how the weights are trained'
other plain/metrics.json ema/metrics.json 'the running mean is not measured'
train ema ema2 --max-steps 25
train ema ema2 --resume
same ema/last.safetensors ema2/last.safetensors 'a resumed running mean'
same ema/metrics.json ema2/metrics.json 'a resumed running mean'
for m in plain ema; do run "$m predicts" "$mmrun" predict $m.bin --run $m --in rows.csv --device "$device" -o $m.out; done
other plain.out ema.out 'the running mean is not what predicts'
refused 'a checkpoint without the mean' 'checkpoint of another model' -- "$mmrun" eval ema.bin --ckpt plain/last.safetensors --device "$device" --split val

# ---- groups ----

model frozen 'batch: 16, optimizer: adamw(lr=3e-2), groups: [{params: word.*, freeze: true}]'
train frozen frozen --epochs 1
train frozen frozen3 --epochs 3
tensor frozen/last.safetensors word.embed.table >one
tensor frozen3/last.safetensors word.embed.table >three
[ "$(wc -c <one)" = 48 ] && same one three 'frozen parameters changed'
tensor frozen/last.safetensors trunk.dense.w >one
tensor frozen3/last.safetensors trunk.dense.w >three
other one three 'the others did not change'
tensor frozen/last.safetensors adamw.m.word.embed.table >one
[ ! -s one ] && ok || bad 'frozen parameters have an optimizer state'
cat >bare.op <<'OP'
optimizer bare(p, g, lr, step) { p := p - lr * g }
test bare()
OP
cat >groups.yaml <<'YAML'
ops: [bare.op]
data: {tables: {t: rows.csv}}
inputs: {a: {type: number}}
targets: {y: {type: number}}
network: {out: 'dense(a, 1)'}
losses: {y: {of: out, loss: mse}}
train: {optimizer: bare(lr=1e-2), groups: [{params: out.*, lr: 0.5}]}
YAML
run 'an optimizer that knows no groups' "$mmc" groups.yaml --check
sed -i 's/lr: 0.5/decay: 0/' groups.yaml
refused 'an option that the optimizer lacks' "groups.yaml:7:44: error: bare has no argument 'decays'; it has lr" -- "$mmc" groups.yaml --check

# ---- plateau ----

rest='batch: 16, optimizer: sgd(lr=0.3), early_stop: {on: val.z.roc_auc, patience: 0}'
model steep "$rest"
model plateau "$rest, plateau: {on: val.z.roc_auc, factor: 0.5, patience: 2, threshold: 0.001, cooldown: 1, floor: 0.1}"
train steep steep --epochs 25
train plateau plateau --epochs 25 --log plateau.json
says 'what is said' 'plateau of val.z.roc_auc: the learning rate is now 0.5 of its schedule'
# The rule, applied to what validation gave.
field() { sed -n "s/.*\"event\": \"epoch\".*\"$1\": \([-0-9.e]*\).*/\1/p" plateau.json; }
paste <(field val.z.roc_auc) <(field rate) | awk '
	BEGIN { rate = 1 }
	{
		better = NR == 1 || $1 > best * 1.001; if (better) best = $1
		if (better || cool > 0) bad = 0; else bad++
		if (cool > 0) cool--
		if (bad == 2) { bad = 0; cool = 1; cuts++; rate = rate / 2 < 0.1 ? 0.1 : rate / 2 }
		if (($2 - rate) ^ 2 > 1e-12) { print "epoch " NR ": rate " $2 ", not " rate; exit 1 }
	}
	END { exit NR != 25 || cuts < 4 }' >log && ok || bad 'the rate is not what the rule says'
first=$(field rate | grep -n -m 1 -v '^1\(\.0\)\?$' | cut -d: -f1) # epoch that lowers the rate; the next one feels it
head -n $((first * 20 + 1)) steep.csv >one
head -n $((first * 20 + 1)) plateau.csv | cmp -s - one && ok || bad 'the rate changed before the plateau'
head -n $((first * 20 + 3)) steep.csv | tail -n 1 >one
head -n $((first * 20 + 3)) plateau.csv | tail -n 1 >three
other one three 'the rate is not lower after the plateau'
# Stopped before a cut, one epoch without improvement behind; in the epoch after it, in the cooldown; and at the end of an epoch.
train plateau resumed --epochs 25 --max-steps $((first * 20 - 7))
train plateau resumed --epochs 25 --max-steps $((first * 20 + 7)) --resume
train plateau resumed --epochs 25 --max-steps $((first * 20 + 20)) --resume
train plateau resumed --epochs 25 --resume
same plateau/last.safetensors resumed/last.safetensors 'a resumed plateau'
same plateau.csv resumed.csv 'a resumed plateau'

total
