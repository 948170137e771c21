#!/bin/bash
# Models on tensors, classes, sequences and labels, on data made here: mmc, then mmrun train, eval, predict, generate. They must learn
# what was planted, and a resumed run must equal the uninterrupted one.
. "$(dirname "$0")/check.sh"
cd "$tmp" || exit 2

byte() { printf "\\x$(printf %02x "$1")"; }
be32() { byte 0; byte 0; byte $(($1 >> 8)); byte $(($1 & 255)); }

# N images of 4 x 4 with a bright row, whose number is the class; the map of labels says where it is bright.
make_images() {
	local n=$1 name=$2 i r y x v img= lab= map=
	for ((i = 0; i < n; i++)); do
		r=$((RANDOM % 4))
		for ((y = 0; y < 4; y++)); do for ((x = 0; x < 4; x++)); do
			v=$((RANDOM % 100 + (y == r ? 150 : 0)))
			img+=$(printf '\\x%02x' $v)
			map+=$(printf '\\x%02x' $((x == 3 ? 9 : y == r)))
		done; done
		lab+=$(printf '\\x%02x' $r)
	done
	{ byte 0; byte 0; byte 8; byte 3; be32 "$n"; be32 4; be32 4; printf "$img"; } | gzip >"$name-images.gz"
	{ byte 0; byte 0; byte 8; byte 1; be32 "$n"; printf "$lab"; } | gzip >"$name-labels.gz"
	printf "$map" >"$name-map"
}
RANDOM=7
make_images 160 train
make_images 40 test

tables() {
	cat <<-'YAML'
	data:
	  tables:
	    t:
	      type: idx
	      path: {image: train-images.gz, label: train-labels.gz}
	      test: {image: test-images.gz, label: test-labels.gz}
	  split: {val: 0.2}
	inputs:
	  image: {type: image, shape: [4, 4, 1], scale: zscore}
	YAML
}

# ---- classes ----

{
	tables
	cat <<-'YAML'
	targets:
	  row: {type: class, from: label, classes: 4}
	network:
	  logits: merge(image, c=(y, x, c)) |> dense(16) |> relu |> dense(4)
	losses:
	  row: {of: logits, loss: cross_entropy}
	  small: {of: 'sum(square(logits), c)', weight: 0.0001}
	train: {epochs: 30, batch: 16, optimizer: adam(lr=1e-2), early_stop: {on: val.row.f1, patience: 0}}
	YAML
} >class.yaml
run 'a model of classes' "$mmc" class.yaml --target cpu -o class.bin
run 'training classes' "$mmrun" train class.bin -o class --device cpu
holds 'accuracy of classes' "$(metric class/metrics.json test row.accuracy) > 0.95"
holds 'a penalty' "$(metric class/metrics.json test small.loss) > 0"
grep -q '^confusion of row (test' log && ok || bad 'no confusion matrix'
run 'eval of classes' "$mmrun" eval class.bin -o class
grep -q 'row.top5 *1$' log && ok || bad 'top5 of four classes is not 1'
run 'predicting classes' "$mmrun" predict class.bin --run class --in test-images.gz -o p.csv
[ "$(head -n 1 p.csv)" = key,row_probability,row ] && [ "$(wc -l <p.csv)" = 41 ] && ok || bad 'predictions of classes'
zcat test-labels.gz | tail -c +9 | od -An -v -tu1 -w1 | tr -d ' ' >want
tail -n +2 p.csv | cut -d, -f3 | paste - want | awk '$1 == $2 { n++ } END { exit n < 38 }' && ok || bad 'predictions are not the rows that are bright'

# ---- pictures out, and labels ----

{
	tables
	cat <<-'YAML'
	targets:
	  copy: {type: image, from: image, shape: [4, 4, 1], scale: unit}
	network:
	  logits: 'merge(image, c=(y, x, c)) |> dense(16) |> split(c=(y: 4, x: 4, c))'
	  darker: 0.5 * sigmoid(logits)
	losses:
	  copy: {of: logits, loss: bce, predict: sigmoid(logits)}
	outputs: [darker]
	train: {epochs: 20, batch: 16, optimizer: adam(lr=1e-2), early_stop: {on: val.copy.mse, patience: 0}}
	YAML
} >copy.yaml
run 'a model of pictures' "$mmc" copy.yaml --target cpu -o copy.bin
run 'training pictures' "$mmrun" train copy.bin -o copy --device cpu
holds 'error of pictures' "$(metric copy/metrics.json test copy.mse) < 0.01"
run 'a page of pictures' "$mmrun" predict copy.bin --run copy --in test-images.gz --png page.png
head -c 8 page.png | od -An -tx1 | grep -q '89 50 4e 47' && ok || bad 'page.png is no PNG'
"$mmrun" predict copy.bin --run copy --in test-images.gz >log 2>&1
[ $? = 2 ] && grep -q 'give --png FILE' log && ok || bad 'predicting pictures without --png'

cat >labels.yaml <<'YAML'
data:
  tables:
    t: {type: raw, path: {image: image, map: train-map}, shape: {image: [4, 4], map: [4, 4]}}
  split: {val: 0.1, train: 0.8, test: 0.1}
inputs:
  image: {type: image, shape: [4, 4, 1], scale: unit}
targets:
  map: {type: labels, shape: [4, 4], classes: 2}
network:
  logits: image |> dense(8) |> relu |> dense(2)
losses:
  map: {of: logits, loss: cross_entropy}
train: {epochs: 12, batch: 16, optimizer: adam(lr=2e-2), early_stop: {on: val.map.boundary_f1, patience: 0}}
YAML
zcat train-images.gz | tail -c +17 >image
run 'a model of labels' "$mmc" labels.yaml --target cpu -o labels.bin
"$mmrun" train labels.bin -o labels --device cpu >log 2>&1
[ $? = 2 ] && grep -q 'label 9 at place 3 of row train-map:0\|label 9 at place 3 of row image:0' log && ok || bad 'a label that is no class'
tr '\011' '\0' <train-map >map0 # where x is 3 all is class 0
sed -i 's/train-map/map0/' labels.yaml
run 'a model of labels' "$mmc" labels.yaml --target cpu -o labels.bin
run 'training labels' "$mmrun" train labels.bin -o labels --device cpu
holds 'mean intersection over union' "$(metric labels/metrics.json test map.miou) > 0.6"
holds 'boundaries' "$(metric labels/metrics.json test map.boundary_f1) > 0.6"

# ---- next bytes ----

for ((i = 0; i < 300; i++)); do printf 'abcdefgh'; done >book
cat >next.yaml <<'YAML'
data:
  tables: {book: {type: bytes, path: book}}
  split: {train: 0.8, val: 0.2, test: 0}
inputs:
  text: {type: sequence, length: 8}
targets:
  next: {type: next}
network:
  logits: embed(text, 16) |> dense(256)
losses:
  next: {of: logits, loss: cross_entropy}
train: {epochs: 12, batch: 16, optimizer: adam(lr=2e-2), early_stop: {on: val.next.bits_per_byte, patience: 0}}
YAML
run 'a model of bytes' "$mmc" next.yaml --target cpu -o next.bin
run 'training bytes' "$mmrun" train next.bin -o next --device cpu
holds 'bits a byte' "$(metric next/metrics.json val next.bits_per_byte) < 0.1"
run 'generating' "$mmrun" generate next.bin --run next --prompt abc --length 13 --temperature 0
[ "$(cat log)" = abcdefghabcdefgh ] && ok || bad "generated $(cat log)"
# the same of ids, as a language model of words has them; the first train, the last validate
for ((i = 0; i < 300; i++)); do for k in 1 300 7 999; do byte $((k & 255)); byte $((k >> 8)); done; done >ids.bin
sed -e 's/book: {type: bytes, path: book}/words: {type: ids16, path: ids.bin}/; s/length: 8/length: 8, size: 1000/' \
	-e 's/embed(text, 16) |> dense(256)/embed(text, 32) |> positions |> transformer(heads=2, hidden=64, causal=true) |> dense(1000)/; s/bits_per_byte/perplexity/' next.yaml >words.yaml
run 'a model of ids' "$mmc" words.yaml --target cpu -o words.bin
run 'training ids' "$mmrun" train words.bin -o words --device cpu
holds 'perplexity of ids' "$(metric words/metrics.json val next.perplexity) < 1.1"
refused 'generating ids' 'text is generated by models of bytes, and input text has 1000 ids' -- "$mmrun" generate words.bin --run words
run 'fewer ids than the file has' "$mmc" <(sed 's/size: 1000/size: 999/; s/dense(1000)/dense(999)/; s|ids.bin|'"$PWD"'/&|' words.yaml) --target cpu -o less.bin
refused 'fewer ids than the file has' 'ids.bin: id 3 is 999, and the input says size: 999' -- "$mmrun" train less.bin -o less --device cpu
run 'a part of a run' "$mmrun" train next.bin -o again --device cpu --max-steps 77
run 'its rest' "$mmrun" train next.bin -o again --device cpu --resume
cmp -s next/last.safetensors again/last.safetensors && cmp -s next/metrics.json again/metrics.json && ok || bad 'a resumed run on windows at random places differs'

# Training rows are one letter, those of validation another: a window that reached over would have a greater loss than the step before.
{ printf 'a%.0s' {1..128} && printf 'b%.0s' {1..65}; } >apart
sed 's/path: book/path: apart/; s/0\.8/0.667/; s/val: 0\.2/val: 0.333/; s/embed(text, 16) |> dense(256)/embed(text, 256)/; s/epochs: 12/epochs: 40/; s/batch: 16/batch: 4/; s/adam(lr=2e-2)/sgd(lr=10)/' next.yaml >apart.yaml
run 'a model of one letter' "$mmc" apart.yaml --target cpu -o apart.bin
run 'training on one letter' "$mmrun" train apart.bin -o apart-run --device cpu --loss-csv apart.csv
grep -q '^rows *train 16, val 8' log && ok || bad 'other rows than 16 of the first letter'
awk -F, 'NR > 2 && !($2 <= last) { exit 1 } { last = $2 } END { exit !(NR > 100 && last < 0.01) }' apart.csv && ok || bad 'a training window reaches bytes of validation'

# ---- folds ----

for ((i = 0; i < 60; i++)); do echo "good $RANDOM fine"; done >good
for ((i = 0; i < 60; i++)); do echo "bad $RANDOM awful"; done >bad
cat >folds.yaml <<'YAML'
data:
  tables: {t: {type: lines, path: {pos: good, neg: bad}}}
  split: {folds: 3, val: 0.1, stratify: label}
inputs:
  text: {type: text, tokens: 3, vocabulary: 50}
targets:
  label: {type: binary, from: label = 'pos'}
network:
  logit: mean(embed(text, 4), t) |> dense(1)
losses:
  label: {of: logit, loss: bce}
train: {epochs: 20, batch: 16, optimizer: adam(lr=3e-2)}
YAML
run 'a model in folds' "$mmc" folds.yaml --target cpu -o folds.bin
for k in 1 2 3; do
	run "fold $k" "$mmrun" train folds.bin -o "fold$k" --fold $k --device cpu --split-out "split$k"
	grep ',test$' "split$k" >>tested
	holds "accuracy of fold $k" "$(metric "fold$k/metrics.json" test label.accuracy) > 0.95"
done
[ "$(sort -u tested | wc -l)" = 120 ] && [ "$(wc -l <tested)" = 120 ] && ok || bad 'folds do not test each row once'
run 'a sentence by hand' "$mmrun" predict folds.bin --run fold1 --set 'text=a good fine day'
grep -q '^label *yes' log && ok || bad 'a sentence by hand'
run 'eval knows its fold' "$mmrun" eval folds.bin -o fold2
grep -q '^rows *40$' log && ok || bad 'eval of a fold'
"$mmrun" train folds.bin -o x --fold 4 --device cpu >log 2>&1
[ $? = 2 ] && grep -q 'fold 4 of 3 folds' log && ok || bad 'a fold that there is not'
"$mmrun" generate folds.bin --run fold1 >log 2>&1
[ $? = 2 ] && grep -q 'only input is of type sequence' log && ok || bad 'generating from a model of rows'

total
