/* A stand-in for libedgetpu: takes the place of compiled operators, and gives a recorded answer. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* As in TensorFlow Lite's common.h, as far as it is used here. */
typedef struct { int size; int data[]; } IntArray;
typedef struct Context Context;
typedef struct Delegate Delegate;
typedef struct { IntArray *inputs, *outputs, *intermediates, *temporaries; } Node;
typedef struct {
    void *(*init)(Context *, const char *, size_t);
    void (*free)(Context *, void *);
    int (*prepare)(Context *, Node *);
    int (*invoke)(Context *, Node *);
    const char *(*profiling_string)(const Context *, const Node *);
    int32_t builtin_code;
    const char *custom_name;
    int version;
    void *later_fields[8];
} Registration;
typedef struct {
    int type; char *data; IntArray *dims; float scale; int32_t zero_point; int allocation_type;
    size_t bytes; const void *allocation; const char *name; void *delegate;
    int buffer_handle; char data_is_stale, is_variable; int quantization_type; void *quantization;
    void *sparsity; IntArray *dims_signature;
} Tensor;
struct Context {
    size_t tensors_size;
    int (*GetExecutionPlan)(Context *, IntArray **);
    Tensor *tensors;
    void *impl;
    int (*ResizeTensor)(Context *, Tensor *, IntArray *);
    void (*ReportError)(Context *, const char *, ...);
    int (*AddTensors)(Context *, int, int *);
    int (*GetNodeAndRegistration)(Context *, int, Node **, Registration **);
    int (*ReplaceNodeSubsetsWithDelegateKernels)(Context *, Registration, const IntArray *, Delegate *);
};
struct Delegate {
    void *data;
    int (*Prepare)(Context *, Delegate *);
    void *buffer_handle_functions[3];
    int64_t flags;
    void *later_fields[8];
};
static int prepare(Context *context, Node *node) {
    if (!strcmp(MODE, "old")) {
        context->ReportError(context, "Internal: Unsupported: Package requires runtime version (14), "
                             "which is newer than this runtime version (13).");
        return 1;
    }
    return 0;
}
static int invoke(Context *context, Node *node) {
    Tensor *output = &context->tensors[node->outputs->data[0]];
    FILE *answer = fopen(getenv("EDGETPU_ANSWER"), "rb");
    size_t count = fread(output->data, 1, output->bytes, answer);
    fclose(answer);
    return count == output->bytes ? 0 : 1;
}
static int replace(Context *context, Delegate *delegate) {
    IntArray *plan, *found;
    context->GetExecutionPlan(context, &plan);
    found = calloc(plan->size + 1, sizeof(int));
    for (int i = 0; i < plan->size; i++) {
        Node *node;
        Registration *registration;
        context->GetNodeAndRegistration(context, plan->data[i], &node, &registration);
        if (registration->custom_name && !strcmp(registration->custom_name, "edgetpu-custom-op"))
            found->data[found->size++] = plan->data[i];
    }
    Registration kernel = {.prepare = prepare, .invoke = invoke, .custom_name = "edgetpu-stand-in", .version = 1};
    return context->ReplaceNodeSubsetsWithDelegateKernels(context, kernel, found, delegate);
}
static struct { int type; const char *path; } devices[] = {{1, "/sys/bus/usb/devices/2-1"}};
void *edgetpu_list_devices(size_t *count) { *count = strcmp(MODE, "absent") ? 1 : 0; return devices; }
void edgetpu_free_devices(void *list) {}
const char *edgetpu_version(void) { return "BuildLabel(a stand-in), RuntimeVersion(14)"; }
void *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
    /* It may meet dynamic tensors: otherwise the runtime prepares all operators before it. */
    static Delegate delegate = {.Prepare = replace, .flags = 1};
    if (!strcmp(MODE, "crashes")) raise(SIGSEGV);
    if (!strcmp(MODE, "hangs")) pause();
    return !strcmp(MODE, "refuses") || !strcmp(MODE, "absent") ? NULL : &delegate;
}
void tflite_plugin_destroy_delegate(void *delegate) {}
