/* The two inner loops of decoding: the stack of the coder "laplace", and putting its integers in their places.

   cache/laplace.py and cache/quantise.py do the same in Python; FORMAT.md describes it. Compiled when the package is
   installed and called through ctypes by cache/native.py, so that it needs neither Python's headers nor its lock. */

#include <stdint.h>
#include <string.h>

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT
#endif

#define BITS 24        /* of the probabilities */
#define BUCKET_BITS 12 /* a bucket holds 2^12 neighbouring places of a model */
#define MASK ((UINT64_C(1) << BITS) - 1)
#define ESCAPE (-128)
#define ESCAPE_FROM 64

/* Changed with every change of a structure or of arguments: a library left over from another version is not used. */
EXPORT int32_t bandpass_version(void) { return 1; }

typedef struct {
    const uint32_t *bounds;  /* symbols + 1: c_0 = 0 ... c_N = 2^24 */
    const uint16_t *buckets; /* 2^12: the symbol that the first place of each bucket belongs to */
} Model;

typedef struct {
    int64_t start, stop; /* of the band's coefficients; a multiple of `size` of them */
    int32_t shift, limit, size, reserved;
    Model groups, tail;
    const int8_t *values; /* `size` for each group */
} Run;

typedef struct {
    const uint32_t *words;
    int64_t left;
    uint64_t state;
} Stack;

static inline void refill(Stack *stack) {
    if (stack->state < (UINT64_C(1) << 32) && stack->left)
        stack->state = stack->state << 32 | stack->words[--stack->left];
}

static inline uint32_t pop(Stack *stack, const Model *model) {
    const uint32_t place = (uint32_t)(stack->state & MASK);
    uint32_t symbol = model->buckets[place >> (BITS - BUCKET_BITS)];
    while (model->bounds[symbol + 1] <= place) symbol++;
    const uint32_t first = model->bounds[symbol];
    stack->state = (uint64_t)(model->bounds[symbol + 1] - first) * (stack->state >> BITS) + place - first;
    refill(stack);
    return symbol;
}

static inline uint32_t pop_bits(Stack *stack, int32_t count) { /* equally likely numbers below 2^count */
    const int32_t rest = BITS - count;
    const uint32_t place = (uint32_t)(stack->state & MASK);
    stack->state = ((stack->state >> BITS) << rest) + (place & ((UINT32_C(1) << rest) - 1));
    refill(stack);
    return place >> rest;
}

#define POP_GROUPS(SIZE)                                                          \
    for (; at < stop; at += SIZE)                                                 \
        memcpy(at, run->values + SIZE * pop(&own, &run->groups), SIZE);

static void pop_groups(Stack *stack, const Run *run, int8_t *at, const int8_t *stop) {
    Stack own = *stack; /* so that the state stays in a register */
    if (run->size == 4) POP_GROUPS(4)
    else if (run->size == 3) POP_GROUPS(3)
    else if (run->size == 2) POP_GROUPS(2)
    else POP_GROUPS(1)
    *stack = own;
}

/* Decodes one band. All arrays but the words have room for whole groups, up to 3 more than there are coefficients.

   Returns 0: the integers are in `narrow`; 1: they are in `wide`; -1: the words are no code of this band.
   `places` and `beyond` are room to work in. */
EXPORT int32_t bandpass_decode(const uint32_t *words, int64_t count, const Run *runs, int32_t run_count, int8_t *narrow,
                               int32_t *wide, int32_t *places, int64_t *beyond) {
    Stack stack = {words, count, 0};
    if (count && words[count - 1] == 0) return -1; /* no coder ends a code like that */
    for (int i = 0; i < 2 && stack.left; i++) stack.state = stack.state << 32 | words[--stack.left];

    for (int32_t r = 0; r < run_count; r++) pop_groups(&stack, runs + r, narrow + runs[r].start, narrow + runs[r].stop);

    int32_t must_widen = 0;
    for (int32_t r = 0; r < run_count; r++)
        if (runs[r].shift) {
            must_widen = 1;
            for (int64_t i = runs[r].start; i < runs[r].stop; i++) wide[i] = (int32_t)pop_bits(&stack, runs[r].shift);
        }

    int64_t found = 0, escaped = 0;
    for (int32_t r = 0; r < run_count; r++) {
        const int8_t *at = narrow + runs[r].start, *stop = narrow + runs[r].stop;
        while (at < stop && (at = memchr(at, (uint8_t)ESCAPE, (size_t)(stop - at)))) {
            const uint32_t symbol = pop(&stack, &runs[r].tail);
            const int64_t magnitude = (int64_t)(symbol >> 1) + runs[r].limit;
            escaped += symbol >> 1 == ESCAPE_FROM;
            must_widen |= magnitude > 127;
            places[found] = (int32_t)(at++ - narrow);
            beyond[found++] = symbol & 1 ? -magnitude : magnitude;
        }
    }
    for (int64_t i = 0, r = 0; escaped && i < found; i++) {
        while (places[i] >= runs[r].stop) r++;
        const int64_t least = ESCAPE_FROM + runs[r].limit;
        if (beyond[i] != least && beyond[i] != -least) continue;
        const int64_t upper = pop_bits(&stack, 16), rest = (upper << 16) + pop_bits(&stack, 16);
        must_widen |= least + rest > 127;
        beyond[i] += beyond[i] < 0 ? -rest : rest;
        escaped--;
    }
    if (stack.state || stack.left) return -1;

    if (!must_widen) {
        for (int64_t i = 0; i < found; i++) narrow[places[i]] = (int8_t)beyond[i];
        return 0;
    }
    for (int64_t i = 0, r = 0, next = 0; r < run_count; r++) {
        const int32_t shift = runs[r].shift;
        for (; i < runs[r].stop; i++) {
            const uint32_t high = narrow[i] == ESCAPE ? (uint32_t)beyond[next++] : (uint32_t)(int32_t)narrow[i];
            wide[i] = (int32_t)((high << shift) + (shift ? (uint32_t)wide[i] : 0));
        }
    }
    return 1;
}

#define PLACE(TYPE)                                                                                       \
    for (int64_t i = 0; i < count; i++) {                                                                 \
        const float value = (float)((const TYPE *)integers)[i];                                           \
        out[places[i]] = (value + (float)((value > 0) - (value < 0)) * shifts[i]) * step; /* no branches */ \
    }

/* Puts the reconstruction of int8 or, if `wide`, int32 integers in their places of `out`, which holds zeros. */
EXPORT void bandpass_place(const void *integers, int32_t wide, int64_t count, const float *shifts, const int32_t *places,
                           float step, float *out) {
    if (wide) PLACE(int32_t)
    else PLACE(int8_t)
}
