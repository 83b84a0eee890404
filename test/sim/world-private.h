/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef SIM_WORLD_PRIVATE_H
#define SIM_WORLD_PRIVATE_H

#include "world.h"

#include "test/lib/refusals.h"

#define FAULTS_MAX 8

typedef enum FaultKind {
        FAULT_AGAIN,     /* RETRY, YIELDED or TESTING: nobody may notice */
        FAULT_MEMORY,    /* a warning of which the command may tell: nobody may notice, or its client is told */
        FAULT_MALFORMED, /* an answer that is none */
        FAULT_WARNING,   /* any warning, from any command */
        FAULT_LOST,      /* the connection to the TPM breaks; the command was executed, or not */
        FAULT_LATE,      /* no answer comes */
        FAULT_KINDS,
} FaultKind;

typedef struct Fault {
        bool armed;
        FaultKind kind;
        unsigned after; /* so many answers are left alone */
        unsigned count;
        uint64_t seed;
} Fault;

typedef struct Client {
        Program program;
        Connection *connection;
        Message command; /* that is out */
        bool busy;
        unsigned n_steps, n_begun;  /* of a crowd: what it asks when it is answered */
        uint16_t steps[EVENTS_MAX]; /* ... events of the run */
        bool garbled;               /* its answer is not what the TPM said */
        bool raw;                   /* ... and is none of its program's */
        uint32_t warning;           /* that its job was told; it may be passed on */
} Client;

typedef struct World {
        const Run *run;
        Outcome *outcome;
        bool verbose;
        unsigned event;
        Loop *loop;
        Broker *broker;
        Rm *rm;
        Client clients[CLIENTS_MAX];

        /* the back end */
        Backend backend;
        bool pending;
        bool asking;    /* a client is submitting */
        bool silent;    /* the answer does not come */
        bool cancelled; /* the TPM will notice, and do nothing */
        Message command;
        gint64 sent, answer_due; /* of the clock */
        Random pace;
        Fault faults[FAULTS_MAX];
        unsigned n_again; /* answers that put a command off */

        bool wild;    /* what is in the TPM may not be what the tables say */
        bool visited; /* a neighbour was there */
        bool misled;  /* the TPM said that it was full when it was not: how full it gets is learned from that */
        Refusals refusals;
        TPM2_HANDLE guests[4]; /* of a neighbour */
        unsigned n_guests;
} World;

extern World world;

void world_digest(const void *bytes, size_t n);
void world_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool world_failed(void);
Message world_direct(Message command); /* past everything */
unsigned world_list(TPM2_HT type, TPM2_HANDLE *ret_handles, unsigned size);

/* What one client hears from here on is not what it would hear alone. */
void world_taint(unsigned client);
void world_taint_all(void); /* ... and its objects and sessions may be gone */

/* world-tpm.c: the back end. */
void world_tpm_init(void);
bool world_tpm_answer(void); /* Return: whether there was anything to answer */
void world_arm(const Event *event);
void world_reset(bool startup);
void world_neighbour(uint64_t seed);
void world_neighbour_leaves(void);

/* world-check.c: what must hold between any two steps. */
void world_check(void);
void world_check_border(const uint8_t *command, size_t n_command);
void world_check_idle(void);
void world_check_end(void);

/* world-turns.c: nobody waits longer than broker/order.h says. */
void world_turns_begin(void);
void world_turns_submitted(unsigned client); /* it is about to submit a command */
void world_turns_closed(unsigned client);    /* ... to close its connection */
void world_turns_took(uint64_t us);          /* for the command that is about to be answered */
void world_turns_anew(void);                 /* something happened that comes before all order */

#endif
