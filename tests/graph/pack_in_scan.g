# A vector of many parts in a loop, one of which is every fourth element of the loop's operand.
graph t(batch = 1) {
  i0: f32[23] = input("x")
  v0: f32[23] = input(at=[0])
  v1: f32[] = const(1)
  v2: f32[6] = slice(v0, at=[2, 4])
  v3: f32[2, 3] = reshape(v2)
  v6: f32[] = scan(v1, v3, at=[2, 0, 1, 1]) {
    v0: f32[1] = const(1)
    v1: f32[4] = const(1)
    v2: f32[3] = input(at=[1])
    v3: f32[3] = const(1)
    v4: f32[2] = const(1)
    v5: f32[23] = concat(v0, v0, v1, v3, v3, v2, v1, v4, v4, at=[0])
    v6: f32[3] = slice(v5, at=[11, 2])
    v10: f32[] = reduce_sum(v6, at=[0])
    next(v10)
  }
  v7: f32[3] = result(v6, at=[0])
  output("y", "value", v7)
}
