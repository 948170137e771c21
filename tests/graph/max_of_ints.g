# The greatest of whole numbers.
graph fuzz(batch = 1) {
  i0: i32[2, 2, 1, 1] = input("cut1", below=4)
  v0: i32[2, 2, 1, 1] = input(at=[0])
  v1: i32[2, 1] = reduce_max(v0, at=[0, 2])
  output("y1", "value", v1)
}
