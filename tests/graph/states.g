# A state that is read whole, and in part, by others than its update: all see the value before the step.
graph t(batch = 1) {
  i0: f32[6] = input("g")
  s0: f32[6] = state("m", space="opt")
  s1: f32[] = state("n", space="stat")
  g: f32[6] = input(at=[0])
  m: f32[6] = state(at=[0])
  n: f32[] = state(at=[1])
  half: f32[6] = const(0.5)
  m2: f32[6] = mul(m, half)
  m3: f32[6] = add(m2, g)
  back: f32[2] = slice(m, at=[2, 2])
  s: f32[] = reduce_sum(m, at=[0])
  n2: f32[] = add(n, s)
  b2: f32[2] = exp(back)
  update(0, m3)
  update(1, n2)
  output("back", "value", b2)
}
