/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BACKEND_BACKEND_DEVICE_H
#define BACKEND_BACKEND_DEVICE_H

#include "backend/backend.h"

/* A character device of the kernel's */
#define BACKEND_DEVICE_DEFAULT "/dev/tpm0"
bool backend_device_speaks(const char *conf); /* "device", with or without a path */
Backend *backend_device_new(const char *conf);

/* Who has a device open, as far as we may look. Return: "NAME (pid N)", the caller's to free, or NULL. */
char *backend_device_holder(const char *path);

#endif
