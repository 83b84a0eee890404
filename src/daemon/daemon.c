/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/daemon.h"

#include "backend/backend-conf.h"
#include "broker/broker.h"
#include "daemon/daemon-state.h"
#include "daemon/notify.h"
#include "daemon/shared.h"
#include "daemon/sockets.h"
#include "frontend/frontend-dbus.h"
#include "manager/manager.h"
#include "util/names.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sysexits.h>

/* For a TPM that does not say whether it is there: so long the doors stay shut, should they open without one. */
#define SETTLE_S 5

typedef struct Daemon {
        const Options *options;
        DaemonState state;
        int exit_status;
        bool now; /* a second signal: nothing is waited for */
        guint settle_timer;
        Loop *loop;
        Backend *backend;
        Shared shared; /* all zeros: what is kept free is fixed */
        Broker *broker;
        Sockets sockets;
        Manager *manager;
        FrontendDbus *frontend_dbus; /* NULL: no bus */
        bool bus_was_lost;           /* and told so */
} Daemon;

static void close_doors(Daemon *daemon) {
        daemon->manager = manager_free(daemon->manager);
        daemon->frontend_dbus = frontend_dbus_free(daemon->frontend_dbus);
        sockets_close(&daemon->sockets);
}

static void daemon_clear(Daemon *daemon) {
        g_clear_handle_id(&daemon->settle_timer, g_source_remove);
        close_doors(daemon);
        daemon->broker = broker_free(daemon->broker);
        shared_clear(&daemon->shared);
        daemon->backend = backend_free(daemon->backend);
        /* A TPM of our own is ended in order: whoever looks at its state afterwards finds it at rest. */
        if (!daemon->now)
                backend_wait();
        daemon->loop = loop_free(daemon->loop);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Daemon, daemon_clear)

static void on_stopped(void *userdata) {
        Daemon *daemon = userdata;

        if (daemon->state != DAEMON_STOPPED) /* by a second signal */
                daemon_state_set(&daemon->state, DAEMON_STOPPED);
}

static void daemon_stop(Daemon *daemon, int exit_status) {
        if (daemon_state_is_over(daemon->state))
                return;
        daemon_state_set(&daemon->state, DAEMON_STOPPING);
        daemon->exit_status = exit_status;
        g_clear_handle_id(&daemon->settle_timer, g_source_remove);
        notify("STOPPING=1");

        close_doors(daemon);
        broker_stop(daemon->broker, on_stopped, daemon);
}

static gboolean on_signal(gpointer userdata) {
        Daemon *daemon = userdata;

        /* A second one means now: a TPM may take minutes over the command that it is at. */
        daemon->now = daemon->state == DAEMON_STOPPING;
        if (daemon->now)
                daemon_state_set(&daemon->state, DAEMON_STOPPED);
        else
                daemon_stop(daemon, EX_OK);
        return G_SOURCE_CONTINUE;
}

static void daemon_ready(Daemon *daemon) {
        const Options *options = daemon->options;
        g_autofree char *sockets = sockets_text(&daemon->sockets);

        daemon_state_set(&daemon->state, DAEMON_SERVING);
        bool by_bus = daemon->frontend_dbus && !daemon->bus_was_lost;

        log_info("ready: %s, %s%s", sockets, by_bus ? "bus name " : "no bus", by_bus ? options->dbus_name : "");
        notify("READY=1");
}

static const char *bus_text(const Daemon *daemon) {
        return daemon->options->session ? "session" : "system";
}

static void on_bus_ready(void *userdata) {
        Daemon *daemon = userdata;

        if (daemon->state == DAEMON_OPENING)
                daemon_ready(daemon);
        else
                log_notice("%s bus: it is there; bus name %s", bus_text(daemon), daemon->options->dbus_name);
        daemon->bus_was_lost = false;
}

/*
 * Doors do not depend on each other, and clients who came by the bus keep their sockets. At the start, though, a bus
 * that is the only door has to be there, and a name that another daemon has is a mistake, unless we are to wait.
 */
static void on_bus_lost(void *userdata, BusLoss loss, const char *reason) {
        Daemon *daemon = userdata;
        bool name_matters = loss == BUS_NAME && !daemon->options->broker.wait;

        manager_unexport(daemon->manager);
        if (daemon->state == DAEMON_OPENING && (name_matters || !sockets_any(&daemon->sockets))) {
                log_error("%s bus: %s", bus_text(daemon), reason);
                daemon_stop(daemon, EX_UNAVAILABLE);
                return;
        }
        if (!daemon->bus_was_lost)
                log_warning("%s bus: %s", bus_text(daemon), reason);
        daemon->bus_was_lost = true;
        if (daemon->state == DAEMON_OPENING)
                daemon_ready(daemon);
}

static void on_bus_connected(void *userdata, GDBusConnection *bus, Guard *guard) {
        Daemon *daemon = userdata;

        manager_export(daemon->manager, bus, guard);
}

static void open_bus(Daemon *daemon) {
        FrontendDbusConfig config = {
                .loop = daemon->loop,
                .broker = daemon->broker,
                .bus = daemon->options->session ? G_BUS_TYPE_SESSION : G_BUS_TYPE_SYSTEM,
                .name = daemon->options->dbus_name,
                .allow_locality = daemon->options->allow_locality,
                .connected = on_bus_connected,
                .ready = on_bus_ready,
                .lost = on_bus_lost,
                .userdata = daemon,
        };

        daemon->frontend_dbus = frontend_dbus_new(&config);
}

/* Of the options, or of the service manager; else the bus is the only place to ask. */
static bool open_manager(Daemon *daemon, GError **error) {
        const ListenerConfig config = {
                .path = daemon->options->manager ?: MANAGER_SOCKET_PATH,
                .option = "--manager",
                .fd = sockets_take_manager(&daemon->sockets),
                .mode = 0600,
        };

        if (config.fd < 0 && !daemon->options->manager)
                return true;
        return manager_listen(daemon->manager, &config, error);
}

static void open_doors(Daemon *daemon) {
        g_autoptr(GError) error = NULL;

        daemon_state_set(&daemon->state, DAEMON_OPENING);
        g_clear_handle_id(&daemon->settle_timer, g_source_remove);
        if (!open_manager(daemon, &error) ||
            !sockets_open(&daemon->sockets, daemon->loop, daemon->broker, daemon->options, &error)) {
                log_error("no socket: %s", error->message);
                daemon_stop(daemon, EX_UNAVAILABLE);
        } else if (daemon->options->dbus) {
                open_bus(daemon);
        } else {
                daemon_ready(daemon);
        }
}

static void on_started(void *userdata, TSS2_RC rc, const char *detail) {
        Daemon *daemon = userdata;
        g_autofree char *blindness = rc == TSS2_RC_SUCCESS ? shared_blindness(&daemon->shared) : NULL;

        if (daemon_state_is_over(daemon->state))
                return;
        if (rc == TSS2_RC_SUCCESS) {
                log_info("the TPM at %s is there", daemon->options->tcti);
                if (blindness)
                        log_notice("%s", blindness);
        } else if (daemon->backend->misconfigured) {
                log_error("--tcti=%s: %s", daemon->options->tcti, detail);
                daemon_stop(daemon, EX_USAGE);
                return;
        } else if (!daemon->options->broker.wait) {
                log_error("no TPM: %s (--tcti=%s; --wait waits for one)", detail, daemon->options->tcti);
                daemon_stop(daemon, EX_UNAVAILABLE);
                return;
        }
        if (daemon->state == DAEMON_STARTING)
                open_doors(daemon);
}

static gboolean on_settled(gpointer userdata) {
        Daemon *daemon = userdata;

        daemon->settle_timer = 0;
        log_notice("waiting for a TPM: the one at %s has not answered so far", daemon->options->tcti);
        open_doors(daemon);
        return G_SOURCE_REMOVE;
}

/* Return: EX_OK, or the exit status. */
static int new_backend(Daemon *daemon) {
        const Options *options = daemon->options;
        g_autoptr(GError) error = NULL;

        daemon->backend = backend_new(daemon->loop, options->tcti, &error);
        if (!daemon->backend) {
                log_error("--tcti=%s: %s", options->tcti, error->message);
                return g_error_matches(error, BACKEND_ERROR, BACKEND_ERROR_CONF) ? EX_USAGE : EX_UNAVAILABLE;
        }
        return EX_OK;
}

static void new_manager(Daemon *daemon) {
        const Options *options = daemon->options;
        const ManagerConfig config = {
                .loop = daemon->loop,
                .broker = daemon->broker,
                .tcti = options->tcti,
                .max_clients = options->broker.max_connections,
                .max_objects = options->broker.limits.objects,
        };

        daemon->manager = manager_new(&config);
}

static void on_neighbours(void *userdata) {
        Daemon *daemon = userdata;

        broker_look(daemon->broker);
}

static bool new_broker(Daemon *daemon, GError **error) {
        const Options *options = daemon->options;
        bool shared = daemon->backend->shared;
        BrokerConfig config = options->broker;

        if (config.limits.reserve == OPTIONS_BY_BACKEND) {
                config.limits.reserve = shared ? RESERVE_MOST : 0;
                if (shared)
                        config.reserve = (ReserveConfig){ shared_ask, &daemon->shared };
                if (shared)
                        shared_init(&daemon->shared, daemon->loop, options->tcti, on_neighbours, daemon);
        }
        if (config.idle_evict_ms == OPTIONS_BY_BACKEND)
                config.idle_evict_ms = shared ? OPTIONS_SHARED_IDLE_EVICT_MS : 0;
        daemon->broker = broker_new(daemon->loop, daemon->backend, &config, error);
        if (daemon->broker)
                new_manager(daemon);
        return daemon->broker != NULL;
}

static int daemon_open(Daemon *daemon) {
        g_autoptr(GError) error = NULL;
        int r;

        daemon->loop = loop_new(NULL);
        if (!daemon->loop) {
                log_error("no event loop: %s", strerror(errno));
                return EX_OSERR;
        }
        r = new_backend(daemon);
        if (r != EX_OK)
                return r;
        if (!new_broker(daemon, &error)) {
                log_error("%s", error->message);
                return EX_OSERR;
        }
        return EX_OK;
}

int daemon_run(const Options *options) {
        g_auto(Daemon) daemon = { .options = options };
        guint sources[2], watchdog;
        int r;

        sockets_init(&daemon.sockets);
        r = daemon_open(&daemon);
        if (r != EX_OK)
                return r;

        sources[0] = g_unix_signal_add(SIGTERM, on_signal, &daemon);
        sources[1] = g_unix_signal_add(SIGINT, on_signal, &daemon);
        watchdog = notify_start_watchdog();
        broker_start(daemon.broker, on_started, &daemon);
        if (options->broker.wait && daemon.state == DAEMON_STARTING)
                daemon.settle_timer = g_timeout_add_seconds(SETTLE_S, on_settled, &daemon);
        while (daemon.state != DAEMON_STOPPED)
                g_main_context_iteration(NULL, TRUE);
        for (size_t i = 0; i < G_N_ELEMENTS(sources); i++)
                g_source_remove(sources[i]);
        g_clear_handle_id(&watchdog, g_source_remove);

        if (daemon.exit_status == EX_OK)
                log_info("stopped");
        return daemon.exit_status;
}
