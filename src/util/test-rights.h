/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef UTIL_TEST_RIGHTS_H
#define UTIL_TEST_RIGHTS_H

#include <string.h>
#include <sys/socket.h>

/* One byte, and a descriptor with it. */
static inline ssize_t rights_send(int to, int passed) {
        union {
                char bytes[CMSG_SPACE(sizeof(int))];
                struct cmsghdr header;
        } control = { 0 };
        char byte = 0;
        struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
        struct msghdr message = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)
        };

        control.header = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
                                           .cmsg_type = SCM_RIGHTS,
                                           .cmsg_len = CMSG_LEN(sizeof(int)) };
        memcpy(CMSG_DATA(&control.header), &passed, sizeof(passed));
        return sendmsg(to, &message, MSG_NOSIGNAL);
}

#endif
