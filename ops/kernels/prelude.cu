/* What generated CUDA kernels call. */
#pragma nv_diag_suppress 177 /* an axis that no index needs */
typedef unsigned char uint8_t;
typedef int int32_t;
typedef unsigned uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#define MM_INF __int_as_float(0x7f800000)
#define INT32_MIN (-2147483647 - 1)

#define mm_abs(x) fabsf(x)
#define mm_sign(x) ((float)((x) > 0) - (float)((x) < 0))
#define mm_exp(x) expf(x)
#define mm_log(x) logf(x)
#define mm_log1p(x) log1pf(x)
#define mm_sqrt(x) sqrtf(x)
#define mm_rsqrt(x) rsqrtf(x) /* 2 ulp */
#define mm_tanh(x) tanhf(x)
#define mm_sigmoid(x) (1.0f / (1.0f + expf(-(x))))
#define mm_floor(x) floorf(x)
#define mm_pow(x, y) powf(x, y)

/* sin and cos as the C prelude has them, k pi taken off in double: sinf's own way for large angles takes so many registers
   that a kernel with a few of them spills. Beyond 2^40 as if x were 0; infinity gives NaN. */
__device__ __forceinline__ float
mm_sin_parts(float x, double half)
{
	double d = fabsf(x) < 0x1p40f ? x : x - x, n = rint(d * 0x1.45f306dc9c883p-2 + half), k = n - half;
	float r = (float)fma(-k, 0x1.0b4611a626331p-33, fma(-k, 0x1.921fb544p+1, d)), s = r * r, q = -0x1.b88f84p-26f;
	q = fmaf(q, s, 0x1.72e718p-19f);
	q = fmaf(q, s, -0x1.a024ap-13f);
	q = fmaf(q, s, 0x1.111138p-7f);
	q = fmaf(q, s, -0x1.555556p-3f);
	return ((long long)n & 1) ? -fmaf(q * s, r, r) : fmaf(q * s, r, r);
}
__device__ __forceinline__ float mm_sin(float x) { return x == 0.0f ? x : mm_sin_parts(x, 0.0); }
__device__ __forceinline__ float mm_cos(float x) { return mm_sin_parts(x, 0.5); }

/* a P(a^2) / Q(a^2), a = x within 3.84, where this is 1 exactly, as erf is beyond: half as many instructions as erff, which
   chooses among coefficients; 5 units in the last place. P and Q from tests/prelude/fit.py. */
__device__ __forceinline__ float
mm_erf(float x)
{
	float a, r;
	asm("min.NaN.f32 %0, %1, 0f4075D638;" : "=f"(a) : "f"(x));
	asm("max.NaN.f32 %0, %1, 0fC075D638;" : "=f"(a) : "f"(a));
	const float s = a * a;
	float p = 0x1.c1b66ap-27f, q = 0x1.01c79ap-22f;
	p = fmaf(p, s, 0x1.da6b98p-20f), q = fmaf(q, s, 0x1.da6eb4p-18f);
	p = fmaf(p, s, 0x1.7be02ep-16f), q = fmaf(q, s, 0x1.7ed056p-14f);
	p = fmaf(p, s, 0x1.5408cap-12f), q = fmaf(q, s, 0x1.6e5298p-11f);
	p = fmaf(p, s, 0x1.30058cp-10f), q = fmaf(q, s, 0x1.94de4ap-9f);
	p = fmaf(p, s, 0x1.c94074p-8f), q = fmaf(q, s, 0x1.953a96p-8f);
	asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(q));
	return a * p * r;
}

/* Every kernel begins so: here it waits for those that it depends on, beside which it was launched, and then lets those that depend on it
   be launched, which wait in turn (programmatic dependent launch). */
__device__ __forceinline__ void
mm_begin()
{
#if __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.wait;" ::: "memory");
	asm volatile("griddepcontrol.launch_dependents;");
#endif
}

/* A block that works long by itself: those that wait for it would keep others from the multiprocessors. */
__device__ __forceinline__ void
mm_begin_alone()
{
#if __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* NaN wins */
#define mm_max(a, b) ((a) > (b) || (a) != (a) ? (a) : (b))
#define mm_min(a, b) ((a) < (b) || (a) != (a) ? (a) : (b))

__device__ __forceinline__ int mm_id(int i, int last) { return i < 0 ? 0 : i > last ? last : i; }
__device__ __forceinline__ int mm_idiv(int a, int b) { return b == 0 ? 0 : b == -1 ? (int)(0u - (unsigned)a) : a / b; }
__device__ __forceinline__ int mm_imod(int a, int b) { return b == 0 || b == -1 ? 0 : a % b; }

/* The two words of Philox-2x32-10 (Salmon et al. 2011) of a counter (i, step). */
struct mm_words { uint32_t lo, hi; };
__device__ __forceinline__ mm_words
mm_philox(uint32_t seed, uint32_t step, uint32_t site, uint32_t i)
{
	uint32_t key = seed ^ (site * 0x9E3779B9u + 0x7F4A7C15u), lo = i, hi = step;
#pragma unroll
	for (int r = 0; r < 10; r++) {
		uint32_t h = __umulhi(0xD256D193u, lo), l = 0xD256D193u * lo;
		lo = h ^ key ^ hi;
		hi = l;
		key += 0x9E3779B9u;
	}
	return mm_words{lo, hi};
}

/* Random bits of an element: those of two are the words of a counter. */
__device__ __forceinline__ uint32_t
mm_random_bits(uint32_t seed, uint32_t step, uint32_t site, uint32_t i)
{
	const mm_words w = mm_philox(seed, step, site, i >> 1);
	return i & 1 ? w.hi : w.lo;
}

/* Uniform in [0, 1), by the upper 24 bits: less than p if the bits are less than p * 2^24, rounded up, times 256. */
__device__ __forceinline__ float mm_uniform(uint32_t bits) { return (float)(bits >> 8) * 0x1p-24f; }
__device__ __forceinline__ float
mm_random(uint32_t seed, uint32_t step, uint32_t site, uint32_t i)
{
	return mm_uniform(mm_random_bits(seed, step, site, i));
}

/* A keyed bijection on [0, n): six Feistel rounds on the next even number of bits, walked until inside. */
__device__ __forceinline__ int
mm_shuffle(int i, int n, int key)
{
	int bits = 2;
	if (n <= 1)
		return 0;
	while (bits < 32 && (1ll << bits) < n)
		bits += 2;
	int half = bits / 2;
	uint32_t mask = (1u << half) - 1, x = (uint32_t)(i % n);
	do {
		uint32_t l = x >> half, r = x & mask;
		for (uint32_t k = 0; k < 6; k++) {
			uint32_t t = r * 0x9E3779B1u + (uint32_t)key + k * 0x85EBCA6Bu, next;
			t ^= t >> 15, t *= 0x2C1B3C6Du, t ^= t >> 12, t *= 0x297A2D39u, t ^= t >> 15;
			next = l ^ (t & mask);
			l = r;
			r = next;
		}
		x = l << half | r;
	} while (x >= (uint32_t)n);
	return (int)x;
}

/* The upper half of a float, rounded to nearest even. */
struct __align__(2) bf16 {
	unsigned short bits;
	bf16() = default;
	__device__ __forceinline__ explicit bf16(float x) /* as the lower of two: the conversion of one takes eight times as long */
	{
		uint32_t two;
		asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(0.0f), "f"(x));
		bits = (unsigned short)two;
	}
	__device__ __forceinline__ operator float() const { return __uint_as_float((unsigned)bits << 16); }
};

/* Four elements at once, at a place divisible by their size. */
template <class T> struct __align__(4 * sizeof(T)) mm_four { T v[4]; };
template <class T> __device__ __forceinline__ void
mm_load4(T *v, const T *p)
{
	const mm_four<T> x = *(const mm_four<T> *)p;
#pragma unroll
	for (int i = 0; i < 4; i++)
		v[i] = x.v[i];
}
template <class T> __device__ __forceinline__ void
mm_store4(T *p, const T *v)
{
	mm_four<T> x;
#pragma unroll
	for (int i = 0; i < 4; i++)
		x.v[i] = v[i];
	*(mm_four<T> *)p = x;
}

template <class T> __device__ __forceinline__ void
mm_copy4(T *to, const T *from) /* in registers */
{
#pragma unroll
	for (int i = 0; i < 4; i++)
		to[i] = from[i];
}

struct mm_sum { template <class T> static __device__ __forceinline__ T f(T a, T b) { return a + b; } };
struct mm_maximum {
	static __device__ __forceinline__ int f(int a, int b) { return mm_max(a, b); }
	static __device__ __forceinline__ float f(float a, float b) /* mm_max of numbers, in one instruction */
	{
		float x;
		asm("max.NaN.f32 %0, %1, %2;" : "=f"(x) : "f"(a), "f"(b));
		return x;
	}
};

/* Combines v over the N neighbouring threads of a row, N a power of two: the same tree in every run. Every thread of
   the block calls it. */
template <int N, class F, class T> __device__ __forceinline__ T
mm_combine(T v)
{
#pragma unroll
	for (int d = (N < 32 ? N : 32) / 2; d > 0; d /= 2)
		v = F::f(v, __shfl_xor_sync(0xffffffffu, v, d));
	if constexpr (N > 32) {
		__shared__ T part[32];
		const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
		if (lane == 0)
			part[warp] = v;
		__syncthreads();
		v = part[lane % (N / 32)];
#pragma unroll
		for (int d = N / 64; d > 0; d /= 2)
			v = F::f(v, __shfl_xor_sync(0xffffffffu, v, d));
		__syncthreads();
	}
	return v;
}

/* Combines v over the lanes of a warp that are equal modulo N, to all of them. */
template <int N, class F, class T> __device__ __forceinline__ T
mm_across(T v)
{
#pragma unroll
	for (int d = 16; d >= N; d /= 2)
		v = F::f(v, __shfl_xor_sync(0xffffffffu, v, d));
	return v;
}

/* The sum of N floats, one every `step`, in order. */
template <int N> __device__ __forceinline__ float
mm_down(const float *part, int step)
{
	float s = part[0];
#pragma unroll
	for (int i = 1; i < N; i++)
		s += part[i * step];
	return s;
}

/* Combines v over the Y threads of each of SIDE places side by side, in an order that is always the same. Every thread of the
   block calls it, and has the result. */
template <int Y, int SIDE, class F, class T> __device__ __forceinline__ T
mm_columns(T v)
{
	constexpr int WARPS = Y * SIDE / 32;
	__shared__ T part[WARPS][SIDE];
	const int place = threadIdx.x % SIDE;
	part[threadIdx.x / 32][place] = mm_across<SIDE, F>(v);
	__syncthreads();
	v = part[0][place];
#pragma unroll
	for (int y = 1; y < WARPS; y++)
		v = F::f(v, part[y][place]);
	__syncthreads();
	return v;
}

/* The same for four values a thread. */
template <int Y, int SIDE, class F, class T> __device__ __forceinline__ void
mm_columns4(T *v)
{
	constexpr int WARPS = Y * SIDE / 32;
	__shared__ mm_four<T> part[WARPS][SIDE];
	const int place = threadIdx.x % SIDE;
	mm_four<T> x;
#pragma unroll
	for (int i = 0; i < 4; i++)
		x.v[i] = mm_across<SIDE, F>(v[i]);
	part[threadIdx.x / 32][place] = x;
	__syncthreads();
	x = part[0][place];
#pragma unroll
	for (int y = 1; y < WARPS; y++) {
		const mm_four<T> p = part[y][place];
#pragma unroll
		for (int i = 0; i < 4; i++)
			x.v[i] = F::f(x.v[i], p.v[i]);
	}
#pragma unroll
	for (int i = 0; i < 4; i++)
		v[i] = x.v[i];
	__syncthreads();
}

/* Sorts the positions 0 .. N - 1 by id (clamped to [0, V)), equal ids in order: the 1024 threads of one block, a radix sort of
   8 bits a pass. out: the N positions; V + 1 places where the ids 0 .. V start; the N ids in that order. A warp owns a
   run of positions, so that its counters need no atomics and the order is the same in every run. */
static __device__ __noinline__ void
mm_sort(int N, int V, const int *id, int *out)
{
	constexpr int U = 2;
	asm("" : "+r"(N), "+r"(V)); /* no copy of all this for each size */
	const int passes = V <= 256 ? 1 : V <= 65536 ? 2 : V <= 1 << 24 ? 3 : 4, share = (N + 1024 * U - 1) / (1024 * U) * 32 * U;
	__shared__ int count[32][256], total[256];
	const int t = threadIdx.x, lane = t % 32, warp = t / 32, from = warp * share;
	int *const start = out + N, *const temp = start + V + 1;
#pragma unroll 1
	for (int pass = 0; pass < passes; pass++) {
		int *const to = (passes - pass) % 2 ? out : temp;
		const int *const order = (passes - pass) % 2 ? temp : out;
		for (int i = t; i < 32 * 256; i += 1024)
			(&count[0][0])[i] = 0;
		__syncthreads();
#pragma unroll 1
		for (int place = 0; place < 2; place++) { /* count, then place */
			for (int i = from + lane; i < from + share; i += 32 * U) {
				int p[U], key[U];
#pragma unroll
				for (int u = 0; u < U; u++) {
					const int e = i + u * 32;
					p[u] = e < N && pass ? order[e] : e;
					key[u] = e < N ? mm_id(id[p[u]], V - 1) >> 8 * pass & 255 : 256;
				}
#pragma unroll
				for (int u = 0; u < U; u++) {
					const unsigned peers = __match_any_sync(0xffffffffu, key[u]), before = peers & ((1u << lane) - 1);
					if (place && key[u] < 256)
						to[count[warp][key[u]] + __popc(before)] = p[u];
					__syncwarp();
					if (!before && key[u] < 256)
						count[warp][key[u]] += __popc(peers);
					__syncwarp();
				}
			}
			__syncthreads();
			if (place)
				break;
			int sum = 0; /* of digit t in earlier warps */
			for (int w = 0; w < 32 && t < 256; w++) {
				const int n = count[w][t];
				count[w][t] = sum;
				sum += n;
			}
			if (t < 256)
				total[t] = sum;
			__syncthreads();
			for (int d = 1; d < 256; d *= 2) {
				const int x = t < 256 && t >= d ? total[t - d] : 0;
				__syncthreads();
				if (t < 256)
					total[t] += x;
				__syncthreads();
			}
			for (int i = t; i < 32 * 256; i += 1024)
				(&count[0][0])[i] += i % 256 ? total[i % 256 - 1] : 0;
			__syncthreads();
		}
	}
	for (int e = t; e < N; e += 1024)
		temp[e] = mm_id(id[out[e]], V - 1);
	__syncthreads();
	for (int r = t; r <= V; r += 1024) {
		int lo = 0, hi = N; /* the first place whose id is at least r */
		while (lo < hi) {
			const int mid = (lo + hi) / 2;
			if (temp[mid] < r)
				lo = mid + 1;
			else
				hi = mid;
		}
		start[r] = lo;
	}
}

/* ---- small matrix products, one warp each, on the tensor cores ---- */

__device__ __forceinline__ void
mm_mma(float *d, const uint32_t *a, uint32_t b0, uint32_t b1)
{
	asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
	    : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Copies a bf16 matrix of R rows and K columns into rows of K + 8 in shared memory: rows then start in different
   banks. rs, cs: strides of the source; one is 1; V: the other and the start are divisible by 8. */
template <int R, int K, bool V> __device__ __forceinline__ void
mm_stage(bf16 *to, const bf16 *from, int rs, int cs)
{
	const int lane = threadIdx.x % 32;
	if (V && cs == 1) {
#pragma unroll
		for (int i = lane; i < R * K / 8; i += 32) {
			const int r = i / (K / 8), c = i % (K / 8) * 8;
			*(uint4 *)&to[r * (K + 8) + c] = *(const uint4 *)&from[r * rs + c];
		}
	} else if (V && rs == 1) {
#pragma unroll
		for (int i = lane; i < R * K / 8; i += 32) {
			const int c = i / (R / 8), r = i % (R / 8) * 8;
			const uint4 x = *(const uint4 *)&from[c * cs + r];
			const bf16 *e = (const bf16 *)&x;
#pragma unroll
			for (int j = 0; j < 8; j++)
				to[(r + j) * (K + 8) + c] = e[j];
		}
	} else {
		for (int i = lane; i < R * K; i += 32)
			to[i / K * (K + 8) + i % K] = from[i / K * rs + i % K * cs];
	}
}

/* c[M, N] = a[M, K] b[K, N], summed in f32; M and K multiples of 16, N of 8. tile: (M + N) * (K + 8) elements of shared
   memory, this warp's own. Fragments as the PTX manual lays them out for mma.m16n8k16. */
template <int M, int N, int K, bool V, class C> __device__ __forceinline__ void
mm_small_dot(bf16 *tile, const bf16 *a, int ars, int acs, const bf16 *b, int brs, int bcs, C *c, int crs)
{
	bf16 *at = tile, *bt = tile + M * (K + 8); /* b stands transposed */
	const int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4 * 2;
	mm_stage<M, K, V>(at, a, ars, acs);
	mm_stage<N, K, V>(bt, b, bcs, brs);
	__syncwarp();
#pragma unroll
	for (int m = 0; m < M; m += 16) {
		uint32_t fa[K / 16][4];
#pragma unroll
		for (int k = 0; k < K / 16; k++) {
			const bf16 *p = &at[(m + g) * (K + 8) + k * 16 + q];
			fa[k][0] = *(const uint32_t *)p;
			fa[k][1] = *(const uint32_t *)(p + 8 * (K + 8));
			fa[k][2] = *(const uint32_t *)(p + 8);
			fa[k][3] = *(const uint32_t *)(p + 8 * (K + 8) + 8);
		}
#pragma unroll
		for (int n = 0; n < N; n += 8) {
			float d[4] = {0, 0, 0, 0};
#pragma unroll
			for (int k = 0; k < K / 16; k++) {
				const bf16 *p = &bt[(n + g) * (K + 8) + k * 16 + q];
				const uint32_t b0 = *(const uint32_t *)p, b1 = *(const uint32_t *)(p + 8);
				mm_mma(d, fa[k], b0, b1);
			}
			struct __align__(2 * sizeof(C)) Pair { C x, y; };
			*(Pair *)&c[(m + g) * crs + n + q] = Pair{(C)d[0], (C)d[1]};
			*(Pair *)&c[(m + g + 8) * crs + n + q] = Pair{(C)d[2], (C)d[3]};
		}
	}
}

/* ---- tiles of products, for compiler/emit_tile.c: thread (g, q) of a warp as the PTX manual lays out mma.m16n8k16 ---- */

/* Copies that run on while the thread goes on; a group is what was asked for since the last commit. */
__device__ __forceinline__ void mm_commit(void) { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ __forceinline__ void mm_wait(void) { asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory"); }

template <class E> __device__ __forceinline__ void
mm_fetch(E *to, const E *from)
{
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from) : "memory");
}

/* The same of B bytes, or zeros; through the nearer cache, for neighbouring windows share most of what they read. */
template <int B, class E> __device__ __forceinline__ void
mm_fetch_if(E *to, const E *from, bool there)
{
	asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;"
	             :: "r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from), "n"(B), "r"(there ? B : 0) : "memory");
}

/* Asks for N rows of D neighbours, `stride` apart, to rows of D + 8 in shared memory; by T threads, this the t-th. */
template <int N, int D, int T, class E> __device__ __forceinline__ void
mm_tile_fetch(E *to, const E *from, int stride, int t)
{
	constexpr int W = 16 / sizeof(E), P = D / W; /* pieces a row */
	if constexpr (T % P == 0 && N % (T / P) == 0) {
		const int row = t / P, c = t % P * W;
		from += row * stride + c;
		to += row * (D + 8) + c;
#pragma unroll
		for (int r = 0; r < N; r += T / P)
			mm_fetch(to + r * (D + 8), from + r * stride);
	} else {
		for (int i = t; i < N * P; i += T)
			mm_fetch(&to[i / P * (D + 8) + i % P * W], &from[i / P * stride + i % P * W]);
	}
}

/* Keeps the loads of both where they are written: the compiler would put each where it is needed, behind a division that another needs,
   and wait for one after the other. */
__device__ __forceinline__ void mm_tile_have(float *v) { asm volatile("" : "+f"(v[0]), "+f"(v[1])); }

/* A condition known when the kernel is compiled. */
template <bool V> struct mm_flag { static constexpr bool value = V; };

/* Random bits of the tile's row g at columns q and q + 1, which are elements i (even) and i + 1. */
__device__ __forceinline__ void
mm_tile_random(uint32_t *bits, uint32_t seed, uint32_t step, uint32_t site, uint32_t i)
{
	const mm_words w = mm_philox(seed, step, site, i >> 1);
	bits[0] = w.lo;
	bits[1] = w.hi;
}

/* The same where elements go on from row to row: i (even) is that of row g - g % 2 at column q + g % 2. The thread with the other row
   of the two has the other column's. */
__device__ __forceinline__ void
mm_tile_random_rows(uint32_t *bits, uint32_t seed, uint32_t step, uint32_t site, uint32_t i)
{
	const mm_words w = mm_philox(seed, step, site, i >> 1);
	const bool odd = threadIdx.x & 4;
	const uint32_t own = odd ? w.hi : w.lo, other = __shfl_xor_sync(0xffffffffu, odd ? w.lo : w.hi, 4);
	bits[0] = odd ? other : own;
	bits[1] = odd ? own : other;
}

/* Left operand: from is row g of the warp's 16 rows. */
template <int D> __device__ __forceinline__ void
mm_tile_rows(uint32_t f[][4], const bf16 *from, int stride)
{
	const bf16 *p = from + threadIdx.x % 4 * 2;
#pragma unroll
	for (int k = 0; k < D / 16; k++) {
		f[k][0] = *(const uint32_t *)(p + k * 16);
		f[k][1] = *(const uint32_t *)(p + k * 16 + (int64_t)8 * stride);
		f[k][2] = *(const uint32_t *)(p + k * 16 + 8);
		f[k][3] = *(const uint32_t *)(p + k * 16 + 8 + (int64_t)8 * stride);
	}
}

/* Four 8 x 8 matrices from shared memory, lane l naming row l % 8 of the one l / 8; the second transposes them on the way. */
__device__ __forceinline__ void
mm_matrices(uint32_t *f, const bf16 *row)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
	             : "=r"(f[0]), "=r"(f[1]), "=r"(f[2]), "=r"(f[3]) : "r"((uint32_t)__cvta_generic_to_shared(row)) : "memory");
}
__device__ __forceinline__ void
mm_matrices_t(uint32_t *f, const bf16 *row)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
	             : "=r"(f[0]), "=r"(f[1]), "=r"(f[2]), "=r"(f[3]) : "r"((uint32_t)__cvta_generic_to_shared(row)) : "memory");
}

/* exp in two instructions, within |x| 2^-24 and 2 ulp: what becomes of it is rounded to bf16. */
__device__ __forceinline__ float
mm_tile_exp(float x)
{
	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(x) : "f"(x * 0x1.715476p+0f));
	return x;
}

template <int N> __device__ __forceinline__ void
mm_step(float d[][4], const uint32_t *a, const uint32_t x[][4])
{
#pragma unroll
	for (int n = 0; n < N / 16; n++) {
		mm_mma(d[2 * n], a, x[n][0], x[n][1]);
		mm_mma(d[2 * n + 1], a, x[n][2], x[n][3]);
	}
}

/* d[16, N] += a[16, 16] b[N, 16]^T, b being 16 columns of rows of D + 8; N is a multiple of 16. */
template <int N, int D> __device__ __forceinline__ void
mm_step_rows(float d[][4], const uint32_t *a, const bf16 *b)
{
	const int lane = threadIdx.x % 32;
	uint32_t x[N / 16][4];
	b += (lane / 16 * 8 + lane % 8) * (D + 8) + lane / 8 % 2 * 8;
#pragma unroll
	for (int n = 0; n < N / 16; n++)
		mm_matrices(x[n], b + n * 16 * (D + 8));
	mm_step<N>(d, a, x);
}

/* d[16, N] += a[16, 16] b[16, N], b being rows of N + 8; N is a multiple of 16. */
template <int N> __device__ __forceinline__ void
mm_step_columns(float d[][4], const uint32_t *a, const bf16 *b)
{
	const int lane = threadIdx.x % 32;
	uint32_t x[N / 16][4];
	b += lane % 16 * (N + 8) + lane / 16 * 8;
#pragma unroll
	for (int n = 0; n < N / 16; n++)
		mm_matrices_t(x[n], b + n * 16);
	mm_step<N>(d, a, x);
}

/* d[16, N] += f[16, D] b[N, D]^T */
template <int N, int D> __device__ __forceinline__ void
mm_tile_dot(float d[][4], const uint32_t f[][4], const bf16 *b)
{
#pragma unroll
	for (int k = 0; k < D / 16; k++)
		mm_step_rows<N, D>(d, f[k], b + k * 16);
}

/* A product's result as bf16 has it. */
template <int N> __device__ __forceinline__ void
mm_tile_round(float d[][4])
{
#pragma unroll
	for (int n = 0; n < N / 8; n++)
#pragma unroll
		for (int e = 0; e < 4; e += 2) {
			uint32_t two;
			asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(d[n][e + 1]), "f"(d[n][e]));
			d[n][e] = __uint_as_float(two << 16);
			d[n][e + 1] = __uint_as_float(two & 0xffff0000u);
		}
}

/* Eight neighbours, each side at a place divisible by 16 bytes, or by all of them. */
template <class T> __device__ __forceinline__ void
mm_move(T *to, const T *from)
{
	constexpr int B = 8 * sizeof(T);
	if constexpr (B >= 16) {
#pragma unroll
		for (int i = 0; i < B / 16; i++)
			((uint4 *)to)[i] = ((const uint4 *)from)[i];
	} else {
		*(uint2 *)to = *(const uint2 *)from;
	}
}

/* o[16, D] += p[16, N] b[N, D], p in the places of a product's result, rounded to bf16. */
template <int N, int D> __device__ __forceinline__ void
mm_tile_add(float o[][4], const float *p, const bf16 *b)
{
#pragma unroll
	for (int k = 0; k < N / 16; k++) {
		uint32_t a[4];
#pragma unroll
		for (int i = 0; i < 4; i++) {
			const float *e = &p[(2 * k + i / 2) * 4 + i % 2 * 2];
			asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(a[i]) : "f"(e[1]), "f"(e[0]));
		}
		mm_step_columns<D>(o, a, &b[k * 16 * (D + 8)]);
	}
}

/* Row g + 8j of o, times `scale`, to the row at `to`. */
template <int D, class C> __device__ __forceinline__ void
mm_tile_store(C *to, const float o[][4], int j, float scale)
{
	struct __align__(2 * sizeof(C)) Pair { C x, y; };
#pragma unroll
	for (int n = 0; n < D / 8; n++)
		*(Pair *)&to[n * 8 + threadIdx.x % 4 * 2] = Pair{(C)(o[n][j * 2] * scale), (C)(o[n][j * 2 + 1] * scale)};
}

/* ---- products of blocks, for compiler/emit_product.c ---- */

/* Place of an element in a tile of N lines of W neighbours: panels of up to 64 neighbours, in which the 16-byte pieces of a
   line are exchanged by the line's number, so that neighbouring lines have theirs in other banks. wgmma reads it so (PTX ISA,
   "Shared memory matrix layout", swizzling of 128, 64 and 32 bytes), if the tile begins at a place divisible by 1024 bytes. */
template <int N, int W> __device__ __forceinline__ int
mm_place(int line, int at)
{
	constexpr int P = W < 64 ? W : 64;
	return at / P * (N * P) + line * P + (at % P / 8 ^ line % 8 / (64 / P)) * 8 + at % 8;
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define MM_WGMMA 1

/* Operand of wgmma: from `from` on, as mm_place has it. LINES: the summed places are its lines, and it has so many. */
template <int W, int LINES> __device__ __forceinline__ uint64_t
mm_operand(const bf16 *from)
{
	constexpr uint64_t P = W < 64 ? W : 64, mode = P == 64 ? 1 : P == 32 ? 2 : 3, panel = LINES ? LINES * P * 2 : 16;
	return (uint32_t)__cvta_generic_to_shared(from) >> 4 | panel >> 4 << 16 | (8 * P * 2) >> 4 << 32 | mode << 62;
}

#define MM_OUT(n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define MM_OUT4(n) MM_OUT(n), MM_OUT(n + 1), MM_OUT(n + 2), MM_OUT(n + 3)
#define MM_MULTIPLY(N, LIST, A, B, TA, TB, ...) \
	asm volatile("{.reg .pred p; setp.eq.u32 p, 0, 0; wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" LIST "}, %" #A ", %" #B ", p, 1, 1, %" #TA ", %" #TB ";}" \
	             : __VA_ARGS__ : "l"(a), "l"(b), "n"(A_T), "n"(B_T))
#define MM_LIST8 "%0,%1,%2,%3,%4,%5,%6,%7"
#define MM_LIST16 MM_LIST8 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define MM_LIST32 MM_LIST16 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define MM_LIST64 MM_LIST32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"

/* d[64, N] += a[64, 16] b[16, N], of four warps, each with 16 rows; it runs on until mm_multiplied. */
template <int N, bool A_T, bool B_T> __device__ __forceinline__ void
mm_multiply(float d[][4], uint64_t a, uint64_t b)
{
	if constexpr (N == 16)
		MM_MULTIPLY(16, MM_LIST8, 8, 9, 10, 11, MM_OUT(0), MM_OUT(1));
	else if constexpr (N == 32)
		MM_MULTIPLY(32, MM_LIST16, 16, 17, 18, 19, MM_OUT4(0));
	else if constexpr (N == 64)
		MM_MULTIPLY(64, MM_LIST32, 32, 33, 34, 35, MM_OUT4(0), MM_OUT4(4));
	else
		MM_MULTIPLY(128, MM_LIST64, 64, 65, 66, 67, MM_OUT4(0), MM_OUT4(4), MM_OUT4(8), MM_OUT4(12));
}
#else
#define MM_WGMMA 0
#endif

/* Without wgmma registers are scarce: what is made of x is made anew for each tile. */
__device__ __forceinline__ int
mm_anew(int x)
{
#if !MM_WGMMA
	asm volatile("" : "+r"(x));
#endif
	return x;
}

/* The product of a block of T threads: R x C results, over K summed places at a time. a[R, K], b[K, C] are tiles as mm_place
   has them: lines are a's rows, or the summed places (A_T); b's columns, or the summed places (B_T).

   start begins with a tile and finish ends with it; between them a thread may ask for other tiles. With wgmma four warps have
   R / (T / 128) rows in common, 16 of each 64 a warp; without, a warp has some rows and up to 64 columns. */
template <int R, int C, int K, int T, bool A_T, bool B_T> struct mm_Product {
	static constexpr int OVER = !MM_WGMMA && C > 64 ? 2 : 1;        /* warps side by side */
	static constexpr int M = R * OVER / (T / 32), N = C / OVER;     /* a warp's results */
	float d[M / 16][N / 8][4] = {};

	/* Rows 16m and on of the warp's, of the block's. */
	__device__ __forceinline__ static int
	row(int m)
	{
		const int warp = threadIdx.x / 32;
		return MM_WGMMA ? warp / 4 * (R / (T / 128)) + m * 64 + warp % 4 * 16 : warp / OVER * M + m * 16;
	}

	__device__ __forceinline__ static int column(void) { return MM_WGMMA ? 0 : threadIdx.x / 32 % OVER * N; }

	__device__ __forceinline__ void
	start(const bf16 *a, const bf16 *b)
	{
#if MM_WGMMA
		asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
		for (int k = 0; k < K; k += 16)
#pragma unroll
			for (int m = 0; m < M / 16; m++) {
				const int line = threadIdx.x / 128 * (R / (T / 128)) + m * 64;
				const uint64_t x = A_T ? mm_operand<R, K>(a + line * K + k * 64) : mm_operand<K, 0>(a + line * K + k);
				const uint64_t y = B_T ? mm_operand<C, K>(b + k * (C < 64 ? C : 64)) : mm_operand<K, 0>(b + k);
				mm_multiply<C, A_T, B_T>(d[m], x, y);
			}
		asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
	}

	__device__ __forceinline__ void
	finish(const bf16 *a, const bf16 *b)
	{
#if MM_WGMMA
		asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#else
		const int lane = mm_anew(threadIdx.x) % 32, low = lane % 16, high = lane / 16 * 8, mixed = lane / 16 * 8 + lane % 8, half = lane / 8 % 2 * 8;
#pragma unroll
		for (int k = 0; k < K; k += 16) {
			uint32_t f[M / 16][4];
#pragma unroll
			for (int m = 0; m < M / 16; m++)
				if (A_T)
					mm_matrices_t(f[m], a + mm_place<K, R>(k + mixed, row(m) + half));
				else
					mm_matrices(f[m], a + mm_place<R, K>(row(m) + low, k + high));
#pragma unroll
			for (int n = 0; n < N / 16; n++) {
				uint32_t x[1][4];
				if (B_T)
					mm_matrices_t(x[0], b + mm_place<K, C>(k + low, column() + n * 16 + high));
				else
					mm_matrices(x[0], b + mm_place<C, K>(column() + n * 16 + mixed, k + half));
#pragma unroll
				for (int m = 0; m < M / 16; m++)
					mm_step<16>(d[m] + 2 * n, f[m], x);
			}
		}
#endif
	}

	/* The results into rows of S in shared memory. */
	template <int S, class E> __device__ __forceinline__ void
	keep(E *to) const
	{
		struct __align__(2 * sizeof(E)) Pair { E x, y; };
		to += column() + threadIdx.x % 32 / 4 * S + threadIdx.x % 4 * 2;
#pragma unroll
		for (int m = 0; m < M / 8; m++)
#pragma unroll
			for (int n = 0; n < N / 8; n++)
				*(Pair *)&to[(row(m / 2) + m % 2 * 8) * S + n * 8] = Pair{(E)d[m / 2][n][m % 2 * 2], (E)d[m / 2][n][m % 2 * 2 + 1]};
	}
};

/* What this block's threads have brought into shared memory is there for all of them, and for wgmma. */
__device__ __forceinline__ void
mm_brought(void)
{
#if MM_WGMMA
	asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
	__syncthreads();
}
