# A state that is stored in the first walk along its row, and read again in the second.
graph t(batch = 1) {
  i0: f32[294] = input("cut1")
  s0: f32[2] = state("s2", space="opt")
  v0: f32[294] = input(at=[0])
  v1: f32[2] = slice(v0, at=[171, 7])
  v2: f32[2] = state(at=[0])
  v3: f32[] = reduce_sum(v2, at=[0])
  v4: f32[2] = expand(v3, at=[-1])
  v5: f32[2] = sub(v2, v4)
  v6: f32[] = reduce_sum(v5, at=[0])
  v7: f32[] = reduce_sum(v1, at=[0])
  v8: f32[] = add(v6, v7)
  v10: f32[2] = const(1)
  v11: f32[294] = pad(v10, at=[171, 7])
  update(0, v1)
  output("loss", "value", v8)
  output("d.cut1", "value", v11)
}
