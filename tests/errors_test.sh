#!/bin/bash
# Bad input through mmc and mmrun: each must end with status 2 and a message that names the place and what to do, and leave
# nothing half-written. Usage: errors_test.sh [CHECK], the program of errors_check.c. $MMC and $MMRUN are the programs.
. "$(dirname "$0")/check.sh"
check=$(realpath "${1:-$build/tests/errors_check}") || exit 2
mounted=
trap '[ -z "$mounted" ] || umount "$mounted"; rm -rf "$tmp"' EXIT

bad() { failed=$((failed + 1)); echo "tests/errors_test.sh: $1"; grep -F 'error: ' "$tmp/log" || tail -n 5 "$tmp/log"; }

# nothing NAME PATH..: none of the paths exists, nor anything temporary beside them.
nothing() {
	local name=$1 p
	shift
	for p; do
		[ ! -e "$p" ] || { bad "$name: left $p"; return; }
		[ -z "$(find "$(dirname "$p")" -name '*tmp*' 2>/dev/null)" ] || { bad "$name: left a temporary file beside $p"; return; }
	done
	ok
}

# A model and its data of our own: 60 posts of 6 users, in the folder w.
mkdir "$tmp/w" && cd "$tmp/w" || exit 2
{
	echo id,user,views,text
	for i in {1..60}; do echo "$i,u$((i % 6)),$((i * i * 37 % 1009)),word$((i % 5)) other"; done
} >posts.csv
{
	echo user,fans
	for i in {0..5}; do echo "u$i,$((i * 100))"; done
} >users.csv
cat >../base.yaml <<'M'
data:
  tables: {posts: posts.csv, users: users.csv}
  rows: posts JOIN users USING (user)
  split: {train: 0.7, val: 0.2, test: 0.1, seed: 1}
inputs:
  text: {type: text, from: text, tokens: 4, hash: 16}
  fans: {type: number, from: fans, scale: zscore}
targets: {views: {type: number, from: views, scale: zscore}}
network: {score: "concat(embed(text, 4) |> mean(t), fans) |> dense(8) |> relu |> dense(1)"}
losses: {views: {of: score, loss: mse}}
train: {epochs: 3, batch: 8, optimizer: sgd(lr=0.05)}
M

# model NAME SED: that changed, as NAME.yaml.
model() { sed "$2" ../base.yaml >"$1.yaml"; }
# plan NAME [SED]: the same, compiled for the CPU.
plan() {
	model "$1" "${2:-}"
	"$mmc" "$1.yaml" --target cpu -o "$1.bin" >"$tmp/log" 2>&1 || bad "$1.yaml does not compile"
}
train() { "$mmrun" train "$@" --threads 1 --device cpu; }

plan m
if train m.bin -o run >"$tmp/log" 2>&1 && [ -s run/last.safetensors ]; then
	ok
else
	bad 'the model as it is cannot be trained'
	echo "$passed passed, $failed failed"
	exit 1
fi

# ---- the compiler ----

model key 's/epochs: 3/epoch: 3/'
refused 'unknown key' "key.yaml:11:9: error: unknown key 'epoch'" epochs -- "$mmc" key.yaml -o no.bin
model type 's/epochs: 3/epochs: three/'
refused 'wrong type' 'type.yaml:11:17: error: epochs: expected a whole number' "'three'" -- "$mmc" type.yaml -o no.bin
model axes 's/mean(t), fans)/transformer(heads=2, hidden=8, mask=fans[c = 0:1] != 0) |> mean(t), fans)/'
refused 'axis mismatch deep in the network' 'axes.yaml:9:' 'axis t of transformer is 4 in x, 1 in mask' -- "$mmc" axes.yaml -o no.bin
refused 'no such model' 'nowhere.yaml' 'No such file' -- "$mmc" nowhere.yaml -o no.bin
refused 'no library' 'nowhere: no folder of op definitions' MMC_OPS -- "$mmc" m.yaml --ops nowhere -o no.bin
nothing 'no plan of a model with errors' no.bin
cp m.bin kept.bin
refused 'an old plan' 'unknown key' -- "$mmc" key.yaml -o kept.bin
if cmp -s m.bin kept.bin; then ok; else bad 'the old plan changed'; fi
refused 'plan into a folder that is not there' 'nowhere/plan.bin' 'No such file' -- "$mmc" m.yaml -o nowhere/plan.bin
refused 'plan into a file as a folder' 'm.bin/plan.bin' 'Not a directory' -- "$mmc" m.yaml -o m.bin/plan.bin
nothing 'no plan there' nowhere/plan.bin
mkfifo pipe && { cat pipe >piped.bin & } # and so /dev/null, which root could replace by a file
"$mmc" m.yaml --target cpu -o pipe >"$tmp/log" 2>&1
if [ -p pipe ] && wait $! && cmp -s piped.bin m.bin; then ok; else kill $!; bad 'a plan into a pipe'; fi

# usage NAME WORDS.. -- COMMAND..: a wrong option: status 2 and the words
usage() {
	local name=$1 words=() w
	shift
	while [ "$1" != -- ]; do words+=("$1"); shift; done
	shift
	"$@" >"$tmp/log" 2>&1
	[ $? -eq 2 ] || { bad "$name: not status 2"; return; }
	for w in "${words[@]}"; do
		grep -qF -e "$w" "$tmp/log" || { bad "$name: no '$w' in the message"; return; }
	done
	ok
}
usage 'unknown option' "unknown option --batches; did you mean --batch?" -- "$mmc" m.yaml --batches 3 -o no.bin
usage 'batch of 0' "--batch needs a whole number from 1, not '0'" -- "$mmc" m.yaml --batch 0 -o no.bin
usage 'arch' "--arch is a list such as sm_80,sm_90, not 'sm_80;sm_90'" -- "$mmc" m.yaml --arch 'sm_80;sm_90' -o no.bin
usage 'pass to leave out' "-x: no pass that can be left out is called 'fuse'" -- "$mmc" m.yaml -x fuse -o no.bin
usage 'pass to print' "-d takes letters of passes, not 'z'" -- "$mmc" m.yaml -d lz -o no.bin
usage 'precision' "--precision is fp32, tf32 or bf16, not 'f16'" -- "$mmc" m.yaml --precision f16 -o no.bin
nothing 'no plan after a wrong option' no.bin

# ---- data ----

# data NAME OPTION WORDS..: training with another table is refused before anything is written.
data() {
	local name=$1 table=$2
	shift 2
	refused "$name" "$@" -- train m.bin -o no --table "$table"
	nothing "$name" no
}

cut -d, -f1,2,4 posts.csv >noviews.csv
data 'missing column' posts=noviews.csv 'm.yaml:8: target views' 'no such column: views' 'columns are'
data 'missing file on the command line' posts=nowhere.csv 'table posts of the command line: nowhere.csv' 'No such file' 'current folder'
plan gone 's/posts.csv/gone.csv/'
refused 'missing file' 'gone.yaml:2: table posts: ./gone.csv' 'No such file' 'folder of the model file' '--table posts=FILE' -- train gone.bin -o no
sed '20s/.*/"17"x,u1,3,a/' posts.csv >row.csv
data 'unreadable row' posts=row.csv 'row.csv:20: column 1 (id)' 'quote'
sed '20s/.*/17,u1,3,"a/' posts.csv >open.csv
data 'open quote' posts=open.csv 'open.csv:20' 'quote'
printf 'id,user,views,text\n1,u1,3,a\377b\n' >latin.csv
data 'not UTF-8' posts=latin.csv 'latin.csv:2' 'UTF-8'
: >empty.csv
data 'empty file' posts=empty.csv 'empty.csv' 'header'
# SQL NAME SED WORDS..: an error in the SQL of the model points at its line
sql() {
	local name=$1 change=$2
	shift 2
	plan sql "$change"
	refused "$name" "$@" -- train sql.bin -o no
	nothing "$name" no
}
sql 'SQL of rows' 's/USING (user)/USING (usr)/' 'sql.yaml:3: rows: SQL: ' 'column usr' 'in: posts JOIN users USING (usr)'
sql 'a table of rows' 's/rows: posts/rows: post/' 'sql.yaml:3: rows: SQL: no such table: post; did you mean posts?'
sql 'SQL of where' '3s/$/\n  where: vews > 3/' 'sql.yaml:4: where: SQL: no such column: vews; did you mean views?' 'in: vews > 3'
sql 'where that nothing satisfies' '3s/$/\n  where: views < 0/' 'sql.yaml:4: where: none of the 60 rows satisfies it'
sql 'SQL of the split' 's/split: {/split: {group: usr, /' 'sql.yaml:4: split group: SQL: no such column: usr; did you mean user?'
sql 'an expression that is not complete' 's/from: fans/from: "log(fans"/' 'sql.yaml:7: input fans: SQL: ' 'is a ) missing?' 'in: log(fans'
sql 'a power' 's/from: fans/from: fans ** 2/' 'sql.yaml:7: input fans: SQL: ' 'power(x, 2)'
sql 'a query for a value' 's/from: fans/from: SELECT fans FROM users/' 'sql.yaml:7: input fans: SQL: a value of each row is expected, not a query'
sql 'a query for rows' 's/rows: posts/rows: SELECT * FROM posts/' 'sql.yaml:3: rows: SQL: ' 'what stands behind FROM'
sql 'one value for all rows' 's/from: fans/from: sum(fans)/' 'sql.yaml:7: input fans: one value for all rows, and each row needs one: write sum(x) OVER ()' 'in: sum(fans)'
sql 'words for numbers' 's/from: fans/from: text/' "sql.yaml:7: input fans: none of its values is a number: the first is 'word1 other' (posts.csv:2)"
sql 'words for a target' 's/from: views/from: text/' 'sql.yaml:8: target views: no row is left: 60 of 60 rows have no value here' "the first that is no number is 'word1 other'"
sql 'a function' 's/from: fans/from: to_numbr(fans)/' 'sql.yaml:7: input fans: SQL: no such function: to_numbr; did you mean to_number?'
sql 'SQL of an input' 's/from: fans/from: fans +/' 'sql.yaml:7: input fans: SQL: '
printf 'user,fans\nzz,1\n' >strangers.csv
data 'join without matches' users=strangers.csv 'm.yaml:3: rows: no row of posts matches a row of users' "'zz'" 'same values'
head -1 posts.csv >header.csv
data 'no rows' posts=header.csv 'm.yaml:' 'rows'
sed '2,$s/,[0-9]*,word/,7,word/' posts.csv >same.csv
data 'target constant' posts=same.csv 'm.yaml:8: target views' '7' 'nothing to learn'
head -9 posts.csv >few.csv
data 'batch larger than the split' posts=few.csv 'm.bin: the batch of 8 is larger' 'mmc --batch'
plan none 's/train: 0.7, val: 0.2, test: 0.1/group: user, train: 0.1, val: 0.1, test: 0.8/'
head -3 posts.csv >two.csv
refused 'empty training split' 'none.' 'training' -- train none.bin -o no --table posts=two.csv
nothing 'empty training split' no
refused 'no such table' '--table psts: the model has no table of that name' 'posts' -- train m.bin -o no --table psts=posts.csv
plan stop 's/batch: 8/batch: 8, early_stop: {on: val.views.r2}/'
if train stop.bin -o stop >"$tmp/log" 2>&1; then ok; else bad 'early stopping'; fi

# ---- plans ----

if "$check" m.bin >"$tmp/log" 2>&1; then ok; else bad 'damaged plans'; fi
size=$(stat -c %s m.bin)
wrong=0
for ((i = 0; i < 100; i++)); do
	at=$((i < 40 ? i : (i - 40) * (size - 1) / 59))
	cp m.bin d.bin
	byte=$(od -An -tu1 -j $at -N 1 m.bin)
	printf "\\x$(printf %02x $(((byte + 1 + i) % 256 == byte ? byte ^ 1 : (byte + 1 + i) % 256)))" | dd of=d.bin bs=1 seek=$at conv=notrunc status=none
	"$mmrun" inspect d.bin >"$tmp/log" 2>&1
	[ $? -eq 2 ] && [ "$(grep -c '^mmrun: error: d.bin: ' "$tmp/log")" -eq 1 ] || { wrong=$((wrong + 1)); echo "byte $at changed: not refused as it should be"; }
done
if [ $wrong -eq 0 ]; then ok; else bad "$wrong of 100 plans with one byte changed"; fi
wrong=0
for ((i = 0; i < 40; i++)); do
	head -c $((i < 20 ? i * 4 : (i - 20) * size / 20)) m.bin >d.bin
	"$mmrun" inspect d.bin >"$tmp/log" 2>&1
	[ $? -eq 2 ] && grep -q '^mmrun: error: d.bin: ' "$tmp/log" || { wrong=$((wrong + 1)); echo "cut to $(stat -c %s d.bin) bytes: not refused as it should be"; }
done
if [ $wrong -eq 0 ]; then ok; else bad "$wrong of 40 plans cut off"; fi
cp m.bin d.bin && printf '\x63' | dd of=d.bin bs=1 seek=8 conv=notrunc status=none
refused 'plan of another version' 'd.bin: plan was written by format version' 'compile the model again' -- "$mmrun" inspect d.bin
refused 'training with it' 'format version' -- train d.bin -o no
refused 'a model as a plan' 'm.yaml: not a plan' 'mmc' -- train m.yaml -o no
refused 'no plan' 'nowhere.bin' 'No such file' -- train nowhere.bin -o no
nothing 'a bad plan' no

# ---- checkpoints ----

plan wide 's/dense(8)/dense(9)/'
refused 'checkpoint of another model' 'run/last.safetensors: checkpoint of another model' 'f32[5, 8]' 'f32[5, 9]' 'train anew' -- \
	"$mmrun" eval wide.bin --ckpt run/last.safetensors
cp -r run other
refused 'resume of another model' 'checkpoint of another model' -- train wide.bin -o other --resume
if cmp -s run/last.safetensors other/last.safetensors; then ok; else bad 'a refused resume changed the checkpoint'; fi
plan scaled 's/from: fans, scale: zscore/from: fans + 1, scale: zscore/'
refused 'checkpoint of other inputs' 'checkpoint of another model' 'inputs' -- "$mmrun" eval scaled.bin --ckpt run/last.safetensors
head -50 posts.csv >most.csv
refused 'resume with other data' 'run/last.safetensors: trained on other data' -- train m.bin -o run --resume --table posts=most.csv
refused 'no checkpoint' 'nowhere/best.safetensors' 'No such file' 'train first (mmrun train m.bin)' -- "$mmrun" eval m.bin -o nowhere
if train m.bin -o begun --max-steps 2 >"$tmp/log" 2>&1; then ok; else bad 'two steps'; fi
refused 'no best checkpoint yet' 'begun/best.safetensors: the run has no best checkpoint' '--ckpt last' -- "$mmrun" eval m.bin -o begun
head -c 1000 run/last.safetensors >cut.safetensors
refused 'checkpoint cut off' 'cut.safetensors' 'cut off' -- "$mmrun" eval m.bin --ckpt cut.safetensors
refused 'not a checkpoint' 'posts.csv' 'safetensors' -- "$mmrun" eval m.bin --ckpt posts.csv

# ---- where a run is written ----

refused 'a file as the folder of a run' 'posts.csv/run' 'Not a directory' 'name another folder with --out' -- train m.bin -o posts.csv/run
for o in --log --loss-csv; do
	refused "$o into a folder that is not there" "$o nowhere/x: cannot write: No such file" 'a folder that is there' -- train m.bin -o no $o nowhere/x
	nothing "$o into a folder that is not there" no nowhere
done
refused 'a report that cannot be written' 'nowhere/x: cannot write' -- train m.bin -o no --report nowhere/x
refused 'predictions that cannot be written' 'nowhere/x: cannot write' -- "$mmrun" predict m.bin --run run --in posts.csv -o nowhere/x
refused 'rows to predict that are not there' 'table posts of the command line: nowhere.csv' 'No such file' -- "$mmrun" predict m.bin --run run --in nowhere.csv
mkdir locked && chmod 555 locked
cp m.yaml locked/none.yaml && chmod 755 "$tmp" "$tmp/w"
as=()
if [ "$(id -u)" -eq 0 ]; then # to root nothing is forbidden: as nobody
	as=(setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/nonexistent TMPDIR=/tmp XDG_CACHE_HOME= MMC_CACHE=)
fi
if "${as[@]}" test -x "$mmrun" && "${as[@]}" test -x "$mmc" && "${as[@]}" test -r "$MMC_OPS/math.op"; then
	refused 'no write permission for a run' 'locked/run: cannot make this folder: Permission denied' 'name another folder with --out' -- \
		"${as[@]}" "$mmrun" train m.bin -o locked/run --device cpu
	refused 'no write permission for a plan' 'locked/plan.bin: cannot create: Permission denied' -- "${as[@]}" "$mmc" m.yaml -o locked/plan.bin
	chmod 700 locked
	nothing 'no write permission' locked/run locked/plan.bin
	chmod 600 posts.csv
	[ "$(id -u)" -ne 0 ] || refused 'no permission to read' 'm.yaml:2: table posts: ./posts.csv: cannot open: Permission denied' -- \
		"${as[@]}" "$mmrun" train m.bin -o "$tmp/no" --device cpu
else
	skip 'no write permission (nobody cannot run the programs here)'
fi
# a limit on the size of files stands for a full disk; with the signal ignored a write fails with EFBIG
limited() { (trap '' XFSZ; ulimit -f 2; train m.bin "$@" --no-cache); }
refused 'a checkpoint larger than files may be' 'limit/last.safetensors' 'File too large' -- limited -o limit
nothing 'a checkpoint larger than files may be' limit/last.safetensors
cp -r run grown
before=$(cksum <grown/last.safetensors)
refused 'the same when resumed' 'grown/' 'File too large' -- limited -o grown --resume --epochs 9
if [ "$(cksum <grown/last.safetensors)" = "$before" ]; then ok; else bad 'a failed write changed the old checkpoint'; fi
nothing 'the same when resumed' grown/none
mkdir disk
if mount -t tmpfs -o size=16k tmpfs disk 2>/dev/null; then
	mounted=$PWD/disk
	head -c 8000 /dev/zero >disk/ballast
	refused 'disk full' 'disk/run/last.safetensors: cannot write the checkpoint' 'make room' -- train m.bin -o disk/run --no-cache
	nothing 'disk full' disk/run/metrics.json
	if find disk/run -name '*.safetensors' -size -5k | grep -q .; then bad 'disk full: a part of a checkpoint is left'; else ok; fi
	umount disk && mounted=
else
	skip 'disk full (tmpfs cannot be mounted here)'
fi

# ---- numbers ----

plan nan 's/lr=0.05/lr=1e20/'
refused 'NaN in the loss' 'step 2 ' "loss 'views' became" 'of step 2: operation' '(nan.yaml:9)' 'lower the learning rate (lr)' 'the state of step 0' -- \
	train nan.bin -o nan
if "$mmrun" eval nan.bin --ckpt nan/last.safetensors >"$tmp/log" 2>&1 && ! grep -q nan "$tmp/log"; then ok; else bad 'the state before the NaN is not kept'; fi

# network NAME LINE..: the base model with these lines as its network.
network() {
	local name=$1
	shift
	{ sed '/^network/,$d' ../base.yaml; echo network:; printf '  %s\n' "$@"; sed '1,/^network/d' ../base.yaml; } >"$name.yaml"
}
# blamed NAME OPTIONS WORDS.. -- LINE..: training with that network ends with a message that has the words.
blamed() {
	local name=$1 options=$2 words=()
	shift 2
	while [ "$1" != -- ]; do words+=("$1"); shift; done
	shift
	network blame "$@"
	# shellcheck disable=SC2086
	"$mmc" blame.yaml --target cpu $options -o blame.bin >"$tmp/log" 2>&1 || bad "$name: blame.yaml does not compile"
	refused "$name" "${words[@]}" -- train blame.bin -o "$tmp/blame"
}

plan far 's/lr=0.05/lr=3e38/'
refused 'NaN by an update' "step 2 (epoch 1): loss 'views' became" 'of step 1: operation' '(far.yaml:11' 'lower the learning rate' -- train far.bin -o far
log=('words: embed(text, 4) |> mean(t)' "odd: 'log(dense(fans, 1) + 0.9)'" 'score: concat(words, odd) |> dense(8) |> relu |> dense(1)')
blamed 'the first op' '' 'operation log (blame.yaml:11) made nan of -' 'row ' 'max(x, 1e-6)' -- "${log[@]}"
blamed 'the same without fusion' --no-fuse 'operation log (blame.yaml:11) made nan of -' -- "${log[@]}"
blamed 'the kernel, without a trace program' --no-trace 'kernel ' 'log' 'made nan' 'max(x, 1e-6)' -- "${log[@]}"
blamed 'an op of the library' '' 'operation rsqrt (blame.yaml:10) made inf of 0' -- 'score: (fans - fans) |> rmsnorm(eps=0) |> dense(1)'
blamed 'not the infinities of a mask' '' 'operation sqrt (blame.yaml:12) made nan of -' -- \
	'words: embed(text, 4) |> transformer(heads=2, hidden=8, mask=text != 0) |> masked_mean(text != 0)' \
	'odd: where(fans > 0, -inf, dense(fans, 1)) |> exp' 'score: concat(words, odd) |> dense(8) |> relu |> dense(1) |> sqrt'
blamed 'nor a row that is masked whole' '' '(blame.yaml:10' 'operation sub' 'made nan of -inf and' 'does it hide all values of a row?' -- \
	'words: softmax(where(sum(fans, c) > -9, -inf, embed(text, 4) |> mean(t)))' 'score: dense(words, 1)'

total
