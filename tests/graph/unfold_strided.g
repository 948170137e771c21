# Windows laid over one another, of a product, of which a part is wanted: a product over windows of its operand.
graph t(batch = 1) {
  i0: f32[2, 4, 6] = input("g")
  i1: f32[3, 5, 6] = input("w")
  v0: f32[2, 4, 6] = input(at=[0])
  v1: f32[3, 5, 6] = input(at=[1])
  v2: f32[2, 4, 3, 5, 6] = expand(v0, at=[0, 1, -1, -1, 2])
  v3: f32[2, 4, 3, 5, 6] = expand(v1, at=[-1, -1, 0, 1, 2])
  v4: f32[2, 4, 3, 5, 6] = mul(v2, v3)
  v5: f32[2, 4, 3, 5] = reduce_sum(v4, at=[4])
  v6: f32[2, 4, 5, 3] = permute(v5, at=[0, 1, 3, 2])
  v7: f32[2, 10, 5] = fold(v6, at=[1, 2, 1])
  v8: f32[2, 8, 5] = slice(v7, at=[0, 1, 0, 1, 1, 1])
  output("y", "value", v8)
}
