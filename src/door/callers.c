/* SPDX-License-Identifier: BSD-2-Clause */
#include "door/callers.h"

#include "util/list.h"
#include "util/log.h"

#define BUS_TIMEOUT_MS 5000
#define STOPPING "the daemon is stopping"

struct Callers {
        CallersConfig config;
        GCancellable *cancellable; /* cancelled: this is freed, and callbacks must not touch it */
        struct list inquiries;     /* Inquiry.link */
        struct list users;         /* CallingUser.link: whose turn is next first */
        guint turn;                /* 0: there are none */
};

/* A user with calls that wait for their turn. */
typedef struct CallingUser {
        struct list link; /* callers->users */
        uid_t uid;
        unsigned n_calls;
        struct list calls; /* KnownCall.link */
} CallingUser;

typedef struct KnownCall {
        struct list link; /* user->calls */
        pid_t pid;
        GDBusMethodInvocation *invocation;
} KnownCall;

typedef struct Inquiry {
        struct list link;
        Callers *callers;
        const char *error;
        GDBusMethodInvocation *invocation;
} Inquiry;

bool callers_read(GVariant *reply, uid_t *ret_uid, pid_t *ret_pid) {
        g_autoptr(GVariant) credentials = reply ? g_variant_get_child_value(reply, 0) : NULL;
        guint32 uid, pid = 0;

        if (!credentials || !g_variant_lookup(credentials, "UnixUserID", "u", &uid))
                return false;
        (void)g_variant_lookup(credentials, "ProcessID", "u", &pid);
        *ret_uid = uid;
        *ret_pid = (pid_t)pid;
        return true;
}

static void user_free(CallingUser *user) {
        list_unlink(&user->link);
        g_free(user);
}

/* Return: a call that is the user's no more, to be freed. */
static KnownCall *user_next(CallingUser *user) {
        KnownCall *call = list_entry(list_first(&user->calls), KnownCall, link);

        list_unlink(&call->link);
        user->n_calls--;
        return call;
}

static gboolean on_turn(gpointer userdata) {
        Callers *callers = userdata;
        CallingUser *user = list_entry(list_first(&callers->users), CallingUser, link);
        g_autofree KnownCall *call = user_next(user);
        bool more;
        uid_t uid = user->uid;

        list_unlink(&user->link);
        if (user->n_calls > 0)
                list_append(&callers->users, &user->link);
        else
                g_free(user);
        more = list_first(&callers->users);
        if (!more)
                callers->turn = 0; /* whoever is called may free us */
        callers->config.known(callers->config.userdata, call->invocation, uid, call->pid);
        return more ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

static void user_refuse_all(Callers *callers, CallingUser *user) {
        while (user->n_calls > 0) {
                g_autofree KnownCall *call = user_next(user);

                g_dbus_method_invocation_return_dbus_error(call->invocation, callers->config.error, STOPPING);
        }
        user_free(user);
}

static CallingUser *find_user(Callers *callers, uid_t uid) {
        CallingUser *user;

        list_for_each(link, &callers->users) {
                user = list_entry(link, CallingUser, link);
                if (user->uid == uid)
                        return user;
        }
        user = g_new0(CallingUser, 1);
        user->uid = uid;
        list_init(&user->calls);
        list_append(&callers->users, &user->link);
        return user;
}

static void refuse_busy(const Callers *callers, GDBusMethodInvocation *invocation) {
        log_limited(LOG_WARNING, "%s on the bus is refused: it asks for too much at once",
                    g_dbus_method_invocation_get_sender(invocation));
        g_dbus_method_invocation_return_dbus_error(invocation, callers->config.error,
                                                   "busy: too many wait already, try again later");
}

static void call_wait(Callers *callers, GDBusMethodInvocation *invocation, uid_t uid, pid_t pid) {
        CallingUser *user = find_user(callers, uid);
        KnownCall *call;

        if (user->n_calls >= callers->config.max) {
                refuse_busy(callers, invocation);
                return;
        }
        call = g_new(KnownCall, 1);
        *call = (KnownCall){ .pid = pid, .invocation = invocation };
        list_append(&user->calls, &call->link);
        user->n_calls++;
        if (!callers->turn)
                callers->turn = g_idle_add_full(G_PRIORITY_DEFAULT, on_turn, callers, NULL);
}

static void on_credentials(GObject *source, GAsyncResult *result, gpointer userdata) {
        g_autofree Inquiry *inquiry = userdata;
        g_autoptr(GVariant) reply = NULL;
        g_autoptr(GError) error = NULL;
        Callers *callers = inquiry->callers;
        uid_t uid;
        pid_t pid;

        reply = g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);
        if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
                g_dbus_method_invocation_return_dbus_error(inquiry->invocation, inquiry->error, STOPPING);
                return;
        }
        list_unlink(&inquiry->link);
        if (callers_read(reply, &uid, &pid)) {
                guard_learn(callers->config.guard, g_dbus_method_invocation_get_sender(inquiry->invocation), uid, pid);
                call_wait(callers, inquiry->invocation, uid, pid);
                return;
        }
        log_limited(LOG_WARNING, "%s on the bus is refused: the bus does not tell who it is%s%s",
                    g_dbus_method_invocation_get_sender(inquiry->invocation), error ? ": " : "",
                    error ? error->message : "");
        g_dbus_method_invocation_return_dbus_error(inquiry->invocation, inquiry->error,
                                                   "the bus does not tell who is asking");
}

static bool may_ask(const Callers *callers, const char *sender) {
        unsigned n = 0, n_sender = 0;

        list_for_each(link, &callers->inquiries) {
                const Inquiry *inquiry = list_entry(link, Inquiry, link);

                n++;
                if (g_str_equal(g_dbus_method_invocation_get_sender(inquiry->invocation), sender))
                        n_sender++;
        }
        return n < callers->config.max && n_sender < callers->config.max_per_sender;
}

void callers_ask(Callers *callers, GDBusMethodInvocation *invocation) {
        const char *sender = g_dbus_method_invocation_get_sender(invocation);
        Inquiry *inquiry;
        uid_t uid;
        pid_t pid;

        if (guard_knows(callers->config.guard, sender, &uid, &pid)) {
                call_wait(callers, invocation, uid, pid);
                return;
        }
        if (!may_ask(callers, sender)) {
                refuse_busy(callers, invocation);
                return;
        }
        inquiry = g_new0(Inquiry, 1);
        inquiry->callers = callers;
        inquiry->error = callers->config.error;
        inquiry->invocation = invocation;
        list_append(&callers->inquiries, &inquiry->link);
        g_dbus_connection_call(guard_inquiries(callers->config.guard), "org.freedesktop.DBus", "/org/freedesktop/DBus",
                               "org.freedesktop.DBus", "GetConnectionCredentials", g_variant_new("(s)", sender),
                               G_VARIANT_TYPE("(a{sv})"), G_DBUS_CALL_FLAGS_NO_AUTO_START, BUS_TIMEOUT_MS,
                               callers->cancellable, on_credentials, inquiry);
}

Callers *callers_new(const CallersConfig *config) {
        Callers *callers = g_new0(Callers, 1);

        callers->config = *config;
        callers->cancellable = g_cancellable_new();
        list_init(&callers->inquiries);
        list_init(&callers->users);
        return callers;
}

Callers *callers_free(Callers *callers) {
        struct list *link;

        if (!callers)
                return NULL;
        g_cancellable_cancel(callers->cancellable);
        g_object_unref(callers->cancellable);
        g_clear_handle_id(&callers->turn, g_source_remove);
        while ((link = list_first(&callers->users)))
                user_refuse_all(callers, list_entry(link, CallingUser, link));
        g_free(callers);
        return NULL;
}
