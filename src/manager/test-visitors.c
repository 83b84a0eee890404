/* SPDX-License-Identifier: BSD-2-Clause */
#include "manager/test-visitors.h"

#include "util/fd.h"
#include "util/names.h"
#include "util/platform.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

Manager *manager;
uid_t visitor_uid;
guint hurry;
static char *folder;
static char *path;

/* The linker takes libraries that call the originals for callers of these, and wants to see them. */
#define VISIBLE __attribute__((visibility("default")))

guint __real_g_timeout_add(guint ms, GSourceFunc function, gpointer userdata);
VISIBLE guint __wrap_g_timeout_add(guint ms, GSourceFunc function, gpointer userdata);
VISIBLE bool __wrap_platform_peer(int fd, uid_t *ret_uid, pid_t *ret_pid);

guint __wrap_g_timeout_add(guint ms, GSourceFunc function, gpointer userdata) {
        return __real_g_timeout_add(ms / hurry, function, userdata);
}

/* Whoever runs the tests: the manager is for uid 0. */
bool __wrap_platform_peer(int fd, uid_t *ret_uid, pid_t *ret_pid) {
        *ret_uid = visitor_uid;
        *ret_pid = getpid();
        return true;
}

int manager_setup(void **state) {
        g_autoptr(GError) error = NULL;
        ManagerConfig config = { .tcti = "fake", .max_clients = CLIENTS * 2, .max_objects = 64 };
        ListenerConfig listener = { .option = "--manager", .fd = -1, .mode = 0600 };

        visitor_uid = 0;
        hurry = 1;
        folder = g_dir_make_tmp("tabrmd-manager-XXXXXX", NULL);
        path = g_build_filename(folder, "manager.sock", NULL);
        clients_setup(state);
        config.loop = bench.loop;
        config.broker = bench.broker;
        listener.path = path;
        manager = manager_new(&config);
        if (!manager_listen(manager, &listener, &error))
                fail_msg("%s", error->message);
        return 0;
}

int manager_teardown(void **state) {
        g_autofree char *lock = g_strconcat(path, ".lock", NULL);

        manager = manager_free(manager);
        bench_settle();
        clients_teardown(state);
        g_unlink(lock);
        g_unlink(path);
        g_rmdir(folder);
        g_clear_pointer(&path, g_free);
        g_clear_pointer(&folder, g_free);
        return 0;
}

int visitor_raw(void) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        assert_true(fd >= 0);
        g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        bench_settle();
        return fd;
}

int visitor_raw_in(void) {
        int fd = -1;

        bench_until((fd = visitor_raw(), !visitor_is_out(fd) || (fd = fd_close(fd)) >= 0));
        return fd;
}

bool visitor_is_out(int fd) {
        uint8_t bytes[256];
        ssize_t n;

        do
                n = recv(fd, bytes, sizeof(bytes), 0);
        while (n > 0);
        return n == 0 || errno == ECONNRESET;
}

static void say(int fd, const char *bytes, size_t n_bytes) {
        assert_int_equal(send(fd, bytes, n_bytes, MSG_NOSIGNAL), n_bytes);
}

static bool hears(int fd, const char *wanted) {
        char bytes[256] = { 0 };

        return recv(fd, bytes, sizeof(bytes) - 1, 0) > 0 && strstr(bytes, wanted);
}

void visitor_shake_hands(int fd) {
        g_autofree char *uid = g_strdup_printf("%u", (unsigned)geteuid());
        g_autoptr(GString) line = g_string_new("AUTH EXTERNAL ");

        for (const char *c = uid; *c; c++)
                g_string_append_printf(line, "%02x", (unsigned)*c);
        g_string_append(line, "\r\n");
        say(fd, "", 1);
        say(fd, line->str, line->len);
        bench_until(hears(fd, "OK "));
        say(fd, "BEGIN\r\n", 7);
}

typedef struct Arrival {
        bool done;
        GDBusConnection *connection;
} Arrival;

static void on_arrived(GObject *source, GAsyncResult *result, gpointer userdata) {
        Arrival *arrival = userdata;

        arrival->connection = g_dbus_connection_new_for_address_finish(result, NULL);
        arrival->done = true;
}

GDBusConnection *visitor_new(void) {
        g_autofree char *address = g_strconcat("unix:path=", path, NULL);
        Arrival arrival = { 0 };

        g_dbus_connection_new_for_address(address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT, NULL, NULL,
                                          on_arrived, &arrival);
        bench_until(arrival.done);
        return arrival.connection;
}

bool visitor_comes(void) {
        g_autoptr(GDBusConnection) visitor = visitor_new();

        if (visitor)
                g_variant_unref(visitor_call(visitor, MANAGER_INTERFACE, "ListCommands", NULL));
        return visitor != NULL;
}

void assert_all_come(void) {
        GDBusConnection *visitors[SOCKET_VISITORS_MAX] = { 0 };

        for (unsigned i = 0; i < SOCKET_VISITORS_MAX; i++)
                bench_until((visitors[i] = visitor_new()));
        for (unsigned i = 0; i < SOCKET_VISITORS_MAX; i++) {
                g_variant_unref(visitor_call(visitors[i], MANAGER_INTERFACE, "ListClients", NULL));
                g_object_unref(visitors[i]);
        }
}

static void on_reply(GObject *source, GAsyncResult *result, gpointer userdata) {
        Call *call = userdata;

        call->reply = g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &call->error);
        call->done = true;
}

void call_begin(Call *call, GDBusConnection *visitor, const char *interface, const char *method, GVariant *parameters) {
        *call = (Call){ 0 };
        g_dbus_connection_call(visitor, NULL, MANAGER_PATH, interface, method, parameters, NULL, G_DBUS_CALL_FLAGS_NONE,
                               -1, NULL, on_reply, call);
}

void call_clear(Call *call) {
        g_clear_pointer(&call->reply, g_variant_unref);
        g_clear_error(&call->error);
}

GVariant *visitor_call(GDBusConnection *visitor, const char *interface, const char *method, GVariant *parameters) {
        Call call;

        call_begin(&call, visitor, interface, method, parameters);
        bench_until(call.done);
        if (!call.reply)
                fail_msg("%s: %s", method, call.error->message);
        return call.reply;
}

void assert_call_fails(GDBusConnection *visitor, const char *interface, const char *method, GVariant *parameters,
                       const char *error) {
        g_autofree char *name = NULL;
        Call call;

        call_begin(&call, visitor, interface, method, parameters);
        bench_until(call.done);
        assert_null(call.reply);
        name = g_dbus_error_get_remote_error(call.error);
        assert_non_null(name);
        if (error && !g_str_equal(name, error))
                fail_msg("%s: %s, not %s", method, name, error);
        call_clear(&call);
}

uint64_t first_client(GDBusConnection *visitor) {
        g_autoptr(GVariant) reply = visitor_call(visitor, MANAGER_INTERFACE, "ListClients", NULL);
        g_autoptr(GVariant) list = g_variant_get_child_value(reply, 0);
        g_autoptr(GVariant) row = g_variant_get_child_value(list, 0);
        guint64 id = 0;

        assert_true(g_variant_lookup(row, "id", "t", &id));
        return id;
}
