# A sum over all of a long array goes in parts; a short one does not.
graph t(batch = 1) {
  i0: f32[16384] = input("x")
  i1: f32[4, 2048] = input("y")
  x: f32[16384] = input(at=[0])
  y: f32[4, 2048] = input(at=[1])
  s: f32[] = reduce_sum(x, at=[0])
  m: f32[] = reduce_max(x, at=[0])
  z: f32[4] = reduce_sum(y, at=[1])
  c: f32[2048] = reduce_sum(y, at=[0])
  output("s", "value", s)
  output("m", "value", m)
  output("z", "value", z)
  output("c", "value", c)
}
