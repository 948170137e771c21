graph sums(batch = 1) {
  i0: f32[5] = input("start")
  i1: i32[3] = input("id", below=5)
  start: f32[5] = input(at=[0])
  id: i32[3] = input(at=[1])
  s: f32[] = scan(start, id, at=[4, 0, 1, 0]) {
    h: f32[5] = input(at=[0])
    id: i32[3] = input(at=[1])
    few: f32[3] = slice(h, at=[1, 1])
    sum: f32[5] = scatter_add(id, few)
    y: f32[5] = tanh(sum)
    next(y)
  }
  h: f32[5, 5] = result(s, at=[0])
  output("h", "value", h)
}
