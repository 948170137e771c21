# Folding, neutral operands, signs: what binary() in simplify.c knows.
graph t(batch = 1) {
  i0: f32[4] = input("a")
  i1: f32[4] = input("b")
  a: f32[4] = input(at=[0])
  b: f32[4] = input(at=[1])
  one: f32[4] = const(1)
  two: f32[4] = const(2)
  zero: f32[4] = const(0)
  a1: f32[4] = mul(one, a)            # a
  a2: f32[4] = add(a1, zero)          # a
  nb: f32[4] = neg(b)
  d: f32[4] = add(a2, nb)             # a - b
  nn: f32[4] = neg(nb)                # b
  four: f32[4] = mul(two, two)
  m: f32[4] = mul(two, d)
  m2: f32[4] = mul(m, four)           # (a - b) * 8
  q: f32[4] = div(m2, two)            # by a reciprocal
  s: f32[4] = pow(nn, two)            # b * b
  y: f32[4] = add(s, q)
  y2: f32[4] = add(q, s)              # the same node
  z: f32[4] = sub(zero, a)            # -a
  x0: f32[4] = mul(a, zero)           # stays: a may be NaN
  output("y", "value", y)
  output("y2", "value", y2)
  output("z", "value", z)
  output("x0", "value", x0)
}
