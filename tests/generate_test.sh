#!/bin/bash
# mmrun generate, on small models trained here: a model with a program of one place at a time (decode) writes, at temperature 0, the text that
# it writes by whole windows (mmc -x decode), past the window, too; one without writes by windows, and mmc --explain says why. Bytes come
# as they are drawn. $MMC and $MMRUN are the programs, $MMC_DEVICE the device (cpu). The probabilities are compared in decode_test.c.
. "$(dirname "$0")/check.sh"
cd "$tmp" || exit 2

# text PLAN RUN OPTION..: what it writes at temperature 0
text() { local plan=$1 of=$2; shift 2; "$mmrun" generate "$plan.bin" --run "$of" --ckpt last --device "$device" --temperature 0 "$@"; }

for ((i = 0; i < 60; i++)); do
	echo "line $i: the quick brown fox jumps over $((i * 37 % 100)) lazy dogs, and then it rests"
done >book

# model NAME HIDDEN: NAME.bin, of windows NAME_w.bin, explained in NAME.txt, trained into NAME
model() {
	cat >"$1.yaml" <<-YAML
	data: {tables: {book: {type: bytes, path: book}}, split: {train: 0.9, val: 0.1, test: 0}}
	inputs: {text: {type: sequence, length: 16}}
	targets: {next: {type: next}}
	network:
	  hidden: $2
	  logits: hidden |> dense(256)
	losses: {next: {of: logits, loss: cross_entropy}}
	train: {epochs: 10, batch: 4, optimizer: adam(lr=1e-2)}
	YAML
	run "$1 compiles" "$mmc" "$1.yaml" --target "$device" -o "$1.bin" --explain
	sed -n '/^decode:$/,/, batch .*:$/p' log >"$1.txt"
	run "$1 compiles without decode" "$mmc" "$1.yaml" --target "$device" -x decode -o "$1_w.bin"
	run "$1 trains" "$mmrun" train "$1.bin" -o "$1" --device "$device"
}

# same_text NAME: 60 bytes are the same by places and by windows, and not always the same byte; past the window of 16 three times and more
same_text() {
	local a b
	grep -q ' decode ' <("$mmc" "$1.yaml" --target "$device" --mem --check) && ok || bad "$1 has no program decode"
	for prompt in 'the ' '' 'line 12: the quick brown fox' 'jumps over 16 by'; do
		a=$(text "$1" "$1" --prompt "$prompt" --length 60 2>log) && b=$(text "${1}_w" "$1" --prompt "$prompt" --length 60 2>log) || bad "$1 generates"
		[ "$a" = "$b" ] && ok || bad "$1, after '$prompt', by places: '$a', by windows: '$b'"
		[ "$(fold -w 1 <<<"${a#"$prompt"}" | sort -u | wc -l)" -gt 3 ] && ok || bad "$1, after '$prompt', writes '$a'"
	done
}

model learned 'embed(text, 16) |> positions |> repeat(2, transformer(heads=2, hidden=32, causal=true)) |> layernorm'
model rotary 'embed(text, 16) |> transformer(heads=2, hidden=32, causal=true, rotary=true) |> layernorm'
model lstm 'embed(text, 16) |> lstm(24)'
model conv 'embed(text, 16) |> pad(t, 3, 0) |> conv1d(24, 4) |> gelu'
for m in learned rotary lstm conv; do same_text $m; done
[ "$(grep -c 'kept from place to place' learned.txt)" = 4 ] && ok || bad 'it is not explained what is kept'

# 17 bytes are one more than a window: of the first 16 the last 8 stay
a=$(text learned learned --prompt 'line 12: the quic' --length 7) b=$(text learned learned --prompt ' the quic' --length 7)
[ "$a" = "line 12:$b" ] && ok || bad "past the window: '$a', from its last half: '$b'"

model both 'embed(text, 16) |> positions |> transformer(heads=2, hidden=32) |> layernorm'
grep -q 'reduce_max: takes in later places: no program for one place at a time, so generate computes a whole window for each byte' both.txt && ok ||
	bad "it is not explained why there is no program: $(cat both.txt)"
run 'a model that looks both ways generates' text both both --prompt 'the ' --length 20
[ "$(wc -c <log)" = 25 ] && ok || bad '24 bytes and a newline'

# In time: it would write for hours.
first=$(timeout 60 "$mmrun" generate learned.bin --run learned --device "$device" --prompt 'the ' --length 1000000000 2>log | head -c 40)
[ "${#first}" = 40 ] && ok || bad "the first bytes: '$first'"

total
