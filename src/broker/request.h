/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_REQUEST_H
#define BROKER_REQUEST_H

#include "broker/peer.h"
#include "resmgr/resmgr.h"
#include "util/list.h"

#include <glib.h>

/*
 * Request: one piece of work for the TPM, a client's command from its submission to its reply, or a chore
 *
 *      IDLE    --a client's command is submitted-->         WAITING
 *      IDLE    --a chore begins-->                          RUNNING
 *      IDLE    --submitted while the broker stops-->        DROPPED
 *      WAITING --its turn: its job begins, or goes on-->    RUNNING
 *      WAITING --cancelled, or the back end is lost-->      IDLE, with a reply
 *      WAITING --the broker stops-->                        DROPPED
 *      RUNNING --the job pauses and lends the TPM-->        PAUSED
 *      RUNNING --the job replies, or is lost-->             IDLE, with a reply
 *      PAUSED  --its time is up-->                          WAITING, before all others
 *      PAUSED  --cancelled, or the back end is lost-->      IDLE, with a reply
 *      PAUSED  --the broker stops-->                        DROPPED
 *      DROPPED --cancelled-->                               IDLE, with a reply
 *
 * A job that pauses without lending the TPM stays RUNNING, with its timer set. A dropped request is never run, and has
 * no reply of its own: the daemon is about to end.
 */
typedef enum RequestState {
        REQUEST_IDLE,
        REQUEST_WAITING,
        REQUEST_RUNNING,
        REQUEST_PAUSED,
        REQUEST_DROPPED,
} RequestState;

typedef struct Request Request;
typedef struct Runner Runner;

/* What a connection has had of the TPM; kept by the scheduler. */
typedef struct Standing {
        bool known;       /* it has asked before */
        uint64_t used_us; /* of the TPM's time, or what it began with */
        bool favoured;    /* some of that was forgiven for its last request */
        gint64 served;    /* Turn.now when it was charged last */
        gint64 ended;     /* ... when it was answered last */
        uint64_t busy_us; /* TPM time of that one */
        uint64_t away_us; /* how long it takes to ask again, if not for long, in eighths: average_add() */
        gint64 paused_us; /* ... and took the last time; 0: it has asked but once */
        unsigned n_vain;  /* how often the TPM was kept for it in vain, since it asked soon enough for that */
        Request *waiting; /* NULL: none */
} Standing;

/* Whose request it is: what the runner needs to know of a connection. */
typedef struct RequestOwner {
        uint64_t id;
        Peer peer;
        uint32_t space; /* RM_NONE: closed when the broker stopped */
        Standing standing;
} RequestOwner;

struct Request {
        RequestState state;  /* written by request_set_state() alone */
        struct list link;    /* of the scheduler, or runner->paused */
        Runner *runner;      /* for the timer */
        RequestOwner *owner; /* NULL: a chore */
        RmChore chore;       /* without owner */

        const uint8_t *command; /* borrowed until the job has begun */
        size_t n_command;
        uint8_t locality; /* the client's, when it submitted */
        TPM2_CC code;
        gint64 submitted; /* Turn.now */
        uint64_t wait_us; /* until it ran for the first time */
        uint64_t busy_us; /* the TPM's time */
        uint32_t n_transmits;

        bool aside;         /* WAITING, for room: see broker/scheduler.h */
        bool in_turn;       /* WAITING, and neither aside nor resumed */
        bool seldom;        /* WAITING: its connection has had less than its share */
        bool headed;        /* WAITING: it is, or was, the head of broker/order.h ... */
        uint64_t headed_us; /* ... since the TPM had worked for so long for clients */
        RmJob *job;         /* NULL: not begun */
        guint timer;        /* of a pause */
        bool own_out;       /* what was transmitted last is the client's own command */
        bool cancel_sent;   /* the back end was asked to cancel what is out */
        bool cancel_due;    /* to be ended at the next step */
};

void request_set_state(Request *request, RequestState state);

/* A client may not submit another one, and its connection must not go away yet. */
bool request_is_under_way(const Request *request);

/* Its job awaits an answer of the TPM: it can only be ended by that, or by losing the TPM. */
bool request_is_at_the_tpm(const Request *request);

#endif
