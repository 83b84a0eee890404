/* SPDX-License-Identifier: BSD-2-Clause */
#include "tcti/test-tcti-daemon.h"

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static char folder[64];
struct sockaddr_un address = { .sun_family = AF_UNIX };
char conf[160];
int listener = -1;
int daemon_fd = -1;
TSS2_TCTI_CONTEXT *tcti;
size_t context_size;

const uint8_t COMMAND[12] = { 0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0, 8 };
const uint8_t RESPONSE[14] = { 0x80, 1, 0, 0, 0, 14, 0, 0, 0, 0, 0, 2, 0xAA, 0xBB };
const uint8_t HELLO[14] = { 0x80, 1, 0, 0, 0, 14, 0x20, 0, 0x10, 2, 0, 0, 0, 1 };
const uint8_t GREETING[14] = { 0x80, 1, 0, 0, 0, 14, 0, 0, 0, 0, 0, 0, 0, 1 };

unsigned count_fds(void) {
        DIR *dir = opendir("/proc/self/fd");
        unsigned n = 0;

        while (readdir(dir))
                n++;
        closedir(dir);
        return n;
}

int group_setup(void **state) {
        snprintf(folder, sizeof(folder), "/tmp/test-tcti-XXXXXX");
        if (!mkdtemp(folder))
                return -1;
        snprintf(address.sun_path, sizeof(address.sun_path), "%s/sock", folder);
        snprintf(conf, sizeof(conf), "socket=%s", address.sun_path);
        return Tss2_Tcti_Tabrmd_Init(NULL, &context_size, NULL) == TSS2_RC_SUCCESS ? 0 : -1;
}

int group_teardown(void **state) {
        return rmdir(folder);
}

int listen_up(void **state) {
        listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        return bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 4);
}

void take_client(void) {
        struct pollfd incoming = { .fd = listener, .events = POLLIN };

        assert_int_equal(poll(&incoming, 1, 20000), 1); /* nobody comes: the test fails, and does not hang */
        daemon_fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        assert_true(daemon_fd >= 0);
}

int setup_new(void **state) {
        size_t size = context_size;

        if (listen_up(state))
                return -1;
        tcti = calloc(1, context_size);
        if (Tss2_Tcti_Tabrmd_Init(tcti, &size, conf) != TSS2_RC_SUCCESS)
                return -1;
        take_client();
        return 0;
}

int setup(void **state) {
        if (setup_new(state))
                return -1;
        transmit();
        answer_first();
        assert_whole_receive();
        return 0;
}

int teardown(void **state) {
        if (tcti)
                Tss2_Tcti_Finalize(tcti);
        free(tcti);
        tcti = NULL;
        if (daemon_fd >= 0)
                close(daemon_fd);
        daemon_fd = -1;
        close(listener);
        return unlink(address.sun_path);
}

void say(const void *bytes, size_t n) {
        assert_int_equal(write(daemon_fd, bytes, n), n);
}

void expect_from_client(const void *bytes, size_t n) {
        uint8_t got[256];

        assert_int_equal(recv(daemon_fd, got, n, MSG_WAITALL), n);
        assert_memory_equal(got, bytes, n);
}

void answer_first(void) {
        expect_from_client(HELLO, sizeof(HELLO));
        expect_from_client(COMMAND, sizeof(COMMAND));
        say(GREETING, sizeof(GREETING));
        say(RESPONSE, sizeof(RESPONSE));
}

void transmit(void) {
        assert_int_equal(Tss2_Tcti_Transmit(tcti, sizeof(COMMAND), COMMAND), TSS2_RC_SUCCESS);
}

TSS2_RC receive(size_t *size, uint8_t *response, int32_t timeout) {
        return Tss2_Tcti_Receive(tcti, size, response, timeout);
}

void assert_whole_receive(void) {
        uint8_t response[64];
        size_t size = sizeof(response);

        assert_int_equal(receive(&size, response, TSS2_TCTI_TIMEOUT_BLOCK), TSS2_RC_SUCCESS);
        assert_int_equal(size, sizeof(RESPONSE));
        assert_memory_equal(response, RESPONSE, size);
}

uint32_t receive_code(int32_t timeout) {
        uint8_t response[64];
        size_t size = sizeof(response);
        TpmReader reader = TPM_READER(response, TPM_HEADER_SIZE);
        TpmHeader header;

        if (receive(&size, response, timeout) != TSS2_RC_SUCCESS || size != TPM_HEADER_SIZE)
                return UINT32_MAX;
        header = tpm_read_header(&reader);
        return header.tag == TPM2_ST_NO_SESSIONS && header.size == size ? header.code : UINT32_MAX;
}
