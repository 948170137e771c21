#!/bin/sh
# Pages that were generated are as the program would generate them now. `tests/docs_test.sh bless` makes them anew.
mmc=${MMC:-./mmc}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
{
	cat <<'HEAD'
# Model files

What is here: `engagement.yaml` (the application, for authors not seen in training) and `engagement_tab.yaml` (the network that the
benchmarks name), sample data in `data/`, a picture of the first network. A model of your own is a copy of one of them.

What follows is the reference, made by `mmc --help-model` and `mmc --help-ops` (`tests/docs_test.sh bless`).

HEAD
	"$mmc" --help-model
	printf '\n# The op library\n\n'
	"$mmc" --help-ops
} >"$tmp/README.md" </dev/null
"$mmc" models/engagement.yaml --check --graph "$tmp/engagement.svg"
passed=0 failed=0
for page in README.md engagement.svg; do
	[ "$1" = bless ] && cp "$tmp/$page" models/$page
	if cmp -s "$tmp/$page" models/$page; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "models/$page is stale: run tests/docs_test.sh bless" >&2
	fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
