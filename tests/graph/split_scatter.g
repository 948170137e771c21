# Many positions on few rows: in parts on a GPU alone.
graph t(batch = 1) {
  i0: i32[8192] = input("ids", below=7)
  i1: f32[8192, 3] = input("g")
  ids: i32[8192] = input(at=[0])
  g: f32[8192, 3] = input(at=[1])
  t: f32[7, 3] = scatter_add(ids, g)
  output("t", "value", t)
}
