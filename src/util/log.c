/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/log.h"

#include "util/fd.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024
#define LIMIT_LINES 10
#define LIMIT_SECONDS 10

static struct {
        LogTarget target;
        int max_priority;
        bool journal;
        const char *ident;
        int syslog_fd;      /* -1: none */
        unsigned n_dropped; /* lines that nobody took */
} log_state = { .target = LOG_TARGET_STDOUT, .max_priority = LOG_INFO, .syslog_fd = -1 };

void log_open(LogTarget target, const char *ident, int max_priority) {
        log_state.target = target;
        log_state.max_priority = max_priority;
        log_state.journal = getenv("JOURNAL_STREAM") != NULL;
        log_state.ident = ident;
        log_state.syslog_fd = fd_close(log_state.syslog_fd);
        if (target == LOG_TARGET_SYSLOG)
                log_state.syslog_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
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

/*
 * Not by syslog(3), which waits for a syslog daemon that is stuck. The socket is not connected either: each line goes
 * to whoever has the path then, be it one that was started anew.
 */
static bool syslog_send(const char *line, size_t n) {
        struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = _PATH_LOG };

        return sendto(log_state.syslog_fd, line, n, MSG_NOSIGNAL, (struct sockaddr *)&address, sizeof(address)) ==
               (ssize_t)n;
}

/* What stands before the text: RFC 3164, section 4.1, without the name of the machine, as syslog daemons want it. */
static size_t syslog_head(char *line, size_t size, int priority) {
        static const char months[][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                          "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
        time_t now = time(NULL);
        struct tm tm = { 0 };

        (void)localtime_r(&now, &tm);
        return (size_t)snprintf(line, size, "<%d>%s %2d %02d:%02d:%02d %.32s[%d]: ", LOG_DAEMON | priority,
                                months[tm.tm_mon], tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, log_state.ident,
                                (int)getpid());
}

static size_t log_head(char *line, size_t size, int priority) {
        if (log_state.target == LOG_TARGET_SYSLOG)
                return syslog_head(line, size, priority);
        /* The journal takes the priority of a line from such a prefix. */
        return log_state.journal ? (size_t)snprintf(line, size, "<%d>", priority) : 0;
}

/* One write for each line, so that lines of several processes do not mix. @line has room for one byte more. */
static bool log_send(char *line, size_t n) {
        if (log_state.target == LOG_TARGET_SYSLOG)
                return syslog_send(line, n);
        line[n] = '\n';
        return log_has_room() && write(STDOUT_FILENO, line, n + 1) >= 0;
}

/* Whoever should read the log may not, and must not stop us by it: what does not fit is counted. */
static void log_write(char *line, size_t n) {
        char note[160];
        size_t n_note;

        if (!log_send(line, n)) {
                log_state.n_dropped++;
                return;
        }
        if (log_state.n_dropped > 0) {
                n_note = log_head(note, sizeof(note), LOG_WARNING);
                n_note += (size_t)snprintf(note + n_note, sizeof(note) - n_note, "%u lines of the log were lost",
                                           log_state.n_dropped);
                if (log_send(note, n_note))
                        log_state.n_dropped = 0;
        }
}

void log_line(int priority, const char *format, ...) {
        char line[LINE_MAX_BYTES];
        int saved = errno;
        size_t n_head;
        va_list arguments;
        int n;

        if (priority > log_state.max_priority)
                return;

        n_head = log_head(line, sizeof(line), priority);
        errno = saved;
        va_start(arguments, format);
        n = vsnprintf(line + n_head, sizeof(line) - n_head, format, arguments);
        va_end(arguments);
        if (n >= 0) {
                size_t n_line = n_head + (size_t)n;

                if (n_line > sizeof(line) - 1)
                        n_line = sizeof(line) - 1;
                log_write(line, log_sanitize(line, n_line));
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
