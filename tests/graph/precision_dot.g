# Operands of products are rounded to bf16, the result too.
graph t(batch = 1) {
  i0: f32[4, 8] = input("x")
  i1: f32[8, 5] = input("w")
  x: f32[4, 8] = input(at=[0])
  w: f32[8, 5] = input(at=[1])
  y: f32[4, 5] = dot(x, w, at=[0, 1, 1, 2, 0, 2])
  z: f32[4, 5] = exp(y)
  output("z", "value", z)
}
