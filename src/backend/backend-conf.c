/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/backend-conf.h"

#include "backend/backend-device.h"
#include "backend/backend-helper.h"
#include "backend/backend-swtpm.h"

#include <string.h>

static bool conf_is_libtpms(const char *conf) {
        return g_str_equal(conf, "libtpms") || g_str_has_prefix(conf, "libtpms:");
}

/*
 * A TCTI may be wrapped in another ("pcap:device:/dev/tpm0"), so every part counts. Given no name at all, the loader of
 * libtss2 tries tabrmd first.
 */
static bool conf_check(char *const *parts, GError **error) {
        const char *reason = NULL;

        if (!parts[0] || !parts[0][0])
                reason = "no TCTI is named";
        for (size_t i = 0; parts[i] && !reason; i++) {
                const char *name = strrchr(parts[i], '/');

                name = name ? name + 1 : parts[i];
                if (g_str_equal(parts[i], "tabrmd") || g_str_has_prefix(name, "libtss2-tcti-tabrmd.so"))
                        reason = "the daemon would talk to itself";
                else if (g_str_equal(parts[i], "pcap") && (!parts[i + 1] || !parts[i + 1][0]))
                        reason = "pcap needs the TCTI that it is to record";
        }
        if (!reason)
                return true;

        g_set_error_literal(error, BACKEND_ERROR, BACKEND_ERROR_CONF, reason);
        return false;
}

static bool conf_is_shared(char *const *parts) {
        for (size_t i = 0; parts[i]; i++)
                if (g_str_equal(parts[i], "device") || strstr(parts[i], "libtss2-tcti-device.so") ||
                    g_str_has_prefix(parts[i], "/dev/"))
                        return true;
        return false;
}

Backend *backend_new(Loop *loop, const char *conf, GError **error) {
        g_auto(GStrv) parts = g_strsplit(conf, ":", -1);
        g_autofree char *device = NULL;
        Backend *backend;
        bool shared = false;

        if (!conf_is_libtpms(conf)) {
                if (!conf_check(parts, error))
                        return NULL;
                shared = conf_is_shared(parts);
                if (conf[0] == '/' && g_str_has_prefix(conf, "/dev/"))
                        conf = device = g_strconcat("device:", conf, NULL);
        }

        if (backend_device_speaks(conf))
                backend = backend_device_new(conf);
        else if (backend_swtpm_speaks(conf))
                backend = backend_swtpm_new(conf, error);
        else
                backend = backend_helper_new(conf);
        if (!backend)
                return NULL;

        backend->loop = loop;
        backend->shared = shared;
        return backend;
}

void backend_wait(void) {
        backend_helper_wait();
}
