graph t(batch = 1) {
  x: f32[2, 3] = input(at=[0]
}
