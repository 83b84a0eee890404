/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024
#define LIMIT_LINES 10
#define LIMIT_SECONDS 10

static struct {
        LogTarget target;
        int max_priority;
        bool journal;
        unsigned n_dropped; /* lines that nobody took */
} log_state = { .target = LOG_TARGET_STDOUT, .max_priority = LOG_INFO };

void log_open(LogTarget target, const char *ident, int max_priority) {
        log_state.target = target;
        log_state.max_priority = max_priority;
        log_state.journal = getenv("JOURNAL_STREAM") != NULL;
        if (target == LOG_TARGET_SYSLOG)
                openlog(ident, LOG_PID, LOG_DAEMON);
}

int log_level(void) {
        return log_state.max_priority;
}

void log_set_level(int max_priority) {
        log_state.max_priority = max_priority;
}

static const struct {
        const char *name;
        int max_priority;
} levels[] = {
        { "error", LOG_ERR }, { "warning", LOG_WARNING }, { "notice", LOG_NOTICE },
        { "info", LOG_INFO }, { "debug", LOG_DEBUG },
};

#define N_LEVELS (sizeof(levels) / sizeof(levels[0]))

const char *log_level_name(int max_priority) {
        for (size_t i = 0; i < N_LEVELS; i++)
                if (levels[i].max_priority == max_priority)
                        return levels[i].name;
        return "";
}

int log_level_parse(const char *name) {
        for (size_t i = 0; i < N_LEVELS; i++)
                if (strcmp(levels[i].name, name) == 0)
                        return levels[i].max_priority;
        return -1;
}

/* Text may come from a bus, a file name or an error of the system: no control character of it may start a line. */
static size_t log_sanitize(char *text, size_t n) {
        for (size_t i = 0; i < n; i++) {
                if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
                        text[i] = '?';
        }
        return n;
}

/* Room for a line, and somebody at the other end. */
static bool log_has_room(void) {
        struct pollfd pollfd = { .fd = STDOUT_FILENO, .events = POLLOUT };

        return poll(&pollfd, 1, 0) == 1 && pollfd.revents == POLLOUT;
}

/* Whoever should read the log may not, and must not stop us by it: what does not fit is counted. One write for each
 * line, so that lines of several processes do not mix. */
static void log_write(const char *line, size_t n) {
        char note[64];
        int n_note;

        if (!log_has_room() || write(STDOUT_FILENO, line, n) < 0) {
                log_state.n_dropped++;
                return;
        }
        if (log_state.n_dropped > 0 && log_has_room()) {
                n_note = snprintf(note, sizeof(note), "%u lines of the log were lost\n", log_state.n_dropped);
                if (write(STDOUT_FILENO, note, (size_t)n_note) == n_note)
                        log_state.n_dropped = 0;
        }
}

void log_line(int priority, const char *format, ...) {
        char line[LINE_MAX_BYTES];
        int saved = errno;
        size_t n_prefix = 0;
        va_list arguments;
        int n;

        if (priority > log_state.max_priority)
                return;

        /* The journal takes the priority of a line from such a prefix. */
        if (log_state.target == LOG_TARGET_STDOUT && log_state.journal)
                n_prefix = (size_t)snprintf(line, sizeof(line), "<%d>", priority);

        errno = saved;
        va_start(arguments, format);
        n = vsnprintf(line + n_prefix, sizeof(line) - n_prefix, format, arguments);
        va_end(arguments);
        if (n >= 0) {
                size_t n_line = n_prefix + (size_t)n;

                if (n_line > sizeof(line) - 1)
                        n_line = sizeof(line) - 1;
                log_sanitize(line, n_line);
                if (log_state.target == LOG_TARGET_SYSLOG) {
                        syslog(priority, "%s", line);
                } else {
                        line[n_line] = '\n';
                        log_write(line, n_line + 1);
                }
        }
        errno = saved;
}

bool log_limit_pass(LogLimit *limit, unsigned *ret_held) {
        struct timespec now = { 0 };

        clock_gettime(CLOCK_MONOTONIC, &now);
        if (limit->n_passed == 0 || now.tv_sec - limit->window >= LIMIT_SECONDS) {
                limit->window = now.tv_sec;
                limit->n_passed = 0;
        }
        if (limit->n_passed >= LIMIT_LINES) {
                limit->n_held++;
                return false;
        }
        limit->n_passed++;
        *ret_held = limit->n_held;
        limit->n_held = 0;
        return true;
}
