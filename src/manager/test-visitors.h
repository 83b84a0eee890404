/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MANAGER_TEST_VISITORS_H
#define MANAGER_TEST_VISITORS_H

#include "broker/test-clients.h"
#include "manager/private.h"

/*
 * A manager with a private socket, of a broker with a few clients, on the fake; and those who come to that socket, who
 * are in the same process: whatever they wait for, they run the loop meanwhile.
 */
#define PROPERTIES "org.freedesktop.DBus.Properties"
#define ERROR "org.freedesktop.DBus.Error."

extern Manager *manager;
extern uid_t visitor_uid; /* whom the kernel says they are: uid 0, unless a test says otherwise */
extern guint hurry;       /* timers run so many times as fast */

int manager_setup(void **state);
int manager_teardown(void **state);

/* One that says what the test has it say. Return: its socket, which does not block. */
int visitor_raw(void);
int visitor_raw_in(void);    /* the same, once there is room for it */
bool visitor_is_out(int fd); /* it was let go */
/* Say all that comes before D-Bus, as the mechanism EXTERNAL has it, and wait until it is through. */
void visitor_shake_hands(int fd);

GDBusConnection *visitor_new(void); /* NULL: it was not let in */
bool visitor_comes(void);           /* ... and goes again. Return: it was let in */
void assert_all_come(void);         /* as many as there may be at a time */

/* A call, and what comes of it. */
typedef struct Call {
        bool done;
        GVariant *reply;
        GError *error;
} Call;

void call_begin(Call *call, GDBusConnection *visitor, const char *interface, const char *method, GVariant *parameters);
void call_clear(Call *call);

/* Return: the reply. */
GVariant *visitor_call(GDBusConnection *visitor, const char *interface, const char *method, GVariant *parameters);
/* @error: its name; NULL: any that the other end says */
void assert_call_fails(GDBusConnection *visitor, const char *interface, const char *method, GVariant *parameters,
                       const char *error);
uint64_t first_client(GDBusConnection *visitor); /* Return: its id */

#endif
