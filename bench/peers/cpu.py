#!/usr/bin/env python3
"""PyTorch on the CPU beside ours: training steps and inference of one row, eager, torch.compile and mmrun in turn.

    bench/peers/cpu.py [--models vae,lenet] [--threads 2,1] [--rounds 5] [--realtime] [--json FILE]

In a round, each has a window of half a second (mmrun bench as a process of its own), so that what else the machine does hits all of
them; --realtime runs the windows at real-time priority. Printed are the medians over the rounds, the least in brackets, and the ratio of
the better peer's to ours, of both. A step is forward, backward and Adam on a batch that is there, dropout on, in f32. Ours does more: it
chooses and converts a batch of random columns in the step, clips gradients where the model file says so, and in inference computes losses
and metrics, too. Variables OPENBLAS_* are not passed on: each library chooses its kernels for this machine.

Needs PyTorch, a C++ compiler (for torch.compile), and ./mmc and ./mmrun. For comparison only: no part of the product uses it.
"""
import argparse
import gc
import json
import math
import os
import subprocess
import tempfile
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Encoder(nn.Module):
    """A pre-norm transformer block: [B, T, C] to the same; keep[B, T]: places that count, none: a causal block."""

    def __init__(self, width, heads, hidden, drop):
        super().__init__()
        self.heads, self.drop = heads, drop
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x, keep=None):
        b, t, c = x.shape
        q, k, v = (a.view(b, t, self.heads, -1).transpose(1, 2) for a in self.qkv(self.norm1(x)).split(c, 2))
        mask = None if keep is None else keep[:, None, None, :]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=keep is None)
        x = x + F.dropout(self.out(y.transpose(1, 2).reshape(b, t, c)), self.drop, self.training)
        return x + F.dropout(self.down(F.gelu(self.up(self.norm2(x)))), self.drop, self.training)


class EngagementTab(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.place = nn.Embedding(8192, 128), nn.Parameter(torch.randn(32, 128) * 0.02)
        self.blocks = nn.ModuleList(Encoder(128, 4, 512, 0.1) for _ in range(2))
        self.norm, self.tags, self.text = nn.LayerNorm(128), nn.EmbeddingBag(4096, 128, mode="mean"), nn.Linear(256, 128)
        self.song, self.audio, self.video = nn.Embedding(4096, 64), nn.Linear(64, 128), nn.Linear(1, 128)
        self.author, self.hour, self.day, self.month = nn.Embedding(16384, 64), nn.Embedding(24, 16), nn.Embedding(7, 8), nn.Embedding(12, 8)
        self.user = nn.Sequential(nn.Linear(100, 256), nn.ReLU(), nn.Linear(256, 128))
        self.query, self.kv = nn.Parameter(torch.randn(128) * 0.02), nn.Linear(128, 256)
        self.trunk = nn.Sequential(nn.Linear(640, 256), nn.ReLU(), nn.Dropout(0.1), nn.Linear(256, 128), nn.ReLU())
        self.score, self.viral = nn.Linear(128, 1), nn.Linear(128, 1)

    def forward(self, caption, tags, song, author, hour, day, month, length, numbers):
        keep = caption != 0
        x = self.tokens(caption) + self.place
        for block in self.blocks:
            x = block(x, keep)
        m = keep.unsqueeze(2).float()
        words = (self.norm(x) * m).sum(1) / m.sum(1).clamp(min=1)
        user = self.user(torch.cat([self.author(author), numbers, self.hour(hour), self.day(day), self.month(month)], 1))
        z = torch.stack([self.text(torch.cat([words, self.tags(tags)], 1)), self.audio(self.song(song)), self.video(length), user], 1)
        k, v = self.kv(z).chunk(2, 2)
        a = torch.softmax(k @ self.query / math.sqrt(128), 1)
        h = self.trunk(torch.cat([z.flatten(1), (a.unsqueeze(2) * v).sum(1)], 1))
        return self.score(h)[:, 0], self.viral(h)[:, 0]

    @staticmethod
    def inputs(n):
        ids = lambda below, *more: torch.randint(1, below, (n, *more))
        return (ids(8192, 32), ids(4096, 8), ids(4096), ids(16384), ids(24), ids(7), ids(12), torch.randn(n, 1), torch.randn(n, 4))

    @staticmethod
    def targets(n):
        return torch.randn(n), (torch.rand(n) < 0.1).float()

    def loss(self, x, y):
        score, viral = self(*x)
        return F.mse_loss(score, y[0]) + F.binary_cross_entropy_with_logits(viral, y[1], pos_weight=torch.tensor(3.0))


class Classes(nn.Module):
    """What the classifiers share: cross-entropy of logits, over places where there are many."""

    def loss(self, x, y):
        return F.cross_entropy(self(*x).flatten(0, -2), y[0].flatten())


class LeNet(Classes):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2))
        self.logits = nn.Sequential(nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))

    def forward(self, x):
        return self.logits(self.features(x))

    @staticmethod
    def inputs(n):
        return (torch.rand(n, 1, 28, 28),)

    @staticmethod
    def targets(n):
        return (torch.randint(10, (n,)),)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.mean, self.logvar = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784))

    def forward(self, x):
        h = F.relu(self.hidden(x))
        mean, logvar = self.mean(h), self.logvar(h)
        return self.decoder(mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)), mean, logvar

    @staticmethod
    def inputs(n):
        return (torch.rand(n, 784),)

    @staticmethod
    def targets(n):
        return ()

    def loss(self, x, y):
        logits, mean, logvar = self(*x)
        pixels = F.binary_cross_entropy_with_logits(logits, x[0], reduction="sum")
        return (pixels + 0.5 * torch.sum(mean * mean + logvar.exp() - 1 - logvar)) / len(mean)


class GPT(Classes):
    def __init__(self):
        super().__init__()
        self.embed, self.place = nn.Embedding(256, 384), nn.Parameter(torch.randn(256, 384) * 0.02)
        self.blocks = nn.ModuleList(Encoder(384, 6, 1536, 0.2) for _ in range(6))
        self.norm, self.head = nn.LayerNorm(384), nn.Linear(384, 256, bias=False)

    def forward(self, text):
        x = F.dropout(self.embed(text) + self.place, 0.2, self.training)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    @staticmethod
    def inputs(n):
        return (torch.randint(256, (n, 256)),)

    targets = inputs


class FilterBlock(nn.Module):
    """x + mlp(norm(filter(norm(x)))), the filter a product in the Fourier domain of 8 x 8 places."""

    def __init__(self, width, hidden):
        super().__init__()
        self.filter = nn.Parameter(torch.randn(8, 5, width, 2) * 0.02)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x):
        f = torch.fft.rfft2(self.norm1(x), dim=(1, 2), norm="ortho") * torch.view_as_complex(self.filter)
        return x + self.mlp(self.norm2(torch.fft.irfft2(f, s=(8, 8), dim=(1, 2), norm="ortho")))


class GFNet(Classes):
    def __init__(self):
        super().__init__()
        self.patch, self.place = nn.Conv2d(3, 256, 4, stride=4), nn.Parameter(torch.randn(8, 8, 256) * 0.02)
        self.blocks = nn.Sequential(*(FilterBlock(256, 1024) for _ in range(12)))
        self.norm, self.head = nn.LayerNorm(256), nn.Linear(256, 10)

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.patch(x).permute(0, 2, 3, 1) + self.place)).mean((1, 2)))

    @staticmethod
    def inputs(n):
        return (torch.rand(n, 3, 32, 32),)

    targets = LeNet.targets


class LSTM(Classes):
    def __init__(self):
        super().__init__()
        self.embed, self.layers, self.head = nn.Embedding(8192, 256), nn.LSTM(256, 512, 2, batch_first=True), nn.Linear(512, 2)

    def forward(self, words):
        return self.head(self.layers(self.embed(words))[0][:, -1])

    @staticmethod
    def inputs(n):
        return (torch.randint(8192, (n, 64)),)

    @staticmethod
    def targets(n):
        return (torch.randint(2, (n,)),)


# model file: its peer, rows of a training step
MODELS = {"engagement_tab": (EngagementTab, 256), "lenet": (LeNet, 64), "vae": (VAE, 128), "gpt_char": (GPT, 4), "gfnet": (GFNet, 16), "lstm": (LSTM, 32)}


def training(cls, rows, compiled):
    """A function that runs one step."""
    torch._dynamo.reset()
    model = cls()
    x, y = cls.inputs(rows), cls.targets(rows)
    loss = torch.compile(model.loss) if compiled else model.loss
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss(x, y).backward()
        optimizer.step()

    return step


def inference(cls, rows, compiled):
    torch._dynamo.reset()
    model = cls().eval()
    x = cls.inputs(rows)
    run = torch.compile(model) if compiled else model

    def step():
        with torch.inference_mode():
            run(*x)

    return step


def prefer(on):
    """Real-time priority for all threads of this process, or what they had."""
    for thread in map(int, os.listdir("/proc/self/task")):
        os.sched_setscheduler(thread, os.SCHED_FIFO if on else os.SCHED_OTHER, os.sched_param(1 if on else 0))


def window(args, step, seconds=0.5):
    """Milliseconds a step."""
    step()
    if args.realtime:
        prefer(True)
    start, n, spent = time.perf_counter(), 0, 0.0
    while spent < seconds:
        step()
        n, spent = n + 1, time.perf_counter() - start
    if args.realtime:
        prefer(False)
    return spent * 1e3 / n


def ours(args, plan, program, rows, threads):
    """The same of mmrun bench."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    out = plan + ".json"
    prefix = ["chrt", "--fifo", "1"] if args.realtime else []
    subprocess.run([*prefix, args.mmrun, "bench", plan, "--synthetic", "--rows", "8192", "--device", "cpu", "--threads", str(threads), "--windows", "1",
                    "--program", program, "--batch", str(rows), "--json", out], check=True, stdout=subprocess.DEVNULL, env=env)
    with open(out) as f:
        return json.load(f)["ms"]


def measure(args, name, program, threads, plan):
    cls, batch = MODELS[name]
    rows = batch if program == "train" else 1
    torch.set_num_threads(threads)
    make = training if program == "train" else inference
    contenders = {"mmrun": lambda: ours(args, plan, program, rows, threads)}
    for kind in args.modes.split(","):
        step = make(cls, rows, kind == "compile")
        for _ in range(3):
            step()
        contenders[kind] = lambda step=step: window(args, step)
    times = {k: [] for k in contenders}
    for _ in range(args.rounds):
        for k, run in contenders.items():
            times[k].append(run())
    return {"model": name, "program": program, "rows": rows, "threads": threads, "ms": times}


def median(x):
    return sorted(x)[len(x) // 2]


def report(r):
    cell = lambda k: f"{median(r['ms'][k]):10.3f} [{min(r['ms'][k]):.3f}]" if k in r["ms"] else ""
    peers = [k for k in r["ms"] if k != "mmrun"]
    ratio = lambda f: min(f(r["ms"][k]) for k in peers) / f(r["ms"]["mmrun"])
    print(f"{r['model']:15s} {r['program']:6s} {r['rows']:5d} {r['threads']:2d} {cell('mmrun'):>22s} {cell('eager'):>22s} {cell('compile'):>22s}"
          f" {ratio(median):7.2f} [{ratio(min):.2f}]", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", default=",".join(MODELS))
    p.add_argument("--programs", default="train,eval")
    p.add_argument("--modes", default="eager,compile")
    p.add_argument("--threads", default="2")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--realtime", action="store_true", help="windows at real-time priority (needs root), where others use the machine, too")
    p.add_argument("--mmc", default=os.path.join(ROOT, "mmc"))
    p.add_argument("--mmrun", default=os.path.join(ROOT, "mmrun"))
    p.add_argument("--json")
    args = p.parse_args()
    print(f"torch {torch.__version__}, {os.cpu_count()} processors, {args.rounds} rounds; ms: median [least]; ratio: the better peer over mmrun")
    print(f"{'model':15s} {'':6s} {'rows':>5s} {'th':>2s} {'mmrun':>22s} {'eager':>22s} {'compile':>22s} {'ratio':>7s}", flush=True)
    with tempfile.TemporaryDirectory() as tmp:
        for name in args.models.split(","):
            plan = os.path.join(tmp, name + ".bin")
            subprocess.run([args.mmc, os.path.join(ROOT, "models", name + ".yaml"), "--target", "cpu", "--batch", str(MODELS[name][1]), "-o", plan],
                           check=True, stdout=subprocess.DEVNULL)
            for program in args.programs.split(","):
                for threads in map(int, args.threads.split(",")):
                    gc.collect()
                    r = measure(args, name, program, threads, plan)
                    report(r)
                    if args.json:
                        with open(args.json, "a") as f:
                            print(json.dumps(r), file=f)


if __name__ == "__main__":
    main()
