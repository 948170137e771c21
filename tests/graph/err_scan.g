graph t(batch = 1) {
  i0: f32[3, 4] = input("x")
  x: f32[3, 4] = input(at=[0])
  zero: f32[4] = const(0)
  b: f32[] = scan(zero, x, at=[3, 0, 1, 1]) {
    h: f32[4] = input(at=[0])
    i: f32[4] = input("x")
    g: f32[] = scan(h, at=[2, 0, 1]) {
      next(h)
    }
    next(zero)
    emit(h)
    next(h)
  }
  c: f32[] = scan(zero, x, at=[4, 0, 1, 1]) {
    h: f32[4] = input(at=[0])
    next(h)
  }
  d: f32[] = scan(zero, x, at=[3, 0, 1, 1]) {
    h: f32[4] = input(at=[0])
    s: f32[] = reduce_sum(h, at=[0])
    next(s)
  }
  e: f32[] = scan(zero, x, at=[3, 0, 2, 1]) {
    h: f32[4] = input(at=[0])
    next(h)
  }
  f: f32[] = scan(zero, x, at=[3, 0, 1, 1]) {
    h: f32[4] = input(at=[0])
    next(h)
    emit(h)
  }
  g: f32[] = scan(zero, at=[3, 0, 1]) {
    s: u32[] = const(1)
    t: i32[] = const(2)
    r: f32[4] = random(s, t, at=[0])
    next(r)
  }
  y: f32[4, 4] = result(f, at=[1])
  z: f32[3, 4] = result(x, at=[0])
  ok: f32[4, 4] = result(f, at=[0])
  output("y", "value", h)
}
