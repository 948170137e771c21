#!/usr/bin/env python3
"""Golden values of layers from PyTorch, in float64, one text file a case; tests/goldens_test.c reads them.

    python3 tests/goldens/make.py [NAME ..]     # needs torch and torchaudio; the suite does not

A case is an expression of the tensor language over inputs, the values of its inputs, parameters and states, weights of the
results, and what PyTorch gives: results, updates of states, gradients of the weighted sum. Channels are last here, first
in PyTorch: `last` and `first` turn them. Parameters are called as the compiler calls them.
"""
import math
import os
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
here = os.path.dirname(os.path.abspath(__file__))
made = 0


def last(x):
    return x.permute(0, *range(2, x.dim()), 1)


def first(x):
    return x.permute(0, x.dim() - 1, *range(1, x.dim() - 1))


def randn(*shape):
    return torch.randn(*shape).float().double()


def numbers(x):
    return " ".join("%.9g" % v for v in x.detach().contiguous().view(-1).tolist())


def dims(x, axes=None):
    names = axes.split() if axes else ["i%d" % i for i in range(x.dim())]
    return "[" + ", ".join("%s: %d" % d for d in zip(names, x.shape)) + "]"


def case(name, expr, inputs, fn, params=(), states=(), infer=False):
    """inputs: {name: (axes, tensor)}; fn(inputs.., params..) -> result [, updates by state]; params: {name: tensor}."""
    global made
    if len(sys.argv) > 1 and name not in sys.argv[1:]:
        return
    params, states = dict(params), dict(states)
    args = {k: v.clone().detach().requires_grad_(v.is_floating_point()) for k, (_, v) in inputs.items()}
    pars = {k: v.clone().detach().requires_grad_() for k, v in params.items()}
    out = fn(*args.values(), *pars.values())
    out, updates = out if isinstance(out, tuple) else (out, {})
    weight = randn(*out.shape)
    (out * weight).sum().backward()
    with open(os.path.join(here, name + ".txt"), "w") as f:
        f.write("# torch %s\n" % torch.__version__.split("+")[0])
        f.write("expr %s\n" % expr)
        if infer:
            f.write("infer\n")
        for k, (axes, _) in inputs.items():
            kind = "input" if args[k].is_floating_point() else "ids"
            f.write("%s %s %s = %s\n" % (kind, k, dims(args[k], axes), numbers(args[k])))
        for k, v in pars.items():
            f.write("param %s %s = %s\n" % (k, dims(v), numbers(v)))
        for k, v in states.items():
            f.write("state %s %s = %s\n" % (k, dims(v), numbers(v)))
        f.write("weight - %s = %s\n" % (dims(weight), numbers(weight)))
        f.write("result - %s = %s\n" % (dims(out), numbers(out)))
        for k, v in updates.items():
            f.write("update %s %s = %s\n" % (k, dims(v), numbers(v)))
        for k, v in list(args.items()) + list(pars.items()):
            if v.grad is not None:
                f.write("grad %s %s = %s\n" % (k, dims(v.grad), numbers(v.grad)))
    made += 1


def rule(name, expr, make, lr=0.1, steps=4):
    """An optimizer: parameters, a gradient a step, and the parameters after each."""
    global made
    if len(sys.argv) > 1 and name not in sys.argv[1:]:
        return
    p = nn.Parameter(randn(7))
    opt = make([p], lr)
    with open(os.path.join(here, name + ".txt"), "w") as f:
        f.write("# torch %s\n" % torch.__version__.split("+")[0])
        f.write("optimizer %s\nlr %g\n" % (expr, lr))
        f.write("start - %s = %s\n" % (dims(p), numbers(p)))
        for _ in range(steps):
            p.grad = randn(7)
            f.write("gradient - %s = %s\n" % (dims(p), numbers(p.grad)))
            opt.step()
            f.write("after - %s = %s\n" % (dims(p), numbers(p)))
    made += 1


# ---- layers ----

def layers():
    case("dense", "dense(x, 3)", {"x": ("b i", randn(4, 5))}, lambda x, w, b: x @ w + b, {"dense.w": randn(5, 3), "dense.b": randn(3)})
    case("lowrank", "lowrank(x, 3, 2)", {"x": ("b i", randn(4, 5))}, lambda x, u, v, b: x @ u @ v + b,
         {"lowrank.u": randn(5, 2), "lowrank.v": randn(2, 3), "lowrank.b": randn(3)})
    ids = torch.randint(0, 6, (3, 4))
    case("embed", "embed(x, 3, size = 6)", {"x": ("b t", ids)}, lambda x, t: F.embedding(x, t), {"embed.table": randn(6, 3)})
    for average in (False, True):
        mode = "mean" if average else "sum"
        case("embed_bag_" + mode, "embed_bag(x, 3, size = 6, average = %s)" % str(average).lower(), {"x": ("b t", ids)},
             lambda x, t: F.embedding_bag(x, t, mode=mode), {"embed_bag.e.table": randn(6, 3)})
    case("embed_bag_weights", "embed_bag(x, 3, size = 6, weights = w)", {"x": ("b t", ids), "w": ("b t", randn(3, 4))},
         lambda x, w, t: F.embedding_bag(x, t, mode="sum", per_sample_weights=w), {"embed_bag.e.table": randn(6, 3)})
    case("positions", "positions(x)", {"x": ("b t c", randn(2, 5, 3))}, lambda x, p: x + p, {"positions.p": randn(5, 3)})
    case("mlp", "mlp(x, 4, 2, act = silu)", {"x": ("b i", randn(5, 3))}, lambda x, w, b, v, d: F.linear(F.silu(F.linear(x, w.T, b)), v.T, d),
         {"mlp.dense.w": randn(3, 4), "mlp.dense.b": randn(4), "mlp.dense_2.w": randn(4, 2), "mlp.dense_2.b": randn(2)})


def recurrent_layers():
    """PyTorch has two biases of which one is too many, but for the last gate of a GRU: our d."""
    gates = {"rnn": 1, "lstm": 4, "gru": 3}
    run = {"rnn": torch.rnn_tanh, "lstm": torch.lstm, "gru": torch.gru}

    def weights(kind, path, i, n):
        g = gates[kind]
        shape = {"w": (i, n), "r": (n, n), "b": (n,)} if g == 1 else {"w": (i, g, n), "r": (n, g, n), "b": (g, n)}
        if kind == "gru":
            shape["d"] = (n,)
        return {"%s.%s" % (path, k): 0.5 * randn(*v) for k, v in shape.items()}

    def flat(kind, n, v):  # PyTorch's list, a layer and direction after the other
        k, out = 4 if kind == "gru" else 3, []
        for w, r, b, *d in (v[i:i + k] for i in range(0, len(v), k)):
            hidden = torch.cat([torch.zeros(2 * n), d[0]]) if d else torch.zeros(gates[kind] * n)
            out += [w.reshape(w.shape[0], -1).T, r.reshape(n, -1).T, b.reshape(-1), hidden]
        return out

    def forward(kind, n, layers, both, lengths=None):
        def f(x, *v):
            v = v if lengths is None else v[1:]                   # the mask
            zero = torch.zeros(layers * (1 + both), x.shape[0], n)
            hx = (zero, zero) if kind == "lstm" else zero
            if lengths is None:
                return run[kind](x, hx, flat(kind, n, v), True, layers, 0.0, True, both, True)[0]
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
            y = run[kind](packed.data, packed.batch_sizes, hx, flat(kind, n, v), True, layers, 0.0, True, both)[0]
            return nn.utils.rnn.pad_packed_sequence(nn.utils.rnn.PackedSequence(y, packed.batch_sizes), batch_first=True, total_length=x.shape[1])[0]
        return f

    x, n = {"x": ("b t i", randn(3, 4, 2))}, 3
    lengths = torch.tensor([4, 2, 1])
    mask = {"m": ("b t", (torch.arange(4) < lengths[:, None]).long())}
    for kind in gates:
        layer = kind + "_layer"
        case(layer, "%s(x, %d)" % (layer, n), x, forward(kind, n, 1, False), weights(kind, layer, 2, n))
        p = {**weights(kind, kind + ".first.forward", 2, n), **weights(kind, kind + ".first.backward", 2, n),
             **weights(kind, kind + ".next.0.forward", 2 * n, n), **weights(kind, kind + ".next.0.backward", 2 * n, n)}
        args = "layers = 2, bidirectional = true"
        case(kind, "%s(x, %d, %s)" % (kind, n, args), x, forward(kind, n, 2, True), p)
        case(kind + "_lengths", "%s(x, %d, %s, mask = m != 0)" % (kind, n, args), {**x, **mask}, forward(kind, n, 2, True, lengths), p)


def norms():
    x = ("b y x c", randn(3, 2, 4, 6))
    g = {"gain": randn(6), "bias": randn(6)}

    def named(op, keys=("gain", "bias")):
        return {"%s.%s" % (op, k): g[k] for k in keys}

    def bn(train):
        def f(x, gain, bias):
            m, v = mean.clone(), var.clone()
            y = last(F.batch_norm(first(x), m, v, gain, bias, training=train, momentum=0.2, eps=1e-3))
            return y, ({"batchnorm.running_mean": m, "batchnorm.running_var": v} if train else {})
        return f
    mean, var = randn(6), randn(6).abs() + 0.5
    states = {"batchnorm.running_mean": mean, "batchnorm.running_var": var}
    for train in (True, False):
        case("batchnorm_" + ("train" if train else "infer"), "batchnorm(a, eps = 1e-3, momentum = 0.2)", {"a": x}, bn(train), named("batchnorm"), states, infer=not train)
    case("layernorm", "layernorm(a)", {"a": x}, lambda x, g, b: F.layer_norm(x, (6,), g, b), named("layernorm"))
    case("rmsnorm", "rmsnorm(a)", {"a": x}, lambda x, g: F.rms_norm(x, (6,), g, eps=1e-6), named("rmsnorm", ("gain",)))
    case("groupnorm", "groupnorm(a, 3, y, x)", {"a": x}, lambda x, g, b: last(F.group_norm(first(x), 3, g, b)), named("groupnorm"))
    case("instancenorm", "instancenorm(a, y, x)", {"a": x}, lambda x, g, b: last(F.instance_norm(first(x), weight=g, bias=b)), named("instancenorm"))


def convolutions():
    def c1(name, arg, n=4, k=3, **o):
        g = o.get("groups", 1)
        w = {"conv1d.w": randn(k, 3 * g // g if g == 1 else 6 // g, n), "conv1d.b": randn(n)}
        case(name, "conv1d(a, %d, %d%s)" % (n, k, arg), {"a": ("b t c", randn(2, 9, 3 if g == 1 else 6))},
             lambda x, w, b: last(F.conv1d(first(x), w.permute(2, 1, 0), b, **o)), w)
    c1("conv1d", "")
    c1("conv1d_stride", ", stride = 2, pad = 2, dilation = 2", stride=2, padding=2, dilation=2)
    c1("conv1d_groups", ", groups = 2, pad = 1", groups=2, padding=1)

    def c2(name, arg, c=3, n=4, k=3, shape=(6, 5), **o):
        w = {"conv2d.w": randn(k, k, c // o.get("groups", 1), n), "conv2d.b": randn(n)}
        case(name, "conv2d(a, %d, %d%s)" % (n, k, arg), {"a": ("b y x c", randn(2, *shape, c))},
             lambda x, w, b: last(F.conv2d(first(x), w.permute(3, 2, 0, 1), b, **o)), w)
    c2("conv2d", "")
    c2("conv2d_pad", ", pad = 1", padding=1)
    c2("conv2d_stride", ", stride = 2, pad = 2, dilation = 2", stride=2, padding=2, dilation=2)
    c2("conv2d_groups", ", groups = 2, pad = 1", c=4, n=6, groups=2, padding=1)
    c2("conv2d_depthwise", ", groups = 4, pad = 1", c=4, n=4, groups=4, padding=1)
    c2("conv2d_point", "", k=1)

    def t1(name, arg, n=4, k=3, **o):
        w = {"conv1d_transpose.w": randn(3, k, n), "conv1d_transpose.b": randn(n)}
        case(name, "conv1d_transpose(a, %d, %d%s)" % (n, k, arg), {"a": ("b t c", randn(2, 5, 3))},
             lambda x, w, b: last(F.conv_transpose1d(first(x), w.permute(0, 2, 1), b, **o)), w)
    t1("conv1d_transpose", "")
    t1("conv1d_transpose_stride", ", stride = 3, pad = 1, dilation = 2, more = 1", stride=3, padding=1, dilation=2, output_padding=1)

    def t2(name, arg, n=4, k=3, **o):
        w = {"conv2d_transpose.w": randn(3, k, k, n), "conv2d_transpose.b": randn(n)}
        case(name, "conv2d_transpose(a, %d, %d%s)" % (n, k, arg), {"a": ("b y x c", randn(2, 3, 4, 3))},
             lambda x, w, b: last(F.conv_transpose2d(first(x), w.permute(0, 3, 1, 2), b, **o)), w)
    t2("conv2d_transpose", "")
    t2("conv2d_transpose_stride", ", stride = 2, pad = 1, more = 1", stride=2, padding=1, output_padding=1)
    case("depthwise", "depthwise(a, 3, stride = 2, pad = 2, dilation = 2)", {"a": ("b y x c", randn(2, 7, 6, 4))},
         lambda x, w, b: last(F.conv2d(first(x), w.permute(3, 2, 0, 1), b, stride=2, padding=2, dilation=2, groups=4)),
         {"depthwise.conv2d.w": randn(3, 3, 1, 4), "depthwise.conv2d.b": randn(4)})


def pools():
    a1, a2 = {"a": ("b t c", randn(2, 9, 3))}, {"a": ("b y x c", randn(2, 7, 5, 3))}
    for name, expr, inputs, fn in [
        ("max_pool1d", "max_pool1d(a, 3, stride = 2, pad = 1)", a1, lambda x: F.max_pool1d(x, 3, 2, 1)),
        ("avg_pool1d", "avg_pool1d(a, 3, stride = 2, pad = 1)", a1, lambda x: F.avg_pool1d(x, 3, 2, 1)),
        ("adaptive_avg_pool1d", "adaptive_avg_pool1d(a, 4)", a1, lambda x: F.adaptive_avg_pool1d(x, 4)),
        ("adaptive_max_pool1d", "adaptive_max_pool1d(a, 4)", a1, lambda x: F.adaptive_max_pool1d(x, 4)),
        ("max_pool2d", "max_pool2d(a, 3, stride = 2, pad = 1)", a2, lambda x: F.max_pool2d(x, 3, 2, 1)),
        ("max_pool2d_dilation", "max_pool2d(a, 2, stride = 1, dilation = 2)", a2, lambda x: F.max_pool2d(x, 2, 1, 0, 2)),
        ("avg_pool2d", "avg_pool2d(a, 2)", a2, lambda x: F.avg_pool2d(x, 2)),
        ("avg_pool2d_pad", "avg_pool2d(a, 3, stride = 2, pad = 1)", a2, lambda x: F.avg_pool2d(x, 3, 2, 1)),
        ("adaptive_avg_pool2d", "adaptive_avg_pool2d(a, 3, 4)", a2, lambda x: F.adaptive_avg_pool2d(x, (3, 4))),
        ("adaptive_max_pool2d", "adaptive_max_pool2d(a, 3, 4)", a2, lambda x: F.adaptive_max_pool2d(x, (3, 4))),
        ("upsample", "upsample(a, 2)", a2, lambda x: F.interpolate(x, scale_factor=2, mode="nearest")),
        ("resize_nearest", "resize_nearest(a, 9, 3)", a2, lambda x: F.interpolate(x, (9, 3), mode="nearest")),
        ("resize_up", "resize(a, 14, 10)", a2, lambda x: F.interpolate(x, (14, 10), mode="bilinear")),
        ("resize_down", "resize(a, 3, 4)", a2, lambda x: F.interpolate(x, (3, 4), mode="bilinear")),
    ]:
        case(name, expr, inputs, lambda x, fn=fn: last(fn(first(x))))


def activations():
    x = {"x": ("i0 i1", 3 * randn(5, 7))}
    for name, expr, fn in [
        ("relu", "relu(x)", F.relu), ("leaky_relu", "leaky_relu(x, 0.2)", lambda x: F.leaky_relu(x, 0.2)),
        ("elu", "elu(x, 1.5)", lambda x: F.elu(x, 1.5)), ("gelu", "gelu(x)", F.gelu),
        ("gelu_tanh", "gelu_tanh(x)", lambda x: F.gelu(x, approximate="tanh")), ("silu", "silu(x)", F.silu),
        ("softplus", "softplus(x)", F.softplus), ("mish", "mish(x)", F.mish), ("hardswish", "hardswish(x)", F.hardswish),
        ("softmax", "softmax(x)", lambda x: F.softmax(x, -1)), ("log_softmax", "log_softmax(x)", lambda x: F.log_softmax(x, -1)),
    ]:
        case(name, expr, x, fn)


# ---- attention ----

def mha_weights(p, prefix, key, cross=False):
    """PyTorch's names and layouts from ours, so that gradients reach ours."""
    g = lambda k: p["%s.%s" % (prefix, k)]
    w = torch.cat([g("q.w"), g("dense.w")], 1) if cross else g("dense.w")
    b = torch.cat([g("q.b"), g("dense.b")]) if cross else g("dense.b")
    return {key + "in_proj_weight": w.T, key + "in_proj_bias": b, key + "out_proj.weight": g("dense_2.w").T, key + "out_proj.bias": g("dense_2.b")}


def linear(p, ours, key):
    return {key + ".weight": p[ours + ".w"].T, key + ".bias": p[ours + ".b"]}


def norm(p, ours, key):
    return {key + ".weight": p[ours + ".gain"], key + ".bias": p[ours + ".bias"]}


def attention_shapes(prefix, c, cross=False):
    s = {"q.w": (c, c), "q.b": (c,), "dense.w": (c, 2 * c), "dense.b": (2 * c,)} if cross else {"dense.w": (c, 3 * c), "dense.b": (3 * c,)}
    s.update({"dense_2.w": (c, c), "dense_2.b": (c,)})
    return {"%s.%s" % (prefix, k): 0.4 * randn(*v) for k, v in s.items()}


def attention():
    c, x = 6, {"x": ("b t c", randn(2, 4, 6))}
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 1, 1]])
    mha = nn.MultiheadAttention(c, 2, batch_first=True)
    a = "self_attention"

    def run(x, p, **o):
        return torch.func.functional_call(mha, mha_weights(p, a, ""), (x, x, x), dict(need_weights=False, **o))[0]

    p = attention_shapes(a, c)
    k = list(p)
    case("self_attention", "self_attention(x, 2)", x, lambda x, *v: run(x, dict(zip(k, v))), p)
    causal = torch.triu(torch.ones(4, 4, dtype=torch.bool), 1)
    case("self_attention_causal", "self_attention(x, 2, causal = true)", x, lambda x, *v: run(x, dict(zip(k, v)), attn_mask=causal), p)
    case("self_attention_mask", "self_attention(x, 2, mask = m != 0)", {**x, "m": ("b t", mask)},
         lambda x, m, *v: run(x, dict(zip(k, v)), key_padding_mask=m == 0), p)

    def encoder(t, post):
        """A block at path t: its parameters, and PyTorch's from their values by name."""
        p = {**attention_shapes(t + "." + a, c), t + ".feed_forward.dense.w": 0.4 * randn(c, 8), t + ".feed_forward.dense.b": randn(8),
             t + ".feed_forward.dense_2.w": 0.4 * randn(8, c), t + ".feed_forward.dense_2.b": randn(c)}
        norms = [t + ".x", t + ".layernorm"] if post else [t + ".layernorm", t + ".layernorm_2"]
        for n in norms:
            p.update({n + ".gain": randn(c), n + ".bias": randn(c)})
        layer = nn.TransformerEncoderLayer(c, 2, 8, 0.0, F.gelu, norm_first=not post, batch_first=True)

        def f(x, q):
            w = {**mha_weights(q, t + "." + a, "self_attn."), **linear(q, t + ".feed_forward.dense", "linear1"),
                 **linear(q, t + ".feed_forward.dense_2", "linear2"), **norm(q, norms[0], "norm1"), **norm(q, norms[1], "norm2")}
            return torch.func.functional_call(layer, w, (x,))
        return p, f

    def block(post):
        p, f = encoder("transformer", post)
        case("transformer_" + ("post" if post else "pre"), "transformer(x, 2, 8, post = %s)" % str(post).lower(), x, lambda x, *v: f(x, dict(zip(p, v))), p)
    block(False)
    block(True)

    def decode(post, own=None):
        t = "decoder"
        p = {**attention_shapes(t + "." + a, c), **attention_shapes(t + ".cross_attention", c, True),
             t + ".feed_forward.dense.w": 0.4 * randn(c, 8), t + ".feed_forward.dense.b": randn(8),
             t + ".feed_forward.dense_2.w": 0.4 * randn(8, c), t + ".feed_forward.dense_2.b": randn(c)}
        norms = [t + ".x", t + ".x_2", t + ".layernorm"] if post else [t + ".layernorm", t + ".layernorm_2", t + ".layernorm_3"]
        for n in norms:
            p.update({n + ".gain": randn(c), n + ".bias": randn(c)})
        layer = nn.TransformerDecoderLayer(c, 2, 8, 0.0, F.gelu, norm_first=not post, batch_first=True)
        k = list(p)

        def f(x, m, *v):
            v = v if own is None else v[1:]                       # the mask
            q = dict(zip(k, v))
            w = {**mha_weights(q, t + "." + a, "self_attn."), **mha_weights(q, t + ".cross_attention", "multihead_attn.", True),
                 **linear(q, t + ".feed_forward.dense", "linear1"), **linear(q, t + ".feed_forward.dense_2", "linear2")}
            for i, n in enumerate(norms):
                w.update(norm(q, n, "norm%d" % (i + 1)))
            return torch.func.functional_call(layer, w, (x, m), dict(tgt_mask=causal, tgt_key_padding_mask=None if own is None else own == 0))
        inputs = {**x, "memory": ("b s e", randn(2, 3, c))}
        if own is None:
            case("decoder_" + ("post" if post else "pre"), "decoder(x, memory, 2, 8, post = %s)" % str(post).lower(), inputs, f, p)
        else:
            case("decoder_own", "decoder(x, memory, 2, 8, own = m != 0)", {**inputs, "m": ("b t", own)}, f, p)
    decode(False)
    decode(True)

    def turned(x):  # Su et al. 2021, by complex numbers
        t, d = x.shape[1], x.shape[2]
        angle = torch.arange(t)[:, None] * 10000.0 ** (-torch.arange(0, d, 2) / d)
        return torch.view_as_real(torch.view_as_complex(x.reshape(*x.shape[:2], d // 2, 2)) * torch.polar(torch.ones_like(angle), angle)).reshape(x.shape)
    case("turn", "turn(x, t, c)", {"x": ("b t c", randn(2, 7, 6))}, turned)

    def wave(x):
        t, d = x.shape[1], x.shape[2]
        pe = torch.zeros(t, d)
        div = torch.exp(torch.arange(0, d, 2) * (-math.log(10000.0) / d))
        pe[:, 0::2], pe[:, 1::2] = torch.sin(torch.arange(t)[:, None] * div), torch.cos(torch.arange(t)[:, None] * div)
        return x + pe
    case("sinusoid", "sinusoid(x)", {"x": ("b t c", randn(2, 7, 6))}, wave)

    def cross(x, m, *v):
        return torch.func.functional_call(mha, mha_weights(dict(zip(p, v)), "cross_attention", "", True), (x, m, m), dict(need_weights=False))[0]
    p = attention_shapes("cross_attention", c, True)
    case("cross_attention", "cross_attention(x, memory, 2)", {**x, "memory": ("b s e", randn(2, 3, c))}, cross, p)
    two = lambda t: {t + ".dense.w": randn(c, 4), t + ".dense.b": randn(4), t + ".dense_2.w": randn(4, c), t + ".dense_2.b": randn(c)}
    case("feed_forward", "feed_forward(x, 4)", x, lambda x, w, b, v, d: F.linear(F.gelu(F.linear(x, w.T, b)), v.T, d), two("feed_forward"))

    def asked(z, query, w, b):  # one place asks
        k, v = F.linear(z, w.T, b).chunk(2, -1)
        return F.scaled_dot_product_attention(query.expand(z.shape[0], 1, c), k, v)[:, 0]
    query = lambda t: {t + ".query": randn(c), t + ".dense.w": 0.4 * randn(c, 2 * c), t + ".dense.b": randn(2 * c)}
    case("query_attention", "query_attention(z)", {"z": ("b m c", randn(2, 3, c))}, asked, query("query_attention"))
    modalities = {k: ("b c", randn(2, c)) for k in ("x", "y", "z")}
    case("modality_attention", "modality_attention(x, y, z)", modalities, lambda x, y, z, *v: asked(torch.stack((x, y, z), 1), *v),
         query("modality_attention.query_attention"))

    t = "multimodal_transformer"
    p1, f1 = encoder(t + ".transformer.0", False)
    p2, f2 = encoder(t + ".transformer.1", False)
    more = {t + ".positions.p": randn(3, c), t + ".layernorm.gain": randn(c), t + ".layernorm.bias": randn(c)}
    p = {**more, **p1, **p2}

    def tokens(x, y, z, *v):
        q = dict(zip(p, v))
        h = f2(f1(torch.stack((x, y, z), 1) + q[t + ".positions.p"], q), q)
        return F.layer_norm(h, (c,), q[t + ".layernorm.gain"], q[t + ".layernorm.bias"]).mean(1)
    case(t, t + "(x, y, z, layers = 2, heads = 2, hidden = 8)", modalities, tokens, p)
    decode(False, mask)


# ---- blocks ----

def blocks():
    img = {"a": ("b y x c", randn(2, 4, 5, 6))}

    def mlp(v, w1, b1, w2, b2):
        return F.relu(v @ w1 + b1) @ w2 + b2
    two = lambda p: {p + ".dense.w": randn(6, 3), p + ".dense.b": randn(3), p + ".dense_2.w": randn(3, 6), p + ".dense_2.b": randn(6)}
    case("squeeze_excitation", "squeeze_excitation(a, ratio = 2)", img,
         lambda x, *p: x * torch.sigmoid(mlp(x.mean((1, 2)), *p))[:, None, None], two("squeeze_excitation.mlp"))

    def cbam(x, w1, b1, w2, b2, k):
        x = x * torch.sigmoid(mlp(x.mean((1, 2)), w1, b1, w2, b2) + mlp(x.amax((1, 2)), w1, b1, w2, b2))[:, None, None]
        maps = torch.stack([x.mean(-1), x.amax(-1)], 1)
        return x * torch.sigmoid(last(F.conv2d(maps, k.permute(3, 2, 0, 1), padding=1)))
    case("cbam", "cbam(a, ratio = 2, kernel = 3)", img, cbam, {**two("cbam.mlp"), "cbam.conv2d.w": randn(3, 3, 2, 1)})

    def nonlocal_(x, theta, phi, g, w, b):
        v = x.reshape(2, 20, 6)
        a = torch.softmax((v @ theta) @ (v @ phi).transpose(1, 2), -1)
        return x + (a @ (v @ g) @ w + b).reshape(x.shape)
    case("nonlocal", "nonlocal(a)", {"a": ("b y x c", 0.5 * img["a"][1])}, nonlocal_,
         {"nonlocal.dense.w": 0.4 * randn(6, 3), "nonlocal.dense_2.w": 0.4 * randn(6, 3), "nonlocal.dense_3.w": randn(6, 3), "nonlocal.w": randn(3, 6), "nonlocal.b": randn(6)})
    for h, w in ((4, 4), (3, 5)):
        x = {"a": ("b y x c", randn(2, h, w, 3))}
        case("global_filter_%d%d" % (h, w), "global_filter(a)", x,
             lambda x, re, im: torch.fft.irfft2(torch.fft.rfft2(x, dim=(1, 2)) * torch.complex(re, im), s=(h, w), dim=(1, 2)),
             {"global_filter.re": randn(h, w // 2 + 1, 3), "global_filter.im": randn(h, w // 2 + 1, 3)})

    def experts(x, r, w1, b1, w2, b2):
        top = torch.topk(r, 2, -1)
        gate = torch.zeros_like(r).scatter(-1, top.indices, torch.softmax(top.values, -1))
        y = torch.stack([F.relu(x @ w1[e] + b1[e]) @ w2[e] + b2[e] for e in range(4)], 1)
        return (gate[..., None] * y).sum(1)
    case("experts", "experts(x, r, 2, 5)", {"x": ("b c", randn(6, 3)), "r": ("b e", randn(6, 4))}, experts,
         {"experts.w1": randn(4, 3, 5), "experts.b1": randn(4, 5), "experts.w2": randn(4, 5, 3), "experts.b2": randn(4, 3)})

    def gated(a, b, wz, bz, wb, bb, wa, ba):
        z = torch.sigmoid(torch.cat([a, b], 1) @ wz + bz)
        return z * torch.tanh(a @ wa + ba) + (1 - z) * torch.tanh(b @ wb + bb)
    case("gated_fusion", "gated_fusion(a, b, 4)", {"a": ("n c", randn(5, 3)), "b": ("n c", randn(5, 2))}, gated,
         {"gated_fusion.dense.w": randn(5, 4), "gated_fusion.dense.b": randn(4), "gated_fusion.dense_2.w": randn(2, 4), "gated_fusion.dense_2.b": randn(4),
          "gated_fusion.dense_3.w": randn(3, 4), "gated_fusion.dense_3.b": randn(4)})


# ---- losses ----

def losses():
    z, y = ("b", 2 * randn(9)), ("b", randn(9))
    n = dict(reduction="none")
    case("huber", "huber(z, y, delta = 0.7)", {"z": z, "y": y}, lambda z, y: F.huber_loss(z, y, delta=0.7, **n))
    bit = ("b", (randn(9) > 0).double())
    case("bce", "bce(z, stop(y), positive_weight = 3)", {"z": z, "y": bit},
         lambda z, y: F.binary_cross_entropy_with_logits(z, y.detach(), pos_weight=torch.tensor(3.0), **n))
    zc, ids, w = ("b c", randn(9, 4)), ("b", torch.randint(0, 4, (9,))), ("c", randn(4).abs())
    case("cross_entropy", "cross_entropy(z, y)", {"z": zc, "y": ids}, lambda z, y: F.cross_entropy(z, y, **n))
    case("cross_entropy_all", "cross_entropy(z, y, weight = stop(w), smoothing = 0.2, ignore = 1)", {"z": zc, "y": ids, "w": w},
         lambda z, y, w: F.cross_entropy(z, y, weight=w.detach(), label_smoothing=0.2, ignore_index=1, **n))
    p = ("b c", torch.softmax(randn(9, 4), -1))
    case("kl", "kl(z, stop(y))", {"z": zc, "y": p}, lambda z, y: F.kl_div(F.log_softmax(z, -1), y.detach(), **n).sum(-1))
    case("cosine_distance", "cosine_distance(z, y)", {"z": zc, "y": ("b c", randn(9, 4))}, lambda z, y: 1 - F.cosine_similarity(z, y))

    def nt(z, y):
        n = z.shape[0]
        u = F.normalize(torch.cat([z, y]), dim=1)
        s = (u @ u.T / 0.5).masked_fill(torch.eye(2 * n, dtype=torch.bool), -math.inf)
        e = F.cross_entropy(s, torch.arange(2 * n).roll(n), reduction="none")
        return 0.5 * (e[:n] + e[n:])
    case("nt_xent", "nt_xent(z, y)", {"z": ("b c", randn(5, 4)), "y": ("b c", randn(5, 4))}, nt)
    case("distillation", "distillation(z, stop(y), temperature = 3)", {"z": zc, "y": ("b c", randn(9, 4))},
         lambda z, y: 9 * F.kl_div(F.log_softmax(z / 3, -1), F.softmax(y.detach() / 3, -1), **n).sum(-1))

    def focal(z, y):
        ce = F.binary_cross_entropy_with_logits(z, y.detach(), **n)
        return (1 - torch.exp(-ce)) ** 2 * ce
    case("focal", "focal(z, stop(y))", {"z": z, "y": bit}, focal)
    case("uncertain", "uncertain(z, stop(y), mse)", {"z": z, "y": y},
         lambda z, y, s: F.gaussian_nll_loss(z, y.detach(), s.exp().expand(9), **n), {"uncertain.noise_weighted.s": randn(1)[0]})
    case("noise_weighted", "noise_weighted(z, 1)", {"z": z}, lambda z, s: z / s.exp() + 0.5 * s, {"noise_weighted.s": randn(1)[0]})


# ---- sound ----

def sound():
    def spectrum(x):
        return (torch.stft(x, 64, 40, window=torch.hann_window(64), center=False, return_complex=True).abs() ** 2).transpose(1, 2)
    x = {"x": ("b t", randn(2, 400))}
    case("power_spectrum", "x |> frames(64, 40) |> hann |> power_spectrum", x, spectrum)
    case("power_spectrum_odd", "power_spectrum(x, n = 9)", {"x": ("b s", randn(3, 7))}, lambda x: torch.fft.rfft(x, n=9).abs() ** 2)

    def dct(v, n):
        m = v.shape[-1]
        w = torch.cos(math.pi / m * (torch.arange(m)[:, None] + 0.5) * torch.arange(n)) * math.sqrt(2 / m)
        w[:, 0] /= math.sqrt(2)
        return v @ w
    case("dct", "dct(x, 4)", {"x": ("b m", randn(3, 7))}, lambda x: dct(x, 4))
    mel = lambda f: 1127.010480 * torch.log1p(f / 700)

    def mfcc(x):  # triangles that are straight on the mel scale, as HTK has them
        at, lo, hi = mel(torch.linspace(0, 4000, 33)), mel(torch.tensor(20.0)), mel(torch.tensor(4000.0))
        edge = torch.linspace(float(lo), float(hi), 12)
        up, down = (at[:, None] - edge[:-2]) / (edge[1] - edge[0]), (edge[2:] - at[:, None]) / (edge[1] - edge[0])
        return dct(torch.log(spectrum(x) @ torch.clamp(torch.minimum(up, down), min=0)), 6)
    case("mfcc", "mfcc(x, 8000, count = 6, n = 64, hop = 40, filters = 10, low = 20, high = 4000)", x, mfcc)

    import torchaudio.compliance.kaldi as kaldi  # another's idea of it, tested against Kaldi's own
    options = dict(sample_frequency=8000.0, frame_length=32.0, frame_shift=10.0, window_type="hamming", num_ceps=6, num_mel_bins=10, low_freq=20.0, high_freq=4000.0,
                   dither=0.0, preemphasis_coefficient=0.0, cepstral_lifter=0.0, remove_dc_offset=False, round_to_power_of_two=False, use_energy=False)
    spoken = {"x": ("b t", randn(2, 420))}
    case("mfcc_kaldi", "mfcc(x, 8000, count = 6, n = 256, hop = 80, filters = 10, low = 20, high = 4000, taper = hamming)", spoken,
         lambda x: torch.stack([kaldi.mfcc(v[None], **options) for v in x]))


def pictures():
    """Fourier transforms as rows and columns; blocks of whole networks."""
    for h, w in ((4, 4), (3, 5)):
        case("spectrum_%d%d" % (h, w), "spectrum(a, one = false)", {"a": ("b y x c", randn(2, h, w, 3))},
             lambda x: torch.stack((torch.fft.rfft2(x, dim=(1, 2)).real, torch.fft.rfft2(x, dim=(1, 2)).imag), 1))
        case("of_spectrum_%d%d" % (h, w), "of_spectrum(f, %d, %d, one = false)" % (h, w), {"f": ("b m v u c", randn(2, 2, h, w // 2 + 1, 3))},
             lambda f, h=h, w=w: torch.fft.irfft2(torch.complex(f[:, 0], f[:, 1]), s=(h, w), dim=(1, 2)))

    mean, var = torch.zeros(5), torch.ones(5)
    states = {"resnet_block.%s.running_%s" % (k, m): v for k in ("batchnorm", "batchnorm_2") for m, v in (("mean", mean), ("var", var))}

    def resnet(x, k1, g1, b1, k2, g2, b2):
        m1, v1, m2, v2 = (v.clone() for v in states.values())
        z = F.conv2d(first(x), k1.permute(3, 2, 0, 1), stride=2, padding=1)
        z = F.relu(F.batch_norm(z, m1, v1, g1, b1, training=True))
        z = F.batch_norm(F.conv2d(z, k2.permute(3, 2, 0, 1), padding=1), m2, v2, g2, b2, training=True)
        return F.relu(last(z) + F.pad(x[:, ::2, ::2], (0, 2))), dict(zip(states, (m1, v1, m2, v2)))
    norm = lambda k: {"resnet_block.batchnorm%s.gain" % k: randn(5), "resnet_block.batchnorm%s.bias" % k: randn(5)}
    case("resnet_block", "resnet_block(a, 5, stride = 2)", {"a": ("b y x c", randn(2, 5, 4, 3))}, resnet,
         {"resnet_block.conv2d.w": randn(3, 3, 3, 5), **norm(""), "resnet_block.conv2d_2.w": randn(3, 3, 5, 5), **norm("_2")}, states)

    def unit(path, c, n):
        return {path + ".conv2d.w": randn(3, 3, c, n), path + ".batchnorm.gain": randn(n), path + ".batchnorm.bias": randn(n),
                path + ".conv2d_2.w": randn(3, 3, n, n), path + ".batchnorm_2.gain": randn(n), path + ".batchnorm_2.bias": randn(n)}

    def running(path, n):
        return {"%s.%s.running_%s" % (path, k, m): v for k in ("batchnorm", "batchnorm_2") for m, v in (("mean", torch.zeros(n)), ("var", torch.ones(n)))}

    def twice(x, states, k1, g1, b1, k2, g2, b2):
        m1, v1, m2, v2 = (v.clone() for v in states.values())
        z = F.relu(F.batch_norm(F.conv2d(first(x), k1.permute(3, 2, 0, 1), padding=1), m1, v1, g1, b1, training=True))
        z = F.relu(F.batch_norm(F.conv2d(z, k2.permute(3, 2, 0, 1), padding=1), m2, v2, g2, b2, training=True))
        return last(z), dict(zip(states, (m1, v1, m2, v2)))
    s = running("conv_block", 4)
    case("conv_block", "conv_block(a, 4)", {"a": ("b y x c", randn(2, 4, 3, 2))}, lambda x, *p: twice(x, s, *p), unit("conv_block", 2, 4), s)
    up, t = "unet_up.conv_block", running("unet_up.conv_block", 3)
    case("unet_up", "unet_up(a, b, 3)", {"a": ("b y x c", randn(2, 2, 3, 4)), "b": ("b y x c", randn(2, 4, 6, 2))},
         lambda a, b, w, d, *p: twice(torch.cat((last(F.conv_transpose2d(first(a), w.permute(0, 3, 1, 2), d, stride=2)), b), -1), t, *p),
         {"unet_up.conv2d_transpose.w": randn(4, 2, 2, 3), "unet_up.conv2d_transpose.b": randn(3), **unit(up, 5, 3)}, t)

    def gfnet(x, g1, b1, re, im, g2, b2, w1, c1, w2, c2):
        z = torch.fft.rfft2(F.layer_norm(x, (6,), g1, b1), dim=(1, 2)) * torch.complex(re, im)
        z = F.layer_norm(torch.fft.irfft2(z, s=x.shape[1:3], dim=(1, 2)), (6,), g2, b2)
        return x + F.gelu(z @ w1 + c1) @ w2 + c2
    g = "gfnet_block."
    case("gfnet_block", "gfnet_block(a, 5)", {"a": ("b y x c", randn(2, 4, 3, 6))}, gfnet,
         {g + "layernorm.gain": randn(6), g + "layernorm.bias": randn(6), g + "global_filter.re": randn(4, 2, 6), g + "global_filter.im": randn(4, 2, 6),
          g + "layernorm_2.gain": randn(6), g + "layernorm_2.bias": randn(6), g + "feed_forward.dense.w": randn(6, 5), g + "feed_forward.dense.b": randn(5),
          g + "feed_forward.dense_2.w": randn(5, 6), g + "feed_forward.dense_2.b": randn(6)})


class Lion(torch.optim.Optimizer):
    """Algorithm 2 of Chen et al. 2023, which PyTorch does not have."""

    def __init__(self, params, lr, b1, b2, decay):
        super().__init__(params, dict(lr=lr, b1=b1, b2=b2, decay=decay))

    @torch.no_grad()
    def step(self):
        for o in self.param_groups:
            for p in o["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                update = (o["b1"] * m + (1 - o["b1"]) * p.grad).sign()
                p -= o["lr"] * (update + o["decay"] * p)
                m.mul_(o["b2"]).add_((1 - o["b2"]) * p.grad)


class Penalised(torch.optim.SGD):
    """Gradients cut by value, then the derivatives of both penalties added."""

    def __init__(self, params, lr, l1, l2, clip):
        super().__init__(params, lr, weight_decay=l2)
        self.l1, self.clip = l1, clip

    def step(self):
        for p in self.param_groups[0]["params"]:
            nn.utils.clip_grad_value_(p, self.clip)
            p.grad += self.l1 * p.detach().sign()
        super().step()


def rules():
    o = torch.optim
    rule("adam", "adam(b1 = 0.8)", lambda p, lr: o.Adam(p, lr, betas=(0.8, 0.999)))
    rule("adam_l2", "adam(l2 = 0.1)", lambda p, lr: o.Adam(p, lr, weight_decay=0.1))
    rule("adamw", "adamw(decay = 0.2)", lambda p, lr: o.AdamW(p, lr, weight_decay=0.2))
    rule("sgd", "sgd()", lambda p, lr: o.SGD(p, lr))
    rule("sgd_momentum", "sgd(momentum = 0.9, l2 = 0.1)", lambda p, lr: o.SGD(p, lr, momentum=0.9, weight_decay=0.1))
    rule("sgd_nesterov", "sgd(momentum = 0.9, nesterov = true)", lambda p, lr: o.SGD(p, lr, momentum=0.9, nesterov=True))
    rule("rmsprop", "rmsprop()", lambda p, lr: o.RMSprop(p, lr))
    rule("rmsprop_momentum", "rmsprop(momentum = 0.9)", lambda p, lr: o.RMSprop(p, lr, momentum=0.9))
    rule("adagrad", "adagrad()", lambda p, lr: o.Adagrad(p, lr))
    rule("lion", "lion(decay = 0.2)", lambda p, lr: Lion(p, lr, 0.9, 0.99, 0.2))
    rule("sgd_penalties", "sgd(l1 = 0.2, l2 = 0.1, clip = 0.5)", lambda p, lr: Penalised(p, lr, 0.2, 0.1, 0.5))


for part in (layers, recurrent_layers, norms, convolutions, pools, activations, attention, blocks, losses, sound, pictures, rules):
    torch.manual_seed(7)
    part()
print(made, "cases")
