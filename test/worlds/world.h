/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TEST_WORLDS_WORLD_H
#define TEST_WORLDS_WORLD_H

#include "resmgr/report.h"
#include "resmgr/resmgr.h"
#include "test/lib/fake-tpm.h"
#include "test/lib/tpm-commands.h"

/*
 * A small world
 *
 * Two clients of the real resource manager share a fake TPM with two slots for objects and two for sessions. Beside it
 * stands the reference, a fake TPM with room for everything. Each command of a client is run on both sides; the model
 * holds what the client knows: the handles of its objects and sessions on either side, and its contexts.
 *
 * All of a world can be copied and restored, so that every continuation of a state can be tried.
 */
#define CLIENTS 2
#define OBJECTS 3  /* RmLimits.objects_per_space */
#define SESSIONS 2 /* RmLimits.sessions_per_space */
#define CONTEXT_MAX 512

typedef enum Side {
        SIDE_REAL,
        SIDE_REFERENCE,
        SIDES,
} Side;

/* An object or a session, as its client knows it. */
typedef struct Thing {
        bool used;
        bool unsure;                /* a fault may have flushed it, or changed it */
        bool changes;               /* a sequence object, or a policy session */
        TPM2_HANDLE handles[SIDES]; /* the reference's is 0 when the thing is gone there */
        uint64_t identity;          /* of a key, in the TPM that is shared */
} Thing;

/* What ContextSave gave to a client. */
typedef struct Saved {
        Thing of;        /* unused: there is no context */
        bool live;       /* of a session: its context was not loaded since */
        bool abandoned;  /* of a session: its client left since */
        unsigned clears; /* Model.clears at that time */
        size_t n[SIDES];
        uint8_t bytes[SIDES][CONTEXT_MAX];
} Saved;

typedef struct Client {
        uint32_t space;
        Thing objects[OBJECTS]; /* by virtual handle */
        Thing sessions[SESSIONS];
        Saved object;
        Saved session;
        bool refused; /* it was told "no room", and none of its commands succeeded since in the TPM */
} Client;

typedef struct Model {
        Client clients[CLIENTS];
        bool down;       /* the TPM was reset, and no Startup has succeeded since */
        unsigned clears; /* TPM2_Clear commands that were executed */
} Model;

typedef enum FaultKind {
        FAULT_NONE,
        FAULT_WARNING,     /* the answer is Fault.rc, and nothing is done */
        FAULT_REFUSAL,     /* the same, for the resource manager's own commands alone */
        FAULT_RESET,       /* the TPM is reset before it gets the command */
        FAULT_LOST_BEFORE, /* neither done nor answered */
        FAULT_LOST_AFTER,  /* done and not answered */
} FaultKind;

typedef struct Fault {
        const char *name;
        FaultKind kind;
        TPM2_RC rc;
} Fault;

extern const Fault FAULTS[]; /* FAULTS[0] is none */
extern const unsigned N_FAULTS;

/* The TPM asks for a repetition, and no client may notice. */
static inline bool world_is_transitory(TPM2_RC rc) {
        return rc == TPM2_RC_RETRY || rc == TPM2_RC_YIELDED || rc == TPM2_RC_TESTING;
}

/* One thing that happens: an act (act.h), and a fault at one of the TPM commands that it leads to. */
typedef struct Step {
        uint8_t act;
        uint8_t fault; /* index of FAULTS */
        uint8_t at;    /* number of the TPM command, from 0 */
} Step;

typedef struct World {
        Rm *rm;
        FakeTpm *tpms[SIDES];
        Model model;
        bool verbose;
        bool exact; /* state_hash() takes times of uses, and indices of sessions, as they are */

        /* Of the step that is under way */
        Step step;
        unsigned n_sent;    /* TPM commands so far */
        bool struck;        /* the fault has happened */
        bool struck_own;    /* ... to a client's own command */
        bool own_sent;      /* a client\'s own command was sent */
        uint64_t n_flushed; /* saved sessions that were, up to now */
        bool lost;          /* an answer was lost */
        char failure[160];  /* empty: none */

        /* Totals */
        uint64_t n_commands, n_transmits, n_told, n_excused, n_probes;
} World;

extern World world;

/* On a fake TPM of two slots, or with those of a chip. Return: false when the world cannot be made. */
bool world_open(const char *chip);
void world_close(void);

__attribute__((format(printf, 1, 2))) void world_fail(const char *format, ...);
static inline bool world_failed(void) {
        return world.failure[0] != '\0';
}

/* After whatever changes the block: invariants, and saved sessions that were flushed to make room. */
void world_check(void);

/* A client's command, and the reply. The fault of the step strikes on the way. */
Message world_command(Client *client, const Message *command);

/* Begin a chore until there is none, at most @at_most times. Return: false when one failed, or its answer was lost. */
bool world_chore(RmChore chore, unsigned at_most);

/* A command that the reference, or the TPM that is shared, runs directly. */
Message world_direct(Side side, const Message *command);

/* Handles that a TPM lists. Return: how many */
unsigned world_list(Side side, TPM2_HT type, TPM2_HANDLE *ret_handles, unsigned size);

#endif
