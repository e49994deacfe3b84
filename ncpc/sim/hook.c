/* Cycle accounting for one emulated core: called by the emulator at every basic block, at every instruction that needs a
 * correction by its operands, and at the labels that open a neuron. hook.py is the same in Python, and layout.py has
 * the records; change all three together. Built once for the host; it includes no header of the emulator. */
#include <stdint.h>
#include <stddef.h>

typedef int (*read_register_t)(void *engine, int id, void *value);
typedef int (*stop_t)(void *engine);
typedef int (*decode_t)(uint64_t address, uint32_t size);
typedef void (*through_t)(int32_t block, int32_t state);

/* A basic block: its costs by the edge that leaves it, the cost of arriving from elsewhere, and how often each happened.
 * fall: the very next address comes next (by running on, or by a jump there), and its arrival is in the cost; taken:
 * another one does, whose entry is added. */
typedef struct {
    uint32_t start, size;
    int32_t instructions, fall_lower, fall_upper, taken_lower, taken_upper, entry_lower, entry_upper, labels;
    int32_t state, passed, jumped;
    int64_t falls, takens, entries;
} block_t;

enum { FIX_ZERO_DIVISOR = 1, FIX_SIGNS_DIFFER = 2, FIX_EXECUTED = 3 };

/* An instruction whose cost depends on its operands: lower and upper are added whenever the condition holds. */
typedef struct {
    uint32_t address, kind, condition, armed;
    int32_t register_a, register_b, lower, upper;
    int64_t hits;
} fix_t;

/* A label inside a block: the cost from the block's start to it. next chains the labels of one block, -1 ends. */
typedef struct {
    int32_t label, instructions, lower, upper, next;
} label_cost_t;

typedef struct {
    int64_t instructions, lower, upper, entries;
} cost_t;

/* What a block leads to from what is known of low bits: the numbers of the states behind it, at the very next address
 * and elsewhere. */
typedef struct {
    int32_t block, state, passed, jumped;
} known_t;

typedef struct {
    void *engine;
    read_register_t read_register;
    stop_t stop;
    decode_t decode;
    through_t through;
    known_t *known;
    int32_t *index;
    block_t *blocks;
    cost_t *neurons;
    label_cost_t *label_costs;
    uint32_t code_start, code_halfwords, exit_address, neuron_count;
    int32_t previous, slot, paired, flags_register, timed_out;
    uint32_t known_mask, known_count;
    int32_t passed, jumped, misaligned_size;
    uint32_t misaligned, misaligned_by;
    int64_t next_neuron, limit;
    cost_t now, mark;
} machine_t;

static void leave(machine_t *m, int taken)
{
    if (m->previous < 0) {
        return;
    }
    block_t *b = &m->blocks[m->previous];
    m->now.instructions += b->instructions;
    if (taken) {
        b->takens++;
        m->now.lower += b->taken_lower;
        m->now.upper += b->taken_upper;
    } else {
        b->falls++;
        m->now.lower += b->fall_lower;
        m->now.upper += b->fall_upper;
    }
}

static int32_t find(machine_t *m, uint32_t address, uint32_t size)
{
    uint32_t at = (address - m->code_start) >> 1;
    if (at >= m->code_halfwords) {
        return -1;
    }
    int32_t found = m->index[at];
    if (found < 0 || m->blocks[found].size != size) {
        found = m->decode(address, size);
    }
    return found;
}

/* What the block that is entered leads to from a state: from the table, or asked for. */
static void look_up(machine_t *m, int32_t state)
{
    uint32_t at = ((uint32_t)m->previous * 2654435761u ^ (uint32_t)state * 2246822519u) & m->known_mask;
    known_t *k = &m->known[at];
    while (k->block >= 0 && (k->block != m->previous || k->state != state)) {
        at = (at + 1u) & m->known_mask;
        k = &m->known[at];
    }
    if (k->block >= 0) {
        m->passed = k->passed;
        m->jumped = k->jumped;
        return;
    }
    m->through(m->previous, state);
    if (m->known_count < m->known_mask / 2u) {
        known_t found = {m->previous, state, m->passed, m->jumped};
        *k = found;
        m->known_count++;
    }
}

/* Carry what is known of low bits through it (alignment.py says what that is); mostly it is what it was the last time. */
static void follow(machine_t *m, int32_t state)
{
    block_t *b = &m->blocks[m->previous];
    if (b->state != state) {
        look_up(m, state);
        b->state = state;
        b->passed = m->passed;
        b->jumped = m->jumped;
    }
    m->passed = b->passed;
    m->jumped = b->jumped;
}

void ncpc_on_block(void *engine, uint64_t address64, uint32_t size, void *user)
{
    machine_t *m = user;
    uint32_t address = (uint32_t)address64;
    if (address == m->exit_address) {
        return;
    }
    int taken = m->previous >= 0 && m->blocks[m->previous].start + m->blocks[m->previous].size != address;
    leave(m, taken);
    m->previous = find(m, address, size);
    if (m->previous < 0 || m->now.instructions > m->limit) {
        m->timed_out = m->previous >= 0;
        m->stop(engine);
        return;
    }
    follow(m, taken ? m->jumped : m->passed);
    if (taken) {
        block_t *b = &m->blocks[m->previous];
        b->entries++;
        m->now.lower += b->entry_lower;
        m->now.upper += b->entry_upper;
    }
}

/* Arm condition codes 0 (EQ) to 13 (LE) on the flags word: N 31, Z 30, C 29, V 28. */
static int passes(uint32_t condition, uint32_t flags)
{
    int n = flags >> 31 & 1, z = flags >> 30 & 1, c = flags >> 29 & 1, v = flags >> 28 & 1;
    int holds = 1;
    switch (condition >> 1) {
    case 0: holds = z; break;
    case 1: holds = c; break;
    case 2: holds = n; break;
    case 3: holds = v; break;
    case 4: holds = c && !z; break;
    case 5: holds = n == v; break;
    case 6: holds = n == v && !z; break;
    default: return 1;
    }
    return (condition & 1) ? !holds : holds;
}

static uint32_t reg(machine_t *m, int id)
{
    uint32_t value = 0;
    m->read_register(m->engine, id, &value);
    return value;
}

static int executes(machine_t *m, uint32_t condition)
{
    return condition > 13 || passes(condition, reg(m, m->flags_register));
}

static int applies(machine_t *m, const fix_t *f)
{
    int executed = executes(m, f->condition);
    switch (f->kind) {
    case FIX_ZERO_DIVISOR: return executed && reg(m, f->register_b) == 0;
    case FIX_SIGNS_DIFFER: return executed && ((reg(m, f->register_a) ^ reg(m, f->register_b)) >> 31) != 0;
    case FIX_EXECUTED: return executed;
    default: return 0;
    }
}

typedef struct {
    machine_t *machine;
    fix_t *fix;
} fix_hook_t;

void ncpc_on_fix(void *engine, uint64_t address, uint32_t size, void *user)
{
    fix_hook_t *h = user;
    (void)engine, (void)address, (void)size;
    if (h->fix->armed && applies(h->machine, h->fix)) {
        h->fix->hits++;
        h->machine->now.lower += h->fix->lower;
        h->machine->now.upper += h->fix->upper;
    }
}

static void close_interval(machine_t *m, cost_t now)
{
    cost_t *c = &m->neurons[m->slot];
    c->instructions += now.instructions - m->mark.instructions;
    c->lower += now.lower - m->mark.lower;
    c->upper += now.upper - m->mark.upper;
    m->mark = now;
}

/* A label's number; opens: 1 if the next neuron begins there, 0 if the last one ends. */
typedef struct {
    machine_t *machine;
    int32_t label, opens;
} label_hook_t;

void ncpc_on_label(void *engine, uint64_t address, uint32_t size, void *user)
{
    label_hook_t *h = user;
    machine_t *m = h->machine;
    (void)engine, (void)address, (void)size;
    if (m->previous < 0 || (h->opens && m->paired && m->slot != (int32_t)m->neuron_count)) {
        return;
    }
    cost_t now = m->now;
    int32_t at = m->blocks[m->previous].labels;
    while (at >= 0 && m->label_costs[at].label != h->label) {
        at = m->label_costs[at].next;
    }
    if (at >= 0) {
        now.instructions += m->label_costs[at].instructions;
        now.lower += m->label_costs[at].lower;
        now.upper += m->label_costs[at].upper;
    }
    close_interval(m, now);
    m->slot = h->opens ? (int32_t)(m->next_neuron++ % m->neuron_count) : (int32_t)m->neuron_count;
    m->neurons[m->slot].entries++;
}

void ncpc_start(machine_t *m)
{
    cost_t zero = {0, 0, 0, 0};
    m->now = m->mark = zero;
    m->previous = -1;
    m->next_neuron = 0;
    m->slot = (int32_t)m->neuron_count;
    m->timed_out = m->misaligned_size = 0;
}

void ncpc_finish(machine_t *m)
{
    leave(m, 1);
    m->previous = -1;
    close_interval(m, m->now);
}

/* An access of size bytes that may be misaligned, at offset + base + (index << shift); a register below 0 is none. */
typedef struct {
    machine_t *machine;
    uint32_t condition, offset;
    int32_t base, index, shift, size;
} watch_t;

void ncpc_on_watch(void *engine, uint64_t address, uint32_t size, void *user)
{
    watch_t *w = user;
    machine_t *m = w->machine;
    (void)engine, (void)size;
    if (m->misaligned_size || !executes(m, w->condition)) {
        return;
    }
    uint32_t at = w->offset + (w->base < 0 ? 0 : reg(m, w->base)) + (w->index < 0 ? 0 : reg(m, w->index) << w->shift);
    if (at % (uint32_t)w->size) {
        m->misaligned = at;
        m->misaligned_by = (uint32_t)address;
        m->misaligned_size = w->size;
        m->stop(m->engine);
    }
}
