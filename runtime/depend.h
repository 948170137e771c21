/* Dependencies between the instructions of a program. */
#ifndef DEPEND_H
#define DEPEND_H

#include "plan.h"

typedef struct Depend {
	uint32_t n;
	uint32_t *on; /* instructions waited for, latest first */
} Depend;

/* The part of SP_WORK that an instruction writes besides its arguments; 0 bytes: none. */
typedef struct WorkSpan {
	uint64_t off, bytes;
} WorkSpan;

/* Two runs of the program's n instructions, 2n entries: d[n + i] says what instruction i of a repetition waits for, numbers
   below n meaning the repetition before. Nothing older needs an edge: whatever conflicts with it conflicts with its
   repetition in between. work: one an instruction. Memory from a. */
Depend *depend_find(Arena *a, const PlanProgram *p, const WorkSpan *work);

#endif
