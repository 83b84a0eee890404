/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/lib/fake-chips.h"
#include "tpm/header.h"
#include "tpm/writer.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/*
 * The fake TPM behind Unix sockets, as swtpm is: fake-tpm PATH [OPTION...] listens at PATH for commands, and at
 * PATH.ctrl for control. A request to control is a number and what belongs to it, sent in one piece; the answer begins
 * with a number, 0: done. It waits while a command runs.
 */
#define CTRL_INIT 2 /* power off and on again */
#define CTRL_SET_LOCALITY 5
#define CTRL_COUNT 0x1000  /* u32 command code; the result is followed by the count, u32 */
#define CTRL_OPTION 0x1001 /* an option of the command line, without its dashes */

enum { LISTEN_DATA, LISTEN_CTRL, DATA, CTRL, N_FDS };

typedef struct Server {
        FakeTpmConfig config;
        FakeTpm *tpm;
        FakeFault faults[16]; /* of the command line */
        unsigned n_faults;
        struct pollfd fds[N_FDS];
        uint8_t command[TPM_MESSAGE_MAX];
        size_t n_command;
} Server;

static const struct {
        const char *name;
        size_t offset;
} SETTINGS[] = {
        { "object-slots", offsetof(FakeTpmConfig, object_slots) },
        { "session-slots", offsetof(FakeTpmConfig, session_slots) },
        { "active-sessions", offsetof(FakeTpmConfig, active_sessions) },
        { "gap", offsetof(FakeTpmConfig, gap) },
        { "memory", offsetof(FakeTpmConfig, memory) },
        { "page", offsetof(FakeTpmConfig, page) },
        { "vendor-commands", offsetof(FakeTpmConfig, vendor_commands) },
        { "max-command-size", offsetof(FakeTpmConfig, max_command_size) },
        { "max-response-size", offsetof(FakeTpmConfig, max_response_size) },
        { "max-object-context", offsetof(FakeTpmConfig, max_object_context) },
        { "object-context", offsetof(FakeTpmConfig, object_context) },
        { "session-context", offsetof(FakeTpmConfig, session_context) },
        { "pace", offsetof(FakeTpmConfig, pace) },
};
#define N_SETTINGS (sizeof(SETTINGS) / sizeof(SETTINGS[0]))

static bool parse_number(const char *text, unsigned *ret_value) {
        char *end;
        unsigned long value;

        errno = 0;
        value = strtoul(text, &end, 0);
        if (errno || *end || end == text || value > UINT32_MAX)
                return false;
        *ret_value = value;
        return true;
}

static bool parse_kind(const char *text, FakeFault *fault) {
        static const char *const KINDS[] = { [FAKE_RC] = "rc",
                                             [FAKE_LOSE_BEFORE] = "lose-before",
                                             [FAKE_LOSE_AFTER] = "lose-after",
                                             [FAKE_BAD_SIZE] = "bad-size",
                                             [FAKE_TRUNCATED] = "truncated",
                                             [FAKE_TRAILING] = "trailing",
                                             [FAKE_LATE] = "late" };

        for (unsigned i = 0; i < sizeof(KINDS) / sizeof(KINDS[0]); i++)
                if (strcmp(text, KINDS[i]) == 0) {
                        fault->kind = i;
                        return true;
                }
        return false;
}

/* code=C,kind=K,rc=R,after=N,count=N|always,ms=N; all of it may be missing */
static bool parse_fault(char *text, FakeFault *ret_fault) {
        FakeFault fault = { .rc = TPM2_RC_RETRY };
        const struct {
                const char *name;
                unsigned *value;
        } KEYS[] = { { "code", &fault.code },
                     { "rc", &fault.rc },
                     { "after", &fault.after },
                     { "count", &fault.count },
                     { "ms", &fault.ms } };
        char *save = NULL;

        for (char *item = strtok_r(text, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
                char *value = strchr(item, '=');
                bool good = false;

                if (!value)
                        return false;
                *value++ = '\0';
                if (strcmp(item, "kind") == 0)
                        good = parse_kind(value, &fault);
                for (unsigned i = 0; i < sizeof(KEYS) / sizeof(KEYS[0]); i++)
                        if (strcmp(item, KEYS[i].name) == 0)
                                good = parse_number(strcmp(value, "always") ? value : "0xFFFFFFFF", KEYS[i].value);
                if (!good)
                        return false;
        }
        *ret_fault = fault;
        return true;
}

/* chip=NAME, or NAME:PERCENT of its time */
static bool parse_chip(char *text, FakeTpmConfig *config) {
        char *colon = strchr(text, ':');
        unsigned percent = 0;

        if (colon) {
                *colon++ = '\0';
                if (!parse_number(colon, &percent))
                        return false;
        }
        return fake_chip(text, percent, config);
}

/* At any time: fault=..., fail, heal. Before the start: a chip, and what else is in the configuration. */
static bool option(Server *server, char *text) {
        char *value = strchr(text, '=');
        FakeFault fault;

        if (server->tpm && strcmp(text, "fail") == 0) {
                fake_tpm_fail(server->tpm);
                return true;
        }
        if (server->tpm && strcmp(text, "heal") == 0) {
                fake_tpm_heal(server->tpm);
                return true;
        }
        if (!value)
                return false;
        *value++ = '\0';
        if (strcmp(text, "fault") == 0) {
                if (!parse_fault(value, &fault))
                        return false;
                if (server->tpm)
                        return fake_tpm_inject(server->tpm, &fault);
                if (server->n_faults == sizeof(server->faults) / sizeof(server->faults[0]))
                        return false;
                server->faults[server->n_faults++] = fault;
                return true;
        }
        if (strcmp(text, "chip") == 0 && !server->tpm)
                return parse_chip(value, &server->config);
        for (unsigned i = 0; i < N_SETTINGS && !server->tpm; i++)
                if (strcmp(text, SETTINGS[i].name) == 0)
                        return parse_number(value, (unsigned *)((char *)&server->config + SETTINGS[i].offset));
        return false;
}

static int listen_at(const char *path, const char *suffix) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int n = snprintf(address.sun_path, sizeof(address.sun_path), "%s%s", path, suffix);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (n < (int)sizeof(address.sun_path) && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
            listen(fd, 8) == 0)
                return fd;
        close(fd);
        return -1;
}

static void drop(Server *server, unsigned i) {
        close(server->fds[i].fd);
        server->fds[i].fd = -1;
        if (i == DATA)
                server->n_command = 0;
}

/* One client at a time: the next one waits until it is gone. */
static void take(Server *server, unsigned listener, unsigned i) {
        int fd = accept4(server->fds[listener].fd, NULL, NULL, SOCK_CLOEXEC);

        if (fd < 0)
                return;
        server->fds[i].fd = fd;
}

static void answer(Server *server) {
        uint8_t response[TPM_MESSAGE_MAX + 1];
        size_t n = fake_tpm_run(server->tpm, server->command, server->n_command, response, sizeof(response));

        usleep(fake_tpm_delay(server->tpm));
        server->n_command = 0;
        if (n > 0 && send(server->fds[DATA].fd, response, n, MSG_NOSIGNAL) != (ssize_t)n)
                drop(server, DATA);
}

static void on_data(Server *server) {
        TpmReader reader = TPM_READER(server->command, server->n_command);
        size_t n = server->n_command < TPM_HEADER_SIZE ? TPM_HEADER_SIZE : tpm_read_header(&reader).size;
        ssize_t n_read = recv(server->fds[DATA].fd, server->command + server->n_command, n - server->n_command, 0);

        if (n_read <= 0) {
                drop(server, DATA);
                return;
        }
        server->n_command += (size_t)n_read;
        if (server->n_command < TPM_HEADER_SIZE)
                return;
        reader = TPM_READER(server->command, server->n_command);
        n = tpm_read_header(&reader).size;
        if (n < TPM_HEADER_SIZE || n > sizeof(server->command))
                drop(server, DATA);
        else if (n == server->n_command)
                answer(server);
}

static void on_ctrl(Server *server) {
        uint8_t request[256] = { 0 };
        uint8_t result[8];
        ssize_t n = recv(server->fds[CTRL].fd, request, sizeof(request) - 1, 0);
        TpmReader reader = TPM_READER(request, n > 0 ? (size_t)n : 0);
        TpmWriter writer = TPM_WRITER(result, sizeof(result));
        uint32_t command = tpm_read_u32(&reader);
        bool good = true;

        if (reader.bad) {
                drop(server, CTRL);
                return;
        }
        if (command == CTRL_INIT)
                fake_tpm_reset(server->tpm);
        else if (command == CTRL_OPTION)
                good = option(server, (char *)request + reader.at);
        else
                good = command == CTRL_SET_LOCALITY || command == CTRL_COUNT;
        tpm_write_u32(&writer, good ? 0 : 1);
        if (command == CTRL_COUNT)
                tpm_write_u32(&writer, fake_tpm_count(server->tpm, tpm_read_u32(&reader)));
        if (send(server->fds[CTRL].fd, result, writer.n_bytes, MSG_NOSIGNAL) != (ssize_t)writer.n_bytes)
                drop(server, CTRL);
}

static void serve(Server *server) {
        for (;;) {
                struct pollfd *fds = server->fds;

                for (unsigned i = 0; i < N_FDS; i++)
                        fds[i].events = i >= DATA || fds[i + DATA].fd < 0 ? POLLIN : 0;
                if (poll(fds, N_FDS, -1) < 0)
                        continue;
                if (fds[CTRL].fd >= 0 && fds[CTRL].revents)
                        on_ctrl(server);
                if (fds[DATA].fd >= 0 && fds[DATA].revents)
                        on_data(server);
                for (unsigned i = DATA; i < N_FDS; i++)
                        if (fds[i].fd < 0 && fds[i - DATA].revents)
                                take(server, i - DATA, i);
        }
}

int main(int argc, char **argv) {
        static Server server;

        server.config = FAKE_TPM_CONFIG;
        for (unsigned i = 0; i < N_FDS; i++)
                server.fds[i].fd = -1;
        for (int i = 2; i < argc; i++)
                if (strncmp(argv[i], "--", 2) != 0 || !option(&server, argv[i] + 2)) {
                        fprintf(stderr, "fake-tpm: %s is no option\n", argv[i]);
                        return EXIT_FAILURE;
                }
        if (argc < 2) {
                fprintf(stderr, "usage: fake-tpm PATH [OPTION...]\n");
                return EXIT_FAILURE;
        }
        server.tpm = fake_tpm_new(&server.config);
        for (unsigned i = 0; server.tpm && i < server.n_faults; i++)
                fake_tpm_inject(server.tpm, &server.faults[i]);
        if (!server.tpm) {
                fprintf(stderr, "fake-tpm: impossible sizes\n");
                return EXIT_FAILURE;
        }
        server.fds[LISTEN_DATA].fd = listen_at(argv[1], "");
        server.fds[LISTEN_CTRL].fd = listen_at(argv[1], ".ctrl");
        if (server.fds[LISTEN_DATA].fd < 0 || server.fds[LISTEN_CTRL].fd < 0) {
                fprintf(stderr, "fake-tpm: cannot listen at %s: %s\n", argv[1], strerror(errno));
                return EXIT_FAILURE;
        }
        printf("ready\n");
        fflush(stdout);
        serve(&server);
}
