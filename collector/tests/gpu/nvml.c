/*
 * A stand-in for libnvidia-ml.so.1 with the functions and versions that the collector's wrapper binds.
 *
 * What a call answers stands in the file "<path of this library>.script", read anew at each call:
 *
 *   0.power 250000        GPU 0 draws 250 000 mW
 *   0.power error 15      the call returns this NVML code
 *   0.power hang 30000    the call takes so many milliseconds, then fails
 *
 * What the file does not name is "not supported". Values with several numbers have them in the order of their struct.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, UNKNOWN = 999 };

typedef struct { unsigned gpu, memory; } utilization_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2_t;

/* Copies the text after `key`, or returns the code that the script orders. */
static int look_up(const char *key, char *text, size_t size) {
    Dl_info self;
    char path[4096], line[512];
    if (!dladdr((void *)look_up, &self)) return UNKNOWN;
    snprintf(path, sizeof path, "%s.script", self.dli_fname);
    FILE *script = fopen(path, "r");
    if (!script) return UNKNOWN;
    size_t length = strlen(key);
    int found = NOT_SUPPORTED;
    while (fgets(line, sizeof line, script)) {
        if (strncmp(line, key, length) || line[length] != ' ') continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(text, size, "%s", line + length + 1);
        found = OK;
    }
    fclose(script);
    if (found == OK && !strncmp(text, "error ", 6)) return atoi(text + 6);
    if (found == OK && !strncmp(text, "hang ", 5)) {
        usleep((useconds_t)atoi(text + 5) * 1000);
        return UNKNOWN;
    }
    return found;
}

static int look_up_of(void *device, const char *what, char *text, size_t size) {
    char key[64];
    snprintf(key, sizeof key, "%d.%s", (int)(intptr_t)device - 1, what);
    return look_up(key, text, size);
}

static int text_of(void *device, const char *what, char *text, unsigned size) {
    char value[128];
    int code = look_up_of(device, what, value, sizeof value);
    if (code == OK) snprintf(text, size, "%s", value);
    return code;
}

static int number_of(void *device, const char *what, unsigned *number) {
    char value[128];
    int code = look_up_of(device, what, value, sizeof value);
    if (code == OK) *number = (unsigned)strtoul(value, NULL, 10);
    return code;
}

static int long_of(void *device, const char *what, unsigned long long *number) {
    char value[128];
    int code = look_up_of(device, what, value, sizeof value);
    if (code == OK) *number = strtoull(value, NULL, 10);
    return code;
}

int nvmlInit_v2(void) {
    char value[128];
    int code = look_up("init", value, sizeof value);
    return code == NOT_SUPPORTED ? OK : code;
}

int nvmlShutdown(void) { return OK; }

int nvmlSystemGetDriverVersion(char *version, unsigned size) {
    snprintf(version, size, "%s", "580.95.05");
    return OK;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    char value[128];
    int code = look_up("count", value, sizeof value);
    if (code == OK) *count = (unsigned)atoi(value);
    return code;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    char value[128], key[64];
    snprintf(key, sizeof key, "%u.handle", index);
    int code = look_up(key, value, sizeof value);
    *device = (void *)(intptr_t)(index + 1);
    return code == NOT_SUPPORTED ? OK : code;
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned size) { return text_of(device, "uuid", uuid, size); }

int nvmlDeviceGetName(void *device, char *name, unsigned size) { return text_of(device, "name", name, size); }

int nvmlDeviceGetUtilizationRates(void *device, utilization_t *rates) {
    char value[128];
    int code = look_up_of(device, "utilization", value, sizeof value);
    if (code == OK && sscanf(value, "%u %u", &rates->gpu, &rates->memory) != 2) return UNKNOWN;
    return code;
}

int nvmlDeviceGetMemoryInfo_v2(void *device, memory_v2_t *memory) {
    char value[128];
    if (memory->version != (sizeof(memory_v2_t) | 2u << 24)) return INVALID_ARGUMENT;
    int code = look_up_of(device, "memory", value, sizeof value);
    if (code != OK) return code;
    int read = sscanf(value, "%llu %llu %llu %llu", &memory->total, &memory->reserved, &memory->free, &memory->used);
    return read == 4 ? OK : UNKNOWN;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) { return number_of(device, "power", milliwatts); }

int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *milliwatts) { return number_of(device, "limit", milliwatts); }

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
    return long_of(device, "energy", millijoules);
}

int nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *degrees) {
    return sensor == 0 ? number_of(device, "temperature", degrees) : INVALID_ARGUMENT;
}

int nvmlDeviceGetClockInfo(void *device, unsigned domain, unsigned *megahertz) {
    static const char *names[] = {"clock.graphics", "clock.sm", "clock.memory", "clock.video"};
    return domain < 4 ? number_of(device, names[domain], megahertz) : INVALID_ARGUMENT;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons) {
    return long_of(device, "throttle", reasons);
}
