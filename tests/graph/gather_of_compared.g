# An id that a comparison gives, of a table that is one: gcc 12 took it for the comparison's mask.
graph t(batch = 1) {
  i0: f32[21, 1] = input("x2")
  v0: f32[21, 1] = input(at=[0])
  v1: f32[21, 1] = const(0.25)
  v2: bool[21, 1] = lt(v0, v1)
  v3: i32[21, 1] = cast(v2)
  v4: i32[21, 1, 1] = gather(v3, v3)
  output("y1", "value", v4)
}
