/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/backend-helper.h"

#include "backend/channel.h"
#include "backend/helper-protocol.h"
#include "tpm/header.h"
#include "tpm/writer.h"
#include "util/fd.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <tss2/tss2_tpm2_types.h>

/*
 * The helper program
 *
 * Owns what can block or crash: a TCTI library, or a TPM of its own (libtpms). It ends when its socket does, after the
 * command that runs, and so when the daemon dies, too. Its end is waited for by GLib, in the default main context; a
 * helper that was let go is killed when it takes too long.
 */
#define OPEN_TIMEOUT_S 30
#define END_TIMEOUT_MS 6500 /* it may have a TPM to end in order, and ends by itself before that */

typedef struct Helper Helper;

typedef struct Child {
        GPid pid;
        Helper *helper; /* NULL: let go */
        guint timer;    /* kills it; 0: none */
        bool ended;
} Child;

struct Helper {
        Backend backend; /* first: a Backend of ours is a Helper */
        char *conf;
        Channel channel;
        Child *child;
        guint timer; /* of opening; 0: none */
        bool can_cancel;
};

static unsigned n_children;

static gboolean child_on_timeout(gpointer userdata) {
        Child *child = userdata;

        child->timer = 0;
        (void)kill(child->pid, SIGKILL);
        return G_SOURCE_REMOVE;
}

static void child_let_go(Child *child) {
        child->helper = NULL;
        if (!child->ended)
                child->timer = g_timeout_add(END_TIMEOUT_MS, child_on_timeout, child);
}

/* The reason in a message of failure, fit for a log. */
static char *reason_of(const uint8_t *message, size_t n) {
        g_autofree char *text = g_strndup((const char *)message + TPM_HEADER_SIZE, n - TPM_HEADER_SIZE);

        return g_strdelimit(g_utf8_make_valid(text, -1), "\r\n", ' ');
}

/* What it says first. */
static void helper_greeted(Helper *helper, size_t n) {
        Channel *channel = &helper->channel;
        TpmReader reader = TPM_READER(channel->in, n);
        TpmHeader header = tpm_read_header(&reader);
        g_autofree char *reason = NULL;
        uint8_t flags;

        if (n == HELPER_READY_SIZE && header.code == TPM2_RC_SUCCESS) {
                g_clear_handle_id(&helper->timer, g_source_remove);
                flags = tpm_read_u8(&reader);
                helper->backend.localities = flags & HELPER_LOCALITIES;
                helper->can_cancel = flags & HELPER_CANCEL;
                channel->stepwise = false;
                channel->n_in = 0;
                channel->locality = 0;
                backend_opened(&helper->backend);
                return;
        }
        helper->backend.misconfigured = header.code == HELPER_RC_CONF;
        reason = header.code == HELPER_RC_FAILURE || helper->backend.misconfigured ? reason_of(channel->in, n)
                                                                                   : g_strdup(channel_reason(-EBADMSG));
        backend_lose(&helper->backend, "cannot open %s: %s", helper->conf, reason);
}

static void helper_answered(Helper *helper, size_t n) {
        Channel *channel = &helper->channel;
        g_autofree char *reason = NULL;
        TpmReader reader = TPM_READER(channel->in, n);
        TpmHeader header = tpm_read_header(&reader);
        int r;

        if (header.code == HELPER_RC_FAILURE) {
                reason = reason_of(channel->in, n);
                backend_lose(&helper->backend, "the helper program failed: %s", reason);
        } else if (channel->n_held == 0) {
                channel_answered(channel, &helper->backend, n);
        } else if (header.code != TPM2_RC_SUCCESS) {
                channel->n_in = 0;
                channel_drop(channel);
                backend_refuse(&helper->backend, TPM2_RC_LOCALITY);
        } else {
                channel->n_in = 0;
                r = channel_release(channel);
                if (r < 0)
                        backend_lose(&helper->backend, "the helper program: %s", channel_reason(r));
        }
}

static void helper_ready(Helper *helper, uint32_t events) {
        ssize_t n = channel_ready(&helper->channel, events, true);

        if (n > 0 && backend_is_opening(&helper->backend)) {
                helper_greeted(helper, (size_t)n);
        } else if (n > 0) {
                helper_answered(helper, (size_t)n);
        } else if ((n == -ESHUTDOWN || n == -ECONNRESET || n == -EPIPE) && helper->child) {
                /* It is ending, and how is known when it has: a kill changes nothing of that, but makes sure. */
                loop_remove(&helper->channel.source);
                if (!helper->child->ended)
                        (void)kill(helper->child->pid, SIGKILL);
        } else if (n < 0) {
                backend_lose(&helper->backend, "the helper program: %s", channel_reason(n));
        }
}

static void helper_on_socket(LoopFd *source, uint32_t events) {
        helper_ready((Helper *)((char *)source - offsetof(Helper, channel.source)), events);
}

static void child_on_end(GPid pid, gint status, gpointer userdata) {
        Child *child = userdata;

        child->ended = true;
        /* What it said last may say why. It may stand behind the greeting, which is read in two parts. */
        for (unsigned i = 0; i < 3 && child->helper && child->helper->channel.source.loop; i++)
                helper_ready(child->helper, 0);
        if (child->helper) {
                Helper *helper = child->helper;

                helper->child = NULL;
                if (WIFSIGNALED(status))
                        backend_lose(&helper->backend, "the helper program ended: signal %d (%s)", WTERMSIG(status),
                                     strsignal(WTERMSIG(status)));
                else
                        backend_lose(&helper->backend, "the helper program ended: exit code %d", WEXITSTATUS(status));
        }
        if (child->timer)
                g_source_remove(child->timer);
        g_spawn_close_pid(pid);
        g_free(child);
        n_children--;
}

void backend_helper_wait(void) {
        while (n_children > 0)
                g_main_context_iteration(NULL, TRUE);
}

static bool helper_spawn(Helper *helper, int *ret_fd, GError **error) {
        const char *path = secure_getenv("TABRMD_HELPER");
        const char *const argv[] = { path ? path : TABRMD_HELPER_PATH, helper->conf, NULL };
        g_autoptr(GError) cause = NULL;
        int fds[2];
        GPid pid;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
                g_set_error(error, BACKEND_ERROR, BACKEND_ERROR_LOST, "socketpair: %s", g_strerror(errno));
                return false;
        }

        fd_auto ours = fds[0];
        fd_auto theirs = fds[1];
        if (!g_spawn_async_with_pipes_and_fds(NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDOUT_TO_DEV_NULL,
                                              NULL, NULL, -1, -1, -1, &theirs, &(int){ HELPER_FD }, 1, &pid, NULL, NULL,
                                              NULL, &cause)) {
                g_set_error(error, BACKEND_ERROR, BACKEND_ERROR_LOST, "cannot start %s: %s", argv[0], cause->message);
                return false;
        }

        helper->child = g_new0(Child, 1);
        helper->child->pid = pid;
        helper->child->helper = helper;
        n_children++;
        g_child_watch_add(pid, child_on_end, helper->child);
        *ret_fd = fd_steal(&ours);
        return true;
}

static gboolean helper_on_timeout(gpointer userdata) {
        Helper *helper = userdata;

        helper->timer = 0;
        backend_lose(&helper->backend, "cannot open %s: %s", helper->conf, g_strerror(ETIMEDOUT));
        return G_SOURCE_REMOVE;
}

static void helper_open(Backend *backend) {
        Helper *helper = (Helper *)backend;
        g_autoptr(GError) error = NULL;
        fd_auto fd = -1;
        int r;

        if (!helper_spawn(helper, &fd, &error)) {
                backend_lose(backend, "%s", error->message);
                return;
        }
        helper->timer = g_timeout_add_seconds(OPEN_TIMEOUT_S, helper_on_timeout, helper);
        r = channel_open(&helper->channel, backend->loop, fd_steal(&fd), helper_on_socket);
        helper->channel.stepwise = true;
        if (r < 0)
                backend_lose(backend, "the helper program: %s", g_strerror(-r));
}

static void helper_close(Backend *backend) {
        Helper *helper = (Helper *)backend;

        g_clear_handle_id(&helper->timer, g_source_remove);
        channel_close(&helper->channel);
        if (helper->child)
                child_let_go(helper->child);
        helper->child = NULL;
}

static int send_control(Helper *helper, uint32_t code, const uint8_t *body, size_t n_body) {
        uint8_t bytes[TPM_STREAM_SET_LOCALITY_SIZE];
        TpmWriter writer = TPM_WRITER(bytes, sizeof(bytes));

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, code);
        tpm_write_bytes(&writer, body, n_body);
        return channel_send(&helper->channel, bytes, tpm_write_end(&writer));
}

static bool helper_transmit(Backend *backend, const uint8_t *command, size_t n_command, uint8_t locality,
                            GError **error) {
        Helper *helper = (Helper *)backend;
        TpmReader reader = TPM_READER(command, n_command);
        uint32_t code = tpm_read_header(&reader).code;
        int r;

        if (code == TPM_STREAM_CC_SET_LOCALITY || code == TPM_STREAM_CC_CANCEL) {
                /* A client's command must not command the helper. This one has it answered as an unknown command. */
                r = send_control(helper, TPM_STREAM_CC_SET_LOCALITY, NULL, 0);
        } else if (helper->channel.locality == locality) {
                r = channel_send(&helper->channel, command, n_command);
        } else {
                channel_hold(&helper->channel, command, n_command, locality);
                r = send_control(helper, TPM_STREAM_CC_SET_LOCALITY, &locality, 1);
        }
        if (r < 0)
                g_set_error(error, BACKEND_ERROR, BACKEND_ERROR_LOST, "the helper program: %s", channel_reason(r));
        return r >= 0;
}

static bool helper_cancel(Backend *backend) {
        Helper *helper = (Helper *)backend;

        return helper->can_cancel && helper->channel.n_held == 0 &&
               send_control(helper, TPM_STREAM_CC_CANCEL, NULL, 0) == 0;
}

static void helper_free(Backend *backend) {
        Helper *helper = (Helper *)backend;

        g_free(helper->conf);
        g_free(helper);
}

static const BackendOps helper_ops = {
        .open = helper_open,
        .close = helper_close,
        .transmit = helper_transmit,
        .cancel = helper_cancel,
        .free = helper_free,
};

Backend *backend_helper_new(const char *conf) {
        Helper *helper = g_new0(Helper, 1);

        helper->backend.ops = &helper_ops;
        helper->conf = g_strdup(conf);
        channel_init(&helper->channel);
        return &helper->backend;
}
