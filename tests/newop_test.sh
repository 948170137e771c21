#!/bin/bash
# One .op file more in the folder of the library is all that a new layer, loss, optimizer and schedule need: this one trains,
# its state goes through the checkpoint to inference, and it stands in the reference. Without `test` lines it fails the op test.
. "$(dirname "$0")/check.sh"

cp -r "$root/ops" "$tmp/ops"
cat >"$tmp/ops/mine.op" <<'OP'
## Softplus of a learned slope.
op ramp(x[.., c]) -> [.., c] {
  param slope[c] = ones
  state seen[c] = zeros
  if training { update seen = mix(seen, mean(x, ..), 0.5) }
  softplus(x * slope)
}

## In training x; in inference how many steps there were.
op steps(x[.., c]) -> [.., c] {
  state n[] = 0, again[] = 0, before[] = 0, three[] = 0
  if training { update n = n + 1, again = n + 1, before = n, three = 3;  x } else { 0 * x + n + (again - n) + (n - 1 - before) + (three - 3) }
}

## Pinball loss of the quantile q.
loss pinball(z[..], y[..], q = 0.5) { max(q * (y - z), (q - 1) * (y - z)) }

## Steps by the sign of the gradient.
optimizer signs(p, g, lr, step) { p := p - lr * sign(g) }

## Half the rate from half of the steps on.
schedule halved(step, total) { where(step < total / 2, 1, 0.5) }
OP
cd "$tmp" || exit 2
{
	echo 'a,b,y,n'
	for i in {0..39}; do echo "$((i % 7)),$((i * i % 11)),$((i % 7 * 3 - i * i % 11)),$((i % 2))"; done
} >table.csv
cat >model.yaml <<'M'
data: {tables: {t: table.csv}, rows: t, split: {train: 0.8, val: 0.1, test: 0.1, seed: 1}}
inputs: {a: {type: number, from: a, scale: zscore}, b: {type: number, from: b, scale: zscore}}
targets: {y: {type: number, from: y}, n: {type: number, from: n}}
network:
  h: concat(a, b) |> dense(8) |> batchnorm |> ramp
  score: dense(h, 1)
  count: a |> dense(1) |> steps
losses:
  y: {of: score, loss: pinball(q=0.4)}
  n: {of: count, loss: mse}
train: {epochs: 40, batch: 8, optimizer: signs(lr=0.02), schedule: halved, seed: 2}
M
if "$mmc" model.yaml --ops ops --target cpu -o plan.bin >log 2>&1; then ok; else bad 'a model with new definitions does not compile'; fi
if "$mmrun" train plan.bin -o run --device cpu --threads 1 --max-steps 13 >log 2>&1; then ok; else bad 'it does not train'; fi

# what inference says of rows alone must not hang on the rows beside them, and the count is in the checkpoint
"$mmrun" predict plan.bin --run run --ckpt last --device cpu --in table.csv >all.csv 2>log || bad 'it does not predict'
"$mmrun" predict plan.bin --run run --ckpt last --device cpu --set a=3 b=9 --format csv >one.csv 2>log || bad 'it does not predict one row'
if grep -qxF -- "$(tail -n 1 one.csv)" all.csv; then
	ok
else
	cat one.csv all.csv >log
	bad 'a row alone and among others differ'
fi
if grep -q '\b13\b' one.csv; then ok; else cp one.csv log; bad 'the state after 13 steps is not what inference reads'; fi
if grep -qa '"h.ramp.seen"' run/last.safetensors && grep -qa '"h.batchnorm.running_var"' run/last.safetensors; then ok; else bad 'states are not in the checkpoint'; fi

# named by the model, the file is as good as in the folder
mkdir by && cp table.csv by && { echo 'ops: [../ops/mine.op]'; cat model.yaml; } >by/model.yaml
"$mmc" by/model.yaml --ops "$root/ops" --target cpu -o named.bin >log 2>&1 || bad 'a model that names the file does not compile'
"$mmrun" train named.bin -o named --device cpu --threads 1 --max-steps 13 >log 2>&1 || bad 'it does not train so'
if cmp -s run/last.safetensors named/last.safetensors; then ok; else bad 'named by the model it trains otherwise'; fi

# more steps learn more
"$mmrun" train plan.bin -o long --device cpu --threads 1 >log 2>&1 || bad 'a longer run'
loss() { "$mmrun" eval plan.bin --ckpt "$1/last.safetensors" --device cpu 2>log | awk '$1 == "y.mae" { print $NF; exit }'; }
short=$(loss run) long=$(loss long)
if awk -v a="$short" -v b="$long" 'BEGIN { exit !(b != "" && b < 0.7 * a) }'; then ok; else bad "mean absolute error $short after 13 steps, $long after all"; fi

# a name of the file is in the reference, and in suggestions
if "$mmc" --ops ops --help-ops 2>log | grep -qF '`pinball(z[..], y[..], q = 0.5)` Pinball loss'; then ok; else bad 'it is not in --help-ops'; fi
sed 's/|> ramp/|> rampp/' model.yaml >typo.yaml
"$mmc" typo.yaml --ops ops --check >log 2>&1
if grep -q "did you mean 'ramp'" log; then ok; else bad 'a typo finds it'; fi

# untested definitions fail the op test; with test lines they pass it
op_test() { (cd "$root" && "$build/tests/op_test" cpu "$tmp/$1") >log 2>&1; }
cp ops/mine.op untested.op
if ! op_test untested.op && [ "$(grep -c 'has no test' log)" -eq 5 ]; then ok; else bad 'definitions without tests pass'; fi
{ cat ops/mine.op; printf 'test ramp(steps(randn[5, 3]))\ntest pinball(randn[6], randn[6])\ntest signs()\ntest halved()\n'; } >tested.op
if op_test tested.op; then ok; else bad 'definitions with tests fail'; fi

total
