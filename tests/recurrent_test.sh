#!/bin/bash
# models/engagement.yaml as it is, with each of the text encoders that its comments name, and with others, by one line: it compiles,
# and trains some steps on the sample. Losses fall, a second run gives the same bytes, and without fusion they are the same but for rounding.
# $MMC and $MMRUN are the programs.
. "$(dirname "$0")/check.sh"

# model LINE: $tmp/model.yaml, with the entry text replaced, or as it is.
model() {
	awk -v text="$1" '
		/^  text: / && text != "" { print "  " text; skip = 1; next }
		skip && /^    / { next }
		{ skip = 0; sub(/data\//, root "/models/data/"); print }' root="$root" "$root/models/engagement.yaml" >"$tmp/model.yaml"
}

# train NAME OPTION..: compiles with the options and trains 30 steps; the losses are in $tmp/NAME.csv.
train() {
	local name=$1
	shift
	"$mmc" "$tmp/model.yaml" --target cpu --batch 64 -o "$tmp/$name.bin" "$@" >"$tmp/log" 2>&1 &&
		"$mmrun" train "$tmp/$name.bin" -o "$tmp/$name" --device cpu --cache "$tmp/columns" --max-steps 30 --loss-csv "$tmp/$name.csv" >"$tmp/log" 2>&1
}

# Of the second column, the loss: the mean of the last ten is smaller than that of the first ten, and all are numbers.
falls() {
	awk -F, 'NR > 1 { if ($2 + 0 != $2 || $2 != $2) bad = 1; if (NR < 12) a += $2; if (NR > 21) b += $2 } END { exit !(NR == 31 && !bad && b < a * 0.95) }' "$1"
}

# The losses of two runs, within 1 in 1000.
close() {
	paste -d, "$1" "$2" | awk -F, 'NR > 1 { d = $2 - $(NF / 2 + 2); if (d < 0) d = -d; if (d > 1e-3 * $2) exit 1 }'
}

mapfile -t lines < <(sed -n 's/^  #   \(text: \)/\1/p' "$root/models/engagement.yaml")
for encoder in lstm gru; do
	if printf '%s\n' "${lines[@]}" | grep -q "|> $encoder("; then ok; else bad "models/engagement.yaml names no line with $encoder"; fi
done
for line in '' "${lines[@]}" 'text: embed(caption, 64) |> rnn(32, layers=2, bidirectional=true, dropout=0.1, mask=caption != 0) |> last(caption)'; do
	model "$line"
	what=${line:-as it is}
	if ! train run; then bad "$what does not train"; continue; fi
	if falls "$tmp/run.csv"; then ok; else bad "$what: the loss does not fall"; fi
	if "$mmc" "$tmp/model.yaml" --check --precision bf16 >"$tmp/log" 2>&1; then ok; else bad "$what: no plan in bf16"; fi
done
model 'text: embed(caption, 64) |> lstm(24, mask=caption != 0) |> last(caption)'
if train one && train two && cmp -s "$tmp/one.csv" "$tmp/two.csv"; then ok; else bad 'two runs of an lstm differ'; fi
if train unfused --no-fuse && close "$tmp/one.csv" "$tmp/unfused.csv"; then ok; else bad 'an lstm without fusion has other losses'; fi
if "$mmc" "$tmp/model.yaml" --check --graph "$tmp/model.svg" >"$tmp/log" 2>&1 && grep -q lstm "$tmp/model.svg"; then ok; else bad 'no lstm in the picture'; fi

total
