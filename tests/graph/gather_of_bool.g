# An index from a comparison, in a loop that is vectorised: gcc 12 read element -1 for 1.
graph gather_of_bool(batch = 1) {
  i0: f32[2] = input("x0")
  i1: f32[2, 2] = input("x2")
  v0: f32[2] = input(at=[0])
  v1: f32[2, 2] = input(at=[1])
  v2: f32[2, 2] = const(0.25)
  v3: bool[2, 2] = lt(v1, v2)
  v4: i32[2, 2] = cast(v3)
  v5: f32[2, 2] = gather(v0, v4)
  v6: f32[] = reduce_sum(v5, at=[0, 1])
  output("loss", "value", v6)
}
