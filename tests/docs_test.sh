#!/bin/bash
# Pages that were generated are as the program would generate them now. `tests/docs_test.sh bless` makes them anew.
. "$(dirname "$0")/check.sh"
cd "$root" || exit 2
{
	cat <<'HEAD'
# Model files

What is here: `engagement.yaml` (the application, for authors not seen in training); `engagement_tab.yaml` and `engagement_full.yaml` (the
networks that the benchmarks name, without and with frames and sound); sample data in `data/`; a picture of the first network; and models of
the field. A model of your own is a copy of one of them. The head of each says where its data is from and where to put it.

| file | what it is | reached |
|---|---|---|
| `engagement_full.yaml` | captions, song, frames and sound of posts | test R2 0.71 on 6,000 posts of `mmrun synth --media`, on which 0.65 is the best without frames and sound, 0.87 with |
| `lenet.yaml` | LeNet-5 on MNIST | test accuracy 99.36 % after 15 epochs |
| `autoencoder.yaml` | an autoencoder of MNIST, a code of 32 numbers | test mean squared error of a pixel 0.0066 (of 0 to 1) after 20 epochs |
| `vae.yaml` | a variational autoencoder of MNIST, 784-400-20 | test bound 104.2 nats a digit after 20 epochs (7 minutes on 2 cores) |
| `gpt_char.yaml` | a small GPT over bytes; `mmrun generate` | validation loss 1.45 within its 5,000 steps (bf16, one H200) |
| `gpt124m.yaml` | the GPT that the benchmarks name: 124 million weights and those of its output, ids of a vocabulary of 50304 | not trained here |
| `sentiment_textcnn.yaml` | a convolutional network on sentences, ten folds | test accuracy 76.2 %, the mean of ten folds (73.9 to 78.5) |
| `sentiment_lstm.yaml` | the same sentences, an LSTM in both directions | 76.8 % (75.0 to 78.8) |
| `lstm.yaml` | the recurrent network that the benchmarks name: two layers of 512 on the same sentences | for speed, not for its score |
| `sentiment_transformer.yaml` | the same sentences, a transformer block | 75.4 % (73.5 to 77.3) |
| `speech.yaml` | spoken digits from samples: coefficients in the graph, convolutions, a GRU | test accuracy 98.7 to 99.0 % of three seeds, recordings 5 to 9 of each digit and speaker held out, in half a minute |
| `moe.yaml` | a mixture of eight experts, two a digit, on MNIST | test accuracy 97.8 % after 10 epochs |
| `resnet.yaml` | ResNet-20 on CIFAR-10 | of 4,000 pictures, its 100 epochs on one H200: test accuracy 69.4 %; of all 50,000 not trained |
| `cnn.yaml` | a plain convolutional network on CIFAR-10, the baseline of the next three | of 4,000 pictures, 80 epochs (one H200): test accuracy 72.6 %, the mean of twelve seeds in each of two commits (72.3 and 72.9) |
| `cnn_se.yaml` | the same with squeeze-and-excitation, a ratio of 4 | likewise 71.9 %, beside 71.0 % of the plain network on the same six seeds |
| `cnn_cbam.yaml`, `cnn_nonlocal.yaml` | the same with CBAM, with non-local blocks | likewise 72.4 %, 72.8 %, beside 72.9 % of the plain network in the same hour, twelve seeds: no difference that so few pictures show |
| `gfnet.yaml` | GFNet on CIFAR-10: filters in the Fourier domain | of 4,000 pictures, its 60 epochs on one H200: 46.5 % |
| `segmentation.yaml` | a U-Net on CamVid: pixel accuracy, mIoU of 11 classes, boundary F-score | test accuracy 0.907, mIoU 0.558, boundary F-score 0.533 (one H200, 22 s) |
| `segmentation_boundary.yaml` | the same with a loss of boundaries: a line differs | 0.909, 0.572, 0.564 |
| `mlp_mixer.yaml` | MLP-Mixer on CIFAR-10 | of 4,000 pictures, its 60 epochs on one H200: 42.3 % |
| `two_tower.yaml` | authors and posts as vectors, on the sample data | test R2 0.48 |

Reached by `mmc FILE -o plan.bin && mmrun train plan.bin` on two cores of a CPU. `speech.yaml` was trained on recordings 5 to 24.

The text encoder of `engagement.yaml` is one line, to be exchanged for one of these:

    text: embed(caption, 64) |> lstm(64, mask=caption != 0) |> last(caption)
    text: embed(caption, 64) |> gru(64, mask=caption != 0) |> last(caption)

**Frames, sound and pictures** are files, one a post, in a table of type arrays, wav or images, joined by the column `name` (or `file`):

    tables:
      posts:  Posts.csv
      frames: {type: arrays, path: frames, shape: [4, 64, 64, 3], dtype: uint8, damaged: missing}
    rows: posts LEFT JOIN frames ON frames.name = posts."Post ID"
    inputs:
      frames: {type: tensor, from: frames.array, shape: [4, 64, 64, 3], dtype: uint8, scale: unit, missing: zero}
      seen:   {type: number, from: frames.array IS NOT NULL}

A post without a file is a row whose tensor is zeros, or none at all with `missing: drop`; `seen` tells the network. A file that cannot be read
ends the run, or with `damaged: missing` counts as not there. The cleaning report counts both and names the first of them. Bytes stay bytes, also on
the device; the network sees them as float32.

What follows is the reference, made by `mmc --help-model` and `mmc --help-ops` (`tests/docs_test.sh bless`).

HEAD
	"$mmc" --help-model
	printf '\n# The op library\n\n'
	"$mmc" --help-ops
} >"$tmp/README.md" </dev/null
"$mmc" models/engagement.yaml --check --graph "$tmp/engagement.svg"
for page in README.md engagement.svg; do
	[ "${1:-}" = bless ] && cp "$tmp/$page" models/$page
	if cmp -s "$tmp/$page" models/$page; then
		ok
	else
		bad "models/$page is stale: run tests/docs_test.sh bless"
	fi
done
total
