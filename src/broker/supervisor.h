/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_SUPERVISOR_H
#define BROKER_SUPERVISOR_H

#include "backend/backend.h"
#include "broker/peer.h"
#include "broker/stats.h"
#include "broker/turn.h"
#include "broker/watch.h"

/*
 * Supervisor: whether there is a TPM
 *
 * It alone speaks to the back end. It opens it, sends commands, gives the TPM up when an answer takes too long, opens
 * the back end again with back-off, and logs why there is no TPM: once, until the reason changes.
 *
 *      CLOSED            --supervisor_start()-->                           OPENING
 *      OPENING           --the back end is open, for the first time-->     STARTING
 *      OPENING           --it is open again-->                             UP
 *      OPENING, STARTING --refused, lost or unusable, and waited for-->    ABSENT
 *      OPENING, STARTING --the same, and not waited for-->                 CLOSED
 *      STARTING          --supervisor_start_ended() with success-->        UP
 *      STARTING          --with a mode in which it answers little-->       UP
 *      UP                --it is lost; or it is to be upgraded, and idle--> ABSENT
 *      UP                --the answer takes too long-->                    LATE
 *      LATE              --the answer comes-->                             UP
 *      LATE              --it does not come for as long again, or lost-->  ABSENT
 *      ABSENT            --it is time to try again-->                      OPENING
 *      OPENING, ABSENT, LATE --supervisor_stop()-->                        CLOSED
 *      STARTING, UP      --supervisor_stop()-->                            LEAVING
 *      LEAVING           --the answer takes too long, or it is lost-->     CLOSED
 */
typedef enum SupervisorState {
        SUPERVISOR_CLOSED,
        SUPERVISOR_OPENING,
        SUPERVISOR_STARTING, /* the back end is open, and the TPM is asked what it can do */
        SUPERVISOR_UP,
        SUPERVISOR_LATE, /* clients do without it; as long as it is not let go of, nobody else can change what it holds
                          */
        SUPERVISOR_ABSENT,
        SUPERVISOR_LEAVING, /* the back end is open; once it is closed it is not opened again */
} SupervisorState;

/* All times in ms, in one place for the tests. */
typedef struct SupervisorTimes {
        unsigned limit;      /* for the answer to a command */
        unsigned limit_long; /* ... to one that takes long */
        unsigned tick;       /* how often limits are looked at */
        unsigned reopen_min; /* doubles from here ... */
        unsigned reopen_max; /* ... to here */
} SupervisorTimes;

/* A command for the TPM. */
typedef struct Outgoing {
        const uint8_t *bytes; /* borrowed until the answer */
        size_t n_bytes;
        uint8_t locality;
        TPM2_CC code;
        bool takes_long;
        const Peer *peer; /* whose own command it is; NULL: the daemon's, for a client or not */

        /* Set by supervisor_transmit() */
        gint64 sent; /* Turn.now */
        unsigned limit_ms;
} Outgoing;

typedef enum SupervisorUp {
        SUPERVISOR_STARTED,
        SUPERVISOR_REOPENED, /* others may have used it, or reset it */
        SUPERVISOR_ANSWERED, /* it was late, and in our hands all the time */
} SupervisorUp;

/* All come within a turn. */
typedef struct SupervisorEvents {
        void (*opened)(void *userdata);               /* to be started now, then supervisor_start_ended() */
        void (*up)(void *userdata, SupervisorUp how); /* commands can be sent */
        void (*response)(void *userdata, const uint8_t *response, size_t n_response);
        void (*lost)(void *userdata); /* no answer comes, and nothing can be sent */
} SupervisorEvents;

typedef struct Supervisor {
        Backend *backend; /* borrowed */
        Turn *turn;
        const Watch *watch;
        Stats *stats;
        bool wait; /* for a TPM that is not there, or cannot be used yet */
        SupervisorTimes times;
        const SupervisorEvents *events;
        void *userdata;

        SupervisorState state; /* written by supervisor_set_state() alone */
        bool was_started;      /* there was a TPM, though it may be lost at the moment */
        char *reason;          /* why there is no TPM, as the log says; NULL: there is one, or none was logged yet */
        Outgoing outgoing;     /* what was transmitted last */
        bool is_out;           /* its answer is awaited */
        TPM2_RC mode;          /* TPM2_RC_FAILURE or _UPGRADE: it answers so to nearly all commands; 0: it does not */
        gint64 testing_since;  /* STARTING: Turn.now of the first answer that said so; 0: none did */
        unsigned reopen_ms;    /* before the next try */
        guint tick_timer;
        guint reopen_timer;

        void (*started)(void *userdata, TSS2_RC rc, const char *detail); /* see broker_start() */
        void *started_userdata;
} Supervisor;

/* The fields above state are set. */
void supervisor_init(Supervisor *supervisor);
void supervisor_clear(Supervisor *supervisor); /* closes the back end: no event comes any more */

void supervisor_start(Supervisor *supervisor, void (*started)(void *userdata, TSS2_RC rc, const char *detail),
                      void *userdata);

/* How opened() went; ignored when the TPM was given up meanwhile. */
void supervisor_start_ended(Supervisor *supervisor, TSS2_RC rc);

/* Nothing waits: a TPM whose firmware is to be written is closed until somebody wants it, or for a while. */
void supervisor_rest(Supervisor *supervisor);

/* Return: whether a command of a client can be sent, or may wait for the TPM to be opened, which this begins. */
bool supervisor_want(Supervisor *supervisor);

/* What is out is carried to its end; nothing is opened any more. */
void supervisor_stop(Supervisor *supervisor);

bool supervisor_is_up(const Supervisor *supervisor);   /* clients' commands can be sent */
bool supervisor_is_open(const Supervisor *supervisor); /* commands of ours can be sent */

/* Open, with nothing out. Ends in response() or lost(), maybe before it returns. */
void supervisor_transmit(Supervisor *supervisor, const Outgoing *outgoing);

/* Return: the back end was asked to cancel what is out. */
bool supervisor_cancel(Supervisor *supervisor);

bool supervisor_has_localities(
        const Supervisor *supervisor); /* other than 0; while it is closed, what was known last */

#endif
