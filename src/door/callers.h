/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef DOOR_CALLERS_H
#define DOOR_CALLERS_H

#include "door/guard.h"

#include <gio/gio.h>
#include <stdbool.h>
#include <sys/types.h>

/*
 * Who calls by a bus
 *
 * The bus knows, and is asked about each sender once (GetConnectionCredentials); the answer comes later. Calls that
 * wait for it are few, in all and of one sender: a system bus takes 256 connections of one user, and all of them
 * together must not keep others out. Then one call is handed on in each turn of the main loop, and users take turns.
 */
typedef struct Callers Callers;

typedef struct CallersConfig {
        Guard *guard;                 /* of the bus; borrowed */
        unsigned max, max_per_sender; /* calls that wait: of a user, or of whoever they are; and of a sender */
        const char *error;            /* name of the D-Bus error for calls of whose senders nothing is known; static */
        /* The call is to be answered now, or later. pid 0: unknown. */
        void (*known)(void *userdata, GDBusMethodInvocation *invocation, uid_t uid, pid_t pid);
        void *userdata;
} CallersConfig;

Callers *callers_new(const CallersConfig *config);
Callers *callers_free(Callers *callers); /* takes NULL, returns NULL; calls that wait are refused */

void callers_ask(Callers *callers, GDBusMethodInvocation *invocation);

/* What GetConnectionCredentials has answered, (a{sv}); NULL is fine. Return: false: it does not say the uid. */
bool callers_read(GVariant *reply, uid_t *ret_uid, pid_t *ret_pid);

#endif
