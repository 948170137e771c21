# The gradient of weights: few results, a long sum, which a CPU cuts into parts. A sum that is not so long stays whole.
graph t(batch = 1) {
  i0: f32[16384, 16] = input("x")
  i1: f32[16384, 16] = input("g")
  i2: f32[1024, 64] = input("h")
  v0: f32[16384, 16] = input(at=[0])
  v1: f32[16384, 16] = input(at=[1])
  v2: f32[1024, 64] = input(at=[2])
  v3: f32[16, 16] = dot(v0, v1, at=[0, 1, 0, 2, 1, 2])
  v4: f32[64, 64] = dot(v2, v2, at=[0, 1, 0, 2, 1, 2])
  output("few", "value", v3)
  output("short", "value", v4)
}
