/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef FRONTEND_TEST_DBUS_SUBJECT_H
#define FRONTEND_TEST_DBUS_SUBJECT_H

#include "frontend/frontend-dbus.h"

#include <gio/gunixfdlist.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <tss2/tss2_tpm2_types.h>

#include <cmocka.h>

/*
 * The front end on a bus of its own, in one loop with its callers. Behind it stands a broker that answers every command
 * with ten bytes, but for those whose code is SILENT: they stay under way until they are cancelled.
 */
#define NAME "com.intel.tss2.Tabrmd.test"
#define HANG_SECONDS 30

#define ECHO 0x17b
#define SILENT 0x131

struct Broker {
        unsigned n_connections;
        unsigned n_made;
        unsigned max_connections;
        bool no_tpm; /* there was none yet */
};

struct Connection {
        Broker *broker;
        Peer peer;
        uint32_t localities;
        uint8_t locality;
        const ConnectionOps *ops;
        void *userdata;
        bool busy;
};

extern Broker broker;
extern Connection *newest; /* the connection made last; NULL: closed */
extern TSS2_RC cancel_rc;  /* what connection_cancel() returns */
extern const uint8_t answer[10];
extern const uint8_t canceled[10];

/* The front end under test, and what it said. */
typedef struct Fixture {
        pid_t bus_pid;
        GMainContext *streams; /* the loop's own, so that it can stand still ... */
        bool hold_streams;     /* ... while the bus goes on */
        Loop *loop;
        FrontendDbus *frontend;
        GDBusConnection *client;
        unsigned n_ready;
        unsigned n_lost;
        char *reason;
        bool free_when_lost;
} Fixture;

/* Runs both loops while the condition holds; fails when that is for ever. */
#define RUN_WHILE(fixture, condition)                                                                                  \
        do {                                                                                                           \
                gint64 deadline_ = g_get_monotonic_time() + HANG_SECONDS * G_USEC_PER_SEC;                             \
                while ((condition) && g_get_monotonic_time() < deadline_)                                              \
                        fixture_iterate(fixture);                                                                      \
                assert_false(condition);                                                                               \
        } while (0)

typedef struct Call {
        bool done;
        GVariant *reply;
        GUnixFDList *fds;
        GError *error;
} Call;

void fixture_iterate(Fixture *fixture);

/* Setups and teardown of tests; the state is the Fixture. */
int fixture_new(void **state);
int fixture_new_ready(void **state);
int fixture_free(void **state);

FrontendDbus *frontend_start(Fixture *fixture, bool allow_locality);
GDBusConnection *connect_bus(void); /* a caller */
void stop_bus(Fixture *fixture);

void call_begin(Call *call, GDBusConnection *client, const char *method, GVariant *parameters);
void call_method(Fixture *fixture, Call *call, GDBusConnection *client, const char *method, GVariant *parameters);
void call_clear(Call *call);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Call, call_clear)

void assert_error(const Call *call, const char *name);
void assert_call_fails(Fixture *fixture, GDBusConnection *client, const char *method, GVariant *parameters,
                       const char *name);
void assert_call_zero(Fixture *fixture, GDBusConnection *client, const char *method, GVariant *parameters);

/* Return: the descriptor of a new connection. */
int create_connection(Fixture *fixture, GDBusConnection *client, guint64 *ret_id);

void send_command(int fd, uint32_t code);
bool readable(int fd);
void assert_received(Fixture *fixture, int fd, const uint8_t *expected);

#endif
