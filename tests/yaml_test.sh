#!/bin/bash
# Model files in, messages or the model read out: tests/yaml/NAME.yaml with NAME.err (exact messages, status 2) or
# NAME.out (what was read, status 0). Usage: yaml_test.sh [BINARY]; BLESS=1 rewrites the expectations.
# BINARY is yaml_check.c; without it, it is built here.
. "$(dirname "$0")/check.sh"

bin=${1:-}
if [ -z "$bin" ]; then
	bin=$tmp/yaml_check
	c=$root/tests/../compiler
	${CC:-cc} -std=c17 -g ${CFLAGS-} -o "$bin" "$root/tests/yaml_check.c" "$c/diag.c" "$c/yaml.c" "$c/model.c" "$c/model_data.c" \
		"$c/model_keys.c" "$c/model_help.c" "$root/tests/../runtime/base.c" -lyaml -lm || exit 1
fi
case $bin in /*) ;; *) bin=$PWD/$bin ;; esac

# matches NAME EXPECTED ACTUAL
matches() {
	if [ -n "${BLESS:-}" ]; then cp "$3" "$2"; fi
	if cmp -s "$2" "$3"; then ok; else bad "$1"; diff "$2" "$3" | sed 's/^/  /'; fi
}

# rejects NAME WORDS: the file $tmp/NAME is refused with a message that has the words.
rejects() {
	(cd "$tmp" && "$bin" "$1") >"$tmp/out" 2>"$tmp/err"
	if [ $? -eq 2 ] && [ ! -s "$tmp/out" ] && grep -qF -e "$2" "$tmp/err"; then ok; else bad "$1: no message '$2'"; cat "$tmp/err"; fi
}

cd "$root/tests/yaml" || exit 1
for f in *.yaml; do
	n=${f%.yaml}
	"$bin" "$f" >"$tmp/out" 2>"$tmp/err"
	rc=$?
	if [ $rc -eq 0 ]; then
		[ -s "$tmp/err" ] && bad "$f: messages of a file that is read"
		[ -e "$n.err" ] && bad "$f: read, though $n.err expects messages"
		matches "$f" "$n.out" "$tmp/out"
	elif [ $rc -eq 2 ]; then
		[ -e "$n.out" ] && bad "$f: refused, though $n.out expects a model"
		matches "$f" "$n.err" "$tmp/err"
	else
		bad "$f: status $rc"
		cat "$tmp/err"
	fi
done

# What a text file in the repository cannot hold.
printf 'network:\n\tn: a\n' >"$tmp/tab.yaml"
rejects tab.yaml 'tab.yaml:2:1: error: a tab cannot stand here'
printf 'a: \377\n' >"$tmp/latin.yaml"
rejects latin.yaml 'latin.yaml:1:4: error: invalid leading UTF-8 octet: a model file is UTF-8 text'
printf 'a: \000\n' >"$tmp/zero.yaml"
rejects zero.yaml 'zero.yaml:1:4: error: control characters are not allowed'
printf '\377\376a\000' >"$tmp/utf16.yaml"
rejects utf16.yaml 'a model file is UTF-8 text'
printf '\357\273\277model: a\r\nnetwork: {x: "a\r\n  ?"}\r\nzz: 1\r\n' >"$tmp/crlf.yaml"
rejects crlf.yaml 'crlf.yaml:3:3: error: stand-in'
rejects crlf.yaml 'crlf.yaml:4:1: error: unknown key'
awk 'BEGIN { s = "a: "; for (i = 0; i < 40; i++) s = s "["; print s }' >"$tmp/deep.yaml"
rejects deep.yaml 'deep.yaml:1:35: error: nested too deeply'
awk 'BEGIN { for (i = 0; i < 1100; i++) print "k" i ": 1" }' >"$tmp/keys.yaml"
rejects keys.yaml 'keys.yaml:1025:1: error: too many keys'
awk 'BEGIN { printf "network: {a: \""; for (i = 0; i < 20000; i++) printf "x"; print "\"}" }' >"$tmp/long.yaml"
rejects long.yaml 'long.yaml:1:15: error: a: an expression longer than 16384 characters'
awk 'BEGIN { for (i = 0; i < 200; i++) print "k" i ": 1" }' >"$tmp/many.yaml"
rejects many.yaml 'mmc: 106 more errors and warnings'
awk 'BEGIN { print "a:"; for (i = 0; i < 1100; i++) print "- &k" i " 1" }' >"$tmp/anchors.yaml"
rejects anchors.yaml 'anchors.yaml:1026:3: error: too many anchors'
awk 'BEGIN { printf "network: {a: \""; for (i = 0; i < 20000; i++) printf "x"; print "\"}" }' >"$tmp/long.yaml"
rejects long.yaml 'long.yaml:1:15: error: a: an expression longer than 16384 characters'
awk 'BEGIN { for (i = 0; i < 20000; i++) print "# a line of a comment that is longer than fifty two bytes" }' >"$tmp/big.yaml"
rejects big.yaml 'larger than 1048576 bytes'
rejects none.yaml 'mmc: error: none.yaml: cannot read the model file: No such file or directory'
mkdir "$tmp/folder.yaml"
rejects folder.yaml 'cannot read the model file: Is a directory'

# Damage: no input may crash the reader.
for f in minimal.yaml full.yaml tensors.yaml; do
	if "$bin" --damage "$f" "$tmp/damaged.yaml" >"$tmp/out"; then ok; else bad "$f: damaged copies"; fi
done

# The reference and a bug of ours.
"$bin" --help-model >"$tmp/out" && matches help "$root/tests/yaml/help.txt" "$tmp/out"
"$bin" --help-markdown | grep -q '^| `tokens` (type text) |' && ok || bad 'help in markdown'
"$bin" --bug >/dev/null 2>"$tmp/err"
if [ $? -eq 70 ] && grep -q 'mmc: bug in mmc: on purpose' "$tmp/err"; then ok; else bad 'bug()'; fi

total
