# An index whose rest is negative: % and / of C are not a floor's.
graph fuzz(batch = 1) {
  i0: f32[1, 2, 1, 2, 1] = input("cut5")
  v0: f32[1, 2, 1, 2, 1] = input(at=[0])
  v1: f32[1, 2, 1, 2] = reshape(v0)
  v2: f32[1, 3, 1] = fold(v1, at=[1, 1, 1])
  output("d.cut1", "value", v2)
}
