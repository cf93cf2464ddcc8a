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
 * Further:
 *
 *   0.processes 4242:1073741824 4243:-      process and its memory, `-` for one that the driver does not know
 *   0.process_utilization 4242:1000:37      process, time, percent
 *   0.xid 1:79 2:13                         number and code of events; each is delivered once, those that are there when
 *                                           somebody registers never
 *   0.field.142 3                           field value
 *   0.gpm.2 87.5                            what the time between two samples gives for that metric; needs 0.gpm_support 1
 *   0.mig1.instance 3                       slot 1 is a slice of GPU instance 3, with 0.mig1.name and the like, 0.gi3.gpm.2
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    OK = 0,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    TIMEOUT = 10,
    UNKNOWN = 999
};

enum { TEXT_MAX = 4096, SLICE = 1000 };

typedef struct { unsigned gpu, memory; } utilization_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2_t;

/* Copies the text after `key`, or returns the code that the script orders. */
static int look_up(const char *key, char *text, size_t size) {
    Dl_info self;
    char path[4096], line[TEXT_MAX];
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

/* A handle is the number of the GPU, from 1, and SLICE times that of the slice, from 1. */
static int look_up_of(void *device, const char *what, char *text, size_t size) {
    char key[64];
    int handle = (int)(intptr_t)device, gpu = handle % SLICE - 1, slice = handle / SLICE;
    if (slice) snprintf(key, sizeof key, "%d.mig%d.%s", gpu, slice - 1, what);
    else snprintf(key, sizeof key, "%d.%s", gpu, what);
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

static int percent_of(void *device, const char *what, unsigned *percent, unsigned *period) {
    *period = 167000;
    return number_of(device, what, percent);
}

int nvmlDeviceGetEncoderUtilization(void *device, unsigned *percent, unsigned *period) {
    return percent_of(device, "encoder", percent, period);
}

int nvmlDeviceGetDecoderUtilization(void *device, unsigned *percent, unsigned *period) {
    return percent_of(device, "decoder", percent, period);
}

/* Faults */

int nvmlDeviceGetTotalEccErrors(void *device, unsigned kind, unsigned counter, unsigned long long *count) {
    if (kind > 1 || counter != 0) return INVALID_ARGUMENT;
    return long_of(device, kind ? "ecc.uncorrected" : "ecc.corrected", count);
}

typedef struct {
    unsigned field, scope;
    long long time, latency;
    int type, code;
    union { double number; unsigned count; unsigned long long long_count; } value;
} field_t;

int nvmlDeviceGetFieldValues(void *device, int count, field_t *fields) {
    for (int i = 0; i < count; i++) {
        char what[32];
        snprintf(what, sizeof what, "field.%u", fields[i].field);
        fields[i].type = 1;
        fields[i].code = number_of(device, what, &fields[i].value.count);
    }
    return OK;
}

typedef struct { void *device; unsigned long long type, data; unsigned instance, compute; } event_t;
typedef struct { void *device; int delivered; } events_t;

/* The first event after number `after`, or 0; `last` is the number of the last one. */
static int next_event(void *device, int after, unsigned long long *code, int *last) {
    char text[TEXT_MAX];
    int found = look_up_of(device, "xid", text, sizeof text);
    *last = 0;
    if (found == NOT_SUPPORTED) return 0;
    if (found != OK) return -found;
    int first = 0;
    for (char *part = strtok(text, " "); part; part = strtok(NULL, " ")) {
        int number = atoi(part);
        if (number > after && !first) {
            first = number;
            *code = strtoull(strchr(part, ':') + 1, NULL, 10);
        }
        *last = number;
    }
    return first;
}

int nvmlEventSetCreate(events_t **set) {
    *set = calloc(1, sizeof **set);
    return *set ? OK : UNKNOWN;
}

int nvmlEventSetFree(events_t *set) {
    free(set);
    return OK;
}

int nvmlDeviceRegisterEvents(void *device, unsigned long long types, events_t *set) {
    char text[128];
    unsigned long long code;
    if (types != 8) return INVALID_ARGUMENT;
    int found = look_up_of(device, "events", text, sizeof text);
    if (found != OK && found != NOT_SUPPORTED) return found;
    set->device = device;
    next_event(device, 1 << 30, &code, &set->delivered);
    return OK;
}

int nvmlEventSetWait_v2(events_t *set, event_t *event, unsigned milliseconds) {
    unsigned long long code = 0;
    int last, number = next_event(set->device, set->delivered, &code, &last);
    if (number < 0) return -number;
    if (number == 0) {
        usleep(milliseconds * 1000);
        return TIMEOUT;
    }
    set->delivered = number;
    *event = (event_t){ .device = set->device, .type = 8, .data = code };
    return OK;
}

/* Processes */

typedef struct { unsigned pid; unsigned long long memory; unsigned instance, compute; } process_t;

static int processes_of(void *device, const char *what, unsigned *count, process_t *processes) {
    char text[TEXT_MAX];
    int found = look_up_of(device, what, text, sizeof text);
    if (found != OK) {
        *count = 0;
        return found == NOT_SUPPORTED ? OK : found;
    }
    unsigned room = processes ? *count : 0, needed = 0;
    for (char *part = strtok(text, " "); part; part = strtok(NULL, " "), needed++) {
        if (needed >= room) continue;
        char *memory = strchr(part, ':') + 1;
        unsigned long long bytes = *memory == '-' ? ~0ull : strtoull(memory, NULL, 10);
        processes[needed] = (process_t){ (unsigned)atoi(part), bytes, ~0u, ~0u };
    }
    *count = needed;
    return needed > room ? INSUFFICIENT_SIZE : OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process_t *processes) {
    return processes_of(device, "processes", count, processes);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned *count, process_t *processes) {
    return processes_of(device, "graphics", count, processes);
}

typedef struct { unsigned pid; unsigned long long time; unsigned sm, memory, encoder, decoder; } usage_t;

int nvmlDeviceGetProcessUtilization(void *device, usage_t *usages, unsigned *count, unsigned long long since) {
    char text[TEXT_MAX];
    int found = look_up_of(device, "process_utilization", text, sizeof text);
    if (found != OK) return found;
    unsigned room = usages ? *count : 0, needed = 0;
    for (char *part = strtok(text, " "); part; part = strtok(NULL, " ")) {
        usage_t usage = { 0 };
        if (sscanf(part, "%u:%llu:%u", &usage.pid, &usage.time, &usage.sm) != 3) return UNKNOWN;
        if (usage.time <= since) continue;
        if (needed < room) usages[needed] = usage;
        needed++;
    }
    *count = needed;
    if (needed == 0) return NOT_FOUND;
    return needed > room ? INSUFFICIENT_SIZE : OK;
}

/* Slices */

int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
    *pending = 0;
    return number_of(device, "mig_mode", current);
}

int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *count) {
    *count = 7;
    return OK;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **slice) {
    unsigned instance;
    *slice = (void *)((intptr_t)device + (intptr_t)(index + 1) * SLICE);
    int found = number_of(*slice, "instance", &instance);
    return found == NOT_SUPPORTED ? NOT_FOUND : found;
}

int nvmlDeviceGetGpuInstanceId(void *slice, unsigned *instance) { return number_of(slice, "instance", instance); }

/* GPU performance monitoring */

typedef struct { void *device; int instance; unsigned taken; } gpm_sample_t;
typedef struct { unsigned metric; int code; double value; char *short_name, *long_name, *unit; } gpm_metric_t;
typedef struct { unsigned version, count; gpm_sample_t *before, *now; gpm_metric_t metrics[210]; } gpm_request_t;
typedef struct { unsigned version, is_supported; } gpm_support_t;

int nvmlGpmQueryDeviceSupport(void *device, gpm_support_t *support) {
    if (support->version != 1) return INVALID_ARGUMENT;
    support->is_supported = 0;
    int found = number_of(device, "gpm_support", &support->is_supported);
    return found == NOT_SUPPORTED ? OK : found;
}

int nvmlGpmSampleAlloc(gpm_sample_t **sample) {
    *sample = calloc(1, sizeof **sample);
    return *sample ? OK : UNKNOWN;
}

int nvmlGpmSampleFree(gpm_sample_t *sample) {
    free(sample);
    return OK;
}

static int take(void *device, int instance, gpm_sample_t *sample) {
    static unsigned taken;
    char text[128];
    int found = look_up_of(device, "gpm", text, sizeof text);
    if (found != OK && found != NOT_SUPPORTED) return found;
    *sample = (gpm_sample_t){ device, instance, ++taken };
    return OK;
}

int nvmlGpmSampleGet(void *device, gpm_sample_t *sample) { return take(device, -1, sample); }

int nvmlGpmMigSampleGet(void *device, unsigned instance, gpm_sample_t *sample) {
    return take(device, (int)instance, sample);
}

int nvmlGpmMetricsGet(gpm_request_t *request) {
    gpm_sample_t *before = request->before, *now = request->now;
    if (request->version != 1 || !before->taken || before->taken >= now->taken) return INVALID_ARGUMENT;
    if (before->device != now->device || before->instance != now->instance) return INVALID_ARGUMENT;
    for (unsigned i = 0; i < request->count; i++) {
        gpm_metric_t *metric = &request->metrics[i];
        char what[32], text[128];
        if (now->instance < 0) snprintf(what, sizeof what, "gpm.%u", metric->metric);
        else snprintf(what, sizeof what, "gi%d.gpm.%u", now->instance, metric->metric);
        metric->code = look_up_of(now->device, what, text, sizeof text);
        if (metric->code == OK) metric->value = strtod(text, NULL);
    }
    return OK;
}

/* Links */

int nvmlDeviceGetPcieThroughput(void *device, unsigned counter, unsigned *kilobytes) {
    return counter > 1 ? INVALID_ARGUMENT : number_of(device, counter ? "pcie.receive" : "pcie.transmit", kilobytes);
}

int nvmlDeviceGetPcieReplayCounter(void *device, unsigned *replays) { return number_of(device, "pcie.replays", replays); }

int nvmlDeviceGetNvLinkState(void *device, unsigned link, unsigned *is_active) {
    char what[32];
    snprintf(what, sizeof what, "nvlink%u.active", link);
    return number_of(device, what, is_active);
}

int nvmlDeviceGetNvLinkErrorCounter(void *device, unsigned link, unsigned counter, unsigned long long *count) {
    char what[48];
    snprintf(what, sizeof what, "nvlink%u.errors.%u", link, counter);
    return long_of(device, what, count);
}
