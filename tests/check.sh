# What the tests in bash share; the first thing that they source, and `total` is the last that they say.
#   root    the repository            mmc mmrun  the programs, $MMC and $MMRUN
#   build   the build folder, $BUILD  device     $MMC_DEVICE, or cpu
#   tmp     a folder of the test's own, removed at its end; $tmp/log is shown where something failed
set -u
export LC_ALL=C
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mmc=$(realpath "${MMC:-$root/mmc}") && mmrun=$(realpath "${MMRUN:-$root/mmrun}") && build=$(realpath "${BUILD:-$root/build}") || exit 2
device=${MMC_DEVICE:-cpu}
export MMC_OPS=${MMC_OPS:-$root/ops}
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
export MMC_CACHE=${MMC_CACHE:-$tmp/kernels} XDG_CACHE_HOME=$tmp/cache
passed=0 failed=0 skipped=0

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "tests/${0##*/}: $1"; [ ! -e "$tmp/log" ] || tail -n "${2:-5}" "$tmp/log" | sed 's/^/  /'; }
skip() { skipped=$((skipped + 1)); echo "skipped: $1"; }

# run NAME COMMAND..: ends with status 0.
run() { local what=$1; shift; if "$@" >"$tmp/log" 2>&1; then ok; else bad "$what: status $?"; fi; }

# says NAME WORDS [FILE]: the file, or the log, has the words.
says() { if grep -qF -e "$2" "${3:-$tmp/log}"; then ok; else bad "$1: no '$2'"; fi; }

# holds NAME CONDITION: of numbers, as awk has them.
holds() { if awk "BEGIN { exit !($2) }" 2>/dev/null; then ok; else bad "$1: not $2"; fi; }

# equal NAME A B: the same words.
equal() { if [ "$2" = "$3" ]; then ok; else bad "$1: '$2', not '$3'"; fi; }

# same A B NAME, other A B NAME: files.
same() { if cmp -s "$1" "$2"; then ok; else bad "$3: $1 and $2 differ"; fi; }
other() { if cmp -s "$1" "$2"; then bad "$3: $1 and $2 are equal"; else ok; fi; }

# refused NAME WORDS.. -- COMMAND..: status 2, and one message that has all the words.
refused() {
	local name=$1 words=() w status
	shift
	while [ "$1" != -- ]; do words+=("$1"); shift; done
	shift
	"$@" >"$tmp/log" 2>&1
	status=$?
	[ $status -eq 2 ] || { bad "$name: status $status, not 2"; return; }
	for w in "${words[@]}"; do
		grep -F 'error: ' -A 3 "$tmp/log" | grep -qF -e "$w" || { bad "$name: no '$w' in the message"; return; }
	done
	[ "$(grep -c 'mmrun: error: ' "$tmp/log")" -le 1 ] || { bad "$name: more than one message"; return; }
	ok
}

# metric FILE SPLIT NAME: of metrics.json
metric() { sed -n "/\"$2\": {/,/}/s/.*\"$3\": \([-0-9.e+]*\).*/\1/p" "$1" | head -n 1; }

# The line that tests/run reads; the status says whether all passed.
total() {
	local line="$passed passed, $failed failed"
	[ "$skipped" -eq 0 ] || line="$line, $skipped skipped"
	echo "$line"
	[ "$failed" -eq 0 ]
}
