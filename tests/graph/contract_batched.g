# Two batch axes, the kept axes of both sides, a summed axis in the middle; and its transpose.
graph t(batch = 1) {
  i0: f32[2, 3, 4, 5] = input("q")
  i1: f32[2, 3, 6, 5] = input("k")
  q: f32[2, 3, 4, 5] = input(at=[0])
  k: f32[2, 3, 6, 5] = input(at=[1])
  qe: f32[2, 3, 4, 6, 5] = expand(q, at=[0, 1, 2, -1, 3])
  ke: f32[2, 3, 4, 6, 5] = expand(k, at=[0, 1, -1, 2, 3])
  p: f32[2, 3, 4, 6, 5] = mul(qe, ke)
  a: f32[2, 3, 4, 6] = reduce_sum(p, at=[4])
  t: f32[2, 3, 6, 4] = permute(a, at=[0, 1, 3, 2])
  output("a", "value", a)
  output("t", "value", t)
}
