# The new value of a state is a view of the old: it cannot be stored in place.
graph fuzz(batch = 1) {
  s0: f32[11, 3, 13, 1] = state("s2", space="opt")
  v0: f32[11, 3, 13, 1] = state(at=[0])
  v1: f32[11, 3, 8, 1] = slice(v0, at=[0, 0, 3, 0, 1, 1, 1, 1])
  v2: f32[1, 3, 11, 8] = permute(v1, at=[3, 1, 0, 2])
  v3: f32[264] = reshape(v2)
  v4: f32[429] = pad(v3, at=[48, 1])
  v5: f32[11, 3, 13, 1] = reshape(v4)
  update(0, v5)
}
