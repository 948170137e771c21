# Views of views become one; elementwise work sinks below what repeats it; sums of what repeats are products.
graph t(batch = 1) {
  i0: f32[2, 3] = input("x")
  x: f32[2, 3] = input(at=[0])
  p: f32[3, 2] = permute(x, at=[1, 0])
  q: f32[2, 3] = permute(p, at=[1, 0])                 # x
  r: f32[6] = reshape(q)
  r2: f32[3, 2] = reshape(r)                           # one reshape
  e: f32[5, 2, 3] = expand(x, at=[-1, 0, 1])
  ex: f32[5, 2, 3] = exp(e)                            # exp once, then repeated
  s: f32[2, 3] = reduce_sum(ex, at=[0])                # exp * 5
  m: f32[5, 3] = reduce_max(ex, at=[1])
  c: f32[2, 2] = slice(x, at=[0, 1, 1, 1])
  c2: f32[1, 2] = slice(c, at=[1, 0, 1, 1])            # one slice
  output("r2", "value", r2)
  output("s", "value", s)
  output("m", "value", m)
  output("c2", "value", c2)
}
