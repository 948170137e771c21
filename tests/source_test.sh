#!/bin/bash
# What generated kernels look like, where the same values could be had for more. $MMC is the program.
. "$(dirname "$0")/check.sh"
cd "$root" || exit 2

"$mmc" models/lenet.yaml --target all --emit-src "$tmp" -o "$tmp/plan.bin" || bad 'mmc fails'

# The gradient of a convolution lays windows over one another: place y - i of the windows, which is only sometimes one, is reached
# through the merged axes of the matrix of windows, and nothing is divided on the way.
for f in cpu_0.c cuda_1.cu; do
	folds=$(awk '/_fold(_[a-z_]*)?\(/ { on = 1 } on { print } /^}/ { on = 0 }' "$tmp/$f")
	reads=$(grep -c 'a0\[' <<<"$folds")
	divided=$(grep -o 'a0\[[^]]*\]' <<<"$folds" | grep '[/%]')
	[ "$reads" -ge 2 ] && ok || bad "$f: $reads folds"
	[ -z "$divided" ] && ok || bad "$f: $divided"
done

# For C, what is read as windows and stored as places is two kernels, neither of which divides.
pools=$(awk '/_reduce_max(_[a-z_]*)?\(/ { on = 1 } on { print } /^}/ { on = 0 }' "$tmp/cpu_0.c" | grep -o 'a[0-9]*\[[^]]*\]')
[ -n "$pools" ] && ok || bad 'cpu_0.c: no pooling'
divided=$(grep '[/%]' <<<"$pools")
[ -z "$divided" ] && ok || bad "cpu_0.c: $divided"

# The matrix of windows itself: merged axes are walked as what they were.
"$mmc" models/cnn.yaml --target all --emit-src "$tmp" -o "$tmp/plan.bin" || bad 'mmc fails'
place='a[0-9]*\[i0 \* 32768 + i1 \* 1024 + i2 \* 32 + i3 \* 1024 + i4 \* 32 + i5 + -1056\]'
windows=$(grep "$place" "$tmp/cuda_0.cu")
[ -n "$windows" ] && ok || bad "cuda_0.cu: no kernel of windows"
grep -q '[/%]' <<<"$windows" && bad "cuda_0.cu: $windows" || ok
# a condition is said once, and not where the place exists anyway
grep -q 'i1 + i3.*i2 + i4.*?' <<<"$windows" && ok || bad "cuda_0.cu: no condition"
grep -q 'i2 + i4.*i2 + i4.*?' <<<"$windows" && bad "cuda_0.cu: a condition twice: $windows" || ok

# On a CPU there is none: products read windows where they lie, three places of 32 channels at a time, of pictures with their pads.
grep -q "${place//i0/i1}" "$tmp/cpu_0.c" && bad 'cpu_0.c: a kernel of windows' || ok
grep -q 'memcpy(left .*(size_t)(96) \* sizeof(float))' "$tmp/cpu_0.c" && ok || bad 'cpu_0.c: no product of windows in runs'
grep -q '?.*memcpy\|memcpy.*?' "$tmp/cpu_0.c" && bad 'cpu_0.c: a condition in an operand' || ok

# What becomes of a product is computed where it is, as the gelu of a transformer and its gradient.
"$mmc" models/engagement_tab.yaml --target cpu --emit-src "$tmp" -o "$tmp/plan.bin" || bad 'mmc fails'
apart=$(awk '/^train_k/ { erf = product = 0 } / = mm_erf\(/ { erf++ } /mm_product\(rows/ { product++ } /^}/ && erf { print erf, product; erf = 0 }' "$tmp/cpu_0.c" "$tmp/cpu_1.c" | sort -u)
[ "$apart" = '1 1' ] && ok || bad "cpu: a gelu apart from its product: $apart"

# A loop's matrices lie in panels, which its products read as they lie; and nothing is copied in a step.
"$mmc" models/lstm.yaml --target cpu --batch 32 --emit-src "$tmp" -o "$tmp/plan.bin" || bad 'mmc fails'
[ "$(grep -c 'next = 32;' "$tmp/cpu_0.c")" -ge 2 ] && ok || bad 'cpu_0.c: no product reads panels'

# Axes that every index walks as one are one loop: the pixels of a picture [28, 28, 1].
"$mmc" models/vae.yaml --target cpu --emit-src "$tmp" -o "$tmp/plan.bin" || bad 'mmc fails'
grep -q '< 784; ' "$tmp/cpu_0.c" && ok || bad 'cpu_0.c: no loop over 784 pixels'
loops=$(grep -E '< 28; ' "$tmp/cpu_0.c")
[ -z "$loops" ] && ok || bad "cpu_0.c: $loops"

# A batch norm sums twice over its rows, and its gradient twice: the factors of a channel stand outside of the sums, which are then
# those of the parameters' gradients.
sums=$("$mmc" models/cnn.yaml --target cpu -d c -o "$tmp/plan.bin" 2>&1 | grep -c 'reduce_sum(.*at=\[0, 1, 2\]')
[ "$sums" = 24 ] && ok || bad "$sums sums over rows for six batch norms"

# A causal row that is walked ends at its place, or starts there, forward and backward; the output takes a walk for the maximum and
# one for sums and product, each gradient one.
"$mmc" models/gpt_char.yaml --target cuda --precision bf16 --no-trace --emit-src "$tmp" -o "$tmp/plan.bin" || bad 'mmc fails'
walks=$(cat "$tmp"/cuda_*.cu | awk '/^train_k/ { on = 1 } /^}/ { on = 0 } on' | grep -A1 'int first = 0, end = 256;')
[ "$(grep -c 'int first' <<<"$walks")" = 24 ] && ok || bad "$(grep -c 'int first' <<<"$walks") walks for six layers"
[ "$(grep -c 'if (block + 64 < end) end' <<<"$walks")" = 18 ] && ok || bad 'the walks of queries do not end at their place'
[ "$(grep -c 'if (block + 0 > 0) first' <<<"$walks")" = 6 ] && ok || bad 'the walks of keys do not start at their place'

total
