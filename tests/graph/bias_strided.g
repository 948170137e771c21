# A bias that is not contiguous is no epilogue of a matrix product.
graph fuzz(batch = 1) {
  i0: f32[33] = input("cut1")
  i1: f32[2, 2] = input("cut3")
  i2: f32[2, 2] = input("cut5")
  v0: f32[33] = input(at=[0])
  v1: f32[2, 2] = input(at=[1])
  v2: f32[2, 2] = input(at=[2])
  v3: f32[2, 2, 2] = expand(v1, at=[0, 1, -1])
  v4: f32[2, 2, 2] = expand(v2, at=[1, -1, 0])
  v5: f32[2, 2, 2] = mul(v3, v4)
  v6: f32[2, 2] = reduce_sum(v5, at=[0])
  v7: f32[2] = slice(v0, at=[29, 3])
  v8: f32[2, 2] = expand(v7, at=[-1, 0])
  v9: f32[2, 2] = add(v6, v8)
  output("y0", "value", v9)
}
