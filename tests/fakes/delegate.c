/* An external delegate of LiteRT that goes wrong in a chosen way, for models of one fully connected operator without bias or activation.
 *
 * The option `kind` chooses: works, nothing, refuses, refuses-graph, crashes-at-once, crashes-on-graph, crashes-late, hangs, wrong, needs-device.
 * Only what it touches of LiteRT's C interface is declared (tflite/core/c/common.h), in the order and width that this interface keeps.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, FAILED = 1, BUILTIN_DELEGATE = 51 };

typedef struct { int size; int data[]; } IntArray;

typedef struct {
  int type;
  union { float *f; void *raw; } data;
  IntArray *dims;
  struct { float scale; int32_t zero_point; } params;
  int allocation_type;
  size_t bytes;
  const void *allocation;
  const char *name;
  void *delegate;
  int buffer_handle;
  bool data_is_stale, is_variable;
  struct { int type; void *params; } quantization;
  void *sparsity;
  const IntArray *dims_signature;
} Tensor;

typedef struct { IntArray *inputs, *outputs; } Node; /* the beginning of it */

typedef struct Context Context;
typedef struct Delegate Delegate;

typedef struct {
  void *(*init)(Context *, const char *, size_t);
  void (*free)(Context *, void *);
  int (*prepare)(Context *, Node *);
  int (*invoke)(Context *, Node *);
  const char *(*profiling_string)(const Context *, const Node *);
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *external;
  void *async_kernel;
  uint64_t in_place;
} Registration;

struct Context { /* the beginning of it */
  size_t tensors_size;
  int (*execution_plan)(Context *, IntArray **);
  Tensor *tensors;
  void *implementation;
  int (*resize)(Context *, Tensor *, IntArray *);
  void (*report)(Context *, const char *, ...);
  int (*add_tensors)(Context *, int, int *);
  int (*node)(Context *, int, Node **, Registration **);
  int (*replace)(Context *, Registration, const IntArray *, Delegate *);
};

struct Delegate {
  void *data;
  int (*prepare)(Context *, Delegate *);
  int (*copy_from)(Context *, Delegate *, int, Tensor *);
  int (*copy_to)(Context *, Delegate *, int, Tensor *);
  void (*free_handle)(Context *, Delegate *, int *);
  int64_t flags;
  void *opaque;
};

static char kind[32] = "works";

static bool is(const char *wanted) { return strcmp(kind, wanted) == 0; }

static int opens_device(void) {
  int handle = open("/dev/null", O_RDWR);
  if (handle < 0) return FAILED;
  close(handle);
  return OK;
}

static int kernel_prepare(Context *context, Node *node) { return OK; }

/* logits = input @ weight, the weight stored with its rows as outputs. */
static int kernel_invoke(Context *context, Node *node) {
  Tensor *input = &context->tensors[node->inputs->data[0]], *weight = &context->tensors[node->inputs->data[1]];
  Tensor *logits = &context->tensors[node->outputs->data[0]];
  int rows = input->dims->data[0], width = input->dims->data[1], outputs = weight->dims->data[0];
  if (is("crashes-late")) abort();
  if (is("hangs")) for (;;) pause();
  for (int row = 0; row < rows; row++)
    for (int at = 0; at < outputs; at++) {
      float sum = is("wrong") ? 0.25f : 0;
      for (int k = 0; k < width; k++) sum += input->data.f[row * width + k] * weight->data.f[at * width + k];
      logits->data.f[row * outputs + at] = sum;
    }
  return OK;
}

static int delegate_prepare(Context *context, Delegate *delegate) {
  IntArray *plan;
  if (is("refuses-graph")) return FAILED;
  if (is("crashes-on-graph")) abort();
  if (is("nothing")) return OK;
  if (is("needs-device") && opens_device() != OK) return FAILED;
  if (context->execution_plan(context, &plan) != OK) return FAILED;
  Registration kernel = {0};
  kernel.prepare = kernel_prepare;
  kernel.invoke = kernel_invoke;
  kernel.builtin_code = BUILTIN_DELEGATE;
  kernel.custom_name = "edgefleet-test";
  kernel.version = 1;
  IntArray *taken = malloc(sizeof(IntArray) + plan->size * sizeof(int));
  memcpy(taken, plan, sizeof(IntArray) + plan->size * sizeof(int));
  int status = context->replace(context, kernel, taken, delegate);
  free(taken);
  return status;
}

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  for (size_t at = 0; at < count; at++)
    if (strcmp(keys[at], "kind") == 0) strncpy(kind, values[at], sizeof kind - 1);
  if (is("crashes-at-once")) abort();
  if (is("refuses")) {
    report("there is no accelerator on this board");
    return NULL;
  }
  Delegate *delegate = calloc(1, sizeof *delegate);
  delegate->prepare = delegate_prepare;
  return delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }
