# States that become constants, of which one is another's, too.
graph constants(batch = 1) {
  n: i32[] = state("run.part", space="stat")
  p: f32[6] = state("param", space="param")
  q: f32[6] = state("ema", space="param")
  v0: i32[] = const(0)
  v1: f32[6] = const(2.5)
  update(0, v0)
  update(1, v1)
  update(2, v1)
}
