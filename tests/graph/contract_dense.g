# dense: sum over i of x[b, i] * w[i, o]; a sum where one factor has every axis stays.
graph t(batch = 1) {
  i0: f32[4, 8] = input("x")
  i1: f32[8, 5] = input("w")
  i2: f32[8] = input("v")
  x: f32[4, 8] = input(at=[0])
  w: f32[8, 5] = input(at=[1])
  v: f32[8] = input(at=[2])
  xe: f32[4, 8, 5] = expand(x, at=[0, 1, -1])
  we: f32[4, 8, 5] = expand(w, at=[-1, 0, 1])
  p: f32[4, 8, 5] = mul(xe, we)
  y: f32[4, 5] = reduce_sum(p, at=[1])
  ve: f32[4, 8] = expand(v, at=[-1, 0])
  pv: f32[4, 8] = mul(x, ve)
  z: f32[4] = reduce_sum(pv, at=[1])
  output("y", "value", y)
  output("z", "value", z)
}
