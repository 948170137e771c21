#!/bin/bash
# Posts with frames and sound (mmrun synth --media), through tests/models/media.yaml: what was planted in them is found; predict,
# eval, resume and the cache of columns work with them; files that are missing, damaged or of another shape are named.
# With MMC_TEST_LONG set, models/engagement_full.yaml as it is, too (time limit: 5400 s); with MMC_TEST_LONG=cuda that alone, on a GPU,
# where no C compiler is needed. $MMC and $MMRUN are the programs.
. "$(dirname "$0")/check.sh"
cd "$tmp" || exit 2

train() { "$mmrun" train "$@" --device cpu --threads 1 --cache columns; }
# plan NAME [SED]: tests/models/media.yaml so changed, compiled.
plan() {
	sed "${2:-}" "$root/tests/models/media.yaml" >"$1.yaml"
	"$mmc" "$1.yaml" --target cpu -o "$1.bin" >log 2>&1 || bad "$1.yaml does not compile"
}

# planted: the best R2, and what of it the frames and the sound are worth, as the log of synth has them
planted() {
	best=$(sed -n 's/^  engagement  R2 \([0-9.]*\).*/\1/p' "$1") worth=$(sed -n 's/.*so they are worth \([0-9.]*\)$/\1/p' "$1")
	holds 'what synth plants' "$best > 0.8 && $worth > 0.15 && $worth < 0.3"
}
# finds NAME: of two runs NAME and NAME-blind
finds() {
	local with without
	with=$(metric "$1/metrics.json" test engagement.r2) without=$(metric "$1-blind/metrics.json" test engagement.r2)
	holds "R2 $with with media, $without without, of $worth planted" "$with < $best && $without > 0.2 && $with - $without > $2 * $worth"
}

# The model of the benchmarks, as it is, on device $1.
long() {
	local m
	mkdir -p models/data
	"$mmrun" synth -o models/data/media --posts 8000 --users 1000 --media >log 2>&1 && planted log
	cp "$root/models/engagement_full.yaml" models/full.yaml
	sed 's/concat(embed(song, 64), heard)/embed(song, 64)/; s/concat(seen, length)/length/' models/full.yaml >models/full-blind.yaml
	! cmp -s models/full.yaml models/full-blind.yaml && ok || bad 'the model without media is the one with'
	for m in full full-blind; do
		run "$m" "$mmc" models/$m.yaml --target "$1" --batch 128 -o $m.bin
		run "training $m" "$mmrun" train $m.bin -o $m --device "$1" --epochs 8
	done
	finds full 0.6
	sed -n 's/^/  /; /"engagement.r2"/p' full/metrics.json full-blind/metrics.json
}
if [ "${MMC_TEST_LONG:-}" = cuda ]; then
	long cuda
	total
fi

# ---- the planted signal ----

run 'synthetic media' "$mmrun" synth -o data --posts 6000 --users 800 --media --frames 2 --pixels 16 --places 16
planted log
plan media
plan media-blind 's/, seen, sound)/)/'
run 'training with media' train media.bin -o media
run 'training without' train media-blind.bin -o media-blind
finds media 0.65

# ---- eval, predict, resume, the cache ----

run eval "$mmrun" eval media.bin -o media --json
says 'eval' "$(metric media/metrics.json test engagement.r2)"
head -n 30 data/Posts.csv >few.csv # whole records: the quotes of each are closed
while [ $(($(tr -cd '"' <few.csv | wc -c) % 2)) = 1 ]; do sed -i '$d' few.csv; done
run predict "$mmrun" predict media.bin --run media --in few.csv -o predicted.csv
id=$(sed -n 2p few.csv | cut -d, -f1)
want=$(sed -n "s/^$id,//p" predicted.csv)
user=$(sed -n 2p few.csv | cut -d, -f2)
run 'a typed row' "$mmrun" predict media.bin --run media --set "Post ID=$id" "Username=$user" --format csv -o typed.csv
# one row and many are two programs, which may add in another order
paste -d, <(tail -n 1 typed.csv | cut -d, -f2-) <(echo "$want") | awk -F, '{ for (i = 1; i <= NF / 2; i++) { d = $i - $(i + NF / 2); if (d * d > 1e-11 * (1 + $i * $i)) exit 1 } exit NF < 2 }' &&
	ok || bad "a typed row is predicted as $(tail -n 1 typed.csv), not $want"
run 'a post without files' "$mmrun" predict media.bin --run media --set 'Post ID=1' "Username=$user" --format csv -o typed.csv
[ "$(tail -n 1 typed.csv | cut -d, -f2-)" != "$want" ] && ok || bad 'a post without files is predicted as one with them'
run 'files elsewhere' "$mmrun" predict media.bin --run media --in few.csv --table frames=data/frames -o again.csv
cmp -s predicted.csv again.csv && ok || bad 'another path to the same files gives other predictions'
run 'a part of a run' train media.bin -o part --max-steps 77
run 'its rest' train media.bin -o part --resume
cmp -s media/last.safetensors part/last.safetensors && ok || bad 'a resumed run differs'
[ "$(ls columns | wc -l)" = 1 ] && ok || bad "$(ls columns | wc -l) files of columns, not one for the same inputs"
cp -r data/frames changed
printf '\377' | dd of="changed/$id.npy" bs=1 seek=200 conv=notrunc status=none
run 'a changed pixel' train media.bin -o changed-run --max-steps 1 --table frames=changed
[ "$(ls columns | wc -l)" = 2 ] && ok || bad 'a changed pixel: the columns of before are used'
run 'a resumed run with the same pixel changed' train media.bin -o changed-run --resume --max-steps 2 --table frames=changed
cp changed-run/last.safetensors last
refused 'a resumed run without the changed pixel' 'last.safetensors: trained on other data: there are as many rows' -- train media.bin -o changed-run --resume
same changed-run/last.safetensors last 'a refused resume changed the checkpoint'

# ---- files that are missing, and that cannot be read ----

mkdir few && cp -r data/frames few/frames
cut -d, -f1 few.csv | sed 1d | grep -E '^[0-9]{19}$' | while read -r i; do [ "$(grep -c "^$i," data/Posts.csv)" != 1 ] || echo "$i"; done >ids
mapfile -t id <ids
broken=few/frames/${id[1]}.npy
damage() { cp "data/frames/${id[1]}.npy" "$broken"; "$@"; }
refuse_frames() { refused "$@" 'media.yaml:' 'input frames: Posts.csv:' "$broken" '`damaged: missing` under table frames' -- train media.bin -o no --table frames=few/frames; }
rm "few/frames/${id[0]}.npy"
run 'a post without frames' train media.bin -o few --table frames=few/frames --max-steps 1 --report report
says 'a post without frames' '1 rows have none: zeros (Posts.csv:' report
says 'a post without frames' "1 rows of posts have no match: columns of the other are missing (Posts.csv:" report
damage truncate -s 700 "$broken" && refuse_frames 'frames cut off' 'cut off: it has 700 bytes, and its header promises'
damage truncate -s 40 "$broken" && refuse_frames 'a header cut off' 'cut off'
damage sed -i 's/(2, 16, 16, 3)/(2, 16, 3, 16)/' "$broken" && refuse_frames 'frames of another shape' 'an array [2, 16, 3, 16], the table says shape: [2, 16, 16, 3]'
damage sed -i 's/|u1/<i2/' "$broken" && refuse_frames 'frames of another type' 'its elements are int16, the table says dtype: uint8'
damage cp ids "$broken" && refuse_frames 'no array' 'not a NumPy array'
damage chmod 0 "$broken"
[ -r "$broken" ] || refuse_frames 'no permission' 'Permission denied'
damage rm "$broken" && mkdir "$broken"
run 'a folder of the name of a file is none' train media.bin -o few --table frames=few/frames --max-steps 1 --report report
says 'a folder of the name of a file' '2 rows have none: zeros' report
rmdir "$broken"

plan zero 's/shape: \[2, 16, 16, 3\]}$/shape: [2, 16, 16, 3], damaged: missing}/'
plan drop 's/shape: \[2, 16, 16, 3\]}$/shape: [2, 16, 16, 3], damaged: missing}/; s/dtype: uint8, scale: unit/&, missing: drop/'
damage truncate -s 700 "$broken"
run 'damaged files as missing' train zero.bin -o few --table frames=few/frames --max-steps 1 --report report
says 'damaged: missing' '1 files cannot be read: they count as missing' report
says 'damaged: missing' "      few/frames/${id[1]}.npy: cut off" report
says 'damaged: missing' '2 rows have none: zeros (Posts.csv:' report
run 'rows without them dropped' train drop.bin -o few --table frames=few/frames --max-steps 1 --report report
says 'missing: drop' '2 rows dropped: input frames has no value (Posts.csv:' report
run 'rows without them predicted' "$mmrun" predict drop.bin --ckpt few/last.safetensors --in few.csv --table frames=few/frames -o predicted2.csv
[ "$(wc -l <predicted.csv)" = "$(wc -l <predicted2.csv)" ] && ok || bad 'a row to be predicted is dropped'
mkdir empty other
refused 'an empty folder' 'empty: this folder is empty' -- train media.bin -o no --table frames=empty
cp ids other/none.txt
refused 'a folder without arrays' 'other: this folder has no files of the kind (.npy' -- train media.bin -o no --table frames=other
cp "data/frames/${id[0]}.npy" other/none.npy
refused 'files of other names' 'no row of posts matches a row of frames' "'none'" -- train media.bin -o no --table frames=other
plan sizes 's/frames: {type: arrays, path: data.frames, shape: \[2, 16/frames: {type: arrays, path: data\/frames, shape: [4, 8/; s/array, shape: \[2, 16/array, shape: [4, 8/'
refused 'all files of another shape' 'an array [2, 16, 16, 3], the table says shape: [4, 8, 16, 3]' -- train sizes.bin -o no
plan input 's/array, shape: \[2, 16/array, shape: [4, 8/'
refused 'an input of another shape' 'input frames: a row of column array of table frames is [2, 16, 16, 3], the model says shape: [4, 8, 16, 3]' -- train input.bin -o no
[ ! -e no ] && ok || bad 'a refused run left its folder'

if [ -n "${MMC_TEST_LONG:-}" ]; then long cpu; else skipped=$((skipped + 1)); fi
total
