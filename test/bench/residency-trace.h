/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_RESIDENCY_TRACE_H
#define BENCH_RESIDENCY_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A trace: the objects and sessions that a sequence of TPM commands names
 *
 * As text it is a line per command, and a comment after #. A line is a list of things, each with a name of letters and
 * digits: oK uses an object, oK+ makes it and oK- flushes it; s for a session, q for a hash sequence, whose state every
 * use changes. A command that names nothing is left out, since it moves nothing.
 */
typedef enum Kind {
        KIND_OBJECT,
        KIND_SESSION,
        KINDS,
} Kind;

typedef struct Thing {
        Kind kind;
        bool changes;   /* every use changes it: a saved copy does not last */
        uint32_t bytes; /* of its context */
        double odds;    /* of the next use being one of it, where uses are drawn at random */
} Thing;

typedef enum Act {
        ACT_USE,
        ACT_MAKE,
        ACT_FLUSH,
} Act;

typedef struct Use {
        uint32_t thing;
        uint32_t command; /* its number */
        Act act;
} Use;

typedef struct Trace {
        const char *name;
        Thing *things;
        Use *uses;
        size_t n_things, n_uses;
        uint32_t n_commands;
        bool random; /* uses are drawn by odds: no policy can know which comes next, and the bound does */
        unsigned set_size, set_uses; /* the sets that follow each other, n_things in all; 0: there is but one */
} Trace;

void trace_free(Trace *trace);
uint32_t trace_add_thing(Trace *trace, Kind kind, bool changes);
void trace_add_use(Trace *trace, uint32_t thing, Act act); /* in the command of trace->n_commands */

/* Return: false, with a message on stderr, when it cannot be read. */
bool trace_read(const char *path, Trace *ret_trace);

/*
 * So many clients, of which each runs one of the programs over and over, with things of its own, take turns. They begin
 * anywhere in their programs.
 */
#define CLIENTS_MAX 16
Trace trace_crowd(const Trace programs[], unsigned n_programs, unsigned n_clients, uint64_t seed);

/* The synthetic ones. */
typedef struct Workload {
        const char *name;
        void (*make)(Trace *trace, uint64_t seed, const double arguments[3]);
        double arguments[3];
} Workload;

extern const Workload workloads[];
extern const size_t n_workloads;

Trace trace_make(const Workload *workload, uint64_t seed);

#endif
