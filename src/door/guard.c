/* SPDX-License-Identifier: BSD-2-Clause */
#include "door/guard.h"

#include <gio/gunixfdlist.h>

#define BUS "org.freedesktop.DBus"
#define SENDERS_MAX 4096 /* that are remembered; of the least recent nothing is known any more */

/* Calls of one sender of which no answer is wanted: at once, and each second. */
#define SILENT_BURST 16
#define SILENT_PER_SECOND 10

/* What was not answered for so long is not going to be. In us. */
#define FORGET_US (60 * G_USEC_PER_SEC)

typedef struct Sender {
        char *name;
        GList recent; /* guard->recent */
        bool known;   /* whose it is */
        uid_t uid;
        pid_t pid;
        unsigned n_open;
        guint32 open[GUARD_SENDER_MAX]; /* serials of the calls that are not answered */
        gint64 last;                    /* call; monotonic, in us */
        double silent;                  /* how many calls without an answer it may make at the moment */
} Sender;

struct Guard {
        gatomicrefcount n_references;
        GMutex lock;
        Closer *closer; /* its own, so that who fills it harms no other door; NULL: freed */
        GDBusConnection *bus;
        GDBusConnection *inquiries; /* NULL: not yet */
        guint filter, inquiries_filter;
        GHashTable *senders; /* name -> Sender */
        GQueue recent;       /* Sender, the latest first */
};

/* Under the lock from here on ... */

static void sender_free(gpointer data) {
        Sender *sender = data;

        g_free(sender->name);
        g_free(sender);
}

static void sender_forget(Guard *guard, Sender *sender) {
        g_queue_unlink(&guard->recent, &sender->recent);
        g_hash_table_remove(guard->senders, sender->name);
}

static Sender *sender_find(Guard *guard, const char *name) {
        Sender *sender = g_hash_table_lookup(guard->senders, name);

        if (sender) {
                g_queue_unlink(&guard->recent, &sender->recent);
        } else {
                if (g_hash_table_size(guard->senders) >= SENDERS_MAX)
                        sender_forget(guard, g_queue_peek_tail(&guard->recent));
                sender = g_new0(Sender, 1);
                *sender = (Sender){ .name = g_strdup(name), .recent.data = sender, .silent = SILENT_BURST };
                g_hash_table_insert(guard->senders, sender->name, sender);
        }
        g_queue_push_head_link(&guard->recent, &sender->recent);
        return sender;
}

static bool sender_may_call_silently(Sender *sender, gint64 now) {
        sender->silent += (double)(now - sender->last) * SILENT_PER_SECOND / G_USEC_PER_SEC;
        sender->silent = MIN(sender->silent, SILENT_BURST);
        if (sender->silent < 1)
                return false;
        sender->silent -= 1;
        return true;
}

/* Return: whether the call may pass. */
static bool sender_call(Sender *sender, guint32 serial, bool silent) {
        gint64 now = g_get_monotonic_time();
        bool may;

        if (now - sender->last > FORGET_US)
                sender->n_open = 0;
        may = silent ? sender_may_call_silently(sender, now) : sender->n_open < GUARD_SENDER_MAX;
        sender->last = now;
        if (may && !silent)
                sender->open[sender->n_open++] = serial;
        return may;
}

static void sender_answered(Sender *sender, guint32 serial) {
        for (unsigned i = 0; i < sender->n_open; i++) {
                if (sender->open[i] != serial)
                        continue;
                sender->open[i] = sender->open[--sender->n_open];
                return;
        }
}

/* ... up to here */

static void refuse(GDBusConnection *bus, GDBusMessage *message, const char *why) {
        g_autoptr(GDBusMessage) error = NULL;

        if (g_dbus_message_get_flags(message) & G_DBUS_MESSAGE_FLAGS_NO_REPLY_EXPECTED)
                return;
        error = g_dbus_message_new_method_error_literal(message, BUS ".Error.LimitsExceeded", why);
        (void)g_dbus_connection_send_message(bus, error, G_DBUS_SEND_MESSAGE_FLAGS_NONE, NULL, NULL);
}

/* Return: whether there were any. */
static bool descriptors_take(Guard *guard, GDBusMessage *message) {
        GUnixFDList *list = g_dbus_message_get_unix_fd_list(message);
        int n = 0, *fds = list ? g_unix_fd_list_steal_fds(list, &n) : NULL;

        g_mutex_lock(&guard->lock);
        for (int i = 0; i < n; i++) {
                /* Whoever brings more than can be closed in time waits for it, and with it all on this bus. */
                if (guard->closer && closer_n_pending(guard->closer) < CLOSER_PENDING_MAX)
                        closer_close(guard->closer, fds[i], NULL, NULL);
                else
                        foreign_close_soon(fds[i]);
        }
        g_mutex_unlock(&guard->lock);
        g_free(fds);
        return n > 0;
}

static GDBusMessage *drop(GDBusMessage *message) {
        g_object_unref(message);
        return NULL;
}

/* The bus says itself whose a message is. Its own may have descriptors: of the process that is asked for (ProcessFD).
 */
static bool is_of_bus(const char *sender) {
        return !sender || g_str_equal(sender, BUS);
}

static GDBusMessage *incoming_filter(Guard *guard, GDBusConnection *bus, GDBusMessage *message) {
        const char *sender = g_dbus_message_get_sender(message);
        GDBusMessageType type = g_dbus_message_get_message_type(message);
        bool silent = g_dbus_message_get_flags(message) & G_DBUS_MESSAGE_FLAGS_NO_REPLY_EXPECTED;
        bool may;

        if (is_of_bus(sender))
                return message;
        if (descriptors_take(guard, message)) {
                refuse(bus, message, "this service takes no file descriptors");
                return drop(message);
        }
        if (type == G_DBUS_MESSAGE_TYPE_SIGNAL)
                return drop(message);
        if (type != G_DBUS_MESSAGE_TYPE_METHOD_CALL)
                return message;
        g_mutex_lock(&guard->lock);
        may = sender_call(sender_find(guard, sender), g_dbus_message_get_serial(message), silent);
        g_mutex_unlock(&guard->lock);
        if (may)
                return message;
        refuse(bus, message, "busy: too many calls wait already, try again later");
        return drop(message);
}

static GDBusMessage *on_message(GDBusConnection *bus, GDBusMessage *message, gboolean incoming, gpointer userdata) {
        const char *to = g_dbus_message_get_destination(message);
        Guard *guard = userdata;
        Sender *sender;

        if (incoming)
                return incoming_filter(guard, bus, message);
        if (!to || g_dbus_message_get_message_type(message) == G_DBUS_MESSAGE_TYPE_METHOD_CALL)
                return message;
        g_mutex_lock(&guard->lock);
        sender = g_hash_table_lookup(guard->senders, to);
        if (sender)
                sender_answered(sender, g_dbus_message_get_reply_serial(message));
        g_mutex_unlock(&guard->lock);
        return message;
}

/* It has no name, but anybody may send to it. Nobody but the bus has an answer for it. */
static GDBusMessage *on_inquiries_message(GDBusConnection *bus, GDBusMessage *message, gboolean incoming,
                                          gpointer userdata) {
        const char *sender = g_dbus_message_get_sender(message);

        if (!incoming)
                return message;
        if (is_of_bus(sender))
                return message;
        (void)descriptors_take(userdata, message);
        if (g_dbus_message_get_message_type(message) == G_DBUS_MESSAGE_TYPE_METHOD_CALL)
                refuse(bus, message, "nothing is to be had here");
        return drop(message);
}

static void guard_unref(gpointer data) {
        Guard *guard = data;

        if (!g_atomic_ref_count_dec(&guard->n_references))
                return;
        g_hash_table_unref(guard->senders);
        g_mutex_clear(&guard->lock);
        g_free(guard);
}

/* A filter may still run when it is removed. */
static guint guard_filter(Guard *guard, GDBusConnection *bus, GDBusMessageFilterFunction filter) {
        g_atomic_ref_count_inc(&guard->n_references);
        return g_dbus_connection_add_filter(bus, filter, guard, guard_unref);
}

Guard *guard_new(GDBusConnection *bus) {
        Guard *guard = g_new0(Guard, 1);

        guard->closer = closer_new(NULL);
        guard->bus = bus;
        guard->senders = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, sender_free);
        g_queue_init(&guard->recent);
        g_mutex_init(&guard->lock);
        g_atomic_ref_count_init(&guard->n_references);
        guard->filter = guard_filter(guard, bus, on_message);
        return guard;
}

void guard_inquire_by(Guard *guard, GDBusConnection *inquiries) {
        guard->inquiries = inquiries;
        guard->inquiries_filter = guard_filter(guard, inquiries, on_inquiries_message);
}

Guard *guard_free(Guard *guard) {
        Closer *closer;

        if (!guard)
                return NULL;
        g_dbus_connection_remove_filter(guard->bus, guard->filter);
        if (guard->inquiries)
                g_dbus_connection_remove_filter(guard->inquiries, guard->inquiries_filter);
        g_mutex_lock(&guard->lock);
        closer = g_steal_pointer(&guard->closer);
        g_mutex_unlock(&guard->lock);
        closer_free(closer);
        guard_unref(guard);
        return NULL;
}

GDBusConnection *guard_inquiries(Guard *guard) {
        return guard->inquiries;
}

bool guard_knows(Guard *guard, const char *name, uid_t *ret_uid, pid_t *ret_pid) {
        Sender *sender;
        bool known;

        g_mutex_lock(&guard->lock);
        sender = g_hash_table_lookup(guard->senders, name);
        known = sender && sender->known;
        if (known) {
                *ret_uid = sender->uid;
                *ret_pid = sender->pid;
        }
        g_mutex_unlock(&guard->lock);
        return known;
}

void guard_learn(Guard *guard, const char *name, uid_t uid, pid_t pid) {
        Sender *sender;

        g_mutex_lock(&guard->lock);
        sender = g_hash_table_lookup(guard->senders, name);
        if (sender && !sender->known) {
                sender->known = true;
                sender->uid = uid;
                sender->pid = pid;
        }
        g_mutex_unlock(&guard->lock);
}
