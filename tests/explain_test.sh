#!/bin/bash
# mmc --explain: a section a program, each decision once in it, with a place. And what should be seen in the kernels of patches:
# four stored at a time, and no divisions to find the place of a pixel that a condition has in range. $MMC is the program.
. "$(dirname "$0")/check.sh"
cd "$root" || exit 2

text=$("$mmc" tests/models/tiny.yaml --check --explain) || bad 'mmc fails'
sections=$(grep ':$' <<<"$text" | tr '\n' ' ')
if [ "$sections" = 'cpu, train, batch 64: cpu, eval, batch 64: cpu, eval, batch 1: cuda, train, batch 64: cuda, eval, batch 64: cuda, eval, batch 1: ' ]; then
	ok
else
	bad "sections: $sections"
fi
twice=$(sed 's/ ([0-9]* times)$//' <<<"$text" | awk '/:$/ { delete seen } seen[$0]++ { print }')
if [ -z "$twice" ]; then ok; else bad "said twice: $twice"; fi
if grep -q ' ([0-9]* times)$' <<<"$text"; then ok; else bad 'nothing is counted'; fi
if grep -q 'tiny.yaml:[0-9]*: v[0-9]* [a-z_]*: ' <<<"$text"; then ok; else bad 'no place'; fi

"$mmc" tests/models/media.yaml --target cuda --precision tf32 --batch 64 --no-trace --emit-src "$tmp/src" -o "$tmp/plan.bin" 2>/dev/null || bad 'no sources'
kernels=$(cat "$tmp"/src/*.cu | awk '/^train_.*_select_le_add_mul/ { on = 1 } on { print } /^}/ { on = 0 }') # patches of what the first convolution gives
if grep -q 'mm_store4' <<<"$kernels"; then ok; else bad 'patches are not stored four at a time'; fi
if cat "$tmp"/src/*.cu | grep -q 'a[0-9]*\[[^]]*\(% 512\|/ 512\|/ 256)\)'; then bad 'the place of a pixel is found by division'; else ok; fi

# In bf16 there are no patches: the five products of its two convolutions, forward and backward, read windows, or so do what joins them.
text=$("$mmc" tests/models/media.yaml --target cuda --precision bf16 --batch 64 --no-trace --explain -o "$tmp/plan.bin" --emit-src "$tmp/bf16" 2>&1)
if grep -q 'reads windows where they lie' <<<"$text"; then ok; else bad 'no product reads windows'; fi
if cat "$tmp"/bf16/*.cu | grep -q '^train_.*_fold'; then bad 'windows are laid over one another'; else ok; fi

# A step back through a loop of gates is one kernel and a product, whose result the next step takes as it is.
text=$("$mmc" models/lstm.yaml --target cuda --precision bf16 --no-trace --explain -o "$tmp/plan.bin" --emit-src "$tmp/lstm" 2>&1)
if [ "$(grep -c 'recurrent.*concat: its parts are computed in their places' <<<"$text")" -eq 2 ]; then ok; else bad 'adjoints of gates are not of one kernel'; fi
if [ "$(cat "$tmp"/lstm/*.cu | grep -c '^train_k[0-9]*_cast(const bf16')" -eq 1 ]; then ok; else bad 'a carry is cast by a kernel of its own'; fi

# Without the library all products are kernels of ours; one inside a loop, for which there is none in bf16, is refused.
library() { "$mmrun" inspect "$tmp/plan.bin" | awk '$1 == "cuda" && $2 != "trace" { n += $6 } END { print n + 0 }'; }
for p in fp32 bf16; do
	"$mmc" models/engagement.yaml --target cuda --precision $p --no-library -o "$tmp/plan.bin" || bad "$p --no-library"
	if [ "$(library)" -eq 0 ]; then ok; else bad "$p --no-library: $(library) products by the library"; fi
done
"$mmc" models/engagement.yaml --target cuda --precision bf16 -o "$tmp/plan.bin"
if [ "$(library)" -gt 0 ]; then ok; else bad 'no product by the library'; fi
text=$("$mmc" models/lstm.yaml --target cuda --precision bf16 --no-library -o "$tmp/none.bin" 2>&1)
status=$?
if [ $status -eq 2 ] && grep -q 'no kernel of ours computes this product of' <<<"$text" && [ ! -e "$tmp/none.bin" ]; then ok; else bad "lstm --no-library: status $status"; fi

total
