/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "program.h"

#include "broker/broker-internal.h"
#include "resmgr/job.h"
#include "test/lib/fake-tpm.h"

/*
 * The world
 *
 * Clients with programs, the broker, the core, and libtpms behind a back end of the simulation's own, which does what
 * the run tells it to. Nothing in it is a matter of chance or of time once the run is given.
 */

#define CLIENTS_MAX 40
#define EVENTS_MAX 2048
#define UID_FIRST 1000

typedef enum EventKind {
        EVENT_STEP,      /* a client submits the next command of its program */
        EVENT_CLOSE,     /* a client dies, and another one takes its place; @number 1: once it is answered */
        EVENT_IDLE,      /* all is answered, and some time goes by */
        EVENT_CANCEL,    /* a client cancels what it has out, if anything */
        EVENT_FAULT,     /* one of the next answers of the TPM is not what it should be */
        EVENT_RESET,     /* the TPM loses power; @number 1: and somebody starts it up */
        EVENT_NEIGHBOUR, /* somebody else uses the TPM */
        EVENT_STEAL,     /* a client loads what another one saved */
        EVENT_UNRULY,    /* a client changes what is everybody's: Clear, hierarchies, Shutdown */
} EventKind;

typedef struct Event {
        uint8_t kind;
        uint8_t client;
        uint8_t ticks; /* that the world goes on before it */
        uint8_t number;
        uint64_t seed;
} Event;

typedef struct Run {
        uint64_t seed;
        bool faults;
        bool lone;  /* one client whose program fits into the bare TPM */
        bool crowd; /* who is busy asks again as soon as it is answered; users have several connections, or one */
        unsigned pace_us[FAKE_PACES]; /* of the TPM */
        unsigned n_clients;
        unsigned reserve;
        unsigned idle_evict_ms;
        unsigned objects_quota;
        unsigned sessions_quota;
        ProgramLimits limits[CLIENTS_MAX];
        uid_t uids[CLIENTS_MAX];
        unsigned n_events;
        Event events[EVENTS_MAX];
} Run;

typedef struct Transcript {
        unsigned n_lines;
        ProgramLine lines[EVENTS_MAX];
        unsigned n_valid; /* lines beyond it may differ from those of the client alone */
} Transcript;

typedef struct Outcome {
        char failure[256]; /* "": none */
        unsigned event;    /* at which it was noticed */
        uint64_t n_commands;
        uint64_t n_transmits;
        uint64_t n_passed; /* decisions of which the first in the order was not the next one */
        uint64_t digest;   /* of all that went to the TPM, and all that clients were answered but for contents */
        Transcript transcripts[CLIENTS_MAX];
} Outcome;

/* Whose answers the programs get; @verbose: print each. */
void world_run(const Run *run, Outcome *outcome, bool verbose);

/* The program of one client, alone. */
void world_run_alone(const Run *run, unsigned client, Outcome *outcome, bool verbose);

#endif
