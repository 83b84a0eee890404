/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_WATCH_H
#define BROKER_WATCH_H

#include "broker/peer.h"

#include <stddef.h>
#include <stdint.h>

/* A command that was answered. Bytes are valid during the call only. */
typedef struct BrokerRecord {
        bool tpm;         /* by the TPM, whose command it is; else by us, to a client */
        uint64_t client;  /* its id; 0: the daemon's own */
        const Peer *peer; /* NULL: the daemon's own */
        uint8_t locality;
        uint64_t wait_us;     /* a client's: until it began to run */
        uint64_t took_us;     /* in all */
        uint64_t answered_us; /* when, by the monotonic clock */
        uint32_t n_transmits; /* a client's: what the TPM was sent for it */
        const uint8_t *command;
        size_t n_command;
        const uint8_t *response; /* NULL: none came */
        size_t n_response;
} BrokerRecord;

/*
 * Watch: who looks on, which is the manager if anybody
 *
 * Watchers change nothing, and are called from within the broker, so they call nothing of it.
 */
typedef struct Watch {
        void (*changed)(void *userdata); /* NULL: nobody watches */
        void *changed_userdata;
        void (*record)(void *userdata, const BrokerRecord *record); /* NULL: nobody watches, and it costs nothing */
        void *record_userdata;
} Watch;

/* The broker's state, its reason or the number of connections has changed. */
void watch_tell_change(const Watch *watch);

bool watch_wants_records(const Watch *watch);
void watch_tell_record(const Watch *watch, const BrokerRecord *record); /* only where records are wanted */

#endif
