#!/usr/bin/env python3
"""Derives the polynomial coefficients of ops/kernels/prelude.c and prelude.cu. Not run by the tests.

Remez exchange on the weighted error (Powell, "Approximation Theory and Methods", 1981, ch. 8) in mpmath's arithmetic, then
rounding: coefficients are rounded to the working format one by one, lowest power first, the others fitted anew after
each, so that later ones make up for the rounding of earlier ones. Prints C arrays, highest power first, with the
greatest weighted error of the rounded polynomial as a power of two.

    python3 tests/prelude/fit.py
"""
import mpmath as mp

mp.mp.dps = 60
GRID = 1001


def chebyshev(lo, hi, n):
    return [(lo + hi) / 2 - (hi - lo) / 2 * mp.cos(mp.pi * (i + mp.mpf(1) / 2) / n) for i in range(n)]


def alternation(err, n):
    """Where err is greatest between each two changes of sign; the smallest of these dropped until n are left."""
    at = []
    for i, e in enumerate(err):
        if at and (e > 0) == (err[at[-1]] > 0):
            if abs(e) > abs(err[at[-1]]):
                at[-1] = i
        else:
            at.append(i)
    while len(at) > n:
        if len(at) == n + 1:
            at.pop(0 if abs(err[at[0]]) < abs(err[at[-1]]) else -1)
            continue
        i = min(range(len(at)), key=lambda j: abs(err[at[j]]))
        at.pop(i)
        if 0 < i < len(at):  # its neighbours have one sign: the greater stays
            at.pop(i if abs(err[at[i]]) < abs(err[at[i - 1]]) else i - 1)
    return at


def remez(xs, fx, wx, degree):
    """Coefficients c[0..degree] with the least maximum of |w(x) * (f(x) - sum c[k] x^k)| over the points xs."""
    n = degree + 1
    ref = [round((len(xs) - 1) * (1 - mp.cos(mp.pi * (i + mp.mpf(1) / 2) / (n + 1))) / 2) for i in range(n + 1)]
    for _ in range(20):
        a, b = mp.matrix(n + 1, n + 1), mp.matrix(n + 1, 1)
        for i, r in enumerate(ref):
            for k in range(n):
                a[i, k] = wx[r] * xs[r] ** k
            a[i, n] = (-1) ** i
            b[i] = wx[r] * fx[r]
        c = mp.lu_solve(a, b)[:n]
        err = [w * (y - mp.polyval(c[::-1], x)) for x, y, w in zip(xs, fx, wx)]
        new = alternation(err, n + 1)
        if len(new) < n + 1 or new == ref:
            break
        ref = new
    return c


def rational(xs, fx, wx, p, q):
    """Coefficients of P and Q, Q(0) = 1, with the least maximum of |w(x) * (f(x) - P(x) / Q(x))| over the points xs: the
    exchange again, on P - f Q + (-1)^i e Q' / w = 0, Q' being the Q before."""
    n = p + q + 1
    ref = [round((len(xs) - 1) * (1 - mp.cos(mp.pi * (i + mp.mpf(1) / 2) / (n + 1))) / 2) for i in range(n + 1)]
    den = [mp.mpf(1)] + [mp.mpf(0)] * q
    for _ in range(40):
        a, b = mp.matrix(n + 1, n + 1), mp.matrix(n + 1, 1)
        for i, r in enumerate(ref):
            for k in range(p + 1):
                a[i, k] = wx[r] * xs[r] ** k
            for k in range(1, q + 1):
                a[i, p + k] = -wx[r] * fx[r] * xs[r] ** k
            a[i, n] = (-1) ** i * mp.polyval(den[::-1], xs[r])
            b[i] = wx[r] * fx[r]
        c = mp.lu_solve(a, b)
        num, den = list(c[:p + 1]), [mp.mpf(1)] + list(c[p + 1:n])
        err = [w * (y - mp.polyval(num[::-1], x) / mp.polyval(den[::-1], x)) for x, y, w in zip(xs, fx, wx)]
        new = alternation(err, n + 1)
        if len(new) < n + 1 or new == ref:
            break
        ref = new
    return num, den, max(abs(e) for e in err)


def rounded(x, bits):
    m, e = mp.frexp(x)
    return mp.ldexp(mp.nint(mp.ldexp(m, bits)), int(e) - bits)


def fit(name, f, weight, lo, hi, degree, bits=24):
    xs = chebyshev(mp.mpf(lo), mp.mpf(hi), GRID)
    fx, wx = [f(x) for x in xs], [weight(x) for x in xs]
    c, rest = [], fx
    for k in range(degree + 1):  # f = c[0] + .. + c[k-1] x^(k-1) + x^k rest
        w = [abs(w * x ** k) for x, w in zip(xs, wx)]
        c.append(rounded(remez(xs, rest, w, degree - k)[0], bits))
        rest = [(y - c[k]) / x for x, y in zip(xs, rest)]
    worst = max(abs(w * (y - mp.polyval(c[::-1], x))) for x, y, w in zip(xs, fx, wx))
    print(f"{name}: error 2^{mp.nstr(mp.log(worst, 2), 4)}")
    print("\t" + ", ".join(hexfloat(v) + ("f" if bits == 24 else "") for v in c[::-1]))


def hexfloat(v):
    m, e = float(v).hex().split("p")
    return m.rstrip("0").rstrip(".") + "p" + e


def split(name, value, bits, parts):
    out = []
    for b in bits[:parts]:
        out.append(rounded(value, b))
        value -= out[-1]
    print(f"{name}: " + ", ".join(hexfloat(v) for v in out))


one = mp.mpf(1)
r2 = mp.sqrt(2)
half_ln2 = mp.log(2) / 2 * mp.mpf("1.0005")  # the rounded quotient may be a little past a half

split("ln2 (high part times any exponent is exact)", mp.log(2), [15, 24], 2)
split("log2(e)", 1 / mp.log(2), [24], 1)
split("pi (high part times 2^20 is exact), 1/pi", mp.pi, [33, 53], 2)
split("1/pi", 1 / mp.pi, [53], 1)

# e^r = 1 + r + r^2 Q(r), relative error
fit("exp Q", lambda r: (mp.expm1(r) - r) / r ** 2, lambda r: r ** 2 / mp.exp(r), -half_ln2, half_ln2, 4)

# log(1 + f) = f - f^2 / 2 + f^3 Q(f), relative error
fit("log Q", lambda f: (mp.log1p(f) - f + f * f / 2) / f ** 3, lambda f: f ** 3 / mp.log1p(f), 1 / r2 - 1, r2 - 1, 7)

# tanh x = x + x^3 Q(x^2), relative error, s = x^2
fit("tanh Q", lambda s: (mp.tanh(mp.sqrt(s)) / mp.sqrt(s) - 1) / s, lambda s: s * mp.sqrt(s) / mp.tanh(mp.sqrt(s)),
    "1e-9", 0.625 ** 2, 4)

# erf x = x + x Q(x^2), relative error, s = x^2
fit("erf Q", lambda s: mp.erf(mp.sqrt(s)) / mp.sqrt(s) - 1, lambda s: mp.sqrt(s) / mp.erf(mp.sqrt(s)), "1e-9", 1, 6)

# log(erfc(x)) = Q(x), error of erf
fit("erfc Q", lambda x: mp.log(mp.erfc(x)), lambda x: mp.erfc(x) / mp.erf(x), 1, 4, 7)

# erf x = x P(x^2) / Q(x^2), relative error, s = x^2. prelude.cu has both times 0x1.953a9694a09cp-8 and x up to 0x1.ebac7p+1,
# found by trial: there x P and Q are 1 exactly, in float with FMA.
xs = chebyshev(mp.mpf("1e-9"), mp.mpf("3.84") ** 2, 600)
num, den, worst = rational(xs, [mp.erf(mp.sqrt(s)) / mp.sqrt(s) for s in xs], [mp.sqrt(s) / mp.erf(mp.sqrt(s)) for s in xs], 5, 5)
print(f"erf P / Q: error 2^{mp.nstr(mp.log(worst, 2), 4)}")
for c in num, den:
    print("\t" + ", ".join(hexfloat(rounded(v, 24)) + "f" for v in c[::-1]))

# sin r = r + r^3 Q(r^2), relative error, s = r^2; lowered by up to 2^-26 so that no rounding brings it past 1. In prelude.c
# the third and fourth coefficient are 4 and 1 units above these, found by trial: then the sine of the float nearest to
# pi / 2 is 1 with FMA and without.
def low_sin(s):
    return mp.sin(mp.sqrt(s)) - mp.ldexp(1, -26) * (s / (mp.pi / 2) ** 2) ** 3


fit("sin Q", lambda s: (low_sin(s) / mp.sqrt(s) - 1) / s, lambda s: s * mp.sqrt(s) / mp.sin(mp.sqrt(s)), "1e-9", (mp.pi / 2) ** 2, 4)

# pow, in double: log2(1 + f) = f Q(f), 2^r = Q(r), relative errors
fit("log2 Q", lambda f: mp.log1p(f) / mp.log(2) / f, lambda f: f * mp.log(2) / mp.log1p(f), 1 / r2 - 1, r2 - 1, 12, 53)
fit("exp2 Q", lambda r: 2 ** r, lambda r: 2 ** -r, -one / 2, one / 2, 7, 53)
