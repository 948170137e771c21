/* The threads of the CPU device.

   A run hands out [0, n) in chunks. Each thread has a range of its own, the same every time, so that it finds in its cache what it
   left there; when that is done it takes from the others. Nobody waits for a thread that has not begun: where another program
   has a core, the rest does the work, in place of standing at a barrier until the scheduler gives the core back (8 ms, seen with
   libgomp). Who computes a chunk changes no result.

   Between runs a thread looks for work for some microseconds, then sleeps in the kernel. */
#define _GNU_SOURCE
#include "cpu_api.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SPIN 60e-6      /* seconds of looking for work: longer than most instructions of one thread */
#define LOOKS 64        /* between two looks at the clock */
#define CHUNKS 8        /* a thread, at most: few enough to cost nothing, enough to be shared out */
#define LINE 64         /* bytes that cores hand to each other */

/* Chunks of a run that are not yet taken: its number, the next chunk, the end. In one word, so that a thread that comes late takes
   nothing of another run. */
typedef struct Range {
	_Alignas(LINE) _Atomic uint64_t word;
} Range;

struct CpuPool {
	int threads;             /* with the caller */
	Range *range;            /* [threads] */
	pthread_t *thread;       /* [threads - 1] */
	/* the run at hand; written while no chunk is there to take */
	PoolFn *fn;
	void *ctx;
	int64_t n, chunk;
	_Alignas(LINE) _Atomic uint32_t run; /* its number */
	_Atomic uint32_t sleepers;
	_Alignas(LINE) _Atomic uint32_t left; /* chunks that are not done */
	_Atomic bool waits;      /* the caller sleeps till left is 0 */
	_Atomic bool stop;
	bool spin;               /* there is a core for each thread */
};

typedef struct Worker {
	CpuPool *p;
	int id;
} Worker;

static uint64_t pack(uint32_t run, uint32_t next, uint32_t end) { return (uint64_t)run << 32 | next << 16 | end; }

static void
futex_wait(_Atomic uint32_t *at, uint32_t while_it_is)
{
	syscall(SYS_futex, at, FUTEX_WAIT_PRIVATE, while_it_is, NULL, NULL, 0);
}

static void
futex_wake(_Atomic uint32_t *at)
{
	syscall(SYS_futex, at, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static void
relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Looks for a while; did the word change? */
static bool
changed(const CpuPool *p, _Atomic uint32_t *at, uint32_t from)
{
	double end = 0;
	for (;;) {
		for (int i = 0; i < LOOKS; i++) {
			if (atomic_load_explicit(at, memory_order_acquire) != from)
				return true;
			relax();
		}
		double now = now_seconds();
		if (!p->spin || (end && now > end))
			return false;
		end = end ? end : now + SPIN;
	}
}

/* Takes a chunk of the range. False if the run has none left there. */
static bool
take(Range *r, uint32_t run, int64_t *chunk)
{
	uint64_t w = atomic_load_explicit(&r->word, memory_order_acquire);
	for (;;) {
		uint32_t next = w >> 16 & 0xffff, end = w & 0xffff;
		if (w >> 32 != run || next >= end)
			return false;
		if (atomic_compare_exchange_weak_explicit(&r->word, &w, pack(run, next + 1, end), memory_order_acq_rel, memory_order_acquire)) {
			*chunk = next;
			return true;
		}
	}
}

/* Does what is there to do of the run, first in the thread's own range. */
static void
work(CpuPool *p, uint32_t run, int id)
{
	int64_t c;
	for (int i = 0; i < p->threads; i++)
		while (take(&p->range[(id + i) % p->threads], run, &c)) {
			int64_t lo = c * p->chunk, hi = lo + p->chunk;
			p->fn(p->ctx, lo, hi < p->n ? hi : p->n);
			if (atomic_fetch_sub(&p->left, 1) == 1 && atomic_load(&p->waits))
				futex_wake(&p->left);
		}
}

static void *
worker(void *arg)
{
	Worker w = *(Worker *)arg;
	CpuPool *p = w.p;
	uint32_t seen = 0;
	free(arg);
	while (!atomic_load(&p->stop)) {
		if (!changed(p, &p->run, seen)) {
			atomic_fetch_add(&p->sleepers, 1);
			futex_wait(&p->run, seen);
			atomic_fetch_sub(&p->sleepers, 1);
		}
		uint32_t run = atomic_load(&p->run);
		if (run != seen)
			work(p, run, w.id);
		seen = run;
	}
	return NULL;
}

static void
announce(CpuPool *p, uint32_t run)
{
	atomic_store(&p->run, run);
	if (atomic_load(&p->sleepers))
		futex_wake(&p->run);
}

void
cpu_pool_run(CpuPool *p, PoolFn *fn, void *ctx, int64_t n)
{
	int64_t most = (int64_t)p->threads * CHUNKS, chunk = (n + most - 1) / most, chunks = n ? (n + chunk - 1) / chunk : 0;
	uint32_t run = atomic_load_explicit(&p->run, memory_order_relaxed) + 1, left;
	if (p->threads == 1 || chunks < 2) {
		fn(ctx, 0, n);
		return;
	}
	p->fn = fn;
	p->ctx = ctx;
	p->n = n;
	p->chunk = chunk;
	atomic_store(&p->left, (uint32_t)chunks);
	for (int i = 0; i < p->threads; i++)
		atomic_store_explicit(&p->range[i].word, pack(run, (uint32_t)(chunks * i / p->threads), (uint32_t)(chunks * (i + 1) / p->threads)),
		                      memory_order_release);
	announce(p, run);
	work(p, run, 0);
	while ((left = atomic_load(&p->left)))
		if (!changed(p, &p->left, left)) {
			atomic_store(&p->waits, true);
			if ((left = atomic_load(&p->left)))
				futex_wait(&p->left, left);
			atomic_store(&p->waits, false);
		}
}

static int
cores(void)
{
	cpu_set_t set;
	return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

int
cpu_pool_threads(void)
{
	const char *given = getenv("OMP_NUM_THREADS");
	long n = given ? strtol(given, NULL, 10) : 0;
	return n > 0 && n <= MAX_POOL ? (int)n : cores() < MAX_POOL ? cores() : MAX_POOL;
}

/* A number of lines of memory. */
static void *
lines(size_t bytes)
{
	void *p = aligned_alloc(LINE, bytes);
	if (!p)
		abort(); /* as xmalloc does */
	return p;
}

CpuPool *
cpu_pool_open(int threads, Err *e)
{
	CpuPool *p = lines(sizeof *p);
	Range *range = lines((size_t)threads * sizeof *range);
	*p = (CpuPool){.threads = 1, .range = range, .spin = threads <= cores()};
	p->thread = xcalloc((size_t)threads, sizeof *p->thread);
	for (int i = 0; i < threads; i++)
		atomic_init(&range[i].word, 0);
	for (; p->threads < threads; p->threads++) {
		Worker *w = xmalloc(sizeof *w);
		*w = (Worker){p, p->threads};
		int rc = pthread_create(&p->thread[p->threads - 1], NULL, worker, w);
		if (rc) {
			free(w);
			fail(e, "cannot start thread %d of %d: %s: give fewer with --threads", p->threads + 1, threads, strerror(rc));
			cpu_pool_close(p);
			return NULL;
		}
	}
	return p;
}

void
cpu_pool_close(CpuPool *p)
{
	if (!p)
		return;
	atomic_store(&p->stop, true);
	announce(p, atomic_load(&p->run) + 1);
	for (int i = 0; i + 1 < p->threads; i++)
		pthread_join(p->thread[i], NULL);
	free(p->thread);
	free(p->range);
	free(p);
}
