/* SPDX-License-Identifier: BSD-2-Clause */
#include "door/callers.h"

#include "util/list.h"
#include "util/log.h"

#define BUS_TIMEOUT_MS 5000

struct Callers {
        CallersConfig config;
        GCancellable *cancellable; /* cancelled: this is freed, and callbacks must not touch it */
        struct list inquiries;     /* Inquiry.link */
};

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

static void on_credentials(GObject *source, GAsyncResult *result, gpointer userdata) {
        g_autofree Inquiry *inquiry = userdata;
        g_autoptr(GVariant) reply = NULL;
        g_autoptr(GError) error = NULL;
        Callers *callers = inquiry->callers;
        uid_t uid;
        pid_t pid;

        reply = g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);
        if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
                g_dbus_method_invocation_return_dbus_error(inquiry->invocation, inquiry->error,
                                                           "the daemon is stopping");
                return;
        }
        list_unlink(&inquiry->link);
        if (callers_read(reply, &uid, &pid)) {
                callers->config.known(callers->config.userdata, inquiry->invocation, uid, pid);
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

        if (!may_ask(callers, sender)) {
                log_limited(LOG_WARNING, "%s on the bus is refused: it asks for too much at once", sender);
                g_dbus_method_invocation_return_dbus_error(invocation, callers->config.error,
                                                           "busy: too many wait already, try again later");
                return;
        }
        inquiry = g_new0(Inquiry, 1);
        inquiry->callers = callers;
        inquiry->error = callers->config.error;
        inquiry->invocation = invocation;
        list_append(&callers->inquiries, &inquiry->link);
        g_dbus_connection_call(g_dbus_method_invocation_get_connection(invocation), "org.freedesktop.DBus",
                               "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetConnectionCredentials",
                               g_variant_new("(s)", sender), G_VARIANT_TYPE("(a{sv})"), G_DBUS_CALL_FLAGS_NO_AUTO_START,
                               BUS_TIMEOUT_MS, callers->cancellable, on_credentials, inquiry);
}

Callers *callers_new(const CallersConfig *config) {
        Callers *callers = g_new0(Callers, 1);

        callers->config = *config;
        callers->cancellable = g_cancellable_new();
        list_init(&callers->inquiries);
        return callers;
}

Callers *callers_free(Callers *callers) {
        if (!callers)
                return NULL;
        g_cancellable_cancel(callers->cancellable);
        g_object_unref(callers->cancellable);
        g_free(callers);
        return NULL;
}
