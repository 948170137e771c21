# A long sum of padded pairs: conditional loads in a loop of two places, which gcc 12 reads from elsewhere unless it is told to make vectors.
graph fuzz(batch = 1) {
  i0: f32[9] = input("x0")
  v0: f32[9] = input(at=[0])
  v3: f32[8192] = pad(v0, at=[5137, 1])
  v4: f32[4096, 1, 1, 2] = reshape(v3)
  v5: f32[1, 1, 2] = reduce_sum(v4, at=[0])
  output("loss", "value", v5)
}
