#!/bin/bash
# The messages of the tensor language: each tests/lang/NAME.yaml or NAME.op through `mmc --check`, which must say exactly
# NAME.err with status 2, or nothing with status 0 where there is no NAME.err. A model takes the sections that it lacks from
# common.model, behind its own; an .op file defines case(x), the whole network of its model. Of places in the library only
# the file is compared. BLESS=1 rewrites the expectations. $MMC is the program.
. "$(dirname "$0")/check.sh"
ops=$(realpath "$MMC_OPS")

# complete FILE: adds the sections of common.model that it lacks.
complete() {
	local line
	while IFS= read -r line; do
		grep -q "^${line%%:*}:" "$1" || printf '%s\n' "$line"
	done < <(grep -v '^#' "$root/tests/lang/common.model") >"$tmp/rest"
	cat "$tmp/rest" >>"$1"
}

# check MODEL: its messages, into $tmp/err; the status.
check() {
	timeout 60 "$mmc" --check --ops "$ops" "$1" >"$tmp/out" 2>"$tmp/raw"
	local status=$?
	awk -v lib="$ops/" '
		left > 0 { sub(/^ *[0-9]+ /, "      "); left-- }
		index($0, lib) == 1 { $0 = substr($0, length(lib) + 1); sub(/:[0-9]+:[0-9]+:/, ":"); $0 = "ops/" $0; left = 1 }
		{ print }' "$tmp/raw" >"$tmp/err"
	return $status
}

: >"$tmp/none"
mkdir "$tmp/work" && cd "$tmp/work" || exit 2
for f in "$root"/tests/lang/*.yaml "$root"/tests/lang/*.op; do
	file=${f##*/} n=${f##*/}
	n=${n%.*}
	err=$root/tests/lang/$n.err
	cp "$f" "$file"
	case $file in *.op) printf 'ops: [%s]\nnetwork: {out: case(x)}\n' "$file" >"$n.yaml" ;; esac
	complete "$n.yaml"
	check "$n.yaml"
	status=$?
	if [ -n "${BLESS:-}" ]; then
		if [ -s "$tmp/err" ]; then cp "$tmp/err" "$err"; else rm -f "$err"; fi
	fi
	if [ -e "$err" ]; then want=2; else want=0 err=$tmp/none; fi
	if [ $status -ne $want ] || [ -s "$tmp/out" ]; then
		bad "$file: status $status, not $want"
		sed 's/^/  /' "$tmp/raw"
	elif cmp -s "$err" "$tmp/err"; then
		ok
	else
		bad "$file: other messages"
		diff "$err" "$tmp/err" | sed 's/^/  /'
	fi
done

# ---- what a file of the repository would not hold well ----

# op_case NAME [WORDS]: case.op, made before, gives status $want (2) and a message that has the words.
op_case() {
	printf 'ops: [case.op]\nnetwork: {out: case(x)}\n' >case.yaml
	complete case.yaml
	check case.yaml
	local status=$?
	if [ $status -eq "${want:-2}" ] && { [ -z "${2:-}" ] || grep -qF -e "$2" "$tmp/err"; }; then ok; else bad "$1: status $status, no '${2:-}'"; head -c 1000 "$tmp/err"; fi
}

printf 'op case(x) { x \0 }\n' >case.op
op_case zero 'case.op: not a text: it has a byte 0 at offset 15'
{ printf 'op case(x) { x'; head -c 2000000 /dev/zero | tr '\0' '\n'; printf '}'; } >case.op
op_case newlines 'the network has no parameters'
{ printf 'op case(x) { x'; for i in {1..11000}; do printf ' + x'; done; printf '}'; } >case.op
op_case long 'more than 10000 words and signs'
{ printf 'op case(x) { x'; for i in {1..2000}; do printf ' + x'; done; printf '}'; } >case.op
op_case chain 'expressions nest deeper than 400'
for c in '(' '-' 'x ^ ' '['; do
	{ printf 'op case(x) { '; for i in {1..9900}; do printf '%s' "$c"; done; printf 'x }'; } >case.op
	op_case "nested $c" 'nest'
done
printf 'op case(x) {\r\n  dense(x,\r\n    1.)\r\n}\r\n' >case.op
op_case crlf "case.op:3:5: error: '1.' is no number"
printf 'op case(x) { dense(x, 1) } # \303\244 \377\n' >case.op
want=0 op_case comment
printf 'op case(x) { dense(x, \377) }\n' >case.op
op_case byte 'this character means nothing'

total
