/* SPDX-License-Identifier: BSD-2-Clause */
#include "helper/helper.h"
#include "tpm/header.h"
#include "tpm/writer.h"
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <tss2/tss2_tpm2_types.h>
#include <unistd.h>

/*
 * The helper program
 *
 * The main thread runs commands; a second one reads the daemon's socket, so that a cancel is heard while a command
 * runs. Between them lies room for one command, which is full until that command has its answer.
 */
static struct {
        pthread_mutex_t lock;
        pthread_cond_t changed;
        bool full;
        bool ended; /* nothing more will be read */
        size_t n;
        uint8_t command[TPM_MESSAGE_MAX];
} inbox = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

/*
 * After the end of input, for the command that runs, and for a TPM of our own to be ended in order. What waits for it
 * is the daemon when it ends, within what a service manager leaves it (TimeoutStopSec=), and the next helper, for a
 * lock.
 */
#define END_SECONDS 6

static HelperTpm tpm; /* written under the lock, once, when it is open */

void helper_reason(HelperReason *reason, const char *format, ...) {
        va_list arguments;

        reason->is_conf = false;
        va_start(arguments, format);
        (void)vsnprintf(reason->text, sizeof(reason->text), format, arguments);
        va_end(arguments);
}

static bool send_all(const uint8_t *bytes, size_t n) {
        while (n > 0) {
                ssize_t r = send(HELPER_FD, bytes, n, MSG_NOSIGNAL);

                if (r < 0 && errno == EINTR)
                        continue;
                if (r <= 0)
                        return false;
                bytes += r;
                n -= (size_t)r;
        }
        return true;
}

static bool send_message(uint32_t code, const void *body, size_t n_body) {
        uint8_t bytes[TPM_HEADER_SIZE + HELPER_REASON_MAX];
        TpmWriter writer = TPM_WRITER(bytes, sizeof(bytes));

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, code);
        tpm_write_bytes(&writer, body, n_body);
        return send_all(bytes, tpm_write_end(&writer));
}

static int helper_fail(const HelperReason *reason) {
        (void)send_message(reason->is_conf ? HELPER_RC_CONF : HELPER_RC_FAILURE, reason->text, strlen(reason->text));
        return reason->is_conf ? EX_USAGE : EX_UNAVAILABLE;
}

static bool receive_all(uint8_t *bytes, size_t n) {
        return recv(HELPER_FD, bytes, n, MSG_WAITALL) == (ssize_t)n;
}

/* false: the end of the stream, or something that cannot be part of it */
static bool read_message(void) {
        uint8_t bytes[TPM_MESSAGE_MAX];
        TpmReader reader = TPM_READER(bytes, TPM_HEADER_SIZE);
        TpmHeader header;
        bool good;

        if (!receive_all(bytes, TPM_HEADER_SIZE))
                return false;
        header = tpm_read_header(&reader);
        if (header.size < TPM_HEADER_SIZE || header.size > TPM_MESSAGE_MAX)
                return false;
        if (header.size > TPM_HEADER_SIZE && !receive_all(bytes + TPM_HEADER_SIZE, header.size - TPM_HEADER_SIZE))
                return false;

        pthread_mutex_lock(&inbox.lock);
        if (header.code == TPM_STREAM_CC_CANCEL) {
                good = header.size == TPM_STREAM_CANCEL_SIZE;
                if (good && inbox.full && tpm.cancel)
                        tpm.cancel();
        } else {
                good = !inbox.full;
                if (good) {
                        memcpy(inbox.command, bytes, header.size);
                        inbox.n = header.size;
                        inbox.full = true;
                        pthread_cond_signal(&inbox.changed);
                }
        }
        pthread_mutex_unlock(&inbox.lock);
        explicit_bzero(bytes, header.size);
        return good;
}

/* End of input is our end, if need be in the middle of a call that does not return, or of opening the TPM. */
static void *reader_thread(void *userdata) {
        unsigned left = END_SECONDS;

        while (read_message())
                ;
        pthread_mutex_lock(&inbox.lock);
        inbox.ended = true;
        if (inbox.full && tpm.cancel)
                tpm.cancel();
        pthread_cond_signal(&inbox.changed);
        pthread_mutex_unlock(&inbox.lock);
        while (left > 0)
                left = sleep(left);
        _exit(EX_UNAVAILABLE);
}

static bool wait_command(void) {
        bool full;

        pthread_mutex_lock(&inbox.lock);
        while (!inbox.full && !inbox.ended)
                pthread_cond_wait(&inbox.changed, &inbox.lock);
        full = inbox.full;
        pthread_mutex_unlock(&inbox.lock);
        return full;
}

/* Before its answer is sent: a cancel that comes later is too late, and the next command may come at once. */
static void empty_inbox(void) {
        pthread_mutex_lock(&inbox.lock);
        explicit_bzero(inbox.command, inbox.n);
        inbox.full = false;
        pthread_mutex_unlock(&inbox.lock);
}

static bool answer_set_locality(void) {
        uint32_t rc = TPM2_RC_SUCCESS;

        if (inbox.n != TPM_STREAM_SET_LOCALITY_SIZE)
                rc = RM_RC(TPM2_RC_COMMAND_CODE);
        else if (!(tpm.flags & HELPER_LOCALITIES) || !tpm.set_locality(inbox.command[TPM_HEADER_SIZE]))
                rc = RM_RC(TPM2_RC_LOCALITY);

        empty_inbox();
        return send_message(rc, NULL, 0);
}

static int helper_serve(void) {
        uint8_t response[TPM_MESSAGE_MAX];
        HelperReason reason;
        bool going = true;

        while (going && wait_command()) {
                TpmReader reader = TPM_READER(inbox.command, inbox.n);
                size_t n;

                if (tpm_read_header(&reader).code == TPM_STREAM_CC_SET_LOCALITY) {
                        going = answer_set_locality();
                        continue;
                }
                if (!tpm.run(inbox.command, inbox.n, response, &n, &reason))
                        return helper_fail(&reason);
                reader = TPM_READER(response, n);
                if (n < TPM_HEADER_SIZE || tpm_read_header(&reader).size != n) {
                        helper_reason(&reason, "an answer of impossible size (%zu)", n);
                        return helper_fail(&reason);
                }
                empty_inbox();
                going = send_all(response, n);
                explicit_bzero(response, n);
        }
        return EXIT_SUCCESS;
}

static bool open_by_conf(const char *conf, HelperTpm *ret_tpm, HelperReason *reason) {
        if (strcmp(conf, "libtpms") == 0 || strcmp(conf, "libtpms:") == 0)
                return helper_libtpms_open(NULL, ret_tpm, reason);
        if (strncmp(conf, "libtpms:", strlen("libtpms:")) == 0)
                return helper_libtpms_open(conf + strlen("libtpms:"), ret_tpm, reason);
        return helper_tcti_open(conf, ret_tpm, reason);
}

static bool open_tpm(const char *conf, HelperReason *reason) {
        HelperTpm opened;

        if (!open_by_conf(conf, &opened, reason))
                return false;
        pthread_mutex_lock(&inbox.lock);
        tpm = opened;
        pthread_mutex_unlock(&inbox.lock);
        return true;
}

static bool start_reader(HelperReason *reason) {
        pthread_t reader;
        int r = pthread_create(&reader, NULL, reader_thread, NULL);

        if (r == 0)
                (void)pthread_detach(reader);
        else
                helper_reason(reason, "pthread_create: %s", strerror(r));
        return r == 0;
}

/*
 * The daemon decides when we end, by closing the socket: what a terminal or a service manager sends to all of its
 * processes must not take the TPM away while the daemon is still putting things in order.
 */
static void set_up_process(void) {
        sigset_t none;

        (void)fcntl(HELPER_FD, F_SETFD, FD_CLOEXEC);
        sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        (void)signal(SIGINT, SIG_IGN);
        (void)signal(SIGTERM, SIG_IGN);
        (void)signal(SIGHUP, SIG_IGN);
        (void)signal(SIGPIPE, SIG_IGN);
        (void)setenv("TSS2_LOG", "all+none", 0);
}

int main(int argc, char **argv) {
        HelperReason reason = { .text = "" };
        int type, r;

        if (!fd_fill_standard())
                return EX_OSERR;
        if (argc != 2 || getsockopt(HELPER_FD, SOL_SOCKET, SO_TYPE, &type, &(socklen_t){ sizeof(type) }) < 0) {
                (void)fprintf(stderr, "This program is started by tpm2-abrmd, with a socket as descriptor %d.\n",
                              HELPER_FD);
                return EX_USAGE;
        }
        set_up_process();

        if (!start_reader(&reason) || !open_tpm(argv[1], &reason))
                return helper_fail(&reason);
        r = send_message(TPM2_RC_SUCCESS, &tpm.flags, 1) ? helper_serve() : EXIT_SUCCESS;
        tpm.close();
        return r;
}
