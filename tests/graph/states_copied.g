# Updates that are no values of their own: a state itself, another state, an input, one value twice.
graph t(batch = 1) {
  i0: f32[6] = input("g")
  s0: f32[6] = state("a", space="opt")
  s1: f32[6] = state("b", space="stat")
  s2: f32[6] = state("c", space="stat")
  s3: f32[6] = state("d", space="stat")
  s4: f32[6] = state("e", space="stat")
  g: f32[6] = input(at=[0])
  a: f32[6] = state(at=[0])
  b: f32[6] = state(at=[1])
  e: f32[6] = exp(b)
  update(0, a)
  update(1, a)
  update(2, g)
  update(3, e)
  update(4, e)
  output("y", "value", e)
}
